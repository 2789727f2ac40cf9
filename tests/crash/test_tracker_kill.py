"""Runs of the real command, killed in the middle of what they say to an unruly tracker, leave one issue a task."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from issue_core import Ledger, ingest
from tests.support.runs import Runs, kill_seed, nothing_is_open
from tests.support.trackers import TRACKERS, fake
from tests.support.trackers.server import TrackerServer

AT_ONCE = 2
"""So many runs share the ledger."""

CHANCE = 0.5
"""How many of the requests meet a fault."""

PATIENCE = 120.0
"""Seconds after which the last runs must be done, on a slow machine."""

SYNC = """
default_backend = "work"

[sync]
request_timeout = 1
lease = 4
backoff = [0.01, 0.1]
max_attempts = 100000
"""
"""Times as short as a slow machine allows. No number of faults makes a task fail."""

PACE = {
    "max_in_flight": 4,
    "min_interval": 0,
    "per_minute": 0,
    "per_hour": 0,
    "settle": 0.3,
    "looks": 1,
    "look_interval": 0.1,
}

_SPACE = UUID("5a0a3c0e-0f0f-4a55-9a0c-0a3f9e1d7b52")


@dataclass(slots=True, kw_only=True)
class House(Runs):
    """A ledger whose tasks go to a tracker, and the runs that are killed on it."""

    tracker: TrackerServer

    def take_in(self, tasks: int) -> None:
        """Store so many tasks."""
        with Ledger(self.path) as ledger:
            ingest(ledger, [a_document(number) for number in range(tasks)])

    def kill_one(self, runs: list[subprocess.Popen[bytes]], requests: int) -> bool:
        """Kill one of the ``runs`` once the tracker has got so many more requests; ``False``: it was done before."""
        run = self.dice.choice(runs)
        moment = len(self.tracker.requests) + requests
        over = time.monotonic() + 10.0
        while len(self.tracker.requests) < moment and time.monotonic() < over:
            with suppress(subprocess.TimeoutExpired):
                return self.was_killed(run.wait(timeout=0.002))
        run.kill()
        return self.was_killed(run.wait())

    def kill(self, kills: int) -> int:
        """Kill so many runs, while two always share the work; gives how many it were before all was done."""
        longest = 2 * self.pending() // kills
        killed = 0
        runs: list[subprocess.Popen[bytes]] = []
        while killed < kills and self.pending():
            runs = [run for run in runs if run.poll() is None]
            runs += [self.start() for _ in range(AT_ONCE - len(runs))]
            killed += self.kill_one(runs, self.dice.randint(1, longest))
        for run in runs:
            run.kill()
            run.wait()
        return killed


def a_document(number: int) -> str:
    return json.dumps(
        {
            "title": f"Disk {number} is nearly full",
            "target_repo": "acme/web",
            "description": "`/var` is full.\n" * (number % 50),
            "labels": ["disk", f"host-{number % 3}"],
            "source_type": "rule",
            "source_id": "disk",
            "triggering_event_id": str(uuid5(_SPACE, str(number))),
        }
    )


@pytest.fixture
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """A house with a tracker of the name that is asked for. What fails can be had again: ``KILL_SEED=… pytest …``."""
    seed = kill_seed()
    with fake(request.param) as server:
        server.chaos(CHANCE, seed)
        # 3: what is left is parked.
        house = House(folder=tmp_path, dice=random.Random(seed), ends_with=(0, 3), patience=PATIENCE, tracker=server)
        house.configure(f"{SYNC}\n{server.toml('work', **PACE)}")
        yield house
        house.end()


def one_issue_a_task(house: House, tasks: int, kills: int) -> None:
    house.take_in(tasks)
    assert house.kill(kills) == kills
    house.finish()
    stored = house.tasks()
    assert Counter(task.state for task in stored) == {"synced": tasks}
    assert Counter(house.tracker.event_ids()) == {task.event_id: 1 for task in stored}
    assert len(house.tracker.issues) == tasks
    assert len({task.remote.url for task in stored if task.remote}) == tasks
    nothing_is_open(house.path)


@pytest.mark.parametrize("house", TRACKERS, indirect=True)
def test_killed_runs_leave_one_issue_a_task_at_an_unruly_tracker(house: House) -> None:
    one_issue_a_task(house, tasks=40, kills=5)
    assert len(house.tracker.creates) > 40, "nothing went wrong, so nothing was tried"


@pytest.mark.long
@pytest.mark.parametrize("house", TRACKERS, indirect=True)
def test_many_killed_runs_leave_one_issue_a_task_at_an_unruly_tracker(house: House) -> None:
    one_issue_a_task(house, tasks=300, kills=20)
