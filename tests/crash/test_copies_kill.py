"""A backup or a restore that is killed at any point leaves no half copy, and no ledger that lacks what it promised."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from issue_core import ingest
from issue_core.errors import LedgerBusy, LedgerIsCopy
from issue_core.ledger import Ledger, queries
from issue_core.ledger.copies import backup, restore
from tests.support.cli import ISSUE, TIMEOUT, Issue
from tests.support.runs import kill_seed
from tests.support.specs import a_spec, an_event_id, written

ROOT = Path(__file__).parents[2]
COPIER = (sys.executable, "-m", "tests.crash.mortal_copier")

SAVED = 30
"""So many tasks are in the copy."""

TASKS = 40
"""So many are in the ledger."""

STEPS = 600
"""More than a backup or a restore has."""

each_step = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 5])
"""At each step, or at every fifth from a random one on."""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A folder with a copy, and a ledger that was killed: what it took last is in its log alone."""
    folder = tmp_path / "template"
    folder.mkdir()
    with Ledger(tmp_path / "ledger.db") as ledger:
        take(ledger, *range(SAVED))
        backup(ledger, folder / "copy.db")
        with ledger.write() as tx:
            tx.connection.execute("SELECT 1")
        take(ledger, *range(SAVED, TASKS))
        for file in tmp_path.glob("ledger.db*"):
            shutil.copy(file, folder / file.name)
    assert (folder / "ledger.db-wal").stat().st_size > 0
    return folder


def take(ledger: Ledger, *numbers: int) -> list[str]:
    specs = [a_spec(triggering_event_id=an_event_id(n), description="x" * 1000) for n in numbers]
    return [receipt.outcome for receipt in ingest(ledger, map(written, specs))]


def folders(template: Path, numbers: range) -> Iterator[Path]:
    """The template again and again, under these numbers."""
    for n in numbers:
        folder = template.with_name(f"{n:03}")
        shutil.copytree(template, folder)
        yield folder


def kill(what: str, template: Path, every: int, *options: str) -> list[Path]:
    """A process for each step; gives the folders of those that died, and of the first that came to its end."""
    made = list(folders(template, range(random.Random(kill_seed()).randint(1, every), STEPS, every)))
    words = [*COPIER, what, *options, *map(str, made)]
    ran = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    died: list[bool] = json.loads(ran.stdout)
    steps = died.index(False)
    assert steps * every > 80, died
    assert not any(died[steps:])
    return made[: steps + 1]


def held_by(path: Path) -> int:
    """Check that a ledger is whole; gives how many tasks it has."""
    with closing(sqlite3.connect(path)) as connection:  # as the next writer would: it brings the log along
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Ledger(path) as ledger, ledger.read() as connection:
        tasks = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=False))
        counts = queries.counts(connection)
    assert counts.total == counts.received["created"] == len(tasks)
    assert [task.event_id for task in tasks] == [an_event_id(n) for n in range(len(tasks))]
    return len(tasks)


def asides(folder: Path) -> list[Path]:
    return [path for path in folder.glob("ledger.db.before-*") if path.name[-1] == "Z"]


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob("*.draft*"))


def all_is_well_after(folder: Path, *, there_was_a_ledger: bool = True) -> str:
    """Nothing is lost, and the restore can be run again; gives what the kill had left."""
    path = folder / "ledger.db"
    found = held_by(path) if path.exists() else None
    left = "old" if found == TASKS else "new"
    if there_was_a_ledger:
        assert found in (TASKS, SAVED)
        assert TASKS in [found, *map(held_by, asides(folder))]
        if found == TASKS:
            with Ledger(path) as ledger, suppress(LedgerIsCopy):
                # Right before the swap it takes nothing any more.
                assert take(ledger, 0) == ["duplicate"]
    with Ledger(path) as ledger:
        assert restore(ledger, folder / "copy.db").tasks == SAVED
        assert take(ledger, 0, SAVED) == ["duplicate", "created"]
    assert held_by(path) == SAVED + 1
    if there_was_a_ledger:
        assert TASKS in map(held_by, asides(folder))
    assert drafts(folder) == []
    return left


