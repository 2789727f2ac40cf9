"""Who is alive: each process that syncs holds an OS lock on a file of its own beside the ledger.

The kernel lets go of the lock when the process ends, whatever ends it, so nobody has to guess from the time
whether the owner of a lease still works.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from issue_core.ledger.connection import belong_to_the_owner, opening


@contextmanager
def enlisted(ledger: Path) -> Iterator[str]:
    """Be a worker of ``ledger`` for as long as the block lasts. Gives the worker's ID, which is never used again.

    Raises:
        LedgerError: the folder beside the ledger cannot be written.
    """
    worker = secrets.token_hex(8)
    with opening(ledger):
        folder = workers_of(ledger)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        belong_to_the_owner(ledger, folder)
        descriptor = _locked_file(folder, worker)
        belong_to_the_owner(ledger, folder / worker)
        _sweep(ledger, folder, worker)
    try:
        yield worker
    finally:
        with suppress(FileNotFoundError):
            (folder / worker).unlink()
        os.close(descriptor)


def is_alive(ledger: Path, worker: str) -> bool:
    """Whether the process behind ``worker`` still runs. What a dead one left behind is removed."""
    path = workers_of(ledger) / worker
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        with suppress(FileNotFoundError):
            path.unlink()
        return False
    finally:
        os.close(descriptor)


def living(ledger: Path) -> list[str]:
    """The workers of ``ledger`` that still run."""
    folder = workers_of(ledger)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if not name.startswith(".") and is_alive(ledger, name)]


def _locked_file(folder: Path, worker: str) -> int:
    # It gets its name when it is locked: under its name nobody ever sees it free.
    draft = folder / f".{worker}"
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    draft.rename(folder / worker)
    return descriptor


def _sweep(ledger: Path, folder: Path, me: str) -> None:
    """Remove what workers left that died with no lease in hand."""
    for path in folder.iterdir():
        if path.name != me and not path.name.startswith("."):
            is_alive(ledger, path.name)


def workers_of(ledger: Path) -> Path:
    """The folder beside ``ledger`` in which each worker has its file."""
    return ledger.with_name(ledger.name + ".workers")
