"""Opening a ledger: pragmas, the first start, who may write, and what SQLite's errors mean."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from issue_core.errors import (
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
    LedgerIsCopy,
    LedgerReadOnly,
    LedgerTooNew,
    LedgerUnreachable,
    NotALedger,
)
from issue_core.ledger import facts, schema
from issue_core.ledger.commit import roll_back

_ROOM_NEEDED = 1024 * 1024  # bytes; with less than this free, an I/O error is taken for a full disk


def connect_to_write(path: Path, *, busy_timeout: float) -> sqlite3.Connection:
    """A connection that may write, to a ledger that exists and is of this release.

    The first one makes the file (0600, its folder 0700) or migrates it, under an OS lock beside it.

    Raises:
        LedgerError: one of its subclasses; nothing was changed.
    """
    with opening(path):
        refuse_what_cannot_be_written(path)
        if not path.exists():
            _prepare(path, busy_timeout)
        connection, version = _current(path, f"{path.absolute().as_uri()}?mode=rw", busy_timeout)
        try:
            if version != schema.SCHEMA_VERSION:
                _prepare(path, busy_timeout)
            if facts.read(connection, facts.COPIED_AT):
                raise _is_copy(path)
            _tune(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def connect_to_read(path: Path, *, busy_timeout: float) -> sqlite3.Connection:
    """A connection that cannot write. Where there is no ledger yet it is an empty one; an older one is read as it is.

    Raises:
        LedgerError: one of its subclasses.
    """
    with opening(path):
        _refuse_what_is_no_file(path)
        if not path.exists() or path.stat().st_size == 0:
            return schema.empty()
        _refuse_what_cannot_be_read(path)
        uri = f"{path.absolute().as_uri()}?mode=ro"
        if _is_read_only(path) and not wal_of(path).exists():
            # SQLite would lay its two files beside it, as read-only as the ledger, and in the way of a later write.
            return _checked(path, uri + "&immutable=1", busy_timeout)
        try:
            return _checked(path, uri, busy_timeout)
        except sqlite3.OperationalError as error:
            # WAL wants its two files beside the ledger. Where they cannot be made (the folder is read-only, the disk
            # is full), nobody is writing either.
            if not name_of(error).startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR_SHM")):
                raise
            _refuse_to_overlook_a_wal(path)
            return _checked(path, uri + "&immutable=1", busy_timeout)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite raises, and rows that cannot be read, into the error that tells a person what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _as_ledger_error(path, error) from error
    except LedgerCorrupt as error:
        if error.hint:
            raise  # it says of which ledger it is
        raise LedgerCorrupt(f"ledger {path}: {error.message}", hint=how_to_mend(path)) from error


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """:func:`translated`, and the same for what the file system raises where the ledger's files are opened."""
    try:
        with translated(path):
            yield
    except PermissionError as error:
        raise LedgerUnreachable(
            f"ledger {path}: permission denied ({error.filename})", hint="Check who owns the file and its folder."
        ) from error
    except OSError as error:
        if disk_is_full(path, error):
            raise _full(path) from error
        raise LedgerUnreachable(f"ledger {path}: {error.strerror or error}", hint="Check the path.") from error


def _open(uri: str, busy_timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None, check_same_thread=False)


def _tune(connection: sqlite3.Connection) -> None:
    # A receipt must survive power loss: each commit reaches the disk before it returns.
    connection.execute("PRAGMA synchronous = FULL")
    if sys.platform == "darwin":
        # There fsync() stops at the drive's cache; this one does not.
        connection.execute("PRAGMA fullfsync = ON")
    # What a batch touches most stays in memory: 10 MiB, in KiB. More made ingest hardly faster.
    connection.execute("PRAGMA cache_size = -10240")
    # Bulk ingest touches pages all over the index of event IDs: fewer, larger checkpoints (32 MiB of WAL).
    connection.execute("PRAGMA wal_autocheckpoint = 8192")


def _checked(path: Path, uri: str, busy_timeout: float) -> sqlite3.Connection:
    connection, version = _current(path, uri, busy_timeout)
    if version == 0:
        connection.close()
        return schema.empty()
    return connection


