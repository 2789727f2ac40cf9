"""Whether a ledger is still where it was: one that is kept open, and one that left its companions behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from issue_core.errors import LedgerMoved
from issue_core.ledger.connection import wal_of
from issue_core.ledger.workers import workers_of

if TYPE_CHECKING:
    from issue_core.ledger import Ledger


def is_missing(path: Path) -> bool:
    """Whether there is no ledger at ``path``, though what lies beside one says that there was."""
    # A lock alone says nothing: it is made before the ledger, of which nothing may come.
    return any(each.exists() for each in (workers_of(path), wal_of(path))) and not path.exists()


class ItsFile:
    """The file of a ledger, known from the first look at it on."""

    def __init__(self, ledger: Ledger) -> None:
        self._path = ledger.path
        self._file: tuple[int, int] | None = None

    def require(self) -> None:
        """What is written to a file that was moved away or deleted would be gone with this process.

        Raises:
            LedgerMoved: the ledger's file is no longer the one that was opened.
        """
        try:
            found = os.stat(self._path)  # noqa: PTH116 - once a commit: a path object's way is longer
        except FileNotFoundError:
            if self._file is None:
                return  # it is made with the first commit
            raise self._moved() from None
        if self._file is None:
            self._file = (found.st_dev, found.st_ino)
        elif self._file != (found.st_dev, found.st_ino):
            raise self._moved()

    def _moved(self) -> LedgerMoved:
        return LedgerMoved(
            f"the ledger {self._path} was moved or deleted while it was in use; nothing was stored",
            hint="Lay it back, or start again.",
        )
