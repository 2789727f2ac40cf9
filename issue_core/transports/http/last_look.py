"""A look that costs something, shared by all who ask at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class LastLook(Generic[_T]):
    """What the last ``look`` found, which holds for ``seconds``; ``first`` until then.

    One thread looks; what the others get is what the last look found.
    """

    def __init__(self, look: Callable[[], _T], *, seconds: float, first: _T) -> None:
        self._look = look
        self._seconds = seconds
        self._found = first
        self._until = 0.0
        self._looking = threading.Lock()

    def found(self) -> _T:
        """Look again if it is time to; gives what was found."""
        if time.monotonic() >= self._until and self._looking.acquire(blocking=False):
            try:
                until = time.monotonic() + self._seconds
                self._found = self._look()
                self._until = until
            finally:
                self._looking.release()
        return self._found