def _current(path: Path, uri: str, busy_timeout: float) -> tuple[sqlite3.Connection, int]:
    """A connection that has read, to the file that is the ledger now, and the ledger's version."""
    # Between the opening of a file and its first lock a restore may lay another one in its place. SQLite would take
    # the new ledger's log for the old file's, and mix the two. From its first read on the lock keeps restores out.
    while True:
        file = _identity(path)
        connection = _open(uri, busy_timeout)
        try:
            version = known_version(path, connection)
        except (sqlite3.Error, LedgerError):
            connection.close()
            if _identity(path) == file:
                raise
        except BaseException:
            connection.close()
            raise
        else:
            if _identity(path) == file:
                return connection, version
            connection.close()


def _identity(path: Path) -> tuple[int, int]:
    file = path.stat()
    return file.st_dev, file.st_ino


def known_version(path: Path, connection: sqlite3.Connection) -> int:
    """The version of the ledger's schema; 0: there is nothing in it yet.

    Raises:
        NotALedger: it is another program's.
        LedgerTooNew: a later release wrote it.
    """
    application_id, version, things = _marks(connection)
    if application_id != schema.APPLICATION_ID:
        if application_id or version or things:
            raise _not_a_ledger(path)
        return 0
    if version > schema.SCHEMA_VERSION:
        raise LedgerTooNew(
            f"ledger {path}: a later release of issue-core wrote it (schema {version}, this release knows "
            f"{schema.SCHEMA_VERSION})",
            hint="Upgrade issue-core on this machine; the ledger was left as it is.",
        )
    return version