@each_step
def test_a_backup_that_is_killed_at_any_step_leaves_a_whole_copy_or_none(template: Path, every: int) -> None:
    (template / "copy.db").unlink()
    found = []
    for folder in kill("backup", template, every):
        copy = folder / "copy.db"
        found.append(copy.exists())
        if not copy.exists():
            with Ledger(folder / "ledger.db") as ledger:
                backup(ledger, copy)
            assert drafts(folder) == []
        assert held_by(copy) == TASKS
        with Ledger(copy) as ledger, pytest.raises(LedgerIsCopy):
            take(ledger, TASKS)
        with Ledger(folder / "ledger.db") as ledger:
            assert take(ledger, TASKS) == ["created"]
    assert found == sorted(found)
    assert True in found


@each_step
def test_a_restore_that_is_killed_at_any_step_leaves_the_old_ledger_or_the_new_one(template: Path, every: int) -> None:
    left = [all_is_well_after(folder) for folder in kill("restore", template, every)]
    assert left == sorted(left, reverse=True)
    assert set(left) == {"old", "new"}


@each_step
def test_a_restore_over_nothing_that_is_killed_can_be_run_again(template: Path, every: int) -> None:
    for file in template.glob("ledger.db*"):
        file.unlink()
    for folder in kill("restore", template, every):
        if (folder / "ledger.db").exists():
            assert held_by(folder / "ledger.db") == SAVED
        all_is_well_after(folder, there_was_a_ledger=False)


@each_step
def test_a_restore_over_a_damaged_ledger_that_is_killed_keeps_it_and_its_log(template: Path, every: int) -> None:
    damaged, log = b"\xa5" * 9000, b"what was committed last" * 300
    (template / "ledger.db").write_bytes(damaged)
    (template / "ledger.db-wal").write_bytes(log)
    (template / "ledger.db-shm").unlink()
    for folder in kill("restore", template, every):
        files = {path.read_bytes() for path in folder.glob("ledger.db*") if path.is_file()}
        assert {damaged, log} <= files
        with Ledger(folder / "ledger.db") as ledger:
            assert restore(ledger, folder / "copy.db").tasks == SAVED
            assert take(ledger, 0, SAVED) == ["duplicate", "created"]
        assert damaged in {path.read_bytes() for path in asides(folder)}
        assert held_by(folder / "ledger.db") == SAVED + 1


@each_step
def test_where_there_are_no_hard_links_a_killed_restore_loses_nothing(template: Path, every: int) -> None:
    """There the ledger may have no name of its own for a moment, but it has its name beside it."""
    for folder in kill("restore", template, every, "--no-links"):
        if (folder / "ledger.db").exists():
            all_is_well_after(folder)
        else:
            assert [held_by(path) for path in asides(folder)] == [TASKS]
            all_is_well_after(folder, there_was_a_ledger=False)


# --- the real command, killed at any time ----------------------------------------------------------------------------


def kill_commands(template: Path, what: str, kills: int) -> None:
    dice = random.Random(kill_seed())
    for folder in folders(template, range(kills)):
        if what == "backup":
            (folder / "copy.db").unlink()
        process = Issue(folder).start(what, str(folder / "copy.db"))
        timer = threading.Timer(dice.uniform(0.1, 0.6), process.kill)
        timer.start()
        _, errors = process.communicate(timeout=TIMEOUT)
        timer.cancel()
        timer.join()
        assert process.returncode in (0, -signal.SIGKILL), errors
        if what == "restore":
            all_is_well_after(folder)
        elif (folder / "copy.db").exists():
            assert held_by(folder / "copy.db") == TASKS
        else:
            assert process.returncode != 0
        shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["backup", "restore"])
