"""Files that appear whole or not at all, in a folder that people use too.

A file is written under a name that nobody looks for (a draft), brought to the disk, and then given its name in one
step that never replaces another file. Folders are entered one by one and never through a symbolic link, so that no
name leads out of the root.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from issue_core.errors import BackendError, CredentialsRefused, OutcomeUnknown, ProjectClosed, Unreachable

_DRAFT = re.compile(r"\.issue-core-[0-9a-f]{32}\.tmp")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

# What is wrong with the disk as a whole, and what is wrong with this one place (errno(3)).
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CLOSED = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EMLINK}
)
# What link(2) and fsync(2) say where the file system does not have them: FAT, some network and user-space ones.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK})
_NO_SYNC = frozenset({errno.EROFS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

_HINTS = {
    errno.ENOENT: "make it, or mount its disk; only the last folder of `path` is made for you",
    errno.ENOTDIR: "move away what has this name, or choose another `path`",
    errno.EACCES: "let the user that runs issue-core read and write there",
    errno.EPERM: "let the user that runs issue-core read and write there",
    errno.EROFS: "mount it for writing, or choose another `path`",
}


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is open: its descriptor, its path without symbolic links, and whether part of it is new."""

    fd: int
    path: Path
    new: bool


@contextmanager
def refusing(kind: type[BackendError], place: Path) -> Iterator[None]:
    """Turn an OSError into the refusal it means, when no issue can have come of it.

    ``kind`` is raised where the fault is with this place, Unreachable where it is with the disk.
    """
    try:
        yield
    except OSError as error:
        raise _refusal(error, kind, place) from error


@contextmanager
def doubting(place: Path) -> Iterator[None]:
    """Turn every OSError into an unknown outcome: the issue may stand in ``place`` by now."""
    try:
        yield
    except OSError as error:
        raise _doubt(error, place) from error


def _doubt(error: OSError, place: Path) -> OutcomeUnknown:
    return OutcomeUnknown(f"It is not certain that the issue is in {place}: {error.strerror}.")


def _refusal(error: OSError, kind: type[BackendError], place: Path) -> BackendError:
    if isinstance(error.filename, str) and Path(error.filename).is_absolute():
        place = Path(error.filename)
    if error.errno in _NO_ROOM:
        return Unreachable(
            f"There is no room for an issue in {place}: {error.strerror}. Nothing was written.",
            hint="make room on that disk, or raise the quota or file size limit",
        )
    fault = kind if error.errno in _CLOSED else Unreachable
    if fault is Unreachable and error.errno in (errno.EACCES, errno.EPERM):
        # The folder as a whole refuses this user, as a tracker refuses an account: somebody must see to it.
        fault = CredentialsRefused
    return fault(f"{place} cannot be used: {error.strerror}.", hint=_HINTS.get(error.errno or 0))


def located(root: Path, project: str) -> tuple[Path, Path]:
    """The root and the project's folder in it, both without symbolic links; neither needs to exist.

    Raises:
        ProjectClosed: a symbolic link leads the project's folder out of the root.
    """
    base = Path(os.path.realpath(root))
    place = Path(os.path.realpath(base / project))
    if not place.is_relative_to(base):
        raise ProjectClosed(
            f"{root / project} leads out of {root}, to {place}: there is a symbolic link on the way.",
            hint="put a real folder in the link's place",
        )
    return base, place


def require(root: Path, project: str) -> None:
    """Find out, without making anything, whether a file could be made in the project's folder.

    Raises:
        Unreachable: the root, or the whole disk, is at fault. ProjectClosed: only this folder is.
    """
    base, place = located(root, project)
    if not _exists(base, Unreachable):
        place = base.parent
    while place != base.parent and not _exists(place, ProjectClosed):
        place = place.parent
    kind = Unreachable if place in (base, base.parent) else ProjectClosed
    with refusing(kind, place):
        if code := _obstacle(place):
            raise OSError(code, os.strerror(code))


def _exists(place: Path, kind: type[BackendError]) -> bool:
    """Whether there is anything; what cannot be known is an error, as :func:`refusing` says."""
    with refusing(kind, place):
        try:
            place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def _obstacle(place: Path) -> int:
    """The error number that a create right in ``place`` would meet, 0 for none."""
    if not place.is_dir():
        return errno.ENOTDIR if os.path.lexists(place) else errno.ENOENT
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return errno.EROFS
    as_effective_user = os.access in os.supports_effective_ids
    allowed = os.access(place, os.R_OK | os.W_OK | os.X_OK, effective_ids=as_effective_user)
    return 0 if allowed else errno.EACCES


def require_readable(base: Path) -> None:
    """Find out whether ``base`` can be listed. One that was never made is as good as an empty one.

    Raises:
        Unreachable: it cannot, or not even its parent is there.
    """
    there = _exists(base, Unreachable)
    with refusing(Unreachable, base):
        if there:
            os.scandir(base).close()
        elif not base.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(base.parent))


