"""Backups: a whole copy while others write, which knows that it is one; and a copy laid in the ledger's place.

A copy takes no tasks, and neither does a ledger that was set aside: what came in there would be lost. What a restored
ledger does not know is in doubt: see ledger/restored.py.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from issue_core.errors import (
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
    NotALedger,
    NotFound,
    UsageError,
)
from issue_core.ledger import health, restored, schema
from issue_core.ledger.connection import (
    belong_to_the_owner,
    connect_to_read,
    disk_is_full,
    file_lock,
    lock_of,
    name_of,
    opening,
    refuse_what_cannot_be_written,
    translated,
)
from issue_core.ledger.drafts import COMPANIONS, Draft, beside, drafted, publish, sync
from issue_core.ledger.replacing import Held, holding, swap
from issue_core.task import to_text

if TYPE_CHECKING:
    from issue_core.ledger import Ledger

_PAGES = 1024  # copied at a time, 4 MiB: an interrupt is heard in between

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
        with file_lock(lock_of(path)), holding(path) as held, drafted(path.parent) as draft:
            _take_after(path, draft)
            with _source(copy, path, held, ledger.busy_timeout) as source:
                made = _copied(source, draft.path)
            with closing(made), health.hearing(made):
                heritage = held.heritage if held else None
                told = restored.make_a_ledger(made, moment, ledger.run, heritage, settled=settled)
            sync(draft.descriptor)
            kept_aside = swap(path, draft, held, moment)
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
def _source(copy: Path, path: Path, held: Held | None, busy_timeout: float) -> Iterator[sqlite3.Connection]:
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
