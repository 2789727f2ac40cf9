"""A copy is whole and knows that it is one; a ledger that is replaced is kept whole, and takes nothing more."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from issue_core import ingest
from issue_core.errors import (
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    LedgerIsCopy,
    LedgerReadOnly,
    LedgerTooNew,
    NotALedger,
    NotFound,
    UsageError,
)
from issue_core.ledger import (
    Ledger,
    claims,
    copies,
    drafts,
    facets,
    facts,
    history,
    outbox,
    queries,
    replacing,
    restored,
    schema,
)
from issue_core.ledger.copies import Restored, backup, restore
from issue_core.ledger.outbox import Times, Where
from issue_core.task import Receipt, to_text
from tests.migration.record import lay
from tests.support.clock import MovedClock
from tests.support.specs import a_spec, an_event_id, written

ROOT = Path(__file__).parents[2]
DAY = 86_400.0

# Ingests until it is told to stop, in batches of different sizes; prints "ready" after the first.
INGESTS = """
import itertools, sys, threading
from uuid import uuid4
from issue_core import Ledger, ingest
from tests.support.specs import a_spec, written

def some(n):
    spec = lambda: a_spec(triggering_event_id=str(uuid4()), description="x" * 3000, labels=[f"l{n % 7}"])
    return [written(spec()) for _ in range(1 + n * 7 % 40)]

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set())).start()
with Ledger(sys.argv[1]) as ledger:
    for n in itertools.count():
        ingest(ledger, some(n))
        if n == 0:
            print("ready", flush=True)
        if stop.is_set():
            break
"""

# Has the ledger open, having read or written, until its standard input ends.
HOLDS = """
import sys
from issue_core import Ledger, ingest
from issue_core.ledger import queries
with Ledger(sys.argv[1]) as ledger:
    if sys.argv[2] == "writer":
        ingest(ledger, [b"{}"])
    else:
        with ledger.read() as connection:
            queries.counts(connection)
    print("ready", flush=True)
    sys.stdin.read()
"""

# Opens the ledger's file as SQLite does, and reads for the first time only when it is told to.
OPENS_EARLY = """
import sqlite3, sys
from issue_core import Ledger, ingest
from issue_core.ledger import connection
from tests.support.specs import a_spec, written
opened = connection._open
def late(uri, busy_timeout):
    found = opened(uri, busy_timeout)
    if not seen:
        seen.append(uri)
        print("ready", flush=True)
        sys.stdin.readline()
    return found
seen = []
connection._open = late
with Ledger(sys.argv[1]) as ledger:
    print(ingest(ledger, [written(a_spec(source_id="late"))])[0].outcome, flush=True)
"""


@contextmanager
def process(program: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that is ready; its standard input ends with the block."""
    words = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as started:
        assert started.stdout
        assert started.stdout.readline() == "ready\n"
        yield started
        if started.stdin and not started.stdin.closed:
            started.stdin.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with a clock that a test moves, and nothing in it."""
    (tmp_path / "home").mkdir()
    with Ledger(tmp_path / "home" / "ledger.db", clock=MovedClock(), busy_timeout=0.2) as ledger:
        yield ledger


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where a copy is to be."""
    return tmp_path / "copy.db"


def clock_of(ledger: Ledger) -> MovedClock:
    assert isinstance(ledger.clock, MovedClock)
    return ledger.clock


def take(ledger: Ledger, *numbers: int) -> list[Receipt]:
    return ingest(ledger, [written(a_spec(triggering_event_id=an_event_id(n))) for n in numbers])


