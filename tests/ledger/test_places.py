"""Awkward places: folders and disks that cannot be written to, disks that are full, a ledger that is only read."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from issue_core.errors import LedgerError, LedgerFull
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, queries, rejects
from tests.support.specs import a_spec, written

# Reads, writes and reads again; says what came of each, in the words of the error.
USE = """
import json, sys
from issue_core.errors import LedgerError
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, queries

def total():
    with Ledger(path) as ledger, ledger.read() as connection:
        return queries.counts(connection).total

def store():
    with Ledger(path) as ledger:
        return ingest(ledger, [spec])[0].outcome

path, spec = sys.argv[1:]
for use in (total, store, total):
    try:
        print(json.dumps(use()))
    except LedgerError as error:
        assert error.hint
        print(json.dumps(error.code))
"""


def used_by_somebody_else(path: Path) -> list[Any]:
    """What a user who is not root gets who reads, writes and reads the ledger at ``path``."""
    command = [sys.executable, "-c", USE, str(path), written(a_spec()).decode()]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("NOT TESTED: root needs setpriv (util-linux) to become somebody else")
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", *command]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own may be entered by its user alone."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


def store(path: Path, tasks: int = 1, *, description: str = "") -> int:
    """How many of so many new tasks were created."""
    with Ledger(path) as ledger:
        receipts = ingest(ledger, [written(a_spec(description=description)) for _ in range(tasks)])
    return sum(receipt.outcome == "created" for receipt in receipts)


def total(path: Path) -> int:
    with Ledger(path) as ledger, ledger.read() as connection:
        tasks = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=False))
        assert len(tasks) == queries.counts(connection).total
        return len(tasks)


# --- places that are read-only --------------------------------------------------------------------------------------


def test_a_ledger_in_a_read_only_folder_can_be_read_not_written(folder: Path) -> None:
    path = folder / "ledger.db"
    store(path)
    path.chmod(0o666)
    folder.chmod(0o555)
    assert used_by_somebody_else(path) == [1, "ledger_read_only", 1]


def test_a_ledger_of_somebody_else_can_be_read_where_its_mode_allows(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: only root can be somebody else")
    path = folder / "ledger.db"
    store(path)
    assert used_by_somebody_else(path) == ["ledger_unreachable"] * 3
    path.chmod(0o644)
    assert used_by_somebody_else(path) == [1, "ledger_read_only", 1]
    folder.chmod(0o700)
    assert used_by_somebody_else(path) == ["ledger_unreachable"] * 3


def test_what_is_in_the_log_alone_is_read_in_a_read_only_folder_or_said_to_be_unreadable(folder: Path) -> None:
    """After a crash the newest tasks are in the write-ahead log; leaving them out silently would deny them."""
    path, live = folder / "ledger.db", folder / "live.db"
    with Ledger(live) as ledger:
        ingest(ledger, [written(a_spec())])
        for end in ("", "-wal", "-shm"):
            shutil.copy(f"{live}{end}", f"{path}{end}")
            Path(f"{path}{end}").chmod(0o644)
    folder.chmod(0o555)
    assert used_by_somebody_else(path) == [1, "ledger_read_only", 1]
    folder.chmod(0o755)
    path.with_name("ledger.db-shm").unlink()
    folder.chmod(0o555)
    assert used_by_somebody_else(path) == ["ledger_unreachable", "ledger_read_only", "ledger_unreachable"]


def test_where_there_is_no_ledger_and_none_can_be_made_it_is_empty_to_read(folder: Path) -> None:
    folder.chmod(0o555)
    assert used_by_somebody_else(folder / "ledger.db") == [0, "ledger_unreachable", 0]
    assert used_by_somebody_else(folder / "new" / "ledger.db") == [0, "ledger_unreachable", 0]


# --- full disks -----------------------------------------------------------------------------------------------------


@contextmanager
def a_small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of ``size``, mounted for a while."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("NOT TESTED: only root can mount a small disk; the file size limit below stands in for it")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _grow(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def _fill(disk: Path) -> None:
    with (disk / "filling").open("wb", buffering=0) as filling:
        try:
            while True:
                filling.write(b"x" * 4096)
        except OSError:
            return


def test_on_a_full_disk_nothing_that_was_promised_is_lost_and_nothing_half_done_stays(folder: Path) -> None:
    with a_small_disk(folder, "1m") as disk, Ledger(disk / "ledger.db") as ledger:
        batches = [[written(a_spec(description="x" * 3000)) for _ in range(20)] for _ in range(40)]
        promised, error = _promised(ledger, batches)
        assert isinstance(error, LedgerFull)
        assert "nothing of this batch was stored" in error.message
        assert error.hint
        assert 0 < promised < 800
        with ledger.read() as connection:
            assert queries.counts(connection).received["created"] == promised
        assert total(ledger.path) == promised
        with pytest.raises(LedgerFull):
            ingest(ledger, batches[promised // 20])
        _grow(disk, "16m")
        outcomes = [receipt.outcome for batch in batches for receipt in ingest(ledger, batch)]
        assert outcomes == ["duplicate"] * promised + ["created"] * (800 - promised)
        assert total(ledger.path) == 800


def _promised(ledger: Ledger, batches: list[list[bytes]]) -> tuple[int, LedgerError | None]:
    """How many tasks were promised before the first error, and that error."""
    promised = 0
    for batch in batches:
        try:
            promised += len(ingest(ledger, batch))
        except LedgerError as error:
            return promised, error
    return promised, None


def test_a_full_disk_can_be_read(folder: Path) -> None:
    with a_small_disk(folder, "1m") as disk:
        store(disk / "ledger.db", 3)
        _fill(disk)
        assert total(disk / "ledger.db") == 3
        with pytest.raises(LedgerFull):
            store(disk / "ledger.db")
        assert total(disk / "ledger.db") == 3


def test_a_first_start_on_a_full_disk_is_made_good_when_there_is_room(folder: Path) -> None:
    for pages in (0, 1, 2, 4, 8, 9, 10, 12, 16, 20, 24):
        with a_small_disk(folder, f"{4 * (pages + 1)}k") as disk:
            try:
                promised = store(disk / "ledger.db")
            except LedgerFull:
                promised = 0
            _grow(disk, "16m")
            assert total(disk / "ledger.db") == promised
            assert store(disk / "ledger.db") == 1
            assert total(disk / "ledger.db") == promised + 1
        (folder / "disk").rmdir()


def test_a_limit_on_the_size_of_files_is_told_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store(path, 10, description="x" * 3000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, before[1]))
        with pytest.raises(LedgerError) as caught:
            store(path, 100, description="x" * 3000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.hint
    assert total(path) == 10
    assert store(path, 100, description="x" * 3000) == 100


# --- reading --------------------------------------------------------------------------------------------------------


def _read_all(path: Path) -> None:
    with Ledger(path) as ledger, ledger.read() as connection:
        list(queries.tasks(connection, queries.Filter(state="pending"), limit=None, newest_first=True))
        queries.counts(connection)
        queries.repos(connection)
        rejects.page(connection, state=None, limit=10)


def test_reading_changes_no_byte_and_no_time_of_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store(path, 5)
    os.utime(path, ns=(1, 1))
    before = path.read_bytes()
    for _ in range(2):
        _read_all(path)
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == 1


@pytest.mark.parametrize("content", [None, b""], ids=["no file", "an empty file"])
def test_no_ledger_yet_is_an_empty_one_and_reading_makes_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ledger.db"
    if content is not None:
        path.write_bytes(content)
    before = list(tmp_path.rglob("*"))
    _read_all(path)
    _read_all(tmp_path / "new" / "ledger.db")
    assert total(path) == 0
    assert list(tmp_path.rglob("*")) == before


def test_a_reader_sees_the_ledger_that_somebody_makes_after_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as reader:
        for n in range(3):
            with reader.read() as connection:
                assert queries.counts(connection).total == n
            store(path)


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store(path)
    with Ledger(path) as ledger, ledger.read() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM received")
    assert total(path) == 1


def test_a_reader_sees_one_state_for_as_long_as_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store(path)
    with Ledger(path) as ledger:
        with ledger.read() as connection:
            assert queries.counts(connection).total == 1
            store(path)
            with ledger.read() as inner:
                assert queries.counts(inner).total == 1
            assert queries.counts(connection).total == 1
        with ledger.read() as connection:
            assert queries.counts(connection).total == 2


def test_a_ledger_that_was_not_closed_is_read_to_its_last_commit(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    with Ledger(path) as ledger:
        ingest(ledger, [written(a_spec()), written(a_spec())])
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", f"{copy}{end}")
        assert total(path) == 2
    assert total(copy) == 2


def test_any_sqlite_tool_can_read_a_ledger_that_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        ingest(ledger, [written(a_spec(labels=["a", "b"]))])
        with ledger.write() as tx, closing(sqlite3.connect(path)) as tool:
            tx.connection.execute("DELETE FROM received")
            assert tool.execute("SELECT json_extract(labels, '$[1]') FROM tasks").fetchone() == ("b",)
            assert tool.execute("SELECT n FROM received").fetchone() == (1,)
