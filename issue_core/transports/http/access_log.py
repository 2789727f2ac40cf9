"""One line a request: who, what, how it ended, how long it took. No body, no query, no secret.

A line is written a moment after its request was answered, together with those of the same moment: whoever answers
does not wait for the log.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MOMENT = 0.05
"""Seconds that a line waits for others."""

MOST_LINES = 10_000
"""Lines that wait where nobody takes them; what comes beyond is dropped, and counted."""

LAST_MOMENT = 1.0
"""Seconds that the last lines have at the end."""

_LONGEST_PATH = 200


class Entry(NamedTuple):
    """One answered request. ``seconds`` count from the end of its head to the end of the answer."""

    client: str
    method: str
    path: str
    status: int
    size: int
    seconds: float
    told: Mapping[str, Any]


def as_text(entry: Entry) -> str:
    """The entry as a person reads it."""
    client, method, _, status, size, _, told = entry
    line = f"{_now()} {client} {told.get('key') or '-'} {method} {_path(entry)} {status} {size} {_ms(entry)}ms"
    for name, value in told.items():
        if value is not None and name != "key":
            line += f" {name}={value}"
    return line


def as_json(entry: Entry) -> str:
    """The entry as one JSON object: the key's name, outcomes and event ID stand in it where they are known."""
    shown = {
        "at": _now(),
        "client": entry.client,
        "method": entry.method,
        "path": _path(entry),
        "status": entry.status,
        "bytes": entry.size,
        "ms": float(_ms(entry)),
        **entry.told,
    }
    return json.dumps(shown)


_second_now = (0, "")


def _now() -> str:
    """The time as everywhere else (RFC 3339, UTC, milliseconds); its seconds are made once a second."""
    global _second_now
    now = time.time()
    second = int(now)
    if _second_now[0] != second:
        _second_now = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    return f"{_second_now[1]}.{int((now - second) * 1000):03}Z"


def _path(entry: Entry) -> str:
    """Only what every path may have is shown; the rest of it is none of ours."""
    path = entry.path.partition("?")[0]
    return path if len(path) <= _LONGEST_PATH else path[: _LONGEST_PATH - 1] + "…"


def _ms(entry: Entry) -> str:
    return f"{entry.seconds * 1000:.1f}"


class Writer:
    """Hands lines on to ``write``, those of :data:`MOMENT` together, from a thread of its own."""

    def __init__(self, render: Callable[[Entry], str | None], write: Callable[[str], None]) -> None:
        self._render = render
        self._write = write
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._news = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def __call__(self, entry: Entry) -> None:
        """Note an entry, unless ``render`` makes nothing of it."""
        line = self._render(entry)
        if line is not None:
            self.line(line)

    def line(self, line: str) -> None:
        """Note a line."""
        if len(self._lines) >= MOST_LINES:
            self._dropped += 1  # whoever should read the log does not: better without it than out of memory
            return
        self._lines.append(line)
        # In this order: a line that comes after the news were cleared tells of itself, an earlier one is handed on.
        if not self._news.is_set():
            self._news.set()

    def close(self) -> None:
        """Write what is left, unless nobody takes it."""
        self._ended.set()
        self._news.set()
        self._thread.join(LAST_MOMENT)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._news.wait()
            self._ended.wait(MOMENT)
            self._news.clear()
            self._hand_on()
        self._hand_on()

    def _hand_on(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._dropped:
            lines.append(f"{_now()} {self._dropped} lines were dropped: nobody took them in time")
            self._dropped = 0
        if lines:
            self._write("\n".join(lines))
