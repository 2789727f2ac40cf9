"""What is special about Gitea and Forgejo: labels by number, silent drops, and repositories that move."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.backends import gitea, http
from issue_core.backends.base import Backend, Issue, Target
from issue_core.backends.gitea import TITLE_BYTES, labels_of, open_backend, short_title
from issue_core.errors import (
    CredentialsRefused,
    Limited,
    OutcomeUnknown,
    ProjectClosed,
    Refused,
    TryLater,
    Unreachable,
)
from issue_core.task import Task
from tests.support.build import a_task
from tests.support.trackers.gitea import Server
from tests.support.trackers.server import Answer, Fault

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
BUSY = Answer(503, "<h1>Service Unavailable</h1>")


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


def nothing() -> None:
    """What the engine has to say right before an issue is made, when all is well."""


def create(backend: Backend, task: Task, project: str | None = None, timeout: float = 5) -> Issue:
    target = backend.target(task.target_repo)
    if project is not None:
        target = Target(target.backend, target.address, project)
    return backend.create(task, target, timeout=timeout, before_send=nothing)


def look(backend: Backend, *tasks: Task, since: datetime = LONG_AGO) -> dict[str, list[Issue]]:
    wanted = [task.event_id for task in tasks]
    return backend.look(backend.target("acme/web"), wanted, since, keep_lease=nothing)


def paths(server: Server, method: str = "GET") -> list[str]:
    return [request.path.removeprefix("/api/v1") for request in server.requests if request.method == method]


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_task_without_labels_and_of_medium_priority_takes_one_request(server: Server, backend: Backend) -> None:
    create(backend, a_task(labels=[]))

    assert len(server.requests) == 1
    assert server.requests[0].headers["authorization"] == "token s3cret-token"
    assert "labels" not in server.requests[0].json()


def test_labels_are_read_once_for_all_tasks_of_a_repository(server: Server, backend: Backend) -> None:
    server.add_label("disk")
    server.add_label("ops")

    for _ in range(3):
        assert create(backend, a_task()).notes == ()

    assert paths(server) == ["/repos/acme/web/labels", "/orgs/acme/labels"]
    assert [made.labels for made in server.issues] == [["disk", "ops"]] * 3


def test_labels_of_every_page_and_of_the_organisation_are_used(server: Server, backend: Backend) -> None:
    for number in range(120):
        server.add_label(f"a{number:03}")
    server.add_label("ops", org="acme")

    create(backend, a_task(labels=["a000", "a119", "ops"]))

    assert server.issues[0].labels == ["a000", "a119", "ops"]
    assert paths(server, "POST") == ["/repos/acme/web/issues"]


def test_a_label_that_is_not_there_is_made_once(server: Server, backend: Backend) -> None:
    create(backend, a_task(labels=["disk"]))
    create(backend, a_task(labels=["disk"]))

    assert list(server.labels["acme/web"].values()) == ["disk"]
    assert [made.labels for made in server.issues] == [["disk"]] * 2


def test_threads_that_want_the_same_new_label_make_it_once(server: Server, backend: Backend) -> None:
    server.faults.append(Fault("delay", on="read", times=None, path="/labels", seconds=0.05))
    threads = [threading.Thread(target=create, args=(backend, a_task(labels=["disk"]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(server.labels["acme/web"].values()) == ["disk"]
    assert [made.labels for made in server.issues] == [["disk"]] * 4


def test_a_label_counts_whatever_its_case(server: Server, backend: Backend) -> None:
    server.add_label("Disk")

    create(backend, a_task(labels=["disk"]))

    assert server.issues[0].labels == ["Disk"]
    assert list(server.labels["acme/web"].values()) == ["Disk"]


def test_a_repository_of_a_person_has_no_labels_of_an_organisation(server: Server, backend: Backend) -> None:
    server.add_label("disk")

    assert create(backend, a_task(labels=["disk"])).notes == ()
    assert paths(server)[-1] == "/orgs/acme/labels"


# --- priorities and due dates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("priority", "labels"), [("high", ["priority:high"]), ("medium", []), ("low", ["priority:low"])]
)
def test_a_priority_is_a_label_unless_it_is_medium(
    server: Server, backend: Backend, priority: str, labels: list[str]
) -> None:
    create(backend, a_task(labels=[], priority=priority))

    assert server.issues[0].labels == labels


def test_the_configuration_can_name_another_label_for_a_priority(server: Server, tmp_path: Path) -> None:
    backend = opened(server, tmp_path, priorities={"high": "prio/1", "medium": "prio/2"})

    create(backend, a_task(labels=[], priority="high"))
    create(backend, a_task(labels=[], priority="medium"))
    backend.close()

    assert [made.labels for made in server.issues] == [["prio/1"], ["prio/2"]]


@given(st.lists(st.text(min_size=1, max_size=50), max_size=20), st.sampled_from(["high", "medium", "low"]))
def test_no_label_is_sent_twice(labels: list[str], priority: str) -> None:
    names = labels_of(a_task(labels=labels, priority=priority), gitea.PRIORITY_LABELS)

    assert len({name.casefold() for name in names}) == len(names)
    assert {label.casefold() for label in labels} <= {name.casefold() for name in names}


def test_a_due_date_is_the_end_of_its_day(server: Server, backend: Backend) -> None:
    issue = create(backend, a_task(labels=[], due_in_days=3, due_date="2026-03-04"))

    assert server.requests[0].json()["due_date"] == "2026-03-04T12:00:00Z"
    assert issue.notes == ()


# --- what the tracker drops -------------------------------------------------------------------------------------------


def test_an_account_that_may_not_write_still_makes_the_issue_and_says_what_is_missing(
    server: Server, backend: Backend
) -> None:
    server.writes = False
    server.add_label("disk")

    issue = create(backend, a_task(labels=["disk", "ops"], priority="high", due_in_days=3, due_date="2026-03-04"))

    dropped, not_given = "the tracker dropped the", "was not given: "
    assert [note for note in issue.notes if note.startswith(f"{dropped} label 'disk'")]
    assert [note for note in issue.notes if note.startswith(f"{dropped} due date")]
    assert len([note for note in issue.notes if not_given in note and "answered 403" in note]) == 2
    body = server.issues[0].body
    assert "high" in body
    assert "ops" in body


def test_what_may_not_be_made_is_not_asked_for_again(server: Server, backend: Backend) -> None:
    server.writes = False

    create(backend, a_task(labels=["disk"]))
    create(backend, a_task(labels=["disk"]))

    assert paths(server, "POST").count("/repos/acme/web/labels") == 1


def test_a_label_that_was_deleted_meanwhile_is_noted(server: Server, backend: Backend) -> None:
    server.add_label("disk")
    create(backend, a_task(labels=["disk"]))
    server.labels["acme/web"].clear()

    assert "dropped the label 'disk'" in create(backend, a_task(labels=["disk"])).notes[0]


def test_a_long_title_stands_whole_in_the_text(server: Server, backend: Backend) -> None:
    title = "Заканчивается место на диске " * 8

    issue = create(backend, a_task(labels=[], title=title.strip()))

    assert issue.notes == ()
    assert server.issues[0].title.endswith("…")
    assert title.strip() in server.issues[0].body


def test_a_marker_in_a_title_or_a_label_that_stands_in_the_text_is_none(server: Server, backend: Backend) -> None:
    server.writes = False
    other = a_task()
    marker = f"<!-- issue-core event={other.event_id} -->"
    task = a_task(title=f"{marker} {'x' * 200}", labels=[marker[:50], marker])

    create(backend, task)

    assert look(backend, task, other).keys() == {task.event_id}


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255))
def test_no_title_is_longer_than_what_every_release_keeps(title: str) -> None:
    short = short_title(title)

    assert len(short.encode()) <= TITLE_BYTES
    assert short == title or title.startswith(short.removesuffix("…"))
    assert (short == title) == (len(title.encode()) <= TITLE_BYTES)


# --- labels that cannot be had now: nothing was sent, and no doubt is left --------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("drop_after", on="read", path="/labels"), TryLater),
        (Fault("drop_after", on="read", path="/labels", after=2), TryLater),
        (Fault("answer_before", on="read", path="/labels", answer=BUSY), TryLater),
        (Fault("answer_after", on="read", path="/labels", after=2, answer=Answer(201, "<p>Made")), TryLater),
        (Fault("answer_before", on="read", path="/labels", after=2, answer=BUSY), TryLater),
        (Fault("answer_before", on="read", path="/labels", answer=Answer(200, [{"name": "disk"}])), TryLater),
        (Fault("answer_before", on="read", path="/labels", answer=Answer(429, {})), Limited),
        (Fault("answer_before", on="read", path="/labels", after=2, answer=Answer(429, {})), Limited),
        (Fault("answer_before", on="read", path="/labels", answer=Answer(401, {})), CredentialsRefused),
        (Fault("answer_before", on="read", path="/labels", answer=Answer(404, {})), ProjectClosed),
    ],
)
def test_a_failure_before_the_issue_is_sent_leaves_no_doubt(
    server: Server, backend: Backend, fault: Fault, error: type[Exception]
) -> None:
    server.faults.append(fault)

    with pytest.raises(error) as raised:
        create(backend, a_task(labels=["disk"]))

    assert type(raised.value) is error
    assert server.creates == []
    assert create(backend, a_task(labels=["disk"])).notes == ()
    assert list(server.labels["acme/web"].values()) == ["disk"]


def test_the_time_is_for_the_labels_too(server: Server, backend: Backend) -> None:
    server.faults.append(Fault("delay", on="read", path="/labels", seconds=30))

    with pytest.raises(TryLater):
        create(backend, a_task(labels=["disk"]), timeout=0.2)

    assert server.creates == []


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_503_page_for_browsers_leaves_it_open_whether_the_issue_was_made(server: Server, backend: Backend) -> None:
    server.faults.append(Fault("answer_before", answer=BUSY))

    with pytest.raises(OutcomeUnknown, match="answered 503: a page for browsers"):
        create(backend, a_task(labels=[]))


@pytest.mark.parametrize(
    "answer",
    [Answer(200, []), Answer(201, []), Answer(201, {"number": "7"}), Answer(201, {}), Answer(201, "<p>"), Answer(202)],
)
def test_only_201_with_a_number_is_success(server: Server, backend: Backend, answer: Answer) -> None:
    server.faults.append(Fault("answer_after", answer=answer))

    with pytest.raises(OutcomeUnknown):
        create(backend, a_task(labels=[]))


def test_a_refusal_tells_the_trackers_words(server: Server, backend: Backend) -> None:
    words = {"message": "[Title]: Required", "url": ""}
    server.faults.append(Fault("answer_before", answer=Answer(422, words)))

    with pytest.raises(Refused, match=r"answered 422: \[Title\]: Required"):
        create(backend, a_task(labels=[]))


def test_an_archived_repository_is_closed(server: Server, backend: Backend) -> None:
    server.closed.add("acme/web")

    for task in (a_task(labels=[]), a_task(labels=["disk"])):
        with pytest.raises(ProjectClosed, match="answered 423"):
            create(backend, task)
    with pytest.raises(ProjectClosed, match="archived"):
        backend.probe(backend.target("acme/web"))


def test_a_repository_without_issues_is_closed(server: Server, backend: Backend) -> None:
    server.no_issues.add("acme/web")

    with pytest.raises(ProjectClosed, match="answered 404"):
        create(backend, a_task(labels=[]))
    with pytest.raises(ProjectClosed, match="switched off"):
        backend.probe(backend.target("acme/web"))


@pytest.mark.parametrize(
    "project",
    [
        *("web", "", "acme/", "/web", "acme/web/x", "../web", "acme/..", "./web", "acme/."),
        *("a b/c", "a/b?c", "a%2Fb/c", "acme/web\n", "ä/b", "acme/web#"),
    ],
)
def test_what_is_no_repository_is_closed_and_nothing_is_asked(server: Server, backend: Backend, project: str) -> None:
    target = Target("work", server.url, project)

    with pytest.raises(ProjectClosed, match="owner/name"):
        create(backend, a_task(labels=[]), project)
    with pytest.raises(ProjectClosed):
        backend.probe(target)
    with pytest.raises(ProjectClosed):
        backend.look(target, {a_task().event_id}, LONG_AGO, keep_lease=nothing)
    assert server.requests == []


def test_the_token_goes_to_no_address_that_the_configuration_does_not_name(server: Server, tmp_path: Path) -> None:
    target = Target("work", server.url, "acme/web")
    elsewhere = opened(server, tmp_path, url="http://127.0.0.1:9")

    with pytest.raises(CredentialsRefused):
        elsewhere.look(target, {a_task().event_id}, LONG_AGO, keep_lease=nothing)
    assert server.requests == []

    moved = opened(server, tmp_path, url="http://127.0.0.1:9", former_urls=[f"{server.url}/"])
    assert moved.look(target, {a_task().event_id}, LONG_AGO, keep_lease=nothing) == {}
    elsewhere.close()
    moved.close()


# --- a repository that moved ------------------------------------------------------------------------------------------


def test_a_renamed_repository_gets_the_issue_once_and_its_new_name_is_noted(server: Server, backend: Backend) -> None:
    server.renamed["acme/web"] = "acme/site"
    first, second = a_task(labels=["disk"]), a_task(labels=["disk"])

    assert create(backend, first).notes == ("the repository acme/web is called acme/site now",)
    create(backend, second)

    assert [made.project for made in server.issues] == ["acme/site"] * 2
    assert look(backend, first, second).keys() == {first.event_id, second.event_id}
    assert paths(server, "POST").count("/repos/acme/web/issues") == 1


# --- looking ----------------------------------------------------------------------------------------------------------


def test_a_look_asks_for_all_issues_without_a_search(server: Server, backend: Backend) -> None:
    task = a_task(labels=[])
    issue = create(backend, task)
    server.close_issue(server.issues[0])

    assert look(backend, task) == {task.event_id: [issue]}
    query = server.requests[-1].query
    assert query == {"state": ["all"], "type": ["issues"], "limit": ["50"], "page": ["1"]}


def test_a_look_ends_with_the_page_that_is_older_than_the_far_end(server: Server, backend: Backend) -> None:
    server.page_size, task = 2, a_task()
    for minutes in range(20):
        server.make("acme/web", "Old", "", minutes_ago=1000 + minutes)
    server.plant(task.event_id, minutes_ago=10)

    found = look(backend, task, since=datetime.now(UTC) - timedelta(minutes=60))

    assert len(found[task.event_id]) == 1
    assert len(server.requests) == 1


def test_a_full_page_is_not_taken_for_the_last_one_where_a_proxy_drops_the_links(
    server: Server, backend: Backend
) -> None:
    task = a_task()
    server.plant(task.event_id, minutes_ago=10)
    for _ in range(50):
        server.make("acme/web", "Newer", "")
    rows = [{"number": n, "body": "", "created_at": "2030-01-01T00:00:00Z", "user": None} for n in range(50)]
    server.faults.append(Fault("answer_before", on="read", answer=Answer(200, rows)))

    assert task.event_id in look(backend, task)


def test_a_pull_request_is_no_issue(server: Server, backend: Backend) -> None:
    task = a_task()
    server.plant(task.event_id).raw["pull_request"] = {"merged": False}
    every = [server._issue(server.issues[0])]
    server.faults.append(Fault("answer_before", on="read", answer=Answer(200, every)))

    assert look(backend, task) == {}


def test_a_listing_from_which_something_was_deleted_meanwhile_proves_no_absence(
    server: Server, backend: Backend
) -> None:
    server.page_size = 2
    for _ in range(5):
        server.make("acme/web", "Some issue", "")

    def delete_one() -> None:
        if len(server.issues) == 5:
            del server.issues[-1]

    with pytest.raises(TryLater, match="deleted"):
        backend.look(backend.target("acme/web"), {a_task().event_id}, LONG_AGO, keep_lease=delete_one)


@pytest.mark.parametrize("body", [{}, [{"number": 1}], [7], [{"number": 1, "body": "", "created_at": "soon"}], "<p>"])
def test_a_listing_that_makes_no_sense_proves_no_absence(server: Server, backend: Backend, body: object) -> None:
    server.faults.append(Fault("answer_before", on="read", answer=Answer(200, body)))

    with pytest.raises(TryLater):
        look(backend, a_task())


# --- who we are, and what check tells ---------------------------------------------------------------------------------


def test_the_account_is_asked_for_once(server: Server, backend: Backend) -> None:
    assert (backend.account(), backend.account()) == ("our-bot", "our-bot")
    assert paths(server) == ["/user"]


def test_a_token_that_may_not_ask_who_it_is_still_makes_issues(server: Server, backend: Backend) -> None:
    server.scopes = {"write:issue"}

    assert backend.account() == ""
    backend.probe(backend.target("acme/web"))
    assert create(backend, a_task()).account == "our-bot"


def test_a_token_without_the_scope_for_issues_closes_the_project_and_says_which_it_needs(
    server: Server, backend: Backend
) -> None:
    server.scopes.remove("write:issue")

    with pytest.raises(ProjectClosed) as raised:
        create(backend, a_task(labels=[]))
    assert "write:issue" in (raised.value.hint or "")


def test_check_tells_who_we_are_and_looks_at_each_repository_that_is_named(server: Server, tmp_path: Path) -> None:
    backend = opened(server, tmp_path, projects={"api": "acme/api", "gone": "acme/gone", "odd": "odd"})

    findings = backend.check()
    backend.close()

    assert [finding.ok for finding in findings] == [True, True, True, False, False]
    assert "signed in as our-bot" in findings[0].what
    assert all(finding.ok or finding.hint for finding in findings)


def test_check_tells_of_rights_that_are_missing(server: Server, backend: Backend) -> None:
    server.writes = False

    assert "drops labels" in backend.check()[1].what


def test_check_stops_at_credentials_that_are_refused(server: Server, backend: Backend) -> None:
    server.token = "another"  # noqa: S105 - of a fake

    (finding,) = backend.check()
    assert not finding.ok
    assert finding.hint
    assert "s3cret-token" not in finding.what


def test_check_says_when_nobody_answers(server: Server, backend: Backend) -> None:
    server.refuse()

    (finding,) = backend.check()
    assert not finding.ok
    with pytest.raises(Unreachable):
        create(backend, a_task(labels=[]))


def test_the_address_of_a_repository_is_told_from_that_of_a_tracker(server: Server, tmp_path: Path) -> None:
    (finding,) = opened(server, tmp_path, url=f"{server.url}/acme/web").check()
    assert (finding.ok, finding.hint) == (False, http.NO_TRACKER)
