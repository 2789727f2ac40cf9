"""Backups: a whole copy while others write, which knows that it is one; and a copy laid in the ledger's place.

A copy takes no tasks, and neither does a ledger that was set aside: what came in there would be lost. After a restore
nobody knows what the ledger has done since the copy was made, so every task that is not known to be synced is in doubt
since then. For some time that holds for new tasks, too: the input of those days may be run again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from issue_core.errors import LedgerBusy, LedgerCorrupt, NotFound, UsageError
from issue_core.ledger import Transaction, claims, facts, history, schema
from issue_core.ledger.connection import belong_to_the_owner, connect_to_read, file_lock, lock_of, opening, wal_of
from issue_core.task import to_text

if TYPE_CHECKING:
    from issue_core.ledger import Ledger

DOUBTFUL = timedelta(days=30)
"""For how long after a restore a new task may be one that the ledger had before."""

_PAGES = 1024  # copied at a time, 4 MiB: an interrupt is heard in between

_GUARDED = ("tasks", "rejects", "attempts", "leases")

_GUARD = f"""
    CREATE TRIGGER IF NOT EXISTS a_copy_takes_no_{{table}} BEFORE INSERT ON {{table}}
    BEGIN SELECT raise(ABORT, '{facts.TAKES_NOTHING}'); END
"""
_UNGUARD = "DROP TRIGGER IF EXISTS a_copy_takes_no_{table}"

_LAST_CHANGE = """
    SELECT max(at) FROM (
        SELECT max(created_at) AS at FROM tasks UNION ALL SELECT max(updated_at) FROM tasks
        UNION ALL SELECT max(started_at) FROM attempts
    )
