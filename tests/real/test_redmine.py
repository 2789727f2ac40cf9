"""A real Redmine takes what the fake one takes, refuses it in the same way, and gets one issue a task."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from issue_core import Ledger, ingest
from issue_core.backends import redmine as backend_of
from issue_core.backends.base import Backend, Issue, Target
from issue_core.backends.markup.markdown import events_in
from issue_core.errors import BackendError, CredentialsRefused, ProjectClosed
from issue_core.task import Task
from tests.real.redmine_server import Redmine, missing, running
from tests.support.build import a_task
from tests.support.runs import Runs, kill_seed, nothing_is_open
from tests.sync_engine.rig import read

pytestmark = pytest.mark.real

TIMEOUT = 30.0
"""Seconds for a request; none that goes well takes anywhere near as long."""

TASKS = 300
KILLS = 20
AT_ONCE = 2
"""So many runs share the ledger."""

PATIENCE = 300.0
"""Seconds after which the last run must be done, on a slow machine."""

CONFIG = """
default_backend = "work"

[backends.work]
type = "redmine"
url = "{url}"
token = {{ env = "REDMINE_KEY" }}
project = "kills"
event_field = {event_field}
max_in_flight = 2
settle = 5

[sync]
request_timeout = 10
lease = 30
backoff = [0.1, 1]
"""
"""A cut-off request may take effect for 15 seconds: this Redmine answers in parts of one."""


@pytest.fixture(scope="module")
def redmine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redmine]:
    if reason := missing():
        pytest.skip(reason)
    with running(tmp_path_factory.mktemp("redmine")) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Key:
    """A secret that is at hand."""

    value: str

    def resolve(self) -> str:
        """The secret."""
        return self.value


def a_backend(redmine: Redmine, **changes: Any) -> Backend:
    options = {"url": redmine.url, "token": Key(redmine.bot_key), "project": "web", **changes}
    return backend_of.open_backend("work", options, home=Path("/nowhere"), request_timeout=TIMEOUT)


def a_new_task(**changes: Any) -> Task:
    """A task that no other test has: all of them use one Redmine."""
    return a_task(event_id=str(uuid4()), **changes)


def create(backend: Backend, task: Task, target: Target | None = None) -> Issue:
    target = target or backend.target(task.target_repo)
    return backend.create(task, target, timeout=TIMEOUT, before_send=lambda: None)


def look(backend: Backend, task: Task) -> dict[str, list[Issue]]:
    since = datetime.now(UTC) - timedelta(minutes=5)
    return backend.look(backend.target(task.target_repo), [task.event_id], since, keep_lease=lambda: None)


def fields_of(shown: dict[str, Any]) -> dict[int, Any]:
    return {each["id"]: each["value"] for each in shown["custom_fields"]}


def lines_of(shown: dict[str, Any]) -> str:
    """The description with line ends as they were sent: Redmine stores each as CR LF (``Issue#description=``)."""
    return str(shown["description"]).replace("\r\n", "\n")


# --- one issue ------------------------------------------------------------------------------------------------------


def test_each_field_of_a_task_is_where_the_documentation_says(redmine: Redmine) -> None:
    own = {"event_field": redmine.event_field, "labels_field": redmine.labels_field}
    task = a_new_task(
        title="Disk is nearly full: ünïcode 🚨 <b>",
        description="# Usage\n\n`/var` is at **93 %**.\n\n- [ ] clean up\n",
        priority="high",
        due_date="2020-03-04",
        labels=["disk", "ops"],
    )
    with closing(a_backend(redmine, tracker="Support", **own)) as backend:
        issue = create(backend, task)
    shown = redmine.get(f"/issues/{issue.id}.json")["issue"]
    assert issue.url == f"{redmine.url}/issues/{shown['id']}"
    assert issue.account == str(redmine.bot) == str(shown["author"]["id"])
    assert issue.notes == ()
    assert shown["subject"] == task.title
    assert lines_of(shown).startswith(task.description.strip())
    assert events_in(shown["description"]) == [task.event_id]
    assert shown["priority"]["name"] == "High"
    assert (shown["start_date"], shown["due_date"]) == (None, "2020-03-04")
    assert shown["tracker"]["name"] == "Support"
    assert shown["project"]["name"] == "Web"
    fields = fields_of(shown)
    assert fields[redmine.event_field] == task.event_id
    assert sorted(fields[redmine.labels_field]) == ["disk", "ops"]
    assert "Labels" not in shown["description"]


def test_labels_that_a_list_has_not_stand_in_the_text_with_the_due_date_and_a_note_says_so(redmine: Redmine) -> None:
    task = a_new_task(labels=["disk", "unheard-of"], due_date="2030-01-01")
    with closing(a_backend(redmine, labels_field=redmine.labels_field)) as backend:
        issue = create(backend, task)
    shown = redmine.get(f"/issues/{issue.id}.json")["issue"]
    assert "unheard-of" in shown["description"]
    assert "2030-01-01" in shown["description"]
    assert any("Redmine refused them as fields" in note for note in issue.notes)


@pytest.mark.parametrize(("priority", "name"), [("low", "Low"), ("medium", "Normal"), ("high", "High")])
def test_a_priority_is_the_default_or_the_one_beside_it(redmine: Redmine, priority: str, name: str) -> None:
    with closing(a_backend(redmine)) as backend:
        issue = create(backend, a_new_task(priority=priority))
    assert redmine.get(f"/issues/{issue.id}.json")["issue"]["priority"]["name"] == name


def test_the_longest_text_and_the_most_labels_arrive_whole(redmine: Redmine) -> None:
    text = "Zeile äöü 🚨\n\n" * 4000
    task = a_new_task(title="x" * 255, description=text, labels=[f"label-{number}" for number in range(100)])
    with closing(a_backend(redmine)) as backend:
        issue = create(backend, task)
    shown = redmine.get(f"/issues/{issue.id}.json")["issue"]
    assert shown["subject"] == task.title
    assert lines_of(shown).startswith(text.strip())
    assert events_in(shown["description"]) == [task.event_id]
    assert "label-99" in shown["description"]


def test_a_look_finds_the_issue_that_was_made_and_no_other(redmine: Redmine) -> None:
    task = a_new_task()
    with closing(a_backend(redmine)) as backend:
        assert look(backend, task) == {}
        issue = create(backend, task)
        found = look(backend, task)
    assert [(each.id, each.url, each.account) for each in found[task.event_id]] == [
        (issue.id, issue.url, str(redmine.bot))
    ]


# --- refusals -------------------------------------------------------------------------------------------------------


def fails(kind: type[BackendError], redmine: Redmine, task: Task, target: Target | None = None, **changes: Any) -> None:
    """A create, a look or a probe ends with exactly this error, and no issue is made."""
    with closing(a_backend(redmine, **changes)) as backend:
        where = target or backend.target(task.target_repo)
        with pytest.raises(kind) as caught:
            create(backend, task, where)
        assert type(caught.value) is kind
        assert redmine.bot_key not in f"{caught.value} {caught.value.hint}"
        with pytest.raises(kind):
            backend.probe(where)
    made = [each for project in ("web", "kills") for each in redmine.issues(project)]
    assert task.event_id not in {event for each in made for event in events_in(each["description"])}


def test_a_bad_key_is_told_as_refused_credentials(redmine: Redmine) -> None:
    fails(CredentialsRefused, redmine, a_new_task(), token=Key("0" * 40))


def test_an_unknown_project_is_told_as_closed_to_us(redmine: Redmine) -> None:
    fails(ProjectClosed, redmine, a_new_task(), project="nowhere")


def test_a_repository_name_that_is_no_identifier_is_told_as_closed_to_us(redmine: Redmine) -> None:
    fails(ProjectClosed, redmine, a_new_task(target_repo="acme/web"), project="")


@pytest.mark.parametrize("project", ["shut", "archived", "wiki-only"])
def test_a_project_that_takes_no_issue_is_told_as_closed_to_us(redmine: Redmine, project: str) -> None:
    fails(ProjectClosed, redmine, a_new_task(), project=project)


def test_the_check_finds_nothing_wrong_and_names_what_is_missing(redmine: Redmine) -> None:
    with closing(a_backend(redmine)) as backend:
        assert [finding.ok for finding in backend.check()] == [True, True]
    with closing(a_backend(redmine, priorities={"high": "Catastrophe"}, project="shut")) as backend:
        assert [finding.ok for finding in backend.check()] == [True, False, False]


# --- three hundred tasks --------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class House(Runs):
    """A ledger whose tasks go to the Redmine's project ``kills``, and the runs that are killed on it."""

    redmine: Redmine

    def kill_one(self, runs: list[subprocess.Popen[bytes]], progress: int) -> bool:
        """Kill one of the ``runs`` some moment after so many more tasks are done; ``False``: it was done before."""
        run = self.dice.choice(runs)
        goal = self.pending() - progress
        over = time.monotonic() + 10.0
        while self.pending() > goal and time.monotonic() < over:
            with suppress(subprocess.TimeoutExpired):
                return self.was_killed(run.wait(timeout=0.01))
        with suppress(subprocess.TimeoutExpired):
            return self.was_killed(run.wait(timeout=self.dice.uniform(0.0, 0.2)))
        run.kill()
        return self.was_killed(run.wait())

    def kill(self, kills: int) -> int:
        """Kill so many runs, while two always share the work; gives how many it were before all was done."""
        killed = 0
        runs: list[subprocess.Popen[bytes]] = []
        while killed < kills and (pending := self.pending()):
            runs = [run for run in runs if run.poll() is None]
            runs += [self.start() for _ in range(AT_ONCE - len(runs))]
            killed += self.kill_one(runs, self.dice.randint(1, max(1, pending // (kills - killed))))
        return killed


def documents(tasks: int) -> list[str]:
    return [
        json.dumps(
            {
                "title": f"Disk {number} is nearly full",
                "target_repo": "acme/web",
                "description": "`/var` is full.\n" * (number % 50),
                "labels": ["disk", f"host-{number % 3}"],
                "priority": ("low", "medium", "high")[number % 3],
                "due_in_days": number % 5 or None,
                "source_type": "rule",
                "source_id": "disk",
                "triggering_event_id": str(uuid4()),
            }
        )
        for number in range(tasks)
    ]


@pytest.fixture
def house(redmine: Redmine, tmp_path: Path) -> Iterator[House]:
    """A house at the real Redmine. The moments of the kills can be had again: ``KILL_SEED=… pytest …``."""
    seed = kill_seed()
    house = House(
        folder=tmp_path,
        dice=random.Random(seed),
        ends_with=(0,),
        patience=PATIENCE,
        environment={"REDMINE_KEY": redmine.bot_key},
        redmine=redmine,
    )
    house.configure(CONFIG.format(url=redmine.url, event_field=redmine.event_field))
    yield house
    house.end()


def test_killed_runs_leave_one_issue_a_task(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(house.path) as ledger:
        ingest(ledger, documents(TASKS))
    began = time.monotonic()
    assert house.kill(KILLS) == KILLS
    after_kills = time.monotonic()
    house.finish()
    for run in house.runs:
        run.wait(timeout=PATIENCE)
    ended = time.monotonic()

    stored = house.tasks()
    issues = house.redmine.issues("kills")
    assert Counter(task.state for task in stored) == {"synced": TASKS}
    assert len(issues) == TASKS
    once = {task.event_id: 1 for task in stored}
    assert Counter(event for each in issues for event in events_in(each["description"])) == once
    assert Counter(fields_of(each)[house.redmine.event_field] for each in issues) == once
    assert {task.remote.id for task in stored if task.remote} == {str(each["id"]) for each in issues}
    nothing_is_open(house.path)
    doubts = read(house.path, "SELECT outcome, count(*) FROM attempts GROUP BY outcome")
    with capsys.disabled():
        print(
            f"\nRedmine {house.redmine.version}: {TASKS} tasks, {KILLS} kills in {after_kills - began:.1f} s, "
            f"done after {ended - began:.1f} s; attempts {doubts}"
        )
