"""Opening a ledger: what the first writer makes, what is refused, and in which words."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from issue_core.errors import (
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    LedgerReadOnly,
    LedgerTooNew,
    LedgerUnreachable,
    NotALedger,
)
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, queries, schema
from tests.support.specs import a_spec, written


def store(path: Path, tasks: int = 1, *, description: str = "", busy_timeout: float = 60.0) -> None:
    with Ledger(path, busy_timeout=busy_timeout) as ledger:
        ingest(ledger, [written(a_spec(description=description)) for _ in range(tasks)])


def total(path: Path) -> int:
    """How many tasks there are, every one of them read."""
    with Ledger(path) as ledger, ledger.read() as connection:
        tasks = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=True))
        assert queries.counts(connection).total == len(tasks)
        return len(tasks)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- the first start ------------------------------------------------------------------------------------------------


def test_the_first_writer_makes_the_ledger_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "issue-core" / "ledger.db"
    before = os.umask(0)
    try:
        with Ledger(path) as ledger:
            ingest(ledger, [written(a_spec())])
            made = {file.name: mode(file) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert mode(path.parent) == 0o700
    assert made == dict.fromkeys(["ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock"], 0o600)


def test_a_folder_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    store(tmp_path / "ledger.db")
    assert mode(tmp_path) == 0o750


def test_a_ledger_says_what_it_is_to_whoever_opens_it(tmp_path: Path) -> None:
    store(tmp_path / "ledger.db")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x49535355,)
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (1,)


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    """FULL is 2, see https://sqlite.org/pragma.html#pragma_synchronous."""
    for _ in ("the first writer", "the next one"):
        with Ledger(tmp_path / "ledger.db") as ledger, ledger.write() as tx:
            assert tx.connection.execute("PRAGMA synchronous").fetchone() == (2,)
            assert tx.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_writing_does_not_bring_the_migration_code_along_once_there_is_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store(path)
    lock = path.with_name("ledger.db.lock")
    lock.unlink()
    store(path)
    assert not lock.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("with space.db", "a#b.db", "a?mode=memory.db", "100%41.db", "ü 中 😀.db", "caf\udce9.db", 'it\'s a "q".db'),
        *("file:x.db", ":memory:", "a\nb.db", "a\\b.db", "-x.db", "a&immutable=1.db"),
    ],
)
def test_a_ledger_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"folder {name}" / name
    store(path)
    store(path)
    assert total(path) == 2
    assert {file.name for file in path.parent.iterdir()} <= {name, name + ".lock", name + "-wal", name + "-shm"}


def test_a_relative_path_and_a_home_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    store(Path("ledger.db"))
    store(Path("~/ledger.db"), 2)
    assert (total(tmp_path / "ledger.db"), total(tmp_path / "home" / "ledger.db")) == (1, 2)


def test_a_link_to_where_no_ledger_is_yet_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.symlink_to(tmp_path / "elsewhere.db")
    store(path)
    store(path)
    assert (total(path), total(tmp_path / "elsewhere.db")) == (2, 2)