"""

_UNKNOWN = "SELECT seq FROM tasks WHERE state IN ('pending', 'failed', 'held') AND in_doubt_since IS NULL"

_DOUBT = "UPDATE tasks SET in_doubt_since = :since, updated_at = :now WHERE seq = :seq"

_COUNTS = "SELECT count(*), coalesce(sum(in_doubt_since IS NOT NULL), 0) FROM tasks"


class Restored(NamedTuple):
    """What a restore came to: how many tasks, how many of them in doubt since when, and what was kept aside where."""

    tasks: int
    in_doubt: int
    since: str
    kept_aside: Path | None


def backup(ledger: Ledger, target: Path) -> int:
    """Write a copy of the ledger to ``target``, which must not exist; gives its size in bytes.

    The copy is the ledger as it was at one moment; others may write meanwhile. It is checked, and on the disk.

    Raises:
        NotFound: there is no ledger.
        UsageError: ``target`` is there already.
        LedgerError: the ledger cannot be read or is damaged, or the copy cannot be written.
    """
    since = to_text(ledger.clock.now())  # before the moment of the copy: what is done later is not in it
    with ledger.read() as source, opening(target):
        if schema.is_stand_in(source):
            raise NotFound(f"there is no ledger {ledger.path}", hint="There is nothing to back up yet.")
        if target.exists():
            raise UsageError(f"{target} is there already", hint="Name another file, or give --to-dir DIR --keep N.")
        with _draft(target) as draft:
            with closing(_copied(source, draft)) as copy:
                _require_whole(draft, copy)
                _guard(copy, since)
            _sync(draft)
            os.link(draft, target)
            _sync(target.parent)
    return target.stat().st_size


def restore(ledger: Ledger, copy: Path, *, settled: bool = False) -> Restored:
    """Lay ``copy`` in the ledger's place. A ledger that is there is kept beside it under another name.

    ``settled``: no input is run again of which the copy does not know, so new tasks are in no doubt.

    Raises:
        UsageError: there is no file ``copy``, or it is the ledger itself.
        LedgerBusy: another process has the ledger open.
        LedgerError: the copy is no ledger, is damaged, or of a later release; or the disk is full.
    """
    path = ledger.path
    if not copy.exists():
        raise UsageError(f"there is no file {copy}")
    if path.exists() and copy.samefile(path):
        raise UsageError(f"{copy} is the ledger itself", hint="Name the copy that is to take its place.")
    moment = ledger.clock.now()
    with opening(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(lock_of(path)), _draft(path) as draft:
            with closing(connect_to_read(copy, busy_timeout=ledger.busy_timeout)) as source:
                _require_whole(copy, source)
                made = _copied(source, draft)
            with closing(made):
                tasks, in_doubt, since = _made_a_ledger(made, moment, ledger.run, settled=settled)
            _sync(draft)
            kept_aside = _swap(path, draft, moment)
    return Restored(tasks, in_doubt, since, kept_aside)


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A new file of its owner's beside ``target``, which is gone when the block ends; so are those of the dead."""
    for left in target.parent.glob(f".{target.name}.*.draft"):
        left.unlink(missing_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        belong_to_the_owner(target, draft)
        yield draft
    finally:
        for each in (draft, draft.with_name(draft.name + "-journal"), wal_of(draft)):
            each.unlink(missing_ok=True)


def _copied(source: sqlite3.Connection, draft: Path) -> sqlite3.Connection:
    """A connection to a copy of ``source`` in the file ``draft``, one file that needs no other."""
    copy = sqlite3.connect(draft, isolation_level=None)
    try:
        # An interrupt is heard where Python is called, between two steps.
        source.backup(copy, pages=_PAGES, progress=lambda *_: None)
        copy.execute("PRAGMA journal_mode = DELETE")
    except BaseException:
        copy.close()
        raise
    return copy


def _require_whole(file: Path, connection: sqlite3.Connection) -> None:
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if problems != ["ok"]:
        raise LedgerCorrupt(f"{file}: it is damaged ({'; '.join(problems)})", hint="Take another copy.")


def _guard(connection: sqlite3.Connection, since: str) -> None:
    """From now on this file takes nothing: it is a copy, or was set aside. Those who wait to write find out, too."""
    connection.execute("BEGIN IMMEDIATE")
    facts.write(connection, facts.COPIED_AT, since)
    for table in _GUARDED:
        connection.execute(_GUARD.format(table=table))
    connection.execute("COMMIT")


def _made_a_ledger(
    connection: sqlite3.Connection, moment: datetime, run: str, *, settled: bool
) -> tuple[int, int, str]:
    """Make a ledger of a copy, with an ID of its own and doubts: how many tasks, how many in doubt, since when."""
    if connection.execute("PRAGMA user_version").fetchone()[0] != schema.SCHEMA_VERSION:
        schema.migrate(connection)
    now = to_text(moment)
    connection.execute("BEGIN IMMEDIATE")
    for table in _GUARDED:
        connection.execute(_UNGUARD.format(table=table))
    # What was copied by other means does not say when: it was after its last change.
    since = facts.read(connection, facts.COPIED_AT) or connection.execute(_LAST_CHANGE).fetchone()[0] or now
    facts.forget(connection, facts.COPIED_AT)
    facts.write(connection, facts.DOUBT_SINCE, since)
    if not settled:
        facts.write(connection, facts.DOUBT_UNTIL, to_text(moment + DOUBTFUL))
    claims.take_a_new_id(connection)
    connection.execute("DELETE FROM leases")
    tx = Transaction(connection, moment, now, run, set())
    for (seq,) in connection.execute(_UNKNOWN).fetchall():
        connection.execute(_DOUBT, {"seq": seq, "since": since, "now": now})
        history.add(tx, seq, "restored", since=since)
    tasks, in_doubt = connection.execute(_COUNTS).fetchone()
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    return tasks, in_doubt, since


def _swap(path: Path, draft: Path, moment: datetime) -> Path | None:
    """Put ``draft`` in the place of the ledger at ``path``; gives the name under which that one is kept, if any was."""
    if not path.exists():
        _put_aside_the_log(path, path.with_name(f"{path.name}.before-{moment:%Y%m%dT%H%M%S%fZ}"))
        draft.rename(path)
        _sync(path.parent)
        return None
    aside = path.with_name(f"{path.name}.before-{moment:%Y%m%dT%H%M%S%fZ}")
    with _closed_to_others(path, to_text(moment)):
        # Two names first, then the new file under the old name: there is a ledger at every moment.
        os.link(path, aside)
        _put_aside_the_log(path, aside)
        draft.replace(path)
        _sync(path.parent)
    return aside


@contextmanager
def _closed_to_others(path: Path, now: str) -> Iterator[None]:
    """Until the block ends nobody else uses the ledger, and afterwards nobody writes to this file any more.

    Raises:
        LedgerBusy: another process has it open.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=1.0, isolation_level=None)
    with closing(connection):
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = DELETE")  # fails while anybody else has it open
            _guard(connection, now)
        except sqlite3.DatabaseError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise LedgerBusy(
                    f"ledger {path}: another process has it open; nothing was changed",
                    hint="Stop what uses it (issue serve, subscribe, sync, an editor for SQLite), and try again.",
                ) from None
            if not name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                raise
            # It is damaged: that is what the copy is for. What of it can be kept is.
        yield


def _put_aside_the_log(path: Path, aside: Path) -> None:
    """The log of a damaged ledger must not be taken for the new one's."""
    with suppress(FileNotFoundError):
        wal_of(path).rename(wal_of(aside))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)  # an index of the log, which SQLite makes again


def _sync(path: Path) -> None:
    """See that what was written to a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
