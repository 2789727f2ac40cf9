"""One line a request: who, what, how it ended, how long it took. No body, no query, no secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from issue_core.task import to_text

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
    key = entry.told.get("key") or "-"
    told = " ".join(f"{name}={value}" for name, value in entry.told.items() if name != "key" and value is not None)
    line = f"{_now()} {entry.client} {key} {entry.method} {_path(entry)} {entry.status} {entry.size} {_ms(entry)}ms"
    return f"{line} {told}" if told else line


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


def _now() -> str:
    return to_text(datetime.now(UTC))


def _path(entry: Entry) -> str:
    """Only what every path may have is shown; the rest of it is none of ours."""
    path = entry.path.partition("?")[0]
    return path if len(path) <= _LONGEST_PATH else path[: _LONGEST_PATH - 1] + "…"


def _ms(entry: Entry) -> str:
    return f"{entry.seconds * 1000:.1f}"