def test_a_ledger_that_was_closed_opens_again_when_it_is_used(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    for n in (1, 2):
        ingest(ledger, [written(a_spec())])
        ledger.close()
        ledger.close()
        with ledger.read() as connection:
            assert queries.counts(connection).total == n
        ledger.close()


def test_a_block_that_raises_stores_nothing_and_leaves_the_ledger_usable(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        for error in (RuntimeError, KeyboardInterrupt):
            with pytest.raises(error):
                _write_and_raise(ledger, error)
        with ledger.write() as tx:
            assert tx.connection.execute("SELECT count(*) FROM meta WHERE key = 'a'").fetchone() == (0,)


def _write_and_raise(ledger: Ledger, error: type[BaseException]) -> None:
    with ledger.write() as tx:
        tx.connection.execute("INSERT INTO meta VALUES ('a', 'b')")
        raise error


def test_a_write_that_waits_too_long_for_another_one_is_busy(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store(path)
    with Ledger(path) as other, other.write():
        with pytest.raises(LedgerBusy, match="too long") as caught:
            store(path, busy_timeout=0.05)
        assert caught.value.hint
        assert total(path) == 1
    store(path, busy_timeout=0.05)


# --- what is no ledger, or none of ours -----------------------------------------------------------------------------

Spoil = Callable[[Path], object]


def _overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _somebody_elses(path: Path) -> None:
    path.unlink()
    _run(path, "PRAGMA journal_mode = WAL", "CREATE TABLE notes (text)", "INSERT INTO notes VALUES ('mine')")


def _with_another_id(path: Path) -> None:
    path.unlink()
    _run(path, "PRAGMA application_id = 252006673")


def _below_a_file(path: Path) -> None:
    folder = path.parent
    shutil.rmtree(folder)
    folder.write_text("a file")


REFUSED: dict[str, tuple[Spoil, type[LedgerError], str]] = {
    "of a later release": (
        lambda path: _run(path, f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}"),
        LedgerTooNew,
        f"schema {schema.SCHEMA_VERSION + 1}, this release knows {schema.SCHEMA_VERSION}",
    ),
    "a text": (lambda path: _overwrite(path, b"hello\n" * 500), NotALedger, "not a ledger of issue-core"),
    "a few bytes": (lambda path: _overwrite(path, b"hello"), NotALedger, "not a ledger of issue-core"),
    "another program's": (_somebody_elses, NotALedger, "not a ledger of issue-core"),
    "another program's new one": (_with_another_id, NotALedger, "not a ledger of issue-core"),
    "a folder": (_a_folder, NotALedger, "this is a folder"),
    "a named pipe": (_a_pipe, NotALedger, "no regular file"),
    "below a file": (_below_a_file, LedgerUnreachable, "is a file, not a folder"),
    "with a long name": (lambda path: None, LedgerUnreachable, "name too long"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("use", [store, total], ids=["writing", "reading"])
def test_what_is_no_ledger_of_this_release_is_refused_and_left_as_it_is(
    tmp_path: Path, what: str, use: Callable[[Path], object]
) -> None:
    spoil, error, words = REFUSED[what]
    path = tmp_path / "folder" / "ledger.db"
    store(path)
    spoil(path)
    if what == "with a long name":
        path = path.with_name("x" * 300)
    before = _bytes_below(tmp_path)
    for _ in range(2):
        with pytest.raises(error, match=words) as caught:
            use(path)
        assert str(path) in caught.value.message
        assert caught.value.hint
        assert caught.value.exit_code == 1
    assert _bytes_below(tmp_path) == before


def _bytes_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


# --- what is damaged ------------------------------------------------------------------------------------------------


def test_a_damaged_page_is_a_clear_error_and_a_write_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store(path, 200, description="x" * 2000)
    raw = bytearray(path.read_bytes())
    for page in range(len(raw) // 4096 // 4, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 512] = b"\xa5" * 512
    path.write_bytes(raw)
    for use in (total, lambda path: store(path, 200)):
        with pytest.raises(LedgerCorrupt, match="it is damaged") as caught:
            use(path)
        assert "issue restore" in str(caught.value.hint)
    assert path.read_bytes() == raw


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_ledger_that_was_cut_off_is_damaged(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "ledger.db"
    store(path, 200, description="x" * 2000)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(LedgerCorrupt):
        total(path)


def test_a_torn_end_of_the_log_loses_only_what_was_never_promised(tmp_path: Path) -> None:
    """A power cut may leave half of the last commit in the write-ahead log."""
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    with Ledger(path) as ledger:
        ingest(ledger, [written(a_spec())])
        shutil.copy(path, copy)
        before = path.with_name("ledger.db-wal").stat().st_size
        ingest(ledger, [written(a_spec()), written(a_spec())])
        log = path.with_name("ledger.db-wal").read_bytes()
    copy.with_name("copy.db-wal").write_bytes(log[: before + (len(log) - before) // 2])
    assert total(copy) == 1
    store(copy)
    assert total(copy) == 2


# --- what may not be read -------------------------------------------------------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_another_user(path: Path) -> str:
    """What somebody is told who may not read everything, and wants to read the ledger at ``path``."""
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(its, f"{total(path)} tasks".encode())
        except LedgerError as error:
            os.write(its, f"{error.message}; {error.hint}".encode())
        finally:
            os._exit(0)
    os.close(its)
    os.waitpid(child, 0)
    with os.fdopen(ours, "rb") as told:
        return told.read().decode()


@pytest.mark.parametrize("kept_back", ["ledger.db", "ledger.db-wal"])
def test_a_ledger_of_another_user_says_whose_it_is_also_where_its_log_holds_the_newest_tasks(
    public: Path, kept_back: str
) -> None:
    path = public / "ledger.db"
    with Ledger(path) as ledger:
        ingest(ledger, [written(a_spec())])
        for file in public.iterdir():
            file.chmod(0o644)
        assert as_another_user(path) == "1 tasks"
        (public / kept_back).chmod(0o600 if os.geteuid() == 0 else 0)
        told = as_another_user(path)
    owner = pwd.getpwuid(os.geteuid()).pw_name
    assert f"ledger {path}: permission denied ({kept_back} is {owner}'s, -" in told
    assert "Run it as its owner" in told
    assert "Copy" not in told


# --- what may not be written ----------------------------------------------------------------------------------------


def test_a_file_that_is_read_only_can_be_read_not_written_by_root_neither(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store(path)
    path.chmod(0o444)
    raw = path.read_bytes()
    with pytest.raises(LedgerReadOnly, match="it can be read, not written") as caught:
        store(path)
    assert caught.value.hint
    assert total(path) == 1
    assert path.read_bytes() == raw
    assert {file.name for file in tmp_path.iterdir()} == {
        "ledger.db",
        "ledger.db.lock",
    }
    path.chmod(0o600)
    store(path)
    assert total(path) == 2