def reading(path: Path, query: str) -> list[Any]:
    """Rows, by a connection that has nothing to do with ours and leaves no trace."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def event_ids(path: Path) -> set[str]:
    return {event_id for (event_id,) in reading(path, "SELECT event_id FROM tasks")}


def lose(ledger: Ledger) -> None:
    ledger.close()
    for file in ledger.path.parent.glob("ledger.db*"):
        if file.is_file():
            file.unlink()


def below(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".lock"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def is_whole(path: Path) -> int:
    """Check a ledger from its pages to its counters; gives how many tasks it has."""
    assert reading(path, "PRAGMA integrity_check") == [("ok",)]
    with Ledger(path) as ledger, ledger.read() as connection:
        tasks = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=False))
        counts = queries.counts(connection)
        assert counts.total == counts.received["created"] == sum(counts.states.values()) == len(tasks)
        assert [task.seq for task in tasks] == list(range(1, len(tasks) + 1))
        for task in tasks:
            assert history.of_task(connection, task.seq)[0].kind == "created"
        for name in ("state", "repo", "priority", "source"):
            _finds(connection, Counter(_value(task, name) for task in tasks), name)
        _finds(connection, Counter(label for task in tasks for label in task.labels), "label")
    return len(tasks)


def _value(task: Any, name: str) -> str:
    column = {"repo": "target_repo", "source": "source_id"}.get(name, name)
    return str(getattr(task, column))


def _finds(connection: sqlite3.Connection, wanted: Counter[str], name: str) -> None:
    for value, n in wanted.items():
        given: dict[str, Any] = {name: value}
        asked = queries.Filter(**given)
        assert len(list(queries.tasks(connection, asked, limit=None, newest_first=True))) == n, (name, value)


# --- a copy is made ---------------------------------------------------------------------------------------------------


def test_a_copy_made_while_others_write_in_bulk_is_whole_and_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    monkeypatch.setattr(copies, "_PAGES", 64)  # so that the others have committed between any two steps
    with Ledger(path) as ledger:
        ingest(ledger, [written(a_spec(description="x" * 3000)) for _ in range(500)])
        with process(INGESTS, path), process(INGESTS, path):
            found = []
            for n in range(2):
                made = backup(ledger, tmp_path / f"{n}.db")
                assert made == (tmp_path / f"{n}.db", made.file.stat().st_size)
                found.append(is_whole(tmp_path / f"{n}.db"))
    assert 500 < found[0] <= found[1] <= is_whole(path)


def test_a_copy_is_of_the_moment_when_it_began_and_no_write_starts_it_anew(
    ledger: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(ledger, *range(100))
    ledger.close()
    steps = count(100)

    def write(*_: int) -> None:
        n = next(steps)
        assert n < 300, "it began anew"
        with ledger.beside() as other:
            take(other, n)

    class Disturbed(sqlite3.Connection):
        def backup(self, target: sqlite3.Connection, **_: Any) -> None:
            super().backup(target, pages=1, progress=write)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **named: connect(*a, factory=Disturbed, **named))
    backup(ledger, copy)
    assert next(steps) > 110
    assert is_whole(copy) == 100


def test_a_copy_is_one_file_for_its_owner_alone_and_says_since_when_it_is_one(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1, 2)
    before = ledger.clock.now()
    backup(ledger, copy)
    clock_of(ledger).move(10)
    assert names(copy.parent) == {"home", "copy.db"}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert reading(copy, "PRAGMA journal_mode") == [("delete",)]
    assert reading(copy, "SELECT value FROM meta WHERE key = 'copied_at'") == [(to_text(before),)]
    assert is_whole(copy) == 2


def test_a_copy_takes_nothing_also_from_who_knows_nothing_of_issue_core(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    before = copy.read_bytes()
    with Ledger(copy) as written_to:
        for use in (lambda: take(written_to, 2), lambda: take(written_to, 1), written_to.prove):
            with pytest.raises(LedgerIsCopy, match="takes nothing") as caught:
                use()
            assert f"issue restore {copy}" in str(caught.value.hint)
    with closing(sqlite3.connect(copy)) as connection:
        for table in ("tasks", "rejects", "attempts", "leases"):
            columns = [row[1] for row in connection.execute("SELECT * FROM pragma_table_info(?)", (table,))]
            values = ", ".join(["NULL", *("''" for _ in columns[1:])])
            with pytest.raises(sqlite3.IntegrityError, match="takes nothing"):
                connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({values})")  # noqa: S608 - named above
    assert copy.read_bytes() == before
    assert names(copy.parent) == {"home", "copy.db"}


def test_a_copy_of_a_copy_is_as_old_as_the_first(ledger: Ledger, copy: Path, tmp_path: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    clock_of(ledger).move(DAY)
    with Ledger(copy, clock=ledger.clock) as first:
        backup(first, tmp_path / "second.db")
    asked = "SELECT value FROM meta WHERE key = 'copied_at'"
    assert reading(tmp_path / "second.db", asked) == reading(copy, asked)


def test_a_ledger_on_which_nothing_can_be_written_can_be_copied(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    ledger.close()
    ledger.path.chmod(0o400)
    before = below(ledger.path.parent)
    backup(ledger, copy)
    assert is_whole(copy) == 1
    assert below(ledger.path.parent) == before


def test_without_a_ledger_there_is_no_copy(ledger: Ledger, copy: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no ledger .*ledger\.db"):
        backup(ledger, copy)
    ledger.path.touch()
    with pytest.raises(NotFound):
        backup(ledger, copy)
    assert not copy.exists()


@pytest.mark.parametrize("name", ["copy.db", "copy.db-wal", "copy.db-journal", "copy.db-shm"])
def test_nothing_that_is_there_is_overwritten_or_taken_for_a_part_of_the_copy(
    ledger: Ledger, copy: Path, name: str
) -> None:
    take(ledger, 1)
    copy.with_name(name).write_text("mine")
    with pytest.raises(UsageError, match=f"{name} is there already"):
        backup(ledger, copy)
    assert copy.with_name(name).read_text() == "mine"
    assert names(copy.parent) == {"home", name}


def test_a_name_that_is_taken_while_the_copy_is_made_stays_as_it_is(
    ledger: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(ledger, 1)
    monkeypatch.setattr(copies, "sync", lambda _: copy.write_text("mine"))
    with pytest.raises(UsageError, match="is there already"):
        backup(ledger, copy)
    assert copy.read_text() == "mine"
    assert names(copy.parent) == {"home", "copy.db"}
    copy.unlink()
    free = copy.with_name("free.db")
    assert backup(ledger, copy, or_else=[copy, free]).file == free
    assert copy.read_text() == "mine"
    assert is_whole(free) == 1


def test_a_copy_that_is_removed_as_soon_as_it_has_its_name_was_written(
    ledger: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another backup, which keeps its own alone."""

    def publish(draft: Path, target: Path) -> None:
        drafts.publish(draft, target)
        target.unlink()

    take(ledger, 1)
    monkeypatch.setattr(copies, "publish", publish)
    assert backup(ledger, copy).size > 0


@pytest.mark.parametrize("name", ["ledger.db-journal", "ledger.db-wal", "x-shm", "ledger.db.lock", "ledger.db.workers"])
def test_what_would_be_taken_for_a_part_of_a_ledger_is_no_name_for_a_copy(ledger: Ledger, name: str) -> None:
    take(ledger, 1)
    with pytest.raises(UsageError, match="parts of a ledger"):
        backup(ledger, ledger.path.with_name(name))
    assert names(ledger.path.parent) == {"ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"}


