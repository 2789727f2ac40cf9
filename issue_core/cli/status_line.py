"""One line on standard error that says how far a long command is, for a person who waits for it; gone at its end."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from issue_core.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATIENCE = 1.0  # seconds after which it is there
_EVERY = 0.5  # seconds between two looks at what it should say

_WIDTH = 80  # columns, where the terminal does not say how many it has

_ERASE = "\r\x1b[K"  # ECMA-48: to the beginning of the line, and erase what is behind


class StatusLine:
    """Shows ``text()`` from :meth:`start` to :meth:`stop`, where somebody watches and no steps are said there anyway.

    ``text`` is called in a thread of its own. The cursor is left at the line's beginning, so that whatever is written
    there next, by anybody, takes the line's place.
    """

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._drawn = False

    def start(self) -> None:
        """Show it, once there was time for the command to end without."""
        if output.is_watched() and not output.says_steps() and os.environ.get("TERM", "dumb") != "dumb":
            threading.Thread(target=self._run, name="status line", daemon=True).start()

    def stop(self) -> None:
        """Take it away for good."""
        self._ended.set()
        with self._lock:
            self._erase()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Take it away while something else is written."""
        with self._lock:
            self._erase()
            yield

    def _run(self) -> None:
        pause = _PATIENCE
        while not self._ended.wait(pause):
            pause = _EVERY
            with self._lock:
                if not self._ended.is_set():
                    self._draw()

    def _draw(self) -> None:
        self._drawn = True
        _write(f"{_ERASE}{output.escape(self._text())[: _width() - 1]}\r")

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = False
            _write(_ERASE)


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        return _WIDTH


def _write(text: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
