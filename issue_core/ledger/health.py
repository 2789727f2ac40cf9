"""Whether a ledger is whole, and lies where it is safe."""

from __future__ import annotations

import platform
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from issue_core.ledger import facets, facts, soundness
from issue_core.ledger.connection import name_of

UNSAFE = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smbfs", "smb3", "smb2", "afpfs", "afs", "webdav", "davfs", "ncpfs", "9p", "drvfs"),
        *(
            "fuse.sshfs",
            "fuse.glusterfs",
            "fuse.ceph",
            "fuse.rclone",
            "fuse.s3fs",
            "vboxsf",
            "prl_fs",
            "fuse.vmhgfs-fuse",
        ),
    }
)
"""File systems on which SQLite's locks or the memory that its log is shared in cannot be relied on: networks, and the
mounts of a machine inside another (https://sqlite.org/wal.html, section 1; https://sqlite.org/howtocorrupt.html)."""

_MOUNTS = Path("/proc/self/mounts")

_STEPS = 100_000  # of SQLite's virtual machine, after which an interrupt is heard

# What is no time is told of elsewhere.
_LATEST = """
    SELECT max(at) FROM (
        SELECT max(created_at) AS at FROM tasks WHERE seq >= :low AND created_at GLOB :time
        UNION ALL SELECT max(started_at) FROM attempts WHERE started_at GLOB :time
    )
"""
_LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM tasks"

_WAITING_AT = """
    SELECT backend, sum(n) FROM tallies
    WHERE state IN ('pending', 'failed') AND backend <> '' AND n > 0 GROUP BY backend ORDER BY backend
"""


def problems(connection: sqlite3.Connection, *, most: int = 5, digest: soundness.Digest | None = None) -> list[str]:
    """What is damaged, at most ``most`` of it. Reads all of the ledger; an interrupt ends it.

    First in SQLite's words. Where it finds nothing, row by row: what SQL sees of that, or with ``digest``, which gives
    the digest of a TaskSpec, all of it; that takes several times as long.
    """
    if found := damaged_pages(connection, most=most):
        return found
    with hearing(connection):
        if digest is None and soundness.looks_sound(connection):
            return []
        return list(islice(soundness.problems(connection, digest), most))


def damaged_pages(connection: sqlite3.Connection, *, most: int) -> list[str]:
    """The first part of :func:`problems`: what SQLite itself finds damaged."""
    with hearing(connection):
        found = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({int(most)})")]
    return [] if found == ["ok"] else found


@contextmanager
def hearing(connection: sqlite3.Connection) -> Iterator[None]:
    """Let Ctrl-C be heard while a statement takes its seconds."""
    connection.set_progress_handler(lambda: 0, _STEPS)  # Python hears of an interrupt when it is called
    try:
        yield
    except sqlite3.OperationalError as error:
        if name_of(error) == "SQLITE_INTERRUPT":
            raise KeyboardInterrupt from None
        raise
    finally:
        connection.set_progress_handler(None, 0)


def latest_time(connection: sqlite3.Connection) -> str | None:
    """The latest time that stands in the newest tasks and in the attempts."""
    low = connection.execute(_LAST_SEQ).fetchone()[0] - facets.BLOCK
    at: str | None = connection.execute(_LATEST, {"low": low, "time": soundness.TIME}).fetchone()[0]
    return at


def waiting_at(connection: sqlite3.Connection) -> dict[str, int]:
    """How many tasks that are not done went to each backend."""
    return dict(connection.execute(_WAITING_AT))


def is_copy(connection: sqlite3.Connection) -> bool:
    """Whether it is a copy, or was set aside."""
    return facts.read(connection, facts.COPIED_AT) is not None


def file_system_of(folder: Path) -> str | None:
    """The type of the file system that ``folder`` lies on; ``None`` where the system does not say."""
    mounts = _mounts()
    places = [str(folder), *map(str, folder.parents)]
    found = [(len(point), kind) for point, kind in mounts if point in places]
    return max(found)[1] if found else None


def _mounts() -> list[tuple[str, str]]:
    """Each mount point with its type, those mounted later last."""
    if _MOUNTS.exists():
        fields = [line.split(" ") for line in _MOUNTS.read_text(errors="replace").splitlines()]
        # Blanks in a name are written as octal: see fstab(5).
        return [(each[1].replace("\\040", " "), each[2]) for each in fields if len(each) > 2]
    if platform.system() != "Darwin":
        return []
    told = subprocess.run(["mount"], capture_output=True, text=True, check=False).stdout
    lines = (line.partition(" on ")[2].rpartition(" (") for line in told.splitlines())
    return [(point, kind.partition(",")[0].rstrip(")")) for point, _, kind in lines]