@contextmanager
def opened(root: Path, project: str) -> Iterator[Folder]:
    """The project's folder, made where it is missing (the root too, but not the root's parent).

    Raises:
        Unreachable, ProjectClosed: as :func:`require` says.
    """
    require(root, project)
    base, place = located(root, project)
    with refusing(Unreachable, base):
        fd, new = _enter(str(base), None)
    with refusing(ProjectClosed, place):
        for part in place.relative_to(base).parts:
            above = fd
            try:
                fd, made = _enter(part, above)
            finally:
                os.close(above)
            new |= made
    try:
        yield Folder(fd, place, new)
    finally:
        os.close(fd)


def _enter(name: str, above: int | None) -> tuple[int, bool]:
    """Open the folder ``name``; made, when it is missing."""
    try:
        return os.open(name, _FOLDER, dir_fd=above), False
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)
        return os.open(name, _FOLDER, dir_fd=above), True


@contextmanager
def drafted(folder: Folder, data: bytes) -> Iterator[str]:
    """The name of a file in ``folder`` with ``data`` in it, on the disk; the name is gone afterwards.

    An OS lock is held on it meanwhile, so that the kernel knows whether its writer lives.
    """
    with refusing(ProjectClosed, folder.path):
        name, fd = _new_draft(folder.fd)
    try:
        with refusing(ProjectClosed, folder.path):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            _sync(fd)
        yield name
    finally:
        # A draft that stays behind does no harm and is swept by the next look; after a rename there is none.
        with suppress(OSError):
            os.unlink(name, dir_fd=folder.fd)
        os.close(fd)


def _new_draft(folder: int) -> tuple[str, int]:
    while True:
        name = f".issue-core-{uuid4().hex}.tmp"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
        with suppress(OSError):  # A file system without locks has no sweeping either.
            fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            os.stat(name, dir_fd=folder)
        except FileNotFoundError:  # Swept before it was locked.
            os.close(fd)
            continue
        return name, fd


def sweep(path: str) -> None:
    """Remove the draft at ``path``, unless a living process is writing it."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(path).unlink()
        finally:
            os.close(fd)


def publish(folder: Folder, draft: str, name: str) -> None:
    """Give the draft its name, in one step.

    Raises:
        FileExistsError: something has that name; it is untouched.
        Unreachable, ProjectClosed: the file has not got its name.
        OutcomeUnknown: it may have.
    """
    try:
        _name(folder, draft, name)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _NO_ROOM | _CLOSED | {errno.EROFS}:
            raise _refusal(error, ProjectClosed, folder.path) from error
        raise _doubt(error, folder.path) from error


def _name(folder: Folder, draft: str, name: str) -> None:
    try:
        os.link(draft, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename(folder, draft, name)


def _rename(folder: Folder, draft: str, name: str) -> None:
    # Where there are no hard links, a look and a rename must do. Nobody else makes this name in between: it holds
    # the event ID, and whoever writes the file has the task's lease.
    if head_at(folder, name, 0) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(draft, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)


def head_at(folder: Folder, name: str, size: int) -> bytes | None:
    """The first ``size`` bytes of the file; empty for what is no regular file, None where nothing has that name."""
    try:
        mode = os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_mode
        return head(name, size, folder.fd) if stat.S_ISREG(mode) else b""
    except FileNotFoundError:
        return None


def head(path: str, size: int, folder: int | None = None) -> bytes:
    """The first ``size`` bytes of the regular file at ``path``."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def sync_folder(place: Path) -> None:
    """Bring the names in ``place`` to the disk, where its file system can."""
    fd = os.open(place, _FOLDER)
    try:
        _sync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(fd)


def sync_above(place: Path, base: Path) -> None:
    """Bring the names of ``place`` and of each folder above it to the disk, up to that of ``base`` itself."""
    while place != base:
        place = place.parent
        sync_folder(place)
    # The root is made by us at most once, and its parent may be one that we can write but not list.
    with suppress(PermissionError):
        sync_folder(base.parent)


def _sync(fd: int) -> None:
    if sys.platform == "darwin":
        # There fsync(2) leaves the data in the drive's cache.
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def markdown_files(base: Path) -> Iterator[os.DirEntry[str]]:
    """Every ``*.md`` file in ``base`` and below, in no order; drafts of the dead are swept on the way.

    Symbolic links are not followed. What vanishes meanwhile is left out.

    Raises:
        OSError: a folder could not be read.
    """
    waiting = [str(base)]
    while waiting:
        for entry in _entries(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.name.lower().endswith(".md"):
                if entry.is_file(follow_symlinks=False):
                    yield entry
            elif _DRAFT.fullmatch(entry.name):
                sweep(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
