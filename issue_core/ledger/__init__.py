"""The ledger: every line of SQL in the project, and the one place where a task is kept."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from issue_core.clock import Clock
from issue_core.ledger import claims, schema
from issue_core.ledger.commit import Commit, roll_back
from issue_core.ledger.connection import connect_to_read, connect_to_write, translated
from issue_core.task import to_text

__all__ = ["Ledger", "Transaction"]

_PROVE = """
    INSERT INTO meta (key, value) VALUES ('proved_at', :now) ON CONFLICT DO UPDATE SET value = excluded.value
"""

_TAKE_ROOM = "INSERT OR REPLACE INTO meta (key, value) VALUES ('room', CAST(zeroblob(:room) AS TEXT))"
_FREE_ROOM = "DELETE FROM meta WHERE key = 'room'"

RUN = os.urandom(4).hex()
"""This process, in the history rows that it writes."""


class Transaction(NamedTuple):
    """An open write transaction, as the functions of this package take it: one moment, one run, one commit.

    ``noted`` is what this ledger is known to hold for good, beyond the transaction too.
    """

    connection: sqlite3.Connection
    moment: datetime
    now: str
    run: str
    noted: set[tuple[str, str, int]]


class Ledger:
    """One ledger file. Opened when first used; safe to use from several processes at once.

    An instance belongs to one thread at a time. ``busy_timeout`` is how many seconds a write waits for
    another process's write. ``claims``: the first write marks the ledger for good as one whose tasks must be claimed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        busy_timeout: float = 60.0,
        run: str = RUN,
        claims: bool = False,
    ) -> None:
        # Whatever name leads to it: what lies beside a ledger (locks, workers, issues) must be the same for all.
        self.path = Path(path).expanduser().resolve()
        self.clock = clock or Clock()
        self.busy_timeout = busy_timeout
        self.run = run
        self.claims = claims
        self._commit: Commit | None = None
        self._noted: set[tuple[str, str, int]] = set()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open. Raises what :meth:`settle` raises."""
        try:
            self.settle()
        finally:
            for name in ("_writer", "_reader"):
                connection = self.__dict__.pop(name, None)
                if connection is not None:
                    connection.close()

    def beside(self) -> Ledger:
        """The same ledger for another thread: connections of its own."""
        return Ledger(self.path, clock=self.clock, busy_timeout=self.busy_timeout, run=self.run, claims=self.claims)

    @cached_property
    def _writer(self) -> sqlite3.Connection:
        return connect_to_write(self.path, busy_timeout=self.busy_timeout)

    @cached_property
    def _reader(self) -> sqlite3.Connection:
        return connect_to_read(self.path, busy_timeout=self.busy_timeout)

    def _connection_to_read(self) -> sqlite3.Connection:
        reader = self.__dict__.get("_reader")
        if reader is not None and not reader.in_transaction and schema.is_stand_in(reader):
            # There was no ledger when it was opened; somebody may have made one since.
            del self._reader
            reader.close()
        return self.__dict__.get("_writer") or self._reader

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A short write transaction, committed to the disk when the block ends and rolled back when it raises.

        Raises:
            LedgerBusy: another process held the write lock longer than ``busy_timeout`` seconds.
            LedgerFull: the disk or the quota is full; nothing of this transaction was stored.
            LedgerError: see the other subclasses.
        """
        with self._transaction() as tx:
            yield tx
            tx.connection.execute("COMMIT")

    def prove(self, room: int = 0) -> None:
        """Write something, and ``room`` bytes that are freed again, to see whether that works.

        Raises what :meth:`write` raises.
        """
        with self.write() as tx:
            tx.connection.execute(_PROVE, {"now": tx.now})
            if room:
                tx.connection.execute(_TAKE_ROOM, {"room": room})
        if room:
            with self.write() as tx:
                tx.connection.execute(_FREE_ROOM)

    @contextmanager
    def write_behind(self) -> Iterator[Transaction]:
        """:meth:`write`, but the commit still runs when the block has ended; :meth:`settle` waits for it.

        Raises what :meth:`write` raises.
        """
        with self._transaction() as tx:
            yield tx
        self._commit = Commit(tx.connection)

    def settle(self) -> None:
        """Wait until what :meth:`write_behind` wrote is on the disk.

        Raises what :meth:`write` raises, if it does not get there; then nothing of it was stored.
        """
        if self._commit is None:
            return
        with translated(self.path):
            try:
                self._commit.wait()
            except sqlite3.Error:
                self._commit = None
                self._noted.clear()
                raise
        # Only now: whoever is interrupted while waiting waits again before anything else is done.
        self._commit = None

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        self.settle()
        connection = self._writer
        with translated(self.path):
            connection.execute("BEGIN IMMEDIATE")
            moment = self.clock.now()
            tx = Transaction(connection, moment, to_text(moment), self.run, self._noted)
            try:
                if self.claims:
                    claims.mark(tx)
                yield tx
            except BaseException:
                roll_back(connection)
                self._noted.clear()
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with; it sees one state of the ledger for as long as the block lasts, and never writes.

        Raises:
            LedgerError: one of its subclasses.
        """
        self.settle()
        with translated(self.path):
            connection = self._connection_to_read()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                roll_back(connection)
