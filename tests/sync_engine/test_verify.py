"""The trackers' issues beside the ledger's tasks: what is told of them, and that nothing is changed by it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from issue_core import Ledger, ingest, sync
from issue_core.config import BackendSettings, Settings
from issue_core.errors import UsageError
from issue_core.ledger import limits, linking, queries
from issue_core.sync_engine.verify import Mismatch, Verified, verify
from issue_core.task import Task
from tests.support.build import a_task
from tests.support.trackers import TRACKERS, fake
from tests.support.trackers.server import Answer, Fault, TrackerServer

LISTING = tuple(each for each in TRACKERS if not each.startswith("jira"))
"""The trackers that can be asked for every marked issue."""

HOUR = 3600.0


class Books:
    """A ledger, and one backend that its tasks go to; ``web`` and ``api`` are two target_repos."""

    def __init__(self, folder: Path, backend: BackendSettings) -> None:
        self.ledger = Ledger(folder / "ledger.db")
        self.settings = Settings(self.ledger.path, default_backend="work", backends={"work": backend})
        self.verified = Verified()

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def synced(self, *, repo: str = "web") -> Task:
        """A new task that has its issue."""
        task = self.ingested(repo=repo)
        assert sync(self.ledger, self.settings).counts == {"created": 1}
        return self.task(task.event_id)

    def ingested(self, *, repo: str = "web") -> Task:
        """A new task."""
        event_id = a_task().event_id
        spec = {"title": "Disk full", "target_repo": repo, "source_type": "rule", "source_id": "disk"}
        ingest(self.ledger, [json.dumps({**spec, "triggering_event_id": event_id})])
        return self.task(event_id)

    def task(self, event_id: str) -> Task:
        """The task as the ledger has it."""
        with self.ledger.read() as connection:
            return queries.task(connection, queries.find(connection, event_id))

    def verify(self, backend: str | None = None) -> list[Mismatch]:
        """What does not match."""
        told: list[Mismatch] = []
        self.verified = verify(self.ledger, self.settings, backend=backend, tell=told.append)
        return told

    def findings(self) -> list[tuple[str, str]]:
        """What does not match: finding and event ID."""
        told: list[tuple[str, str]] = [(each.finding, each.event_id) for each in self.verify()]
        assert self.verified.failures == []
        return told


def settings_for(tracker: TrackerServer, **changes: Any) -> BackendSettings:
    """A backend at this tracker. An absence is believed at once."""
    options = {**tracker.options(), **changes.pop("options", {})}
    projects = {"api": tracker.other_project, **changes.pop("projects", {})}
    given: dict[str, Any] = {"looks": 1, "min_interval": 0.0, **changes}
    del options["projects"], options["priorities"]
    return BackendSettings("work", tracker.type, projects=projects, options=options, **given)


def books_at(tracker: TrackerServer, folder: Path, **changes: Any) -> Books:
    """Books with a backend at this tracker."""
    return Books(folder, settings_for(tracker, **changes))


@pytest.fixture(params=TRACKERS)
def any_tracker(request: pytest.FixtureRequest) -> Iterator[TrackerServer]:
    """Each type of tracker in turn."""
    with fake(request.param) as server:
        yield server


@pytest.fixture
def gitea() -> Iterator[TrackerServer]:
    """One tracker whose list shows everything at once."""
    with fake("gitea") as server:
        yield server


@pytest.fixture
def any_books(any_tracker: TrackerServer, tmp_path: Path) -> Iterator[Books]:
    """Books at each type of tracker in turn."""
    with closing(books_at(any_tracker, tmp_path)) as books:
        yield books


@pytest.fixture
def books(gitea: TrackerServer, tmp_path: Path) -> Iterator[Books]:
    """Books at Gitea."""
    with closing(books_at(gitea, tmp_path)) as books:
        yield books


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Books]:
    """Books whose issues are files."""
    with closing(Books(tmp_path, BackendSettings("work", "local"))) as books:
        yield books


def test_where_all_is_well_nothing_is_told(any_books: Books, any_tracker: TrackerServer) -> None:
    any_tracker.page_size = 2
    for repo in ("web", "web", "api", "web", "web"):
        any_books.synced(repo=repo)
    assert any_books.findings() == []
    assert any_books.verified.issues == 5


def test_a_second_issue_of_an_event_is_told_with_both_addresses(any_books: Books, any_tracker: TrackerServer) -> None:
    task = any_books.synced()
    any_books.synced()
    any_tracker.plant(task.event_id)
    (double,) = any_books.verify()
    assert (double.finding, double.event_id, double.seq) == ("double", task.event_id, task.seq)
    assert task.remote is not None
    assert task.remote.url in double.urls
    assert len(double.urls) == 2


def test_an_issue_that_is_gone_is_told_with_its_task(any_books: Books, any_tracker: TrackerServer) -> None:
    gone, _ = any_books.synced(), any_books.synced()
    del any_tracker.issues[0]
    assert gone.remote is not None
    project = gone.remote.project
    expected = Mismatch("work", project, "missing", gone.event_id, gone.seq, (gone.remote.url,))
    assert any_books.verify() == [expected]


@pytest.mark.parametrize("name", LISTING)
def test_an_issue_without_a_task_is_told_from_each_project(name: str, tmp_path: Path) -> None:
    with fake(name) as tracker, closing(books_at(tracker, tmp_path)) as books:
        tracker.page_size = 2
        for _ in range(3):
            tracker.plant(a_task().event_id)
        here, there = a_task().event_id, a_task().event_id
        tracker.plant(here)
        tracker.plant(there, project=tracker.other_project)
        told = books.verify("work")
    assert {each.finding for each in told} == {"unknown"}
    assert {each.seq for each in told} == {None}
    assert len(told) == 5
    assert {each.project for each in told if each.event_id in (here, there)} == {tracker.project, tracker.other_project}


def test_a_tracker_that_lists_no_marks_is_asked_for_the_synced_tasks_and_says_so(tmp_path: Path) -> None:
    with fake("jira") as tracker, closing(books_at(tracker, tmp_path)) as books:
        tracker.plant(a_task().event_id)
        books.synced()
        assert books.findings() == []
    assert books.verified.by_look == ["work"]


def test_an_issue_that_is_older_than_its_task_is_seen(books: Books, gitea: TrackerServer) -> None:
    books.synced()
    gitea.issues[0].made_at -= timedelta(days=3)
    assert books.findings() == []


def test_two_issues_of_an_event_in_two_projects_are_a_double(books: Books, gitea: TrackerServer) -> None:
    task = books.synced()
    gitea.plant(task.event_id, project=gitea.other_project)
    assert books.findings() == [("double", task.event_id)]


def test_two_issues_of_an_event_that_has_no_task_are_both_double_and_unknown(
    books: Books, gitea: TrackerServer
) -> None:
    event_id = a_task().event_id
    gitea.plant(event_id)
    gitea.plant(event_id)
    assert books.findings() == [("double", event_id), ("unknown", event_id)]


def test_a_project_under_its_old_name_and_its_new_one_is_no_double(books: Books, gitea: TrackerServer) -> None:
    task = books.synced()
    gitea.renamed[gitea.project] = gitea.other_project
    gitea.issues[0].project = gitea.other_project
    assert books.findings() == []
    assert books.task(task.event_id).remote == task.remote


def test_an_issue_that_moved_to_another_project_that_is_listed_is_not_missing(
    books: Books, gitea: TrackerServer
) -> None:
    books.synced()
    gitea.issues[0].project = gitea.other_project
    assert books.findings() == []


def test_an_issue_of_a_task_that_is_not_synced_yet_is_not_unknown(books: Books, gitea: TrackerServer) -> None:
    gitea.plant(books.ingested().event_id)
    assert books.findings() == []


def test_an_issue_that_a_person_linked_need_carry_no_mark(books: Books) -> None:
    books.synced()
    task = books.ingested()
    with books.ledger.write() as tx:
        linking.link(
            tx,
            task.seq,
            url="https://git.example.org/acme/web/issues/34",
            issue_id="34",
            route="work",
            running=0.0,
            is_alive=lambda owner: False,
        )
    assert books.findings() == []


def test_what_was_synced_just_now_is_not_missing_where_the_list_lags(tmp_path: Path) -> None:
    with fake("github") as tracker, closing(books_at(tracker, tmp_path, looks=2, look_interval=HOUR)) as books:
        tracker.lag = HOUR
        task = books.synced()
        assert books.findings() == []
        books.settings = Settings(
            books.ledger.path, "work", {"work": settings_for(tracker, looks=2, look_interval=0.0)}
        )
        assert books.findings() == [("missing", task.event_id)]


def test_an_issue_that_slips_past_the_end_of_a_page_is_looked_for_again(tmp_path: Path) -> None:
    with fake("github") as tracker, closing(books_at(tracker, tmp_path)) as books:
        for _ in range(4):
            books.synced()
        tracker.faults.append(Fault("answer_before", on="read", path="/issues", answer=Answer(200, []), times=1))
        assert books.findings() == []


def test_a_project_that_cannot_be_read_is_named_and_proves_nothing_of_its_tasks(
    books: Books, gitea: TrackerServer
) -> None:
    books.synced()
    gone = books.synced(repo="api")
    gitea.projects.discard(gitea.project)
    del gitea.issues[1]
    assert [(each.finding, each.event_id) for each in books.verify()] == [("missing", gone.event_id)]
    ((where, error),) = books.verified.failures
    assert gitea.project in where
    assert error.code == "project"


def test_while_the_trackers_limit_holds_it_is_not_asked(books: Books, gitea: TrackerServer) -> None:
    books.synced()
    with books.ledger.write() as tx:
        limits.limit(tx, "work", tx.moment + timedelta(minutes=5), "slow down")
    before = len(gitea.requests)
    assert books.verify() == []
    assert len(gitea.requests) == before
    ((where, error),) = books.verified.failures
    assert (where, error.code) == ("work", "limited")
    assert "slow down" in error.message


def test_nothing_is_written_to_either_side(any_books: Books, any_tracker: TrackerServer) -> None:
    any_books.synced()
    doubled = any_books.synced()
    any_tracker.plant(doubled.event_id)
    any_tracker.plant(a_task().event_id)
    del any_tracker.issues[0]
    any_tracker.closed.add(any_tracker.other_project)
    ledger, requests, issues = dump(any_books), len(any_tracker.creates), list(any_tracker.issues)
    assert any_books.verify()
    assert dump(any_books) == ledger
    assert (len(any_tracker.creates), any_tracker.issues) == (requests, issues)


def dump(books: Books) -> list[str]:
    """Everything in the ledger."""
    with closing(sqlite3.connect(f"{books.ledger.path.as_uri()}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


def test_there_must_be_a_backend_of_this_name(books: Books) -> None:
    with pytest.raises(UsageError, match="no backend 'other'"):
        books.verify("other")


def test_of_a_ledger_with_no_tasks_and_a_folder_with_no_issues_nothing_is_told(local: Books) -> None:
    assert local.findings() == []
    assert not local.ledger.path.exists()


def test_a_file_that_was_copied_deleted_or_comes_from_elsewhere_is_told(local: Books, tmp_path: Path) -> None:
    copied, deleted, moved, foreign = (local.synced(repo=repo) for repo in ("web", "web", "acme/api", "web"))
    issues = tmp_path / "issues"
    shutil.copy(file_of(local, copied), issues / "web" / "copy.md")
    file_of(local, deleted).unlink()
    (issues / "done").mkdir()
    file_of(local, moved).rename(issues / "done" / "moved.md")
    other = a_task().event_id
    text = file_of(local, foreign).read_text()
    (issues / "web" / "other.md").write_text(text.replace(foreign.event_id, other))
    told = {(each.finding, each.event_id, each.project) for each in local.verify()}
    assert told == {
        ("double", copied.event_id, "web"),
        ("missing", deleted.event_id, "web"),
        ("unknown", other, "web"),
    }


def file_of(books: Books, task: Task) -> Path:
    """The file that is the task's issue."""
    assert task.remote is not None
    return books.ledger.path.parent / "issues" / task.remote.id
