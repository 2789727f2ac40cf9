"""What is special about GitLab: quick actions, silent drops, moved projects, and the forms of its errors."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from issue_core.backends import gitlab
from issue_core.backends.base import Backend, Issue, Target
from issue_core.backends.gitlab_draft import payload
from issue_core.backends.markup.markdown import events_in
from issue_core.errors import BackendError, ConfigError, CredentialsRefused, Limited, ProjectClosed, Refused, TryLater
from issue_core.task import Task
from tests.support.build import a_task
from tests.support.trackers.gitlab import GUEST, Server, quick_actions
from tests.support.trackers.server import Answer, Fault, Request

SPAM = "Your issue has been recognized as spam. Please, change the content or solve the reCAPTCHA to proceed."


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def backend(server: Server) -> Iterator[Backend]:
    opened = opened_for(server)
    yield opened
    opened.close()


def opened_for(server: Server, **changes: Any) -> Backend:
    return gitlab.open_backend("work", server.options() | changes, home=Path(), request_timeout=10.0)


def created(backend: Backend, task: Task | None = None, before_send: Callable[[], None] = lambda: None) -> Issue:
    return backend.create(task or a_task(), backend.target("acme/web"), timeout=10.0, before_send=before_send)


def looked(backend: Backend, *event_ids: str) -> dict[str, list[Issue]]:
    since = datetime.now(UTC) - timedelta(minutes=5)
    return backend.look(backend.target("acme/web"), event_ids, since, keep_lease=lambda: None)


def refusal(server: Server, backend: Backend, status: int, body: object) -> BackendError:
    """What a create raises that is answered with ``status`` and ``body``."""
    server.faults = [Fault("answer_before", answer=Answer(status, body))]
    with pytest.raises(BackendError) as caught:
        created(backend)
    return caught.value


# --- the description ------------------------------------------------------------------------------------------------

COMMANDS = [
    "/close",
    "intro\n\n/close\n\noutro",
    "\r\n/close\r\n",
    "line\n\r/close",
    "line\r/close",
    "/CLOSE",
    "/label ~everything",
    "/due 2030-01-01",
    "/title something else\n/confidential",
    "```\ncode\n```\n/close",
    "~~~\n/close\n~~~",
    "~~~\n```\n~~~\n/close",
    "````\n/close\n````",
    "```sh\n/close\n   ```\n/close\n```",
    "- item\n```\n/close",
    "<div>\n/close\n</section>\n/close",
    "<div>\n```\n</div>\n/close\n```",
    ">>>\n/close\n> > >\n/close",
    "`\n/close\n`",
    "/close `now`",
    "/close ``now```",
    "/close\t",
    "/close   ",
    "<!-- \n/close",
    "<!--\n/close\n-->",
]


@pytest.mark.parametrize("description", COMMANDS)
def test_a_quick_action_in_a_description_is_text_and_not_carried_out(
    server: Server, backend: Backend, description: str
) -> None:
    task = a_task(description=description)
    created(backend, task)
    (made,) = server.issues
    assert made.raw["actions"] == []
    assert (made.title, made.raw["state"], made.raw["due_date"]) == (task.title, "opened", None)
    assert sorted(made.labels) == ["disk", "ops"]
    for line in description.split():
        assert line.strip("`<!->") in made.body


LINES = st.sampled_from([
    "/close", "/close it", "/label ~x", "/Title y", "/close`", "/close ``a`", "```", "~~~", "````", "```sh", ">>>",
    "<div>", "</div>", "<!--", "-->", "`", "``", "", " ", "    ", "- a", "text `code", "> /close", "\\", "\t",
])  # fmt: skip
BREAKS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n", "\n\r", "\x0b", "\x0c", "\x85", "\u2028"])


@given(st.lists(st.tuples(LINES, BREAKS), max_size=12))
@settings(max_examples=300)
def test_no_arrangement_of_fences_lets_a_quick_action_through(lines: list[tuple[str, str]]) -> None:
    task = a_task(description="".join(line + end for line, end in lines))
    fields, _ = payload(task, {})
    kept, actions = quick_actions(fields["description"])
    assert actions == []
    assert events_in(kept) == [task.event_id]
    assert re.search(r"^/(close|label|title)(\s|$)", kept, re.MULTILINE | re.IGNORECASE) is None


def test_the_tracker_of_these_tests_does_carry_out_quick_actions() -> None:
    text, actions = quick_actions("a\r\n/close\r\n```\n/close\n```\n/label ~x ~y\nb  \n\n")
    assert actions == [("close", ""), ("label", "~x ~y")]
    assert text == "a\n```\n/close\n```\nb"


@pytest.mark.parametrize("path", ["/var/log", "/usr/bin/env python", "//comment", "/"])
def test_a_path_at_the_start_of_a_line_of_code_stays_as_it_is(path: str) -> None:
    fields, _ = payload(a_task(description=f"```\n{path}\n```\n"), {})
    assert f"```\n{path}\n```" in fields["description"]


def test_an_issue_that_lost_its_event_id_says_so(server: Server, backend: Backend) -> None:
    sent = a_task()
    server.faults = [Fault("answer_after", answer=Answer(201, an_answer(server, description="rewritten")))]
    (note,) = created(backend, sent).notes
    assert "event ID" in note


@pytest.mark.parametrize("description", [None, 7, ["x"], {}])
def test_an_issue_that_was_made_is_told_however_odd_the_rest_of_the_answer_is(
    server: Server, backend: Backend, description: object
) -> None:
    odd = an_answer(server, description=description, labels=7, due_date=[])
    server.faults = [Fault("answer_after", answer=Answer(201, odd))]
    assert created(backend).id == "1"


def an_answer(server: Server, **changes: object) -> dict[str, object]:
    return {
        "id": 9000,
        "iid": 1,
        "web_url": f"{server.url}/acme/web/-/issues/1",
        "author": {"username": server.account},
        "labels": ["disk", "ops"],
        "due_date": None,
    } | changes


def an_entry(server: Server) -> dict[str, object]:
    return an_answer(server, created_at=server.now().isoformat())


# --- labels, priority, due date -------------------------------------------------------------------------------------


def test_a_due_date_is_gitlabs_own(server: Server, backend: Backend) -> None:
    issue = created(backend, a_task(due_date="2026-12-01", due_in_days=3))
    assert server.issues[0].raw["due_date"] == "2026-12-01"
    assert issue.notes == ()


def test_a_comma_in_a_label_becomes_a_blank_and_a_note_says_so(server: Server, backend: Backend) -> None:
    issue = created(backend, a_task(labels=["a,b", "a b", ",", "c , d"]))
    assert sorted(server.issues[0].labels) == ["a b", "c d"]
    assert [note for note in issue.notes if "'a,b' is 'a b'" in note]
    assert [note for note in issue.notes if "','" in note]
    assert len(issue.notes) == 3


@pytest.mark.parametrize(
    ("priority", "configured", "label"),
    [
        ("high", {}, "priority:high"),
        ("low", {}, "priority:low"),
        ("medium", {}, None),
        ("high", {"high": "priority::1"}, "priority::1"),
        ("low", {"high": "priority::1"}, "priority:low"),
        ("medium", {"medium": "priority::2"}, "priority::2"),
    ],
)
def test_a_priority_is_a_label(server: Server, priority: str, configured: dict[str, str], label: str | None) -> None:
    backend = opened_for(server, priorities=configured)
    created(backend, a_task(priority=priority, labels=[]))
    backend.close()
    assert server.issues[0].labels == ([label] if label else [])


def test_a_label_that_is_one_too_many_is_told_in_the_description(server: Server, backend: Backend) -> None:
    issue = created(backend, a_task(priority="high", labels=[f"label-{n}" for n in range(100)]))
    (made,) = server.issues
    assert len(made.labels) == 100
    assert "priority:high" in made.labels
    assert "label-99" in made.body
    assert "label-99" in issue.notes[0]


def test_labels_that_a_guest_cannot_make_are_noted(server: Server, backend: Backend) -> None:
    server.role, server.project_labels = GUEST, {"disk"}
    issue = created(backend, a_task(labels=["disk", "ops"], due_date="2026-12-01"))
    assert server.issues[0].labels == ["disk"]
    (note,) = issue.notes
    assert "'ops'" in note


def test_labels_and_a_due_date_that_a_stranger_cannot_set_are_noted(server: Server, backend: Backend) -> None:
    server.role = 0
    issue = created(backend, a_task(labels=["disk", "ops"], due_date="2026-12-01"))
    assert len(issue.notes) == 3
    assert "2026-12-01" in issue.notes[-1]


# --- projects -------------------------------------------------------------------------------------------------------


def rename(server: Server, new: str = "acme/site") -> None:
    server.renamed[server.project] = new
    server.projects = {new, server.other_project}


def test_a_moved_project_is_resolved_once_and_then_costs_one_request(server: Server, backend: Backend) -> None:
    rename(server)
    sent: list[int] = []
    created(backend, before_send=lambda: sent.append(len(server.requests)))
    assert len(server.creates) == 2
    assert sent == [0, len(server.requests) - 1]
    before = len(server.requests)
    created(backend)
    assert len(server.requests) == before + 1
    assert {made.project for made in server.issues} == {"acme/site"}


def test_a_lease_that_is_lost_while_a_project_is_resolved_stops_the_second_request(
    server: Server, backend: Backend
) -> None:
    rename(server)
    calls: list[int] = []

    def gone_at_the_second() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise KeyError("the lease")

    with pytest.raises(KeyError):
        created(backend, before_send=gone_at_the_second)
    assert len(server.creates) == 1
    assert server.issues == []


@pytest.mark.parametrize("kind", ["drop_before", "answer_before"])
def test_a_moved_project_that_cannot_be_resolved_leaves_no_doubt(server: Server, backend: Backend, kind: Any) -> None:
    rename(server)
    server.faults = [Fault(kind, on="read", answer=Answer(500, "<h1>Whoops</h1>"))]
    with pytest.raises(TryLater) as caught:
        created(backend)
    assert caught.value.known
    assert len(server.creates) == 1


def test_a_method_that_is_never_allowed_is_a_refusal_and_no_loop(server: Server, backend: Backend) -> None:
    server.faults = [Fault("answer_before", times=None, answer=Answer(405, {"error": "405 Not Allowed"}))]
    with pytest.raises(Refused, match="405 Not Allowed"):
        created(backend)
    assert len(server.creates) == 2


def test_a_moved_project_that_is_gone_is_asked_for_by_its_path_again(server: Server, backend: Backend) -> None:
    rename(server)
    created(backend)
    server.faults = [Fault("answer_before", answer=Answer(404, {"message": "404 Project Not Found"}))]
    with pytest.raises(ProjectClosed):
        created(backend)
    server.renamed, server.projects = {}, {server.project}
    created(backend)
    assert server.issues[-1].project == server.project


def test_a_project_can_be_a_number(server: Server) -> None:
    number = str(server.id_of("acme/web"))
    backend = opened_for(server, project=number)
    task = a_task()
    assert created(backend, task).project == number
    assert looked(backend, task.event_id)[task.event_id][0].project == number
    backend.close()
    assert server.creates[0].path == f"/api/v4/projects/{number}/issues"


def test_a_path_is_one_part_of_the_address(server: Server) -> None:
    server.projects.add("acme/deep/er.x")
    backend = opened_for(server, project=None, projects={"web": "acme/deep/er.x"})
    backend.create(a_task(), backend.target("web"), timeout=10.0, before_send=lambda: None)
    backend.close()
    assert server.creates[0].path == "/api/v4/projects/acme%2Fdeep%2Fer.x/issues"


@pytest.mark.parametrize(
    "name",
    ["web", "../web", "acme/..", "acme/./web", "/acme/web", "acme//web", "acme/web/", "a b/c", "a/b?c", "a/b%2F", "-1"],
)
def test_what_can_be_no_project_is_closed_and_never_asked_for(server: Server, name: str) -> None:
    backend = opened_for(server, project=None)
    target = backend.target(name)
    with pytest.raises(ProjectClosed, match="is no project of GitLab") as caught:
        backend.create(a_task(), target, timeout=10.0, before_send=lambda: None)
    assert "[backends.work.projects]" in (caught.value.hint or "")
    with pytest.raises(ProjectClosed):
        backend.look(target, ["x"], datetime.now(UTC), keep_lease=lambda: None)
    backend.close()
    assert server.requests == []


def test_an_archived_project_takes_nothing_and_can_still_be_looked_at(server: Server, backend: Backend) -> None:
    task = a_task()
    created(backend, task)
    server.archived.add(server.project)
    with pytest.raises(ProjectClosed):
        created(backend)
    with pytest.raises(ProjectClosed, match="archived"):
        backend.probe(backend.target("acme/web"))
    assert set(looked(backend, task.event_id)) == {task.event_id}


def test_issues_that_are_turned_off_are_not_taken_for_absent(server: Server, backend: Backend) -> None:
    server.closed.add(server.project)
    for call in (lambda: looked(backend, a_task().event_id), lambda: backend.probe(backend.target("acme/web"))):
        with pytest.raises(ProjectClosed, match="turned off"):
            call()
    assert not any(request.path.endswith("/issues") for request in server.requests)


# --- looking --------------------------------------------------------------------------------------------------------


def test_the_next_page_is_found_where_gitlab_does_not_know_its_own_address(server: Server, backend: Backend) -> None:
    server.page_size, server.outside = 1, "http://gitlab.internal"
    task = a_task()
    issue = created(backend, task)
    created(backend)
    assert looked(backend, task.event_id) == {task.event_id: [issue]}


def test_a_list_that_goes_round_in_a_circle_ends(server: Server, backend: Backend) -> None:
    created(backend)
    around = Answer(200, [an_entry(server)], {"Link": f'<{server.url}/api/v4/projects/1/issues?page=2>; rel="next"'})
    server.faults = [Fault("answer_before", on="read", times=None, path="/issues", answer=around)]
    with pytest.raises(TryLater, match="its own next"):
        looked(backend, a_task().event_id)


class Deleting(Server):
    """Somebody deletes the newest issue when the first page of a list has been read."""

    deleted = threading.Event()

    def route(self, request: Request) -> Answer:
        answer = super().route(request)
        if request.method == "GET" and request.path.endswith("/issues") and not self.deleted.is_set():
            self.deleted.set()
            self.issues.pop()
        return answer


def test_an_issue_is_found_though_another_is_deleted_while_the_pages_are_turned() -> None:
    with Deleting() as server:
        server.page_size = 2
        backend = opened_for(server)
        tasks = [a_task() for _ in range(5)]
        issues = [created(backend, task) for task in tasks]
        assert looked(backend, tasks[2].event_id) == {tasks[2].event_id: [issues[2]]}
        backend.close()


# --- errors ---------------------------------------------------------------------------------------------------------


def test_a_token_with_too_narrow_a_scope_is_a_matter_of_credentials(server: Server, backend: Backend) -> None:
    server.scopes = ["read_api"]
    backend.probe(backend.target("acme/web"))
    with pytest.raises(CredentialsRefused, match="insufficient_scope: The request requires") as caught:
        created(backend)
    assert "scope api" in (caught.value.hint or "")
    server.scopes = ["read_repository"]
    with pytest.raises(CredentialsRefused):
        looked(backend, a_task().event_id)


def test_a_blocked_account_is_a_matter_of_credentials(server: Server, backend: Backend) -> None:
    server.blocked = True
    with pytest.raises(CredentialsRefused, match="blocked"):
        backend.probe(backend.target("acme/web"))


def test_an_address_with_no_gitlab_is_told_before_any_project_is_blamed(server: Server) -> None:
    backend = opened_for(server, url=f"{server.url}/gitlab")
    with pytest.raises(CredentialsRefused) as caught:
        backend.account()
    assert "url" in (caught.value.hint or "")
    backend.close()


@pytest.mark.parametrize("status", [400, 409])
@pytest.mark.parametrize(
    "body",
    [
        {"message": {"error": SPAM}, "needs_captcha_response": True, "spam_log_id": 7, "captcha_site_key": "k"},
        {"message": {"error": SPAM, "needs_captcha_response": True}},
        {"message": {"error": SPAM}, "spam_log_id": 7},
    ],
)
def test_what_is_taken_for_spam_asks_for_a_person(
    server: Server, backend: Backend, status: int, body: dict[str, object]
) -> None:
    error = refusal(server, backend, status, body)
    assert type(error) is Refused
    assert "recognized as spam" in error.message
    assert "a person must" in error.message


def test_the_limit_on_new_issues_is_one_for_a_minute(server: Server, backend: Backend) -> None:
    error = refusal(server, backend, 429, {"message": {"error": "This endpoint has been requested too many times."}})
    assert type(error) is Limited
    assert error.retry_after == 60.0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "title is too long"}, "answered 400: title is too long"),
        ({"message": {"title": ["is too long", "is odd"]}}, "answered 400: title is too long, is odd"),
        ({"message": {"milestone": {"title": ["is missing"]}}}, "answered 400: milestone title is missing"),
        ({"message": ["one", "two"]}, "answered 400: one, two"),
        ({"error": "title is missing"}, "answered 400: title is missing"),
        ({"error": "a", "error_description": "b"}, "answered 400: a: b"),
        ("<h1>Bad request</h1>", "answered 400: <h1>Bad request</h1>"),
        ("", "answered 400"),
    ],
)
def test_an_error_is_told_in_the_trackers_words(server: Server, backend: Backend, body: object, words: str) -> None:
    error = refusal(server, backend, 400, body)
    assert type(error) is Refused
    assert error.message.endswith(words)


def test_a_refusal_of_a_list_is_for_now(server: Server, backend: Backend) -> None:
    server.faults = [Fault("answer_before", on="read", times=None, answer=Answer(400, {"error": "page is invalid"}))]
    with pytest.raises(TryLater):
        looked(backend, a_task().event_id)


# --- configuration and check ----------------------------------------------------------------------------------------


def test_gitlab_com_is_the_address_unless_another_is_configured() -> None:
    backend = gitlab.open_backend("work", {}, home=Path(), request_timeout=1.0)
    assert backend.target("acme/web") == Target("work", "https://gitlab.com", "acme/web")


def test_an_address_that_is_none_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigError):
        gitlab.open_backend("work", {"url": "gitlab.com"}, home=Path(), request_timeout=1.0)


def test_where_a_task_goes_is_a_matter_of_configuration(server: Server) -> None:
    backend = opened_for(server, project="acme/inbox", projects={"web": "acme/web"})
    assert [backend.target(each).project for each in ("web", "api")] == ["acme/web", "acme/inbox"]
    assert server.requests == []


def findings(server: Server, **changes: Any) -> dict[bool, str]:
    """What a check finds: well (True), and wrong (False)."""
    backend = opened_for(server, **changes)
    found = backend.check()
    backend.close()
    return {ok: "\n".join(f"{each.what} | {each.hint}" for each in found if each.ok is ok) for ok in (True, False)}


def test_a_check_names_the_account_the_scope_and_each_project(server: Server) -> None:
    found = findings(server, projects={"api": "acme/api"})
    assert found[False] == ""
    for words in ("our-bot", "scope api", "acme/web", "acme/api"):
        assert words in found[True]


def test_a_check_says_that_a_token_cannot_write(server: Server) -> None:
    server.scopes = ["read_api"]
    assert "lacks the scope api" in findings(server)[False]


def test_a_check_says_that_a_guest_cannot_make_labels(server: Server) -> None:
    server.role = GUEST
    assert "Planner or Reporter" in findings(server)[True]


def test_a_check_names_a_project_that_is_archived_and_one_that_cannot_be(server: Server) -> None:
    server.archived.add("acme/web")
    found = findings(server, projects={"x": "../x"})
    assert "archived" in found[False]
    assert "'../x' is no project" in found[False]


def test_a_check_does_without_what_an_older_gitlab_does_not_tell(server: Server) -> None:
    old = Answer(404, {"error": "404 Not Found"})
    server.faults = [Fault("answer_before", on="read", times=None, path="/personal_access_tokens", answer=old)]
    found = findings(server)
    assert found[False] == ""
    assert "scope" not in found[True]
