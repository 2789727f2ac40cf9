"""What is special about GitHub: labels that are dropped in silence, many kinds of limits, repositories that move."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from issue_core.backends import http
from issue_core.backends.base import Backend, Issue
from issue_core.backends.github import BODY, labels_of, open_backend
from issue_core.backends.markup.markdown import events_in
from issue_core.errors import Limited, ProjectClosed, Refused
from issue_core.task import Task
from tests.support.build import a_task
from tests.support.trackers.github import Server
from tests.support.trackers.server import Answer, Fault

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def backend(server: Server, tmp_path: Path) -> Iterator[Backend]:
    backend = opened(server, tmp_path)
    yield backend
    backend.close()


def opened(server: Server, home: Path, **options: Any) -> Backend:
    return open_backend("work", server.options() | options, home=home, request_timeout=5)


def create(backend: Backend, task: Task) -> Issue:
    return backend.create(task, backend.target(task.target_repo), timeout=5, before_send=lambda: None)


def look(backend: Backend, *tasks: Task) -> dict[str, list[Issue]]:
    wanted = {task.event_id for task in tasks}
    return backend.look(backend.target("acme/web"), wanted, LONG_AGO, keep_lease=lambda: None)


def test_the_address_is_that_of_github_com_unless_it_is_set(tmp_path: Path) -> None:
    assert open_backend("work", {}, home=tmp_path, request_timeout=5).target("a/b").address == "https://api.github.com"


def test_one_at_a_time_and_no_faster_than_github_asks_for(backend: Backend) -> None:
    traits = backend.traits
    assert (traits.max_in_flight, traits.min_interval, traits.per_minute, traits.per_hour) == (1, 1.0, 80, 500)
    assert (traits.looks, traits.look_interval) == (2, 60.0)


def test_a_task_is_one_request_with_its_labels_by_name_and_its_due_date_in_the_text(
    server: Server, backend: Backend
) -> None:
    task = a_task(priority="high", due_date="2026-12-01")
    issue = create(backend, task)
    (request,) = server.requests
    sent = request.json()
    assert sent["labels"] == ["priority:high", "disk", "ops"]
    assert "**Due:** 2026-12-01" in sent["body"]
    assert events_in(sent["body"]) == [task.event_id]
    assert issue == Issue("1", f"{server.url}/acme/web/issues/1", "acme/web", server.account)
    assert request.headers["x-github-api-version"] == "2022-11-28"


def test_labels_that_are_dropped_for_lack_of_push_access_are_noted(server: Server, backend: Backend) -> None:
    server.pushes = False
    notes = create(backend, a_task(labels=["ops"])).notes
    assert notes == ("the tracker dropped the label 'ops': without push access an account sets none",)


def test_a_label_that_comes_back_in_another_case_was_not_dropped(server: Server, backend: Backend) -> None:
    made = {"number": 1, "html_url": "https://x/1", "user": {"login": "us"}, "labels": [{"name": "OPS"}]}
    server.faults = [Fault("answer_after", answer=Answer(201, made))]
    assert create(backend, a_task(labels=["ops"])).notes == ()


def test_labels_beyond_the_hundredth_stand_in_the_text_and_are_noted(server: Server, backend: Backend) -> None:
    issue = create(backend, a_task(priority="high", labels=[f"l{n}" for n in range(100)]))
    sent = server.requests[0].json()
    assert len(sent["labels"]) == 100
    assert sent["labels"][0] == "priority:high"
    assert "**Labels:** l99" in sent["body"]
    assert issue.notes == ("the label 'l99' is in the text: GitHub takes 100 of 50 characters",)


def test_the_configuration_names_the_label_of_a_priority() -> None:
    task = a_task(priority="medium", labels=["Urgent"])
    assert labels_of(task, {"medium": "p2"}) == ["p2", "Urgent"]
    assert labels_of(task, {"medium": "urgent"}) == ["urgent"]
    assert labels_of(task, {}) == ["Urgent"]


@pytest.mark.parametrize("description", ["x" * 60_000, "line of text\n" * 4_600, "\U0001f4a5" * 60_000])
def test_the_longest_description_fits(server: Server, backend: Backend, description: str) -> None:
    create(backend, a_task(description=description))
    assert description.strip() in server.issues[0].body


def test_a_description_that_grows_by_being_made_safe_is_cut_and_says_so(server: Server, backend: Backend) -> None:
    task = a_task(description="@a " * 20_000)
    create(backend, task)
    body = server.issues[0].body
    assert len(body) <= BODY
    assert "Cut here: the whole description is 60000 characters long" in body
    assert events_in(body) == [task.event_id]


def test_pull_requests_are_no_issues(server: Server, backend: Backend) -> None:
    task = a_task()
    server.plant(task.event_id).raw["pull_request"] = True
    assert look(backend, task) == {}


def test_a_renamed_repository_is_followed_once_and_noted(server: Server, backend: Backend) -> None:
    server.renamed["acme/web"] = "acme/site"
    issue = create(backend, a_task())
    assert [request.method for request in server.requests] == ["POST", "POST"]
    assert issue.notes == ("the repository acme/web is called acme/site now",)
    create(backend, a_task())
    assert len(server.requests) == 3
    assert [made.project for made in server.issues] == ["acme/site", "acme/site"]


def test_an_archived_repository_is_closed_and_no_limit(server: Server, backend: Backend) -> None:
    server.closed.add("acme/web")
    with pytest.raises(ProjectClosed, match="archived so is read-only"):
        create(backend, a_task())
    with pytest.raises(ProjectClosed, match="is archived"):
        backend.probe(backend.target("acme/web"))


def test_issues_that_are_switched_off_close_the_project(server: Server, backend: Backend) -> None:
    server.no_issues.add("acme/web")
    for call in (lambda: create(backend, a_task()), lambda: backend.probe(backend.target("acme/web"))):
        with pytest.raises(ProjectClosed):
            call()


def test_a_refusal_tells_each_field_that_is_wrong(server: Server, backend: Backend) -> None:
    errors = [{"resource": "Label", "field": "name", "code": "invalid"}, {"message": "no such milestone"}]
    server.faults = [Fault("answer_before", answer=Answer(422, {"message": "Validation Failed", "errors": errors}))]
    with pytest.raises(Refused, match="Validation Failed; Label name invalid; no such milestone"):
        create(backend, a_task())


def test_a_limit_without_a_time_is_waited_for_a_minute(server: Server, backend: Backend) -> None:
    said = Answer(403, {"message": "You have exceeded a secondary rate limit."})
    server.faults = [Fault("answer_before", answer=said)]
    with pytest.raises(Limited) as raised:
        create(backend, a_task())
    assert raised.value.retry_after == 60.0


def test_an_apps_token_makes_issues_though_it_may_not_ask_who_it_is(server: Server, backend: Backend) -> None:
    server.is_app, server.account = True, "our-app[bot]"
    assert backend.account() == ""
    assert create(backend, a_task()).account == "our-app[bot]"


def test_an_apps_token_is_checked_without_a_guess_at_its_rights(server: Server, backend: Backend) -> None:
    server.is_app, server.pushes = True, False
    assert [(finding.ok, finding.what) for finding in backend.check()] == [
        (True, f"{server.url}: signed in with a token that may not ask as whom, as a GitHub App's."),
        (True, "acme/web: takes issues."),
    ]


def test_a_limit_does_not_make_the_account_unknown(server: Server, backend: Backend) -> None:
    said = Answer(403, {"message": "You have exceeded a secondary rate limit."})
    server.faults = [Fault("answer_before", on="read", answer=said)]
    with pytest.raises(Limited):
        backend.account()
    assert backend.account() == server.account


@pytest.mark.parametrize("project", ["web", "acme/web/x", "../web", "acme/..", "acme/we b", "acme/web?x=1"])
def test_what_is_no_repository_is_asked_for_nowhere(server: Server, tmp_path: Path, project: str) -> None:
    backend = opened(server, tmp_path, project=project)
    with pytest.raises(ProjectClosed, match="owner/name"):
        create(backend, a_task())
    assert server.requests == []


def test_a_check_says_who_we_are_and_what_will_be_dropped(server: Server, backend: Backend) -> None:
    server.pushes = False
    assert [(finding.ok, finding.what) for finding in backend.check()] == [
        (True, f"{server.url}: signed in as our-bot."),
        (True, "acme/web: takes issues; without push access, it drops labels."),
    ]


def test_the_address_of_a_repository_is_told_from_that_of_a_tracker(server: Server, tmp_path: Path) -> None:
    (finding,) = opened(server, tmp_path, url=f"{server.url}/acme/web").check()
    assert (finding.ok, finding.hint) == (False, http.NO_TRACKER)
