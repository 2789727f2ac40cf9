"""A file takes the place of a ledger that nobody else has open. The ledger is kept aside, and takes nothing more.

At every moment there is a whole ledger: the old one or the new one.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from issue_core.errors import LedgerBusy, LedgerError, LedgerTooNew, NotALedger
from issue_core.ledger import claims, facts, health, restored, workers
from issue_core.ledger.commit import roll_back
from issue_core.ledger.connection import known_version, name_of, wal_of
from issue_core.ledger.drafts import NO_LINKS, Draft, beside, sync_folder
from issue_core.ledger.restored import Heritage
from issue_core.task import to_text

_PATIENCE = 2.0
"""Seconds that a restore waits for others to close the ledger: a command that began before it is done by then."""

# Where SQLite's locks are: in a database from PENDING_BYTE on (os.h), in the log's index from UNIX_SHM_BASE on to the
# lock that each process with a connection holds (os_unix.c).
_LOCKS = (0x40000000, 512)
_SHM_LOCKS = (120, 9)

_LOGS = ("-journal", "-wal")

_UNREADABLE = ("SQLITE_ERROR", "SQLITE_READONLY")
"""What SQLite says of a format that it does not know, for reading or for writing."""


class Held(NamedTuple):
    """A ledger that nobody else has open, and what there is to know of it. Not ``sound``: it is kept as it is."""

    connection: sqlite3.Connection
    sound: bool
    heritage: Heritage = Heritage([], is_marked=False)
    copied_at: str | None = None


@contextmanager
def holding(path: Path) -> Iterator[Held | None]:
    """Until the block ends nobody else has the ledger open. ``None``: there is none.

    Raises:
        LedgerBusy: another process has it open.
    """
    held = _taken(path) if path.exists() else None
    try:
        # Somebody may have another file open which had this name before: its log has this name still.
        with _locked(path, "-shm", _SHM_LOCKS), nullcontext() if held and held.sound else _locked(path, "", _LOCKS):
            if not path.exists() and workers.living(path):
                raise _busy(path)
            yield held
    finally:
        if held:
            held.connection.close()


def _taken(path: Path) -> Held:
    if not _has_a_log_that_is_left(path):
        return _opened(path, "rw")
    held = _opened(path, "ro")
    if not held.sound:
        return held
    held.connection.close()
    return _opened(path, "rw", is_sound=True)


def _has_a_log_that_is_left(path: Path) -> bool:
    """Whether it has a log that nobody uses. The next who can write brings that into it, be it damaged or not."""
    if beside(path, "-journal").exists():
        return False  # Only who can write can read it now.
    try:
        with _locked(path, "-shm", _SHM_LOCKS):
            return wal_of(path).exists() and wal_of(path).stat().st_size > 0
    except LedgerBusy:
        return False


def _opened(path: Path, mode: Literal["ro", "rw"], *, is_sound: bool = False) -> Held:
    """The ledger, looked through unless it is known to be sound; where it may be written, nobody else has it open."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
    heritage = Heritage([], is_marked=False)
    try:
        if mode == "rw":
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")  # fails while anybody else has read or written and not closed it
            connection.execute("ROLLBACK")
        if not known_version(path, connection):
            return Held(connection, sound=False)  # a first start that was cut off
        heritage = Heritage(claims.every_id(connection), is_marked=claims.is_marked(connection))
        copied_at = facts.read(connection, facts.COPIED_AT)
        return Held(connection, is_sound or not health.damaged_pages(connection, most=1), heritage, copied_at)
    except sqlite3.DatabaseError as error:
        if name_of(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            # It is damaged: that is what the copy is for. It is kept as it is: to close it now might cost its log.
            return Held(connection, False, heritage)
        connection.close()
        if name_of(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise _busy(path) from None
        if name_of(error) in _UNREADABLE:
            raise _in_the_way(NotALedger(f"ledger {path}: it cannot be read as a ledger ({error})")) from error
        raise
    except (NotALedger, LedgerTooNew) as error:
        connection.close()
        raise _in_the_way(error) from None
    except BaseException:
        connection.close()
        raise


def _in_the_way(error: LedgerError) -> LedgerError:
    """A ledger with a damaged header may look like another program's file, which is not replaced."""
    do = "If it is a damaged ledger, move it away, with its -wal and -shm, and restore again."
    return type(error)(error.message, hint=f"{error.hint} {do}" if error.hint else do)


@contextmanager
def _locked(path: Path, ending: str, place: tuple[int, int]) -> Iterator[None]:
    """Hold a POSIX lock on these bytes of the ledger, or of what lies beside it, if there is such a file.

    Raises:
        LedgerBusy: a process holds one of SQLite's locks there.
    """
    file = beside(path, ending)
    if not file.exists():
        yield
        return
    start, length = place
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except BlockingIOError:
            raise _busy(path) from None
        yield
    finally:
        os.close(descriptor)


def _busy(path: Path) -> LedgerBusy:
    return LedgerBusy(
        f"ledger {path}: another process has it open; nothing was changed",
        hint="Stop what uses it (issue serve, subscribe, sync, an editor for SQLite), and try again.",
    )


def swap(path: Path, draft: Draft, held: Held | None, moment: datetime) -> Path | None:
    """Put ``draft`` in the place of the ledger at ``path``; gives the name under which that one is kept, if any was.

    Raises:
        OSError, sqlite3.Error: it failed, and the ledger is as it was.
        LedgerError: that could not be had; it says what to do.
    """
    aside = beside(path, f".before-{moment:%Y%m%dT%H%M%S%fZ}")
    try:
        # Two names first, then the new file under the old name: there is a ledger at every moment.
        linked = path.exists() and _link(path, aside)
        sync_folder(path.parent)
        closed = held is not None and held.sound
        if held and closed:
            _close_for_good(held.connection, to_text(moment))
        if path.exists() and not linked:
            path.rename(aside)
        kept_log = None if closed else _put_aside_the_log(path, aside)
        beside(path, "-shm").unlink(missing_ok=True)  # an index of the log, which SQLite makes again
        draft.path.replace(path)
    except BaseException:
        if draft.path.exists():
            with suppress(OSError):
                os.ftruncate(draft.descriptor, 0)  # on a full disk, what follows needs the room
            _undo(path, aside, held)
        raise
    sync_folder(path.parent)
    return aside if aside.exists() else kept_log


def _link(path: Path, aside: Path) -> bool:
    try:
        os.link(path, aside)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return False
    return True


def _close_for_good(ledger: sqlite3.Connection, now: str) -> None:
    """Let it take nothing any more, also from those who have just opened it."""
    restored.guard(ledger, now)
    # Its log moves into it: by its name it would be the new ledger's.
    restored.set_journal_mode(ledger, "delete")


def _put_aside_the_log(path: Path, aside: Path) -> Path | None:
    """What SQLite has laid beside the ledger must not be taken for the new one's; gives the log's new name."""
    for ending in _LOGS:
        log = beside(path, ending)
        if log.exists() and log.stat().st_size:
            log.rename(beside(aside, ending))
        else:
            log.unlink(missing_ok=True)
    return wal_of(aside) if wal_of(aside).exists() else None


def _undo(path: Path, aside: Path, held: Held | None) -> None:
    """Make the ledger what it was: its place was not taken."""
    for ending in _LOGS:
        with suppress(FileNotFoundError):
            beside(aside, ending).rename(beside(path, ending))
    if path.exists():
        aside.unlink(missing_ok=True)
    elif aside.exists():
        aside.rename(path)
    if held and held.sound and not held.copied_at:
        try:
            roll_back(held.connection)
            restored.set_journal_mode(held.connection, "wal")
            restored.lift_the_guard(held.connection)
        except (sqlite3.Error, LedgerError) as error:
            raise LedgerError(
                f"ledger {path}: the restore failed, and so did its undoing ({error}); the ledger may take nothing now",
                hint=f"When the disk is well again, `issue restore {path} --ledger {path}` opens it, in its own place.",
            ) from error
