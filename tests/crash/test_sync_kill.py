"""Workers that are killed at any point, two at a time, leave exactly one issue a task."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from issue_core import Ledger, ingest, sync
from issue_core.backends.body import event_id_in, render
from issue_core.ledger import queries
from issue_core.ledger.queries import Filter
from issue_core.task import Task
from tests.support import sync_worker
from tests.support.runs import kill_seed, nothing_is_open
from tests.support.tracker import Tracker

WORKER = (sys.executable, "-m", "tests.support.sync_worker")
"""The command that syncs and can die at a chosen point; it takes the ledger and the backend."""

ISSUE_SYNC = (str(Path(sys.executable).with_name("issue")), "sync", "--wait", "--ledger")
"""The command that people use; it takes the ledger."""

ROOT = Path(__file__).parents[2]

AT_ONCE = 2
TASKS = 12
"""New tasks come in when there are fewer than that to do."""

EVENTS = {"local": {"sql": 8, "file": 160}, "scripted": {"sql": 50}}
"""How many events of a kind a worker meets in its life, more or less."""

LONGEST_LIFE = 0.3
"""Seconds after which a worker is killed from outside, at the latest."""

_SPACE = UUID("0d3f6b52-7a51-4f0e-9a3e-5c62b8f4d7c1")


@dataclass(slots=True)
class House:
    """A ledger, the tracker beside it, and the workers that are killed on it."""

    folder: Path
    backend: str
    dice: random.Random
    ingested: int = 0

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.folder / "ledger.db"

    def take_in(self) -> None:
        """Store new tasks until there are enough to do."""
        with Ledger(self.path) as ledger:
            while sync_worker.pending(ledger) < TASKS:
                numbers = range(self.ingested, self.ingested + TASKS)
                ingest(ledger, [a_document(number) for number in numbers])
                self.ingested += TASKS

    def work(self, *dies_at: str) -> subprocess.Popen[bytes]:
        """Start a worker; it dies at the n-th event of a kind, if that is said."""
        environment = {**os.environ, **({sync_worker.DIES_AT: dies_at[0]} if dies_at else {})}
        return subprocess.Popen([*WORKER, str(self.path), self.backend], cwd=ROOT, env=environment)

    def issue_sync(self) -> subprocess.Popen[bytes]:
        """Start the real command, with no configuration."""
        environment = {**os.environ, "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        environment.pop("ISSUE_CORE_CONFIG", None)
        return subprocess.Popen([*ISSUE_SYNC, str(self.path)], stdout=subprocess.DEVNULL, env=environment)

    def start_one_that_will_die(self) -> tuple[subprocess.Popen[bytes], float]:
        """Start a worker; gives the seconds after which it must be killed, if it has not died by then."""
        events = EVENTS[self.backend]
        kind = self.dice.choice(["time", *events])
        if kind == "time":
            return self.work(), self.dice.uniform(0.1, LONGEST_LIFE)
        return self.work(f"{kind} {self.dice.randint(1, events[kind])}"), 5.0

    def finish(self) -> None:
        """Let one worker live."""
        assert self.work().wait(timeout=60) == 0

    def tasks(self) -> list[Task]:
        """Every task of the ledger."""
        with Ledger(self.path) as ledger, ledger.read() as connection:
            return list(queries.tasks(connection, Filter(), limit=None, newest_first=False))


def a_document(number: int) -> str:
    return json.dumps(
        {
            "title": f"Disk {number} is nearly full",
            "target_repo": f"acme/{number % 3}",
            "description": "`/var` is full.\n" * (number % 50),
            "source_type": "rule",
            "source_id": "disk",
            "triggering_event_id": str(uuid5(_SPACE, str(number))),
        }
    )


def kill_workers(house: House, kills: int) -> None:
    """Kill so many workers, two at a time; then one finishes what is left."""
    killed = 0
    while killed < kills:
        house.take_in()
        workers = [house.start_one_that_will_die() for _ in range(AT_ONCE)]
        killed += sum(was_killed(worker, patience) for worker, patience in workers)
    house.finish()


def was_killed(worker: subprocess.Popen[bytes], patience: float) -> bool:
    """Wait for the end of a worker, and bring it about if need be; ``False``: it was done before."""
    try:
        code = worker.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        worker.kill()
        code = worker.wait()
    assert code in (0, -signal.SIGKILL)
    return code != 0


def all_is_well_in_the_ledger(house: House) -> None:
    tasks = house.tasks()
    assert len(tasks) == house.ingested
    assert Counter(task.state for task in tasks) == {"synced": house.ingested}
    nothing_is_open(house.path)


def one_issue_a_task_at_the_tracker(house: House) -> None:
    issues = Tracker(house.folder / "tracker.db").issues()
    made = Counter(issue.event_id for issue in issues)
    assert made == {task.event_id: 1 for task in house.tasks()}
    theirs = {issue.event_id: str(issue.id) for issue in issues}
    assert {task.event_id: task.remote.id for task in house.tasks() if task.remote} == theirs


def one_whole_file_a_task(house: House) -> None:
    files = list((house.folder / "issues").rglob("*.md"))
    tasks = {task.event_id: task for task in house.tasks()}
    assert Counter(event_id_in(path.read_bytes()) for path in files) == dict.fromkeys(tasks, 1)
    for path in files:
        task = tasks[event_id_in(path.read_bytes()) or ""]
        assert path.read_text() == render(task)
        assert task.remote is not None
        assert task.remote.url == path.as_uri()


@pytest.fixture
def dice() -> random.Random:
    """The dice of this test. What fails can be had again, more or less: ``KILL_SEED=… pytest …``."""
    return random.Random(kill_seed())


@pytest.fixture
def leftovers() -> Iterator[None]:
    """Nothing is left running."""
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def at_the_tracker(folder: Path, dice: random.Random, kills: int) -> None:
    tracker = Tracker(folder / "tracker.db")
    tracker.be(chance=0.15, seed=dice.random(), work=0.1, late=0.2)
    house = House(folder, "scripted", dice)
    kill_workers(house, kills)
    all_is_well_in_the_ledger(house)
    one_issue_a_task_at_the_tracker(house)


def in_files(folder: Path, dice: random.Random, kills: int) -> None:
    house = House(folder, "local", dice)
    kill_workers(house, kills)
    all_is_well_in_the_ledger(house)
    one_whole_file_a_task(house)


@pytest.mark.usefixtures("leftovers")
def test_killed_workers_leave_one_issue_a_task_at_a_tracker(tmp_path: Path, dice: random.Random) -> None:
    at_the_tracker(tmp_path, dice, kills=40)


@pytest.mark.usefixtures("leftovers")
def test_killed_workers_leave_one_whole_file_a_task(tmp_path: Path, dice: random.Random) -> None:
    in_files(tmp_path, dice, kills=30)


@pytest.mark.usefixtures("leftovers")
def test_killed_runs_of_the_real_command_leave_one_whole_file_a_task(tmp_path: Path, dice: random.Random) -> None:
    house = House(tmp_path, "local", dice)
    for _ in range(8):
        house.take_in()
        for run in [house.issue_sync() for _ in range(AT_ONCE)]:
            was_killed(run, dice.uniform(0.1, 0.5))
    assert house.issue_sync().wait(timeout=60) == 0
    all_is_well_in_the_ledger(house)
    one_whole_file_a_task(house)


@pytest.mark.long
def test_a_thousand_killed_workers_leave_one_issue_a_task_at_a_tracker(tmp_path: Path, dice: random.Random) -> None:
    at_the_tracker(tmp_path, dice, kills=1000)


@pytest.mark.long
def test_a_thousand_killed_workers_leave_one_whole_file_a_task(tmp_path: Path, dice: random.Random) -> None:
    in_files(tmp_path, dice, kills=1000)


@pytest.mark.parametrize("point", ["sql 1", "sql 2", "sql 3", "sql 4", "file 20", "file 30", "file 40", "file 50"])
def test_the_tasks_of_a_killed_worker_go_on_at_once(tmp_path: Path, point: str) -> None:
    """The lease of the dead is for two minutes; nobody waits for it to run out."""
    house = House(tmp_path, "local", random.Random(0))
    house.take_in()
    assert house.work(point).wait(timeout=30) == -signal.SIGKILL
    with Ledger(house.path) as ledger:
        summary = sync(ledger)
    assert summary.counts.keys() <= {"created", "adopted"}
    all_is_well_in_the_ledger(house)
    one_whole_file_a_task(house)
