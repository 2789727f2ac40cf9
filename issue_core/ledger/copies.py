"""Backups: a whole copy while others write, which knows that it is one; and a copy laid in the ledger's place.

A copy takes no tasks, and neither does a ledger that was set aside: what came in there would be lost. What a restored
ledger does not know is in doubt: see ledger/restored.py.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from issue_core.errors import (
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
    LedgerTooNew,
    NotALedger,
    NotFound,
    UsageError,
)
from issue_core.ledger import claims, facts, health, restored, schema, workers
from issue_core.ledger.commit import roll_back
from issue_core.ledger.connection import (
    belong_to_the_owner,
    connect_to_read,
    disk_is_full,
    file_lock,
    known_version,
    lock_of,
    name_of,
    opening,
    refuse_what_cannot_be_written,
    translated,
    wal_of,
)
from issue_core.ledger.drafts import COMPANIONS, NO_LINKS, Draft, beside, drafted, publish, sync, sync_folder
from issue_core.ledger.restored import Heritage
from issue_core.task import to_text

if TYPE_CHECKING:
    from issue_core.ledger import Ledger

_PAGES = 1024  # copied at a time, 4 MiB: an interrupt is heard in between

_PATIENCE = 2.0
"""Seconds that a restore waits for others to close the ledger: a command that began before it is done by then."""

# Where SQLite's locks are: in a database from PENDING_BYTE on (os.h), in the log's index from UNIX_SHM_BASE on to the
# lock that each process with a connection holds (os_unix.c).
_LOCKS = (0x40000000, 512)
_SHM_LOCKS = (120, 9)

_LOGS = ("-journal", "-wal")

_UNREADABLE = ("SQLITE_ERROR", "SQLITE_READONLY")
"""What SQLite says of a format that it does not know, for reading or for writing."""

_NOT_WRITTEN = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_CLOSE")

_NOT_A_COPYS = (*COMPANIONS, ".lock", ".workers")
"""What SQLite or we may lay beside a ledger, and remove, by the end of its name."""


class Copy(NamedTuple):
    """A copy that was written: where, and its size in bytes."""

    file: Path
    size: int


class Restored(NamedTuple):
    """What a restore came to: how many tasks, how many of them in doubt since when, and what was kept aside where."""

    tasks: int
    in_doubt: int
    since: str
    kept_aside: Path | None


class _Held(NamedTuple):
    """A ledger that nobody else has open, and what there is to know of it. Not ``sound``: it is kept as it is."""

    connection: sqlite3.Connection
    sound: bool
    heritage: Heritage = Heritage([], is_marked=False)
    copied_at: str | None = None


def backup(ledger: Ledger, target: Path, *, or_else: Iterable[Path] = ()) -> Copy:
    """Write a copy of the ledger to ``target``, which must not exist.

    The copy is the ledger as it was at one moment; others may write meanwhile. It is checked, and on the disk.
    ``or_else``: names in the same folder, for where somebody takes ``target`` meanwhile.

    Raises:
        NotFound: there is no ledger.
        UsageError: ``target`` is there already, or has a name that is no copy's.
        LedgerError: the ledger cannot be read or is damaged, or the copy cannot be written.
    """
    with ledger.read() as source:
        if schema.is_stand_in(source):
            raise NotFound(f"there is no ledger {ledger.path}", hint="There is nothing to back up yet.")
    names = _free(chain([target], or_else))
    target = next(names)
    with opening(ledger.path), _writing(target, "there is no copy"), drafted(target.parent) as draft:
        since = to_text(ledger.clock.now())  # before the moment of the copy: what is done later is not in it
        with ledger.read() as source, _writing(target, "there is no copy"):
            copy = _copied(source, draft.path)
        with closing(copy):
            # It is page by page what the ledger is.
            _require_whole(ledger.path, copy, "there is no copy")
            restored.guard(copy, since)
        sync(draft.descriptor)
        size = os.fstat(draft.descriptor).st_size
        return Copy(_published(draft.path, chain([target], names)), size)


def restore(ledger: Ledger, copy: Path, *, settled: bool = False) -> Restored:
    """Lay ``copy`` in the ledger's place. A ledger that is there is kept beside it under another name.

    ``settled``: no input is run again of which the copy does not know, so new tasks are in no doubt. ``copy`` may be
    the ledger itself, where somebody has laid a copy in its place.

    Raises:
        UsageError: there is no file ``copy``, or it is the ledger itself, and no copy.
        LedgerBusy: another process has the ledger open.
        LedgerError: the copy is no ledger, is damaged, or of a later release; or the disk is full.
    """
    path = ledger.path
    if not copy.exists():
        raise UsageError(f"there is no file {copy}")
    ledger.close()
    moment = ledger.clock.now()
    with opening(path), _writing(path, "nothing was changed"):
        refuse_what_cannot_be_written(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(lock_of(path)), _held(path) as held, drafted(path.parent) as draft:
            _take_after(path, draft)
            with _source(copy, path, held, ledger.busy_timeout) as source:
                made = _copied(source, draft.path)
            with closing(made), health.hearing(made):
                heritage = held.heritage if held else None
                told = restored.make_a_ledger(made, moment, ledger.run, heritage, settled=settled)
            sync(draft.descriptor)
            kept_aside = _swap(path, draft, held, moment)
        belong_to_the_owner(path, lock_of(path))
    return Restored(*told, kept_aside)


# --- a copy is made --------------------------------------------------------------------------------------------------


def _free(names: Iterable[Path]) -> Iterator[Path]:
    """Each name that is no file's yet. Raises UsageError for one that is no copy's, and where none is left."""
    taken = []
    for name in names:
        if name.name.endswith(_NOT_A_COPYS):
            raise UsageError(
                f"{name}: files of such names are parts of a ledger, and are removed with it",
                hint="Name the copy otherwise, such as copy.db.",
            )
        # A log that is left there from a former file of this name would be taken for the copy's.
        taken = [each for each in (name, *(beside(name, ending) for ending in COMPANIONS)) if os.path.lexists(each)]
        if not taken:
            yield name
            taken = [name]  # it was asked for another one
    raise UsageError(f"{taken[0]} is there already", hint="Name another file, or give --to-dir DIR --keep N.")


def _published(draft: Path, names: Iterator[Path]) -> Path:
    while True:
        name = next(names)
        with suppress(FileExistsError):
            publish(draft, name)
            return name


def _copied(source: sqlite3.Connection, draft: Path) -> sqlite3.Connection:
    """A connection to a copy of ``source``, as it is at this moment, in the file ``draft``, which needs no other."""
    # Nobody else knows the draft, so no locks are needed: network file systems may have none.
    copy = sqlite3.connect(f"{draft.absolute().as_uri()}?mode=rw&vfs=unix-none", uri=True, isolation_level=None)
    try:
        copy.execute("PRAGMA locking_mode = EXCLUSIVE")
        copy.execute("PRAGMA journal_mode = OFF")  # a draft that does not come to its end is thrown away
        copy.execute("PRAGMA synchronous = OFF")  # it is brought to the disk once, at the end
        # Without a lock from here on each step would see another moment, and every write of others start it anew.
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(copy, pages=_PAGES, progress=lambda *_: None)
        restored.set_journal_mode(copy, "delete")
        restored.set_journal_mode(copy, "off")
    except BaseException:
        copy.close()
        raise
    return copy


def _require_whole(file: Path, connection: sqlite3.Connection, so: str) -> None:
    if problems := health.problems(connection, most=3):
        raise LedgerCorrupt(
            f"{file}: it is damaged ({'; '.join(problems)}); {so}",
            hint="Restore an older copy, and run the input since then again.",
        )


@contextmanager
def _writing(target: Path, so: str) -> Iterator[None]:
    """Say of what cannot be written what it was to be, and what holds now."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        full = f"{target}: the disk or the quota is full; {so}"
        if disk_is_full(target, error):
            raise LedgerFull(full, hint="Make room, and run it again.") from error
        if isinstance(error, sqlite3.Error) and not name_of(error).startswith(_NOT_WRITTEN):
            raise
        what = error.strerror if isinstance(error, OSError) else error
        raise LedgerError(f"{target}: {what or error}; {so}", hint="Check the folder and its disk.") from error


