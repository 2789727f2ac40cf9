"""What is special about Jira: labels that mark, an index that hides, fields that a project does not take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from issue_core.backends.base import Backend, Issue
from issue_core.backends.jira import TRAITS, jql_of, open_backend
from issue_core.backends.jira_draft import FLAVOURS, description_of, draft_of, labels_of
from issue_core.errors import ConfigError, CredentialsRefused, OutcomeUnknown, ProjectClosed, Refused, TryLater
from issue_core.task import Task
from tests.support.build import a_task
from tests.support.trackers.jira import Server, ServerDC, adf_problems
from tests.support.trackers.server import Answer, Fault

OTHER = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(params=[Server, ServerDC], ids=["cloud", "dc"])
def jira(request: pytest.FixtureRequest) -> Iterator[Server]:
    server: Server
    with request.param() as server:
        yield server


@pytest.fixture
def backend(jira: Server, tmp_path: Path) -> Iterator[Backend]:
    opened = backend_of(jira, tmp_path)
    yield opened
    opened.close()


def backend_of(jira: Server, home: Path, **changes: Any) -> Backend:
    return open_backend("work", {**jira.options(), **changes}, home=home, request_timeout=10)


def create(backend: Backend, task: Task | None = None, *, timeout: float = 10) -> Issue:
    task = task or a_task()
    return backend.create(task, backend.target("acme/web"), timeout=timeout, before_send=lambda: None)


def look(backend: Backend, *event_ids: str) -> dict[str, list[Issue]]:
    since = datetime.now(UTC) - timedelta(hours=1)
    return backend.look(backend.target("acme/web"), event_ids, since, keep_lease=lambda: None)


def sent(jira: Server) -> dict[str, Any]:
    """The fields of the last create."""
    fields: dict[str, Any] = jira.creates[-1].json()["fields"]
    return fields


# --- what is made ---------------------------------------------------------------------------------------------------


def test_an_issue_has_every_field_that_jira_has_for_it(jira: Server, backend: Backend) -> None:
    task = a_task(priority="high", due_date="2031-02-28", labels=["disk"])
    issue = create(backend, task)
    fields = sent(jira)
    assert fields["labels"] == [f"ic-{task.event_id}", "disk"]
    assert (fields["priority"], fields["duedate"]) == ({"name": "High"}, "2031-02-28")
    assert fields["issuetype"] == {"name": "Task"}
    assert issue == Issue("WEB-1", f"{jira.url}/browse/WEB-1", "WEB", jira.account)
    assert jira.issues[0].body.endswith(f"issue-core event {task.event_id}{'' if jira.api == 'cloud' else '{_}'}")


def test_where_the_task_came_from_is_a_property_of_the_issue(jira: Server, backend: Backend) -> None:
    task = a_task()
    create(backend, task)
    (prop,) = jira.issues[0].raw["properties"]
    assert prop == {"key": "issue-core", "value": {**task.ingestion, "event_id": task.event_id}}


@pytest.mark.parametrize(("priority", "expected"), [("high", "High"), ("medium", None), ("low", "Low")])
def test_a_medium_priority_is_left_to_jira(jira: Server, backend: Backend, priority: str, expected: str | None) -> None:
    create(backend, a_task(priority=priority))
    assert sent(jira).get("priority", {}).get("name") == expected


def test_the_configuration_names_priorities_and_the_issue_type(jira: Server, tmp_path: Path) -> None:
    backend = backend_of(jira, tmp_path, priorities={"medium": "Lowest"}, issue_type="Bug")
    create(backend)
    assert (sent(jira)["priority"], sent(jira)["issuetype"]) == ({"name": "Lowest"}, {"name": "Bug"})
    backend.close()


def test_a_label_that_jira_changes_is_told_of(jira: Server, backend: Backend) -> None:
    issue = create(backend, a_task(labels=["two  words", "ops"]))
    assert jira.issues[0].labels[1:] == ["two_words", "ops"]
    assert issue.notes == ("the label 'two  words' is 'two_words' in Jira",)


def test_a_tasks_label_cannot_pass_for_the_mark_of_another(jira: Server, backend: Backend) -> None:
    create(backend, a_task(labels=[f"ic-{OTHER}", f"IC-{OTHER}", "ic-fan"]))
    assert look(backend, OTHER) == {}
    assert "ic-fan" in jira.issues[0].labels
    assert labels_of([f"ic-{OTHER}"])[0] == [f"ic_{OTHER}"]


@pytest.mark.parametrize("piece", ["x", "a line\n", "**b** {c} [d](https://e.f) \\\n", "💩 ", "- item\n", "`x` | "])
@pytest.mark.parametrize("api", ["cloud", "dc"])
def test_a_description_that_is_too_long_in_jiras_form_is_cut_and_says_so(api: str, piece: str) -> None:
    task = a_task(description=(piece * 60_000)[:60_000])
    flavour = FLAVOURS[api]
    form = description_of(task, [], flavour)
    assert 20_000 < flavour.size(form) <= 32_767
    assert "Cut here: the whole description is 60000 characters long" in str(form)
    if api == "cloud":
        assert list(adf_problems(form)) == []


def test_a_title_of_wide_characters_is_shortened_and_stands_whole_in_the_text(jira: Server, backend: Backend) -> None:
    task = a_task(title="💩" * 255)
    create(backend, task)
    assert jira.issues[0].title == "💩" * 127 + "…"
    assert task.title in jira.issues[0].body


# --- fields that the project does not take --------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["priority", "duedate"])
def test_a_field_that_is_not_on_the_screen_stands_in_the_text(jira: Server, backend: Backend, field: str) -> None:
    jira.off_screen = {field}
    issue = create(backend, a_task(priority="high", due_date="2031-02-28"))
    assert field not in sent(jira)
    assert {"priority": "high", "duedate": "2031-02-28"}[field] in jira.issues[0].body
    assert issue.notes == (f"Jira does not take the field {field!r} here; it stands in the text",)


def test_a_project_is_asked_only_once_for_a_field_that_it_does_not_take(jira: Server, backend: Backend) -> None:
    jira.off_screen = {"priority", "duedate"}
    for _ in range(3):
        create(backend, a_task(priority="high", due_date="2031-02-28"))
    assert len(jira.creates) == 4


def test_a_priority_that_jira_does_not_know_leaves_the_others(jira: Server, backend: Backend) -> None:
    jira.priorities = {"Low"}
    create(backend, a_task(priority="high"))
    create(backend, a_task(priority="low"))
    assert sent(jira)["priority"] == {"name": "Low"}
    assert len(jira.creates) == 3


def test_before_send_is_asked_before_each_try(jira: Server, backend: Backend) -> None:
    jira.off_screen = {"duedate"}
    asked: list[int] = []
    task = a_task(due_date="2031-02-28")
    backend.create(task, backend.target("x"), timeout=10, before_send=lambda: asked.append(len(jira.creates)))
    assert asked == [0, 1]


def test_a_second_try_that_is_lost_leaves_the_create_in_doubt(jira: Server, backend: Backend) -> None:
    jira.off_screen = {"duedate"}
    jira.faults = [Fault("drop_after", after=1)]
    task = a_task(due_date="2031-02-28")
    with pytest.raises(OutcomeUnknown):
        create(backend, task)
    assert len(look(backend, task.event_id)[task.event_id]) == 1


def test_labels_that_jira_refuses_stand_in_the_text_and_the_mark_stays(jira: Server, backend: Backend) -> None:
    refusal = Answer(400, {"errorMessages": [], "errors": {"labels": "The label 'a b' is not allowed."}})
    jira.faults = [Fault("answer_before", answer=refusal)]
    task = a_task(labels=["odd"])
    create(backend, task)
    assert jira.issues[0].labels == [f"ic-{task.event_id}"]
    assert "odd" in jira.issues[0].body
    create(backend, a_task(labels=["odd"]))
    assert jira.issues[1].labels[1:] == ["odd"]


def test_a_project_without_labels_is_refused_for_its_issues_could_not_be_found(jira: Server, backend: Backend) -> None:
    jira.off_screen = {"labels"}
    with pytest.raises(Refused) as caught:
        create(backend)
    assert "create screen" in (caught.value.hint or "")
    assert jira.issues == []


def test_an_issue_type_that_is_not_there_is_refused_with_a_hint(jira: Server, backend: Backend) -> None:
    jira.issue_types = {"Story"}
    with pytest.raises(Refused, match="valid issue type") as caught:
        create(backend)
    assert "issue_type" in (caught.value.hint or "")
    (bad,) = [finding for finding in backend.check() if not finding.ok]
    assert "Story" in (bad.hint or "")


# --- looking --------------------------------------------------------------------------------------------------------


def test_an_empty_answer_to_nobody_is_not_taken_for_absence(jira: Server, backend: Backend) -> None:
    task = a_task()
    create(backend, task)
    jira.token = "another-token"  # noqa: S105 - of a tracker that lives as long as a test
    with pytest.raises(CredentialsRefused):
        look(backend, task.event_id)


def test_a_project_that_is_hidden_is_not_taken_for_an_empty_one(jira: Server, backend: Backend) -> None:
    task = a_task()
    create(backend, task)
    jira.closed.add("WEB")
    with pytest.raises(ProjectClosed):
        look(backend, task.event_id)


def test_hundreds_of_doubts_are_looked_for_with_queries_that_jira_takes(jira: Server, backend: Backend) -> None:
    jira.page_size = 7
    tasks = [a_task() for _ in range(101)]
    for task in tasks[::10]:
        create(backend, task)
    before = len(jira.requests)
    assert look(backend, *(task.event_id for task in tasks)).keys() == {task.event_id for task in tasks[::10]}
    queries = {request.json()["jql"] for request in jira.requests[before:] if request.method == "POST"}
    assert len(queries) == 3
    assert max(map(len, queries)) < 2_000


def test_the_creator_counts_and_not_the_reporter_whom_anybody_may_set(jira: Server, backend: Backend) -> None:
    task = a_task()
    made = jira.plant(task.event_id, account="stranger")
    made.raw["reporter"] = jira.account
    (issue,) = look(backend, task.event_id)[task.event_id]
    assert issue.account == "stranger"


def test_a_label_that_only_resembles_the_mark_is_not_it(jira: Server, backend: Backend) -> None:
    jira.make("WEB", "Planted", "", labels=[f"IC-{OTHER}"])
    assert look(backend, OTHER) == {}


def test_a_list_that_ends_before_its_last_page_says_nothing(jira: Server, backend: Backend) -> None:
    answer = {"cloud": {"issues": [], "isLast": False}, "dc": {"issues": [], "startAt": 0, "total": 3}}[jira.api]
    jira.faults = [Fault("answer_before", on="read", path="/search", times=None, answer=Answer(200, answer))]
    with pytest.raises(TryLater):
        look(backend, OTHER)


def test_a_query_that_jira_does_not_take_is_tried_later(jira: Server, backend: Backend) -> None:
    jira.faults = [Fault("answer_before", on="read", path="/search", answer=Answer(400, {"errorMessages": ["no"]}))]
    with pytest.raises(TryLater):
        look(backend, OTHER)


def test_a_projects_key_cannot_change_the_query() -> None:
    assert jql_of('X" OR project = "Y\\', ["ic-1"]).startswith('project = "X\\" OR project = \\"Y\\\\" AND labels in')


# --- credentials ----------------------------------------------------------------------------------------------------


def test_a_captcha_is_about_the_credentials_and_wants_a_person(jira: Server, backend: Backend) -> None:
    jira.captcha = True
    for call in (lambda: create(backend), lambda: look(backend, OTHER), backend.account):
        with pytest.raises(CredentialsRefused, match="CAPTCHA") as caught:
            call()
        assert "log in" in (caught.value.hint or "")


def test_a_403_to_a_create_closes_the_project(jira: Server, backend: Backend) -> None:
    jira.faults = [Fault("answer_before", answer=Answer(403, {"errorMessages": ["You do not have permission."]}))]
    with pytest.raises(ProjectClosed, match="permission"):
        create(backend)


def test_a_jira_of_the_other_kind_is_told_apart(tmp_path: Path) -> None:
    with ServerDC() as jira:
        jira.path = "/rest/api/3"  # type: ignore[misc]
        backend = backend_of(jira, tmp_path, api="cloud", email="x@y.z")
        with pytest.raises(CredentialsRefused):
            backend.account()
        backend.close()


@pytest.mark.parametrize(
    ("url", "more", "path"),
    [
        ("https://acme.atlassian.net", {"email": "x@y.z"}, "/rest/api/3"),
        ("https://api.atlassian.com/ex/jira/1", {}, "/rest/api/3"),
        ("https://jira.example.org/ctx/", {}, "/rest/api/2"),
        ("https://jira.example.org", {"api": "cloud", "email": "x@y.z"}, "/rest/api/3"),
        ("https://acme.atlassian.net", {"api": "dc"}, "/rest/api/2"),
    ],
)
def test_the_address_tells_the_kind_unless_api_does(url: str, more: dict[str, str], path: str, tmp_path: Path) -> None:
    backend: Any = open_backend("work", {"url": url, **more}, home=tmp_path, request_timeout=1)
    assert backend._client.base == url.rstrip("/") + path
    assert backend.target("WEB").address == url.rstrip("/")


@pytest.mark.parametrize("more", [{}, {"api": "server"}])
def test_a_configuration_that_cannot_work_is_refused(more: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_backend("work", {"url": "https://acme.atlassian.net", **more}, home=tmp_path, request_timeout=1)
    assert caught.value.hint


def test_links_lead_to_the_site_where_people_are(jira: Server, tmp_path: Path) -> None:
    backend = backend_of(jira, tmp_path, site="https://acme.example.org/")
    assert create(backend).url == "https://acme.example.org/browse/WEB-1"
    backend.close()


def test_an_index_is_asked_twice_before_an_absence_counts() -> None:
    assert (TRAITS.looks, TRAITS.look_interval, TRAITS.settle, TRAITS.max_in_flight) == (2, 60.0, 30.0, 2)


def test_the_first_draft_has_no_notes() -> None:
    draft = draft_of(a_task(), "WEB", {}, FLAVOURS["dc"])
    assert draft.notes == ()
    assert draft.optional == {"labels"}