def _marks(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """What a database is known by: ``application_id``, ``user_version``, and how many things are in it."""
    # In one transaction: a ledger that another process makes meanwhile is seen before that or after, never half.
    connection.execute("BEGIN")
    try:
        application_id: int = connection.execute("PRAGMA application_id").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        things: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        roll_back(connection)
    return application_id, version, things


def _prepare(path: Path, busy_timeout: float) -> None:
    """Make or migrate the ledger. Of many first starts at once, one does it and the others wait for it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file_lock(lock_of(path)):
        _make_file(path)
        with closing(_open(f"{path.absolute().as_uri()}?mode=rw", busy_timeout)) as connection:
            if known_version(path, connection) != schema.SCHEMA_VERSION:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                schema.migrate(connection)


def _make_file(path: Path) -> None:
    # A ledger that is there is opened by SQLite alone: to close a descriptor of it would drop every lock that this
    # process holds on the file (POSIX), and another process would then take the log away from under our commits.
    # See section 2.2 of https://sqlite.org/howtocorrupt.html
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def lock_of(path: Path) -> Path:
    """The file whose OS lock says that the ledger at ``path`` is being made, migrated or replaced."""
    return path.with_name(path.name + ".lock")


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the OS lock on the file at ``path``; it falls with the process, whatever ends it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        belong_to_the_owner(path.with_suffix(""), path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def belong_to_the_owner(ledger: Path, path: Path) -> None:
    """What root makes beside somebody's ledger is made for the ledger's owner, who would be locked out else."""
    if os.geteuid() == 0 and ledger.exists():
        owner = ledger.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def refuse_what_cannot_be_written(path: Path) -> None:
    """Let nobody write where there is a folder, a pipe or the like, or a ledger that is read-only.

    Raises:
        LedgerError: one of its subclasses.
    """
    _refuse_what_is_no_file(path)
    _refuse_what_cannot_be_read(path)
    if _is_read_only(path):
        raise _read_only(path)


def _refuse_what_is_no_file(path: Path) -> None:
    if path.is_dir():
        raise NotALedger(f"ledger {path}: this is a folder", hint="Name a file in it, such as ledger.db.")
    if path.parent.exists() and not path.parent.is_dir():
        raise LedgerUnreachable(f"ledger {path}: {path.parent} is a file, not a folder", hint="Check the path.")
    if path.exists() and not path.is_file():
        raise NotALedger(f"ledger {path}: this is no regular file", hint="Name a file, such as ledger.db.")


def _refuse_what_cannot_be_read(path: Path) -> None:
    for file in (path, wal_of(path)):
        if found := _closed_to_us(file):
            raise LedgerUnreachable(
                f"ledger {path}: permission denied ({file.name} is {_owner(found)}'s, {stat.filemode(found.st_mode)})",
                hint="Run it as its owner, or change who owns the ledger and may read it.",
            )


def _closed_to_us(file: Path) -> os.stat_result | None:
    """Whose it is, and who may read it, if it is there and we may not. SQLite makes and removes logs meanwhile."""
    with suppress(FileNotFoundError):
        if not os.access(file, os.R_OK):
            found = file.stat()
            return None if os.access(file, os.R_OK) else found
    return None


def _owner(found: os.stat_result) -> str:
    import pwd

    try:
        return pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        return f"user {found.st_uid}"


def _is_read_only(path: Path) -> bool:
    # A file without any write bit is meant to stay as it is, also for root, to whom the kernel would allow it.
    return os.access(path, os.R_OK) and not (path.stat().st_mode & 0o222 and os.access(path, os.W_OK))


def wal_of(path: Path) -> Path:
    """Where SQLite keeps what was committed last."""
    return path.with_name(path.name + "-wal")


def _refuse_to_overlook_a_wal(path: Path) -> None:
    # What was committed last may stand in it alone, and without the ledger's two files SQLite would not look there.
    wal = wal_of(path)
    if wal.exists() and wal.stat().st_size:
        raise LedgerUnreachable(
            f"ledger {path}: its newest tasks are in {wal.name}, which cannot be read where nothing can be written",
            hint=f"Copy {path.name} and {wal.name} to a folder with room that you may write to, and read them there.",
        )


def name_of(error: Exception) -> str:
    """SQLite's own name for what went wrong, with its extended code; empty where Python's module itself raised it."""
    return getattr(error, "sqlite_errorname", "")


def is_no_text(error: sqlite3.Error) -> bool:
    """Whether a row could not be read because its text is no UTF-8."""
    return not name_of(error) and str(error).startswith("Could not decode to UTF-8")


def _as_ledger_error(path: Path, error: sqlite3.Error) -> LedgerError:
    name = name_of(error)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LedgerBusy(
            f"ledger {path}: another process kept the write lock for too long; nothing was stored",
            hint="Find the process that holds it (lsof), or try again.",
        )
    if disk_is_full(path, error):
        return _full(path)
    if name == "SQLITE_CONSTRAINT_TRIGGER" and str(error) == facts.TAKES_NOTHING:
        return _is_copy(path)
    if name.startswith("SQLITE_READONLY"):
        return _read_only(path)
    if name == "SQLITE_NOTADB":
        return _not_a_ledger(path)
    if name.startswith("SQLITE_CORRUPT") or str(error) == "malformed JSON":
        return LedgerCorrupt(f"ledger {path}: it is damaged ({error})", hint=how_to_mend(path))
    if is_no_text(error):
        # What follows is the text, which may be confidential.
        what = str(error).partition(" with text ")[0]
        return LedgerCorrupt(f"ledger {path}: it is damaged ({what}); issue doctor says where", hint=how_to_mend(path))
    if name.startswith("SQLITE_CANTOPEN") and os.access(path, os.R_OK) and not os.access(path.parent, os.W_OK):
        return _read_only(path)
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return LedgerUnreachable(
            f"ledger {path}: it cannot be opened ({error})", hint="Check the path and who may read and write there."
        )
    return LedgerError(
        f"ledger {path}: {error} ({name or 'no code'})",
        hint="Look for a failing disk, a file size limit (ulimit -f) or a lost network drive; then try again."
        if name.startswith("SQLITE_IOERR")
        else None,
    )


def how_to_mend(path: Path) -> str:
    """What to do about a ledger that is damaged."""
    return f"`issue restore BACKUP --ledger {path}` keeps it aside as it is; then run the input since then again."


def disk_is_full(path: Path, error: sqlite3.Error | OSError) -> bool:
    """Whether ``error``, met where ``path`` was written, comes of a full disk or quota."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    name = name_of(error)
    return name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and _has_no_room(path))


def _has_no_room(path: Path) -> bool:
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < _ROOM_NEEDED


def _full(path: Path) -> LedgerFull:
    return LedgerFull(
        f"ledger {path}: the disk or the quota is full; nothing of this batch was stored",
        hint="Make room and run it again: what was stored before is safe and counts as a duplicate.",
    )


def _read_only(path: Path) -> LedgerReadOnly:
    return LedgerReadOnly(
        f"ledger {path}: it is read-only; it can be read, not written",
        hint="Make the file and its folder writable, or name another one with --ledger.",
    )


def _is_copy(path: Path) -> LedgerIsCopy:
    return LedgerIsCopy(
        f"ledger {path}: {facts.TAKES_NOTHING}",
        hint=f"`issue restore {path} --ledger LEDGER` makes a ledger of it again, in LEDGER's place or in its own.",
    )


def _not_a_ledger(path: Path) -> NotALedger:
    return NotALedger(
        f"ledger {path}: this file is not a ledger of issue-core; it was left as it is",
        hint="Name another file with --ledger or ISSUE_CORE_LEDGER.",
    )