# --- a copy takes a ledger's place -----------------------------------------------------------------------------------


@contextmanager
def _source(copy: Path, path: Path, held: _Held | None, busy_timeout: float) -> Iterator[sqlite3.Connection]:
    """A connection to what is to be restored, which is whole, and stays as it is for as long as the block lasts."""
    if path.exists() and copy.samefile(path):
        if held is None or held.copied_at is None:
            raise UsageError(f"{copy} is the ledger itself", hint="Name the copy that is to take its place.")
        _require_whole(copy, held.connection, "nothing was changed")
        yield held.connection
        return
    try:
        source = connect_to_read(copy, busy_timeout=busy_timeout)
    except NotALedger as error:
        raise NotALedger(error.message, hint="Name a copy of a ledger.") from None
    with closing(source):
        if schema.is_stand_in(source):
            raise NotALedger(f"{copy}: there is no ledger in it; nothing was changed", hint="Name a copy of a ledger.")
        with translated(copy):
            source.execute("BEGIN")
            _require_whole(copy, source, "nothing was changed")
        yield source


def _take_after(path: Path, draft: Draft) -> None:
    """Whoever could use the ledger can use the new one, also when root restores it."""
    belong_to_the_owner(path if path.exists() else path.parent, draft.path)
    if path.exists():
        os.fchmod(draft.descriptor, stat.S_IMODE(path.stat().st_mode))


@contextmanager
def _held(path: Path) -> Iterator[_Held | None]:
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


def _taken(path: Path) -> _Held:
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


def _opened(path: Path, mode: Literal["ro", "rw"], *, is_sound: bool = False) -> _Held:
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
            return _Held(connection, sound=False)  # a first start that was cut off
        heritage = Heritage(claims.every_id(connection), is_marked=claims.is_marked(connection))
        copied_at = facts.read(connection, facts.COPIED_AT)
        return _Held(connection, is_sound or not health.damaged_pages(connection, most=1), heritage, copied_at)
    except sqlite3.DatabaseError as error:
        if name_of(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            # It is damaged: that is what the copy is for. It is kept as it is: to close it now might cost its log.
            return _Held(connection, False, heritage)
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


def _swap(path: Path, draft: Draft, held: _Held | None, moment: datetime) -> Path | None:
    """Put ``draft`` in the place of the ledger at ``path``; gives the name under which that one is kept, if any was."""
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


def _undo(path: Path, aside: Path, held: _Held | None) -> None:
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