def no_links(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_system_without_hard_links_gets_its_copy_too(
    ledger: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(ledger, 1)
    monkeypatch.setattr(os, "link", no_links)
    backup(ledger, copy)
    assert is_whole(copy) == 1
    other = copy.with_name("other.db")
    monkeypatch.setattr(copies, "sync", lambda _: other.write_text("mine"))
    with pytest.raises(UsageError, match="is there already"):
        backup(ledger, other)
    assert names(copy.parent) == {"home", "copy.db", "other.db"}
    assert other.read_text() == "mine"


@pytest.mark.parametrize("folder", ["gone", "a file"])
def test_a_folder_that_is_none_is_named(ledger: Ledger, tmp_path: Path, folder: str) -> None:
    take(ledger, 1)
    (tmp_path / "a file").touch()
    target = tmp_path / folder / "copy.db"
    with pytest.raises(LedgerError) as caught:
        backup(ledger, target)
    assert caught.value.message.startswith(f"{target}: ")
    assert caught.value.message.endswith("; there is no copy")


def test_a_damaged_ledger_is_named_and_gives_no_copy(ledger: Ledger, copy: Path) -> None:
    ingest(ledger, [written(a_spec(description="x" * 2000)) for _ in range(100)])
    damage(ledger)
    with pytest.raises(LedgerCorrupt, match=str(ledger.path)):
        backup(ledger, copy)
    assert names(copy.parent) == {"home"}


def damage(ledger: Ledger, first: int = 5) -> None:
    ledger.close()
    raw = bytearray(ledger.path.read_bytes())
    for page in range(first, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 512] = b"\xa5" * 512
    ledger.path.write_bytes(raw)


def test_what_a_killed_backup_left_is_removed_by_the_next_and_nothing_else(
    ledger: Ledger, copy: Path, tmp_path: Path
) -> None:
    take(ledger, 1)
    dead = ".issue-core-0123456789abcdef0123456789abcdef.draft"
    for name in (dead, dead + "-wal", dead + "-journal", ".issue-core-mine.draft", "x.draft"):
        (tmp_path / name).touch()
    backup(ledger, copy)
    assert names(tmp_path) == {"home", "copy.db", ".issue-core-mine.draft", "x.draft"}


def test_two_backups_at_once_in_one_folder_do_not_disturb_each_other(ledger: Ledger, tmp_path: Path) -> None:
    take(ledger, *range(50))
    failed: list[BaseException] = []

    def one(n: int) -> None:
        try:
            with ledger.beside() as mine:
                backup(mine, tmp_path / f"{n}.db")
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [is_whole(tmp_path / f"{n}.db") for n in range(4)] == [50] * 4


# --- a copy is laid in a ledger's place -------------------------------------------------------------------------------


def test_a_restored_ledger_has_what_the_copy_has_and_the_one_before_is_kept_and_takes_nothing(
    ledger: Ledger, copy: Path
) -> None:
    take(ledger, 1, 2)
    backup(ledger, copy)
    since = ledger.clock.now()
    clock_of(ledger).move(60)
    take(ledger, 3)
    ledger.path.chmod(0o640)
    done = restore(ledger, copy)
    assert done.kept_aside is not None
    assert done == Restored(2, 2, to_text(since), done.kept_aside)
    assert (is_whole(ledger.path), is_whole(done.kept_aside)) == (2, 3)
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o640
    assert reading(ledger.path, "PRAGMA journal_mode") == [("wal",)]
    with Ledger(done.kept_aside) as before, pytest.raises(LedgerIsCopy):
        take(before, 4)
    assert [receipt.outcome for receipt in take(ledger, 1, 3)] == ["duplicate", "created"]
    assert copy.exists()
    left = names(ledger.path.parent) - {"ledger.db-wal", "ledger.db-shm"}
    assert left == {"ledger.db", "ledger.db.lock", done.kept_aside.name}


def test_what_is_not_known_to_be_synced_is_in_doubt_since_the_copy(ledger: Ledger, copy: Path) -> None:
    take(ledger, *range(6))
    states = ["pending", "failed", "held", "synced", "elsewhere", "pending"]
    with ledger.write() as tx:
        for seq, state in enumerate(states, 1):
            tx.connection.execute("UPDATE tasks SET state = ? WHERE seq = ?", (state, seq))
            facets.add_state(tx, seq, state)  # type: ignore[arg-type] # these are states
        later = "2026-03-01T12:00:00.000Z"
        tx.connection.execute("UPDATE tasks SET next_attempt_at = ? WHERE seq = 1", (later,))
    clock_of(ledger).move(60)
    earlier = to_text(ledger.clock.now())
    with ledger.write() as tx:
        begun = outbox.begin(tx, 6, Where("work", "https://t.example", "a/b", "bot"), owner="dead",
                             times=Times(30, 30, 120), running=1.0, boot="boot")  # fmt: skip
        assert begun
    clock_of(ledger).move(60)
    since = to_text(ledger.clock.now())
    backup(ledger, copy)
    clock_of(ledger).move(DAY)
    assert restore(ledger, copy)[:3] == (6, 4, since)
    assert reading(ledger.path, "SELECT state, in_doubt_since FROM tasks ORDER BY seq") == [
        ("pending", since), ("failed", since), ("held", since), ("synced", None), ("elsewhere", None),
        ("pending", earlier),
    ]  # fmt: skip
    assert reading(ledger.path, "SELECT next_attempt_at FROM tasks WHERE seq = 1") == [(later,)]
    assert reading(ledger.path, "SELECT count(*) FROM leases") == [(0,)]
    told = reading(ledger.path, "SELECT seq, json_extract(detail, '$.since') FROM history WHERE kind = 'restored'")
    assert told == [(seq, since) for seq in (1, 2, 3, 6)]


def test_new_tasks_are_in_doubt_for_thirty_days_unless_it_is_settled(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    since = to_text(ledger.clock.now())
    clock_of(ledger).move(DAY)
    restore(ledger, copy)
    doubts = []
    for n, days in enumerate((0, 29.9, 0.2), 2):
        clock_of(ledger).move(days * DAY)
        take(ledger, n)
        doubts.append(reading(ledger.path, f"SELECT in_doubt_since FROM tasks WHERE seq = {n}")[0][0])  # noqa: S608
    assert doubts == [since, since, None]
    restore(ledger, copy, settled=True)
    take(ledger, 5)
    assert reading(ledger.path, "SELECT in_doubt_since FROM tasks WHERE seq = 2") == [(None,)]


@pytest.mark.parametrize("settled", [False, True])
def test_a_second_restore_does_not_forget_how_far_back_the_first_ones_doubt_goes(
    ledger: Ledger, copy: Path, tmp_path: Path, settled: bool
) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    first = to_text(ledger.clock.now())
    clock_of(ledger).move(5 * DAY)
    restore(ledger, copy)
    clock_of(ledger).move(DAY)
    backup(ledger, tmp_path / "second.db")
    clock_of(ledger).move(DAY)
    restore(ledger, tmp_path / "second.db", settled=settled)
    take(ledger, 2)
    assert reading(ledger.path, "SELECT in_doubt_since FROM tasks WHERE seq = 2") == [(first,)]
    clock_of(ledger).move(40 * DAY)
    take(ledger, 3)
    assert reading(ledger.path, "SELECT in_doubt_since FROM tasks WHERE seq = 3") == [(None,)]


@pytest.mark.parametrize("days", [3, 30])
def test_a_copy_from_the_future_is_as_old_as_its_last_change_or_a_week(ledger: Ledger, copy: Path, days: float) -> None:
    take(ledger, 1)
    changed = to_text(ledger.clock.now())
    clock_of(ledger).move(days * DAY)
    backup(ledger, copy)
    clock_of(ledger).jump(-2 * DAY)  # it was wrong
    a_week_ago = to_text(ledger.clock.now() - outbox.WRONG_CLOCK)
    assert restore(ledger, copy).since == min(changed, a_week_ago)


@pytest.mark.parametrize("tasks", [0, 1])
def test_a_plain_copy_is_as_old_as_its_last_change(ledger: Ledger, copy: Path, tasks: int) -> None:
    ledger.prove()
    take(ledger, *range(tasks))
    changed = to_text(ledger.clock.now())
    clock_of(ledger).move(DAY)
    ledger.close()
    shutil.copy(ledger.path, copy)
    done = restore(ledger, copy)
    assert done.tasks == tasks
    if tasks:
        assert done.since == changed


def test_a_plain_copy_with_nothing_but_times_to_come_is_a_week_old(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    ledger.close()
    shutil.copy(ledger.path, copy)
    clock_of(ledger).jump(-30 * DAY)  # it was wrong
    assert restore(ledger, copy).since == to_text(ledger.clock.now() - outbox.WRONG_CLOCK)


def test_a_plain_copy_comes_with_its_log(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    take(ledger, 2)
    shutil.copy(ledger.path, copy)
    shutil.copy(ledger.path.with_name("ledger.db-wal"), copy.with_name("copy.db-wal"))
    ledger.close()
    assert copy.with_name("copy.db-wal").stat().st_size > 0
    assert restore(ledger, copy).tasks == 2
    assert is_whole(ledger.path) == 2


def test_a_copy_that_nobody_may_write_beside_is_restored(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    copy.chmod(0o400)
    before = names(copy.parent)
    assert restore(ledger, copy).tasks == 1
    assert names(copy.parent) == before
    take(ledger, 2)


def test_where_the_ledger_is_lost_the_copy_becomes_it(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    lose(ledger)
    ledger.path.parent.rmdir()
    done = restore(ledger, copy)
    assert done.kept_aside is None
    assert is_whole(ledger.path) == 1
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(ledger.path.parent.stat().st_mode) == 0o700


def test_the_log_of_a_ledger_that_is_lost_is_kept_and_not_taken_for_the_new_ones(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    take(ledger, 2)
    log = ledger.path.with_name("ledger.db-wal").read_bytes()
    lose(ledger)
    for ending in ("-wal", "-journal"):
        ledger.path.with_name(f"ledger.db{ending}").write_bytes(log)
    done = restore(ledger, copy)
    assert done.kept_aside is not None
    assert done.kept_aside.read_bytes() == log
    assert is_whole(ledger.path) == 1
    assert not ledger.path.with_name("ledger.db-journal").exists()


HARM: dict[str, Callable[[Ledger], object]] = {
    "its header is gone": lambda ledger: damage(ledger, 0),
    "all but its header is gone": lambda ledger: damage(ledger, 1),
    "its end is gone": lambda ledger: os.truncate(ledger.path, 4096 * 9),
    "it was cut to nothing": lambda ledger: os.truncate(ledger.path, 0),
    "it is a text": lambda ledger: ledger.path.write_text("hello\n" * 3000),
}


@pytest.mark.parametrize("how", HARM)
def test_a_damaged_ledger_is_kept_whole(ledger: Ledger, copy: Path, how: str) -> None:
    ingest(ledger, [written(a_spec(description="x" * 2000)) for _ in range(50)])
    backup(ledger, copy)
    ledger.close()
    HARM[how](ledger)
    before = ledger.path.read_bytes()
    done = restore(ledger, copy)
    assert done.kept_aside is not None
    assert done.kept_aside.read_bytes() == before
    assert not done.kept_aside.with_name(f"{done.kept_aside.name}-wal").exists()
    assert is_whole(ledger.path) == 50
    take(ledger, 1)


def test_a_damaged_ledger_and_its_log_are_kept_together(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    ledger.close()
    log = b"what was committed last" * 300
    ledger.path.write_bytes(b"\xa5" * 8192)
    for ending in ("-wal", "-journal"):
        ledger.path.with_name(f"ledger.db{ending}").write_bytes(log)
    done = restore(ledger, copy)
    assert done.kept_aside is not None
    kept = {name: raw for name, raw in below(ledger.path.parent).items() if "before" in name}
    aside = done.kept_aside.name
    assert kept == {aside: b"\xa5" * 8192, f"{aside}-wal": log, f"{aside}-journal": log}
    assert is_whole(ledger.path) == 1


@pytest.fixture
def harmed(ledger: Ledger, copy: Path) -> Ledger:
    """A ledger that can be opened, of which some pages are damaged, and that was killed: it has a log."""
    ingest(ledger, [written(a_spec(description="x" * 2000)) for _ in range(50)])
    backup(ledger, copy)
    ledger.close()
    take(ledger, 1)
    log = ledger.path.with_name("ledger.db-wal").read_bytes()
    damage(ledger, 60)
    ledger.path.with_name("ledger.db-wal").write_bytes(log)
    return ledger


def test_a_damaged_ledger_that_can_be_opened_is_kept_as_it_is_with_its_log(harmed: Ledger, copy: Path) -> None:
    before = below(harmed.path.parent)
    with pytest.raises(UsageError):
        restore(harmed, copy.with_name("gone"))
    copy.with_name("bad.db").write_bytes(before["ledger.db"])
    with pytest.raises(LedgerCorrupt):
        restore(harmed, copy.with_name("bad.db"))
    assert before.items() <= below(harmed.path.parent).items()
    done = restore(harmed, copy)
    assert done.kept_aside is not None
    kept = {name: raw for name, raw in below(harmed.path.parent).items() if "before" in name}
    assert kept == {done.kept_aside.name: before["ledger.db"], f"{done.kept_aside.name}-wal": before["ledger.db-wal"]}
    assert is_whole(harmed.path) == 50
    take(harmed, 2)


@pytest.mark.parametrize("links", [True, False])
def test_a_restore_over_a_damaged_ledger_that_fails_leaves_it_and_its_log(
    harmed: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = below(harmed.path.parent)
    monkeypatch.setattr(os, "replace", fail)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(LedgerError, match="nothing was changed"):
        restore(harmed, copy)
    after = below(harmed.path.parent)
    after.pop("ledger.db-shm", None)
    assert after == {name: raw for name, raw in before.items() if name != "ledger.db-shm"}


def test_a_restored_ledger_can_be_replaced_again_and_the_one_aside_be_restored(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    take(ledger, 2)
    aside = restore(ledger, copy).kept_aside
    assert aside is not None
    clock_of(ledger).move(1)
    take(ledger, 3)
    again = restore(ledger, aside).kept_aside
    assert again is not None
    assert event_ids(ledger.path) == {an_event_id(1), an_event_id(2)}
    assert event_ids(again) == {an_event_id(1), an_event_id(3)}
    assert reading(ledger.path, "SELECT count(*) FROM meta WHERE key = 'copied_at'") == [(0,)]
    take(ledger, 4)


def test_a_copy_that_somebody_has_laid_in_the_ledgers_place_becomes_the_ledger_there(
    ledger: Ledger, copy: Path
) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    since = to_text(ledger.clock.now())
    lose(ledger)
    shutil.copy(copy, ledger.path)
    clock_of(ledger).move(DAY)
    with pytest.raises(LedgerIsCopy, match="takes nothing"):
        take(ledger, 2)
    assert restore(ledger, ledger.path).since == since
    assert [receipt.outcome for receipt in take(ledger, 1, 2)] == ["duplicate", "created"]


def test_a_ledger_that_is_a_link_stays_one(ledger: Ledger, copy: Path, tmp_path: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    ledger.close()
    link = tmp_path / "link.db"
    link.symlink_to(ledger.path)
    with Ledger(link) as linked:
        done = restore(linked, copy)
        assert done.kept_aside is not None
        assert done.kept_aside.parent == ledger.path.parent
        take(linked, 2)
    assert link.is_symlink()
    assert is_whole(ledger.path) == 2


def test_an_older_schema_is_brought_up_to_todays(ledger: Ledger, tmp_path: Path) -> None:
    lay(1, tmp_path / "old.db")
    with Ledger(tmp_path / "old.db") as old:
        backup(old, tmp_path / "copy.db")
    assert reading(tmp_path / "copy.db", "PRAGMA user_version") == [(1,)]
    restore(ledger, tmp_path / "copy.db")
    assert reading(ledger.path, "PRAGMA user_version") == [(schema.SCHEMA_VERSION,)]
    take(ledger, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("lost", [False, True])
def test_what_root_restores_stays_the_owners(ledger: Ledger, copy: Path, lost: bool) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    lose(ledger) if lost else ledger.close()
    for path in (ledger.path.parent, *ledger.path.parent.iterdir()):
        os.chown(path, 12_345, 12_346)
    restore(ledger, copy)
    owners = {path.name.partition(".before")[0]: path.stat() for path in ledger.path.parent.iterdir()}
    assert {(owner.st_uid, owner.st_gid) for owner in owners.values()} == {(12_345, 12_346)}
    assert {"ledger.db", "ledger.db.lock"} <= owners.keys()
    assert copy.stat().st_uid == 0


# --- what is not restored, and changes nothing -----------------------------------------------------------------------


def _a_strangers(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text)")


def _of_later(path: Path) -> None:
    with Ledger(path) as made:
        made.prove()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")


def _damaged(path: Path) -> None:
    with Ledger(path) as made:
        ingest(made, [written(a_spec(description="x" * 2000)) for _ in range(50)])
        damage(made)


NO_COPY: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "gone": (lambda path: None, UsageError, "there is no file"),
    "empty": (lambda path: path.touch(), NotALedger, "there is no ledger in it"),
    "a text": (lambda path: path.write_text("hello\n" * 500), NotALedger, "not a ledger of issue-core"),
    "a folder": (lambda path: path.mkdir(), NotALedger, "this is a folder"),
    "another program's": (_a_strangers, NotALedger, "not a ledger of issue-core"),
    "of a later release": (_of_later, LedgerTooNew, "a later release"),
    "damaged": (_damaged, LedgerCorrupt, "it is damaged"),
}


@pytest.mark.parametrize("what", NO_COPY)
def test_what_is_no_copy_is_refused_and_nothing_is_changed(ledger: Ledger, copy: Path, what: str) -> None:
    make, error, words = NO_COPY[what]
    take(ledger, 1)
    ledger.close()
    make(copy)
    before = below(ledger.path.parent)
    with pytest.raises(error, match=words) as caught:
        restore(ledger, copy)
    assert str(copy) in str(caught.value)
    assert below(ledger.path.parent) == before
    take(ledger, 2)


PLACES: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "another program's": (_a_strangers, NotALedger, "not a ledger of issue-core"),
    "of a later release": (_of_later, LedgerTooNew, "a later release"),
    "read-only": (lambda path: path.touch(0o400), LedgerReadOnly, "read-only"),
    "a folder": (lambda path: path.mkdir(), NotALedger, "this is a folder"),
    "a pipe": (os.mkfifo, NotALedger, "no regular file"),
}


@pytest.mark.parametrize("what", PLACES)
def test_what_is_no_ledger_of_ours_is_not_replaced(ledger: Ledger, copy: Path, tmp_path: Path, what: str) -> None:
    make, error, words = PLACES[what]
    take(ledger, 1)
    backup(ledger, copy)
    place = tmp_path / "place" / "ledger.db"
    place.parent.mkdir()
    make(place)
    before = below(place.parent)
    with Ledger(place) as other, pytest.raises(error, match=words):
        restore(other, copy)
    assert below(place.parent) == before


HEADER = {
    "the format for writing": (18, NotALedger),
    "the format of the schema": (47, NotALedger),
    "the version": (60, LedgerTooNew),
    "the mark of a ledger": (68, NotALedger),
}


@pytest.mark.parametrize("what", HEADER)
def test_a_ledger_whose_header_is_damaged_is_in_the_way_until_it_is_moved(
    ledger: Ledger, copy: Path, tmp_path: Path, what: str
) -> None:
    """It may as well be another program's file."""
    place, error = HEADER[what]
    take(ledger, 1)
    backup(ledger, copy)
    ledger.close()
    raw = bytearray(ledger.path.read_bytes())
    raw[place] ^= 8
    ledger.path.write_bytes(raw)
    with pytest.raises(error) as caught:
        restore(ledger, copy)
    hint = str(caught.value.hint)
    assert hint.endswith("If it is a damaged ledger, move it away, with its -wal and -shm, and restore again.")
    assert ledger.path.read_bytes() == raw
    for file in ledger.path.parent.glob("ledger.db*"):
        file.rename(tmp_path / file.name)
    assert restore(ledger, copy).kept_aside is None
    assert is_whole(ledger.path) == 1


def test_the_ledger_itself_is_no_copy_under_whatever_name(ledger: Ledger, tmp_path: Path) -> None:
    take(ledger, 1)
    link = tmp_path / "link.db"
    link.hardlink_to(ledger.path)
    for name in (ledger.path, link):
        with pytest.raises(UsageError, match="is the ledger itself"):
            restore(ledger, name)
    link.unlink()
    assert [receipt.outcome for receipt in take(ledger, 1, 2)] == ["duplicate", "created"]


@pytest.mark.parametrize("who", ["reader", "writer"])
def test_a_ledger_that_another_process_has_open_is_left_alone(ledger: Ledger, copy: Path, who: str) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    take(ledger, 2)
    ledger.close()
    with process(HOLDS, ledger.path, who):
        with pytest.raises(LedgerBusy, match="another process has it open; nothing was changed") as caught:
            restore(ledger, copy)
        assert "Stop what uses it" in str(caught.value.hint)
        assert [receipt.outcome for receipt in take(ledger, 3)] == ["created"]
        ledger.close()
    assert reading(ledger.path, "PRAGMA journal_mode") == [("wal",)]
    assert is_whole(ledger.path) == 3
    assert restore(ledger, copy).tasks == 1


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_that_another_process_still_has_open_is_noticed_when_it_is_gone_or_damaged(
    ledger: Ledger, copy: Path, damaged: bool
) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    ledger.close()
    with process(HOLDS, ledger.path, "writer"):
        if damaged:
            with ledger.path.open("r+b") as file:
                file.write(b"\xa5" * 4096)
            for ending in ("-shm", "-wal"):
                ledger.path.with_name(f"ledger.db{ending}").unlink()
        else:
            ledger.path.unlink()
        with pytest.raises(LedgerBusy, match="another process has it open"):
            restore(ledger, copy)
        assert ledger.path.exists() == damaged


def test_a_ledger_of_a_worker_that_still_runs_is_not_replaced_when_all_its_files_are_gone(
    ledger: Ledger, copy: Path
) -> None:
    from issue_core.ledger.workers import enlisted

    take(ledger, 1)
    backup(ledger, copy)
    lose(ledger)
    with enlisted(ledger.path):
        with pytest.raises(LedgerBusy):
            restore(ledger, copy)
        assert not ledger.path.exists()
    assert restore(ledger, copy).tasks == 1


# --- who was about to use the ledger meanwhile -----------------------------------------------------------------------


def test_who_had_opened_the_old_file_but_not_read_yet_gets_the_new_one(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    take(ledger, 2)
    ledger.close()
    with process(OPENS_EARLY, ledger.path) as early:
        aside = restore(ledger, copy).kept_aside
        assert aside is not None
        take(ledger, 3)  # in the new ledger's log, which has the same name as the old one's
        assert early.stdin
        assert early.stdout
        early.stdin.write("\n")
        early.stdin.flush()
        assert early.stdout.readline() == "created\n"
    assert is_whole(aside) == 2
    assert is_whole(ledger.path) == 3
    assert reading(ledger.path, "SELECT count(*) FROM tasks WHERE source_id = 'late'") == [(1,)]


def test_who_waits_for_the_ledger_while_it_is_replaced_writes_to_the_new_one(
    ledger: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(ledger, *range(20))
    backup(ledger, copy)
    ledger.close()
    told: list[Receipt] = []

    def wait() -> None:
        with Ledger(ledger.path) as mine:
            told.extend(take(mine, 100))

    waits = threading.Thread(target=wait)
    made = restored.make_a_ledger

    def begin_to_wait(*arguments: Any, **named: Any) -> Any:
        waits.start()
        waits.join(0.3)  # it is blocked, or would be done by now
        return made(*arguments, **named)

    monkeypatch.setattr(restored, "make_a_ledger", begin_to_wait)
    aside = restore(ledger, copy).kept_aside
    waits.join()
    assert [receipt.outcome for receipt in told] == ["created"]
    assert an_event_id(100) in event_ids(ledger.path)
    assert aside is not None
    assert an_event_id(100) not in event_ids(aside)


# --- what goes wrong half-way ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("what", ["replace", "fsync", "_close_for_good"])
def test_a_restore_that_fails_half_way_leaves_the_ledger_as_it_was(
    ledger: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch, what: str, links: bool
) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    take(ledger, 2)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(ledger.path))

    with monkeypatch.context() as broken:
        if not links:
            broken.setattr(os, "link", no_links)
        broken.setattr(replacing if what.startswith("_") else os, what, fail)
        with pytest.raises(LedgerError, match="nothing was changed"):
            restore(ledger, copy)
    assert names(ledger.path.parent) - {"ledger.db-wal", "ledger.db-shm"} == {"ledger.db", "ledger.db.lock"}
    assert reading(ledger.path, "PRAGMA journal_mode") == [("wal",)]
    assert [receipt.outcome for receipt in take(ledger, 2, 3)] == ["duplicate", "created"]
    assert is_whole(ledger.path) == 3


def test_a_restore_that_cannot_be_undone_says_that_the_ledger_is_closed_and_how_to_open_it(
    ledger: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(ledger, 1)
    backup(ledger, copy)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", fail)
        broken.setattr(restored, "lift_the_guard", fail)
        broken.setattr(restored, "make_a_ledger", lambda *_, **__: (1, 1, ""))
        with pytest.raises(LedgerError, match="the ledger may take nothing now") as caught:
            restore(ledger, copy)
    assert f"`issue restore {ledger.path} --ledger {ledger.path}` opens it" in str(caught.value.hint)
    with pytest.raises(LedgerIsCopy):
        take(ledger, 2)
    assert restore(ledger, ledger.path).tasks == 1
    assert [receipt.outcome for receipt in take(ledger, 1, 2)] == ["duplicate", "created"]


def test_an_interrupt_in_the_middle_of_the_swap_leaves_the_ledger_as_it_was(
    ledger: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(ledger, 1)
    backup(ledger, copy)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            restore(ledger, copy)
    assert [receipt.outcome for receipt in take(ledger, 1, 2)] == ["duplicate", "created"]


def test_where_there_are_no_hard_links_the_ledger_is_replaced_all_the_same(
    ledger: Ledger, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    take(ledger, 2)
    monkeypatch.setattr(os, "link", no_links)
    aside = restore(ledger, copy).kept_aside
    assert aside is not None
    assert (is_whole(ledger.path), is_whole(aside)) == (1, 2)
    with Ledger(aside) as before, pytest.raises(LedgerIsCopy):
        take(before, 3)


@pytest.mark.parametrize("what", ["backup", "restore"])
def test_a_full_disk_leaves_nothing_behind(ledger: Ledger, copy: Path, tmp_path: Path, what: str) -> None:
    """A limit on the size of files is how a process can have a full disk of its own; see setrlimit(2)."""
    ingest(ledger, [written(a_spec(description="x" * 3000)) for _ in range(200)])
    if what == "restore":
        backup(ledger, copy)
    ledger.close()
    program = f"""
import resource, signal, sys
from issue_core import Ledger
from issue_core.errors import LedgerError
from issue_core.ledger import copies
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
with Ledger({str(ledger.path)!r}) as ledger:
    from pathlib import Path
    try:
        copies.{what}(ledger, Path({str(copy)!r}))
    except LedgerError as error:
        print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    so = "there is no copy" if what == "backup" else "nothing was changed"
    assert done.stdout.rstrip().endswith(so), done.stdout + done.stderr
    assert names(tmp_path) == ({"home"} if what == "backup" else {"home", "copy.db"})
    assert not [name for name in names(ledger.path.parent) if "draft" in name or "before" in name]
    assert [receipt.outcome for receipt in take(ledger, 1)] == ["created"]
    assert is_whole(ledger.path) == 201


def test_a_disk_that_becomes_full_at_any_point_of_a_restore_leaves_the_ledger_open(tmp_path: Path, copy: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with Ledger(tmp_path / "first.db") as first:
        ingest(first, [written(a_spec(description="x" * 1500)) for _ in range(200)])
        size = backup(first, copy).size
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("NOT TESTED: only root can mount a small disk; the file size limit above stands in for it")
    try:
        assert _restored_with_room(disk, copy, range(size, size + 300_000, 4096)) > 5
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _restored_with_room(disk: Path, copy: Path, rooms: range) -> int:
    """Restore with ever more room; gives how often there was too little, the ledger being open after each."""
    with Ledger(disk / "ledger.db") as ledger:
        ingest(ledger, [written(a_spec(description="x" * 1500)) for _ in range(50)])
        for n, room in enumerate(rooms):
            ledger.close()
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            (disk / "filling").write_bytes(b"x" * (free - room))
            error = _error_of_a_restore(ledger, copy)
            (disk / "filling").unlink()
            if not error:
                return n
            assert error.endswith("the disk or the quota is full; nothing was changed")
            assert [receipt.outcome for receipt in take(ledger, n)] == ["created"]
    raise AssertionError(rooms)


def _error_of_a_restore(ledger: Ledger, copy: Path) -> str | None:
    try:
        restore(ledger, copy)
    except LedgerError as error:
        return error.message
    return None


# --- claims ----------------------------------------------------------------------------------------------------------


def mark(ledger: Ledger) -> None:
    with ledger.write() as tx:
        claims.mark(tx)


def identity(ledger: Ledger) -> claims.Identity:
    with ledger.read() as connection:
        found = claims.identity(connection)
    assert found
    return found


def test_a_marked_ledger_gets_a_new_id_and_knows_all_it_had(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    mark(ledger)
    first = identity(ledger).own
    backup(ledger, copy)
    restore(ledger, copy)
    second = identity(ledger).own
    assert identity(ledger).former == {first}
    clock_of(ledger).move(1)
    # The ledger set aside has claimed under the second ID, of which the copy knows nothing.
    restore(ledger, copy)
    assert identity(ledger).former == {first, second}
    assert identity(ledger).own not in (first, second)


def test_a_ledger_that_was_not_marked_gets_no_id(ledger: Ledger, copy: Path) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    restore(ledger, copy)
    with ledger.read() as connection:
        assert claims.identity(connection) is None
        assert facts.read(connection, facts.FORMER_LEDGER_IDS) is None


def test_a_copy_from_before_the_mark_is_marked_as_the_ledger_was_in_whose_place_it_comes(
    ledger: Ledger, copy: Path
) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    mark(ledger)
    before = identity(ledger)
    restore(ledger, copy)
    assert identity(ledger).former == {before.own}
    assert take(ledger, 2)[0].state == "held"
    assert reading(ledger.path, "SELECT state, in_doubt_since IS NULL FROM tasks") == [("held", 0), ("held", 0)]


def test_what_a_former_id_has_claimed_is_pending_and_in_doubt_since_the_copy(ledger: Ledger, copy: Path) -> None:
    mark(ledger)
    take(ledger, 1)
    backup(ledger, copy)
    since = to_text(ledger.clock.now())
    clock_of(ledger).move(DAY)
    restore(ledger, copy, settled=True)
    take(ledger, 2)
    with ledger.write() as tx:
        assert claims.release(tx, [1, 2], in_doubt=True) == [1, 2]
    assert reading(ledger.path, "SELECT state, in_doubt_since FROM tasks") == [("pending", since)] * 2
    assert json.loads(reading(ledger.path, "SELECT detail FROM history WHERE kind = 'claimed'")[0][0])["in_doubt"]


def test_a_ledger_of_which_a_row_alone_is_damaged_takes_nothing_either_once_it_is_set_aside(
    ledger: Ledger, copy: Path
) -> None:
    take(ledger, 1)
    backup(ledger, copy)
    with ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET priority = 'urgent'")
    aside = restore(ledger, copy).kept_aside
    assert aside
    with Ledger(aside) as other, pytest.raises(LedgerIsCopy):
        take(other, 1)
