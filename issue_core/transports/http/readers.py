"""Connections to read the ledger with, shared by the threads of a server: a few, so that reading stays bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from issue_core.ledger import Ledger

MOST = 4
"""How many threads read at the same time; the others wait for their turn."""


class Readers:
    """Ledgers to read with, lent to one thread at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._free: list[Ledger] = []
        self._turns = threading.BoundedSemaphore(MOST)

    @contextmanager
    def one(self) -> Iterator[Ledger]:
        """A ledger that nobody else uses until the block ends."""
        with self._turns:
            ledger = self._free.pop() if self._free else self._ledger.beside()
            try:
                yield ledger
            finally:
                self._free.append(ledger)

    def close(self) -> None:
        """Close those that are free."""
        while self._free:
            self._free.pop().close()
