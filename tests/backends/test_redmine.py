"""What is special about Redmine: it drops fields and refuses without a word, and speaks its user's language."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from issue_core.backends import redmine
from issue_core.backends.base import Finding, Issue, Target
from issue_core.backends.redmine import Redmine, open_backend
from issue_core.errors import (
    BackendError,
    ConfigError,
    CredentialsRefused,
    OutcomeUnknown,
    ProjectClosed,
    Refused,
    TryLater,
)
from issue_core.task import Task
from tests.support.build import a_task
from tests.support.trackers.redmine import Field, Server
from tests.support.trackers.server import Answer, Fault, Made, Request

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
PRIORITIES = "/enumerations/issue_priorities.json"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def backend(server: Server, tmp_path: Path) -> Iterator[Redmine]:
    backend = opened(server, tmp_path)
    yield backend
    backend.close()


def opened(server: Server, home: Path, **options: Any) -> Redmine:
    backend = open_backend("work", server.options() | options, home=home, request_timeout=5)
    assert isinstance(backend, Redmine)
    return backend


def nothing() -> None:
    """What the engine has to say right before an issue is made, when all is well."""


def create(backend: Redmine, task: Task) -> Issue:
    return backend.create(task, backend.target(task.target_repo), timeout=5, before_send=nothing)


def created(server: Server, home: Path, task: Task, **options: Any) -> tuple[Issue, Made]:
    """The issue that a backend with these options makes of the task, as it tells it and as it stands there."""
    backend = opened(server, home, **options)
    issue = create(backend, task)
    backend.close()
    return issue, server.issues[-1]


def look(backend: Redmine, event_id: str, since: datetime = LONG_AGO) -> list[str]:
    found = backend.look(backend.target("acme/web"), {event_id}, since, keep_lease=nothing)
    return [issue.id for issue in found.get(event_id, [])]


def wrong(backend: Redmine) -> list[Finding]:
    return [finding for finding in backend.check() if not finding.ok]


# --- priority and tracker -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("priority", "expected"), [("low", "Niedrig"), ("medium", "Normal"), ("high", "Hoch")])
def test_a_priority_is_the_default_or_the_one_beside_it_whatever_it_is_called(
    server: Server, tmp_path: Path, priority: str, expected: str
) -> None:
    issue, made = created(server, tmp_path, a_task(priority=priority))
    assert server.priorities[made.raw["priority_id"]] == expected
    assert issue.notes == ()
    assert "Priority" not in made.body


def test_the_priorities_are_read_once_and_not_for_medium(server: Server, backend: Redmine) -> None:
    create(backend, a_task(priority="medium"))
    assert [request.path for request in server.requests] == ["/issues.json"]
    create(backend, a_task(priority="high"))
    create(backend, a_task(priority="low"))
    assert [request.path for request in server.requests].count(PRIORITIES) == 1


@pytest.mark.parametrize("wanted", ["Dringend", "dringend", "4"])
def test_a_priority_is_given_by_its_name_or_its_number(server: Server, tmp_path: Path, wanted: str) -> None:
    _, made = created(server, tmp_path, a_task(priority="medium"), priorities={"medium": wanted})
    assert made.raw["priority_id"] == 4


def test_a_priority_without_a_level_beside_the_default_stands_in_the_text(server: Server, tmp_path: Path) -> None:
    server.default_priority = 5
    issue, made = created(server, tmp_path, a_task(priority="high"))
    assert "**Priority:** high" in made.body
    assert made.raw["priority_id"] == 5
    assert issue.notes == ()


@pytest.mark.parametrize("wanted", ["Früher", "Blocker"])
def test_a_configured_priority_that_is_not_active_is_told_and_loses_no_task(
    server: Server, tmp_path: Path, wanted: str
) -> None:
    issue, made = created(server, tmp_path, a_task(priority="high"), priorities={"high": wanted})
    assert "**Priority:** high" in made.body
    assert wanted in issue.notes[0]


@pytest.mark.parametrize("tracker", ["Feature", "feature", "2"])
def test_a_tracker_is_given_by_its_name_or_its_number(server: Server, tmp_path: Path, tracker: str) -> None:
    issue, made = created(server, tmp_path, a_task(), tracker=tracker)
    assert made.raw["tracker_id"] == 2
    assert issue.notes == ()


def test_a_tracker_that_the_project_has_not_is_told_in_the_notes(server: Server, tmp_path: Path) -> None:
    issue, made = created(server, tmp_path, a_task(), tracker="Unterstützung")
    assert made.raw["tracker_id"] == 1
    assert "tracker 'Fehler'" in issue.notes[0]


def test_a_tracker_that_nobody_has_makes_tasks_wait(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ProjectClosed, match="Defekt"):
        created(server, tmp_path, a_task(), tracker="Defekt")
    assert server.creates == []


# --- due date -------------------------------------------------------------------------------------------------------


def test_a_due_date_is_native_even_where_tomorrow_has_begun(server: Server, tmp_path: Path) -> None:
    server.days_ahead = 1
    today = datetime.now(UTC).date().isoformat()
    issue, made = created(server, tmp_path, a_task(due_date=today))
    assert (made.raw["due_date"], made.raw["start_date"]) == (today, None)
    assert issue.notes == ()
    assert len(server.creates) == 1


def test_a_due_date_that_is_refused_stands_in_the_text(server: Server, tmp_path: Path) -> None:
    server.start_required = True
    issue, made = created(server, tmp_path, a_task(due_date="2031-02-28"))
    assert "**Due:** 2031-02-28" in made.body
    assert made.raw["due_date"] is None
    assert "Beginn muss ausgefüllt werden" in issue.notes[0]
    assert len(server.issues) == 1


def test_a_due_date_that_is_dropped_is_told_in_the_notes(server: Server, tmp_path: Path) -> None:
    server.due_dates = False
    issue, _ = created(server, tmp_path, a_task(due_date="2031-02-28"))
    assert "2031-02-28" in issue.notes[0]


def test_a_second_try_without_its_due_date_can_be_in_doubt(server: Server, backend: Redmine) -> None:
    server.start_required = True
    server.faults = [Fault("drop_after", after=1)]
    task = a_task(due_date="2031-02-28")
    with pytest.raises(OutcomeUnknown):
        create(backend, task)
    assert look(backend, task.event_id) == ["1"]


# --- custom fields --------------------------------------------------------------------------------------------------


def test_the_field_for_the_event_id_finds_an_issue_whose_text_lost_it(server: Server, tmp_path: Path) -> None:
    server.fields = {7: Field()}
    task = a_task()
    issue, made = created(server, tmp_path, task, event_field=7)
    assert (issue.notes, made.raw["custom_fields"]) == ((), {7: task.event_id})
    made.body = "rewritten by a person"
    backend = opened(server, tmp_path, event_field=7)
    assert look(backend, task.event_id) == [issue.id]
    backend.close()


def test_an_issue_whose_field_was_dropped_is_found_by_its_text(server: Server, tmp_path: Path) -> None:
    server.fields = {7: Field(locked=True)}
    task = a_task()
    issue, _ = created(server, tmp_path, task, event_field=7)
    assert "custom field 7" in issue.notes[0]
    backend = opened(server, tmp_path, event_field=7)
    assert look(backend, task.event_id) == [issue.id]
    backend.close()


def test_a_field_that_redmine_does_not_know_is_told_in_the_notes(server: Server, tmp_path: Path) -> None:
    issue, made = created(server, tmp_path, a_task(), labels_field=12)
    assert "custom field 12 (disk, ops)" in issue.notes[0]
    assert made.raw["custom_fields"] == {}


@pytest.mark.parametrize(
    ("field", "value"), [(Field(), "disk, ops"), (Field(multiple=True, possible={"disk", "ops"}), ["disk", "ops"])]
)
def test_labels_fill_a_field_of_either_kind(server: Server, tmp_path: Path, field: Field, value: object) -> None:
    server.fields = {8: field}
    backend = opened(server, tmp_path, labels_field=8)
    for _ in range(2):
        issue = create(backend, a_task(labels=["disk", "ops"]))
        assert issue.notes == ()
        assert server.issues[-1].raw["custom_fields"] == {8: value}
        assert "**Labels:**" not in server.issues[-1].body
    assert len(server.issues) == 2
    assert len(server.creates) <= 3, "which kind it is is found out once"
    backend.close()


def test_labels_that_the_field_does_not_take_stand_in_the_text(server: Server, tmp_path: Path) -> None:
    server.fields = {8: Field(multiple=True, possible={"disk"})}
    issue, made = created(server, tmp_path, a_task(labels=["disk", "ops"]), labels_field=8)
    assert "**Labels:** disk, ops" in made.body
    assert "kein gültiger Wert" in issue.notes[0]
    assert len(server.issues) == 1


def test_labels_without_a_field_stand_in_the_text(server: Server, backend: Redmine) -> None:
    create(backend, a_task(labels=["disk", "two words"]))
    assert "**Labels:** disk, two words" in server.issues[0].body


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_refusal_tells_what_redmine_said(server: Server, backend: Redmine) -> None:
    server.default_priority = None
    with pytest.raises(Refused, match="422: Priorität muss ausgefüllt werden"):
        create(backend, a_task())


@pytest.mark.parametrize("kind", ["closed", "archived", "without_issues"])
def test_a_project_that_takes_no_issues_is_closed(server: Server, backend: Redmine, kind: str) -> None:
    getattr(server, kind).add("web")
    for call in (lambda: create(backend, a_task()), lambda: backend.probe(backend.target("acme/web"))):
        with pytest.raises(ProjectClosed, match="web") as caught:
            call()
        assert caught.value.hint
    assert server.issues == []


def test_an_account_without_the_right_closes_the_project(server: Server, backend: Redmine) -> None:
    server.may_add = False
    with pytest.raises(ProjectClosed) as caught:
        create(backend, a_task())
    assert "permission" in str(caught.value.hint)


@pytest.mark.parametrize("project", ["nowhere", "web"])
def test_a_refusal_of_the_project_in_the_body_closes_it_too(server: Server, tmp_path: Path, project: str) -> None:
    server.closed.add("web")
    server.faults = [Fault("answer_before", answer=Answer(422, {"errors": ["Projekt muss ausgefüllt werden"]}))]
    backend = opened(server, tmp_path, project=project)
    with pytest.raises(ProjectClosed, match=project):
        create(backend, a_task())
    backend.close()


def test_a_closed_project_can_still_be_looked_through(server: Server, backend: Redmine) -> None:
    task = a_task()
    create(backend, task)
    server.closed.add("web")
    assert look(backend, task.event_id) == ["1"]


def test_a_rest_api_that_is_off_parks_the_backend_and_says_how_to_switch_it_on(
    server: Server, backend: Redmine
) -> None:
    server.rest_on = False
    for call in (backend.account, lambda: create(backend, a_task()), lambda: look(backend, a_task().event_id)):
        with pytest.raises(CredentialsRefused) as caught:
            call()
        assert "Enable REST" in str(caught.value.hint)


def test_an_address_without_a_redmine_says_so(server: Server, tmp_path: Path) -> None:
    backend = opened(server, tmp_path, url=f"{server.url}/redmine")
    with pytest.raises(CredentialsRefused) as caught:
        backend.account()
    assert "url" in str(caught.value.hint)
    backend.close()


def test_what_cannot_be_asked_after_a_refusal_loses_no_task(server: Server, backend: Redmine) -> None:
    server.default_priority = None
    server.faults = [Fault("answer_before", on="read", answer=Answer(502))]
    with pytest.raises(TryLater):
        create(backend, a_task())


# --- looking --------------------------------------------------------------------------------------------------------


def test_a_look_leaves_subprojects_out(server: Server, backend: Redmine) -> None:
    server.parents = {"api": "web"}
    event_id = a_task().event_id
    server.plant(event_id, project="api")
    assert look(backend, event_id) == []


@pytest.mark.parametrize("size", [2, 3, 100])
def test_issues_that_are_deleted_while_the_list_is_read_hide_none(
    server: Server, backend: Redmine, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.page_size = size
    event_id = a_task().event_id
    server.plant(event_id, minutes_ago=60)
    for n in range(8):
        server.plant(a_task().event_id, minutes_ago=n)
    list_issues = server.list_issues

    def and_then_delete_the_newest(request: Request) -> Answer:
        answer = list_issues(request)
        if len(server.issues) > 5:
            server.issues.remove(server.listed("web")[0])
        return answer

    monkeypatch.setattr(server, "list_issues", and_then_delete_the_newest)
    assert look(backend, event_id) == ["1"]


def test_issues_that_are_made_while_the_list_is_read_hide_none(server: Server, backend: Redmine) -> None:
    server.page_size = 3
    event_id = a_task().event_id
    server.plant(event_id, minutes_ago=60)
    for n in range(6):
        server.plant(a_task().event_id, minutes_ago=n)
    target = backend.target("acme/web")

    def and_make_one() -> None:
        create(backend, a_task())

    found = backend.look(target, {event_id}, LONG_AGO, keep_lease=and_make_one)
    assert [issue.id for issue in found[event_id]] == ["1"]


def test_a_list_that_never_holds_still_says_nothing(
    server: Server, backend: Redmine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.page_size = 2
    for n in range(60):
        server.plant(a_task().event_id, minutes_ago=n)
    list_issues = server.list_issues

    def and_then_delete_some(request: Request) -> Answer:
        answer = list_issues(request)
        for made in server.listed("web")[:2]:
            server.issues.remove(made)
        return answer

    monkeypatch.setattr(server, "list_issues", and_then_delete_some)
    with pytest.raises(TryLater):
        look(backend, a_task().event_id)
    assert len(server.requests) < 3 * (redmine.RESTARTS + 1)


def test_an_issue_of_the_very_second_of_the_attempt_is_found(server: Server, backend: Redmine) -> None:
    task = a_task()
    before = datetime.now(UTC) - timedelta(microseconds=1)
    create(backend, task)
    assert look(backend, task.event_id, since=before) == ["1"]


def test_accounts_are_user_ids(server: Server, backend: Redmine) -> None:
    assert backend.account() == "5"
    assert create(backend, a_task()).account == "5"
    server.plant(event_id := a_task().event_id, account="17")
    (found,) = backend.look(backend.target("acme/web"), {event_id}, LONG_AGO, keep_lease=nothing)[event_id]
    assert found.account == "17"


# --- configuration and the check ------------------------------------------------------------------------------------


def test_textile_is_written_where_the_site_has_it(server: Server, tmp_path: Path) -> None:
    task = a_task(description="**bold** <b>\n\n```\n<!-- issue-core event=" + a_task().event_id, labels=["disk"])
    _, made = created(server, tmp_path, task, format="textile")
    assert made.body.startswith("*bold* &#60;b&#62;\n\n<pre>\n")
    assert "* *Labels:* disk" in made.body
    assert server.event_ids() == [task.event_id]
    assert made.body.rindex("</pre>") < made.body.index(f"<!-- issue-core event={task.event_id}")


def test_a_format_that_redmine_has_not_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wiki"):
        opened(server, tmp_path, format="wiki")


def test_a_project_may_be_named_by_its_number(server: Server, tmp_path: Path) -> None:
    issue, made = created(server, tmp_path, a_task(), project=str(server.project_id("web")))
    assert made.project == "web"
    assert issue.url == f"{server.url}/issues/1"


def test_a_repository_that_is_no_identifier_makes_its_tasks_wait(server: Server, backend: Redmine) -> None:
    target = Target("work", server.url, "acme/web")
    with pytest.raises(ProjectClosed, match="acme/web"):
        backend.create(a_task(), target, timeout=5, before_send=nothing)


def test_the_check_finds_an_account_without_the_right(server: Server, backend: Redmine) -> None:
    server.may_add = False
    (finding,) = wrong(backend)
    assert "may add issues" in finding.what


def test_the_check_finds_names_that_redmine_has_not(server: Server, tmp_path: Path) -> None:
    backend = opened(server, tmp_path, priorities={"high": "Blocker", "low": "niedrig"})
    (finding,) = wrong(backend)
    assert "Blocker" in finding.what
    assert "Dringend" in str(finding.hint)
    backend.close()
    backend = opened(server, tmp_path, tracker="Defekt")
    assert "Defekt" in wrong(backend)[0].what
    backend.close()


def test_the_check_finds_a_site_without_a_default_priority(server: Server, backend: Redmine) -> None:
    server.default_priority = None
    (finding,) = wrong(backend)
    assert "[backends.work.priorities]" in str(finding.hint)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"user": 5}', b'{"user": {"id": "x"}}', b"nonsense"])
def test_a_user_that_makes_no_sense_is_an_error_of_the_tracker(server: Server, backend: Redmine, body: bytes) -> None:
    server.faults = [Fault("answer_before", on="read", answer=Answer(200, body))]
    with pytest.raises(BackendError) as caught:
        backend.account()
    assert isinstance(caught.value, TryLater)
