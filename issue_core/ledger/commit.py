"""A commit in a thread of its own: SQLite needs no Python while it writes and waits for the disk."""

from __future__ import annotations

import sqlite3
import threading


class Commit:
    """The commit of an open transaction, begun as this is made; until :meth:`wait` returns, it owns the connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._error: sqlite3.Error | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._error = error
            roll_back(self._connection)

    def wait(self) -> None:
        """Wait for the end of it.

        Raises:
            sqlite3.Error: it failed; the transaction was rolled back.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the open transaction. After some errors SQLite has done so already, and would complain."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