def test_a_command_that_is_killed_leaves_all_well(template: Path, what: str) -> None:
    kill_commands(template, what, 6)


@pytest.mark.long
@pytest.mark.parametrize("what", ["backup", "restore"])
def test_hundreds_of_commands_that_are_killed_leave_all_well(template: Path, what: str) -> None:
    kill_commands(template, what, 300)


# --- the swap, under a stream of writers -----------------------------------------------------------------------------


# Opens the ledger, ingests one document and closes it, again and again; prints each event ID when it has its receipt.
WRITERS = """
import sys
from uuid import uuid4
from issue_core import Ledger, ingest
from tests.support.specs import a_spec, written
while not sys.stdin.closed:
    event_id = str(uuid4())
    with Ledger(sys.argv[1]) as ledger:
        [receipt] = ingest(ledger, [written(a_spec(triggering_event_id=event_id))])
    print(event_id, receipt.outcome, flush=True)
"""


@dataclass(slots=True)
class Stream:
    """Writers that come and go on a ledger for as long as they are let, and the receipts that they got out."""

    path: Path
    command: str
    promised: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Stream:
        write = self._run_commands if self.command == "issue ingest" else self._run_one_program
        self.threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _run_commands(self, writer: int) -> None:
        environment = os.environ | {"ISSUE_CORE_LEDGER": str(self.path), "ISSUE_CORE_CONFIG": ""}
        n = 0
        while not self.over.is_set():
            n += 1
            spec = written(a_spec(triggering_event_id=an_event_id(10_000 * (writer + 1) + n)))
            words = [ISSUE, "ingest", "--json"]
            ran = subprocess.run(words, input=spec, capture_output=True, env=environment, timeout=TIMEOUT, check=False)
            if ran.returncode:
                self.trouble.append(ran.stderr.decode())
            else:
                receipt = json.loads(ran.stdout)
                assert receipt["outcome"] == "created"
                self.promised.append(receipt["event_id"])

    def _run_one_program(self, _: int) -> None:
        words = [sys.executable, "-c", WRITERS, str(self.path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout
            assert process.stderr
            for line in process.stdout:
                event_id, outcome = line.split()
                assert outcome == "created"
                self.promised.append(event_id)
                if self.over.is_set():
                    process.kill()
            self.trouble += process.stderr.readlines()


def swap_under(folder: Path, command: str, swaps: int) -> None:
    path = folder / "ledger.db"
    with Ledger(path) as ledger:
        take(ledger, *range(SAVED))
        backup(ledger, folder / "copy.db")
    done = 0
    with Stream(path, command) as stream:
        while done < swaps and not stream.trouble:
            seen = len(stream.promised)
            with Ledger(path) as ledger, suppress(LedgerBusy):
                restore(ledger, folder / "copy.db")
                done += 1
            while len(stream.promised) < seen + 3 and not stream.trouble:
                stream.over.wait(0.01)
    assert stream.trouble == []
    kept: set[str] = set()
    for each in (path, *asides(folder)):
        with closing(sqlite3.connect(each)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            ids = [event_id for (event_id,) in connection.execute("SELECT event_id FROM tasks ORDER BY seq")]
            # Each task is in one of them: the one that took it.
            assert not kept.intersection(ids[SAVED:])
            kept.update(ids)
    assert len(asides(folder)) == swaps
    assert len(stream.promised) >= 3 * swaps
    assert set(stream.promised) <= kept


@pytest.mark.parametrize("command", ["issue ingest", "one program"])
def test_each_receipt_given_while_the_ledger_is_replaced_is_true(tmp_path: Path, command: str) -> None:
    swap_under(tmp_path, command, 3 if command == "issue ingest" else 1)


@pytest.mark.long
@pytest.mark.parametrize("command", ["issue ingest", "one program"])
def test_each_receipt_given_while_the_ledger_is_replaced_many_times_is_true(tmp_path: Path, command: str) -> None:
    swap_under(tmp_path, command, 100 if command == "issue ingest" else 30)
