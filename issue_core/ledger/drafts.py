"""A file that is written under a name that nobody looks for, and gets its own when all of it is on the disk."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite may lay beside a database, by the end of its name."""

NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system says that knows no hard links, or a kernel that allows none to this file."""

_NO_SYNC = frozenset({errno.EROFS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

_NAMED = re.compile(r"\.issue-core-[0-9a-f]{32}\.draft")


class Draft(NamedTuple):
    """A draft, and a descriptor of it, which holds an OS lock: so the kernel knows whether its writer lives."""

    path: Path
    descriptor: int


@contextmanager
def drafted(folder: Path) -> Iterator[Draft]:
    """A new, empty file of its owner's in ``folder``, gone when the block ends; so are those of the dead."""
    _sweep(folder)
    draft = _new(folder)
    try:
        yield draft
    finally:
        # Closed last: SQLite's own locks on a file fall with any descriptor of it that its process closes.
        _remove(draft.path)
        os.close(draft.descriptor)


def publish(draft: Path, target: Path) -> None:
    """Give the draft its name, in one step.

    Raises:
        FileExistsError: something has that name; it is untouched.
        OSError: the file has not got its name.
    """
    try:
        os.link(draft, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # Where there are no hard links, a look and a rename must do.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        draft.rename(target)
    sync_folder(target.parent)


def sync(descriptor: int) -> None:
    """See that what was written to a file is on the disk."""
    if sys.platform == "darwin":
        # There fsync(2) leaves the data in the drive's cache.
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """See that the names in ``folder`` are on the disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def beside(path: Path, ending: str) -> Path:
    """The file beside ``path`` whose name is longer by ``ending``."""
    return path.with_name(path.name + ending)


def _new(folder: Path) -> Draft:
    while True:
        path = folder / f".issue-core-{uuid4().hex}.draft"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # A file system without locks has no sweeping either.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return Draft(path, descriptor)
        os.close(descriptor)  # Swept before it was locked.


def _sweep(folder: Path) -> None:
    for path in folder.iterdir():
        if not _NAMED.fullmatch(path.name):
            continue
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    for each in (*(beside(path, ending) for ending in COMPANIONS), path):
        each.unlink(missing_ok=True)
