"""Our requests and the fake trackers' answers keep to what the trackers say of their own APIs."""

from __future__ import annotations

import json

import pytest

from tests.contract.desk import Desk
from tests.support.build import a_task
from tests.support.trackers.described import operation, operations, problems
from tests.support.trackers.server import Answer, Fault, Request, TrackerServer

UNDESCRIBED = ("jira-dc",)
"""The trackers whose makers describe their API in words alone."""

NAMES = ("gitea", "forgejo", "github", "gitlab", "jira", "redmine")

JSON = {"content-type": "application/json"}


def created(name: str, body: bytes) -> list[str]:
    """What the description of this name finds wrong with a request that makes an issue."""
    (found,) = [each for each in operations(name) if each.method == "POST" and _makes_issues(each.template)]
    return list(problems(found, Request("POST", "", {}, JSON, body), Answer(500)))


def answered(name: str, method: str, path: str, answer: Answer, **query: str) -> list[str]:
    """What the description of this name finds wrong with an answer."""
    found = operation(name, method, path)
    assert found is not None
    return list(problems(found, Request(method, path, {key: [query[key]] for key in query}, {}, b""), answer))


def _makes_issues(template: str) -> bool:
    return template.rpartition("/")[2] in ("issue", "issues", "issues.{format}")


def exchanges(tracker: TrackerServer, desk: Desk) -> list[Request]:
    """The requests of a task that becomes an issue and is looked for."""
    task = a_task(labels=["disk"], due_date="2031-02-28", priority="high")
    desk.create(task)
    assert task.event_id in desk.look(task.event_id)
    return tracker.requests


def test_each_tracker_of_ours_has_a_description(tracker: TrackerServer, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["tracker"]
    if name not in (*NAMES, *UNDESCRIBED):
        pytest.skip("this tracker comes with a plug-in")
    assert bool(tracker.descriptions) == (name in NAMES)
    assert set(tracker.descriptions) <= set(NAMES)


def test_creates_and_lists_are_operations_of_the_description(tracker: TrackerServer, desk: Desk) -> None:
    if not tracker.descriptions:
        pytest.skip("this tracker has no description")
    requests = exchanges(tracker, desk)
    lists = [each for each in requests if "issue" in each.path or "search" in each.path]
    for name in tracker.descriptions:
        for each in (*tracker.creates, lists[-1]):
            found = operation(name, each.method, each.path)
            assert found is not None, f"{each.method} {each.path}"
            assert any(found.answers.values())
            assert (found.request is not None) == bool(each.body)


def test_a_request_with_an_unknown_field_fails_the_test(tracker: TrackerServer, desk: Desk) -> None:
    if not tracker.descriptions:
        pytest.skip("this tracker has no description")
    desk.create()
    (sent,) = tracker.creates
    assert tracker.bugs == []
    fields = {**sent.json(), "no_such_field": 1}
    tracker.handle(sent._replace(body=json.dumps(fields).encode()))
    wrong = [str(bug) for bug in tracker.bugs]
    tracker.bugs.clear()
    assert len(wrong) == len(tracker.descriptions)
    assert all("no_such_field" in each for each in wrong)


def test_an_answer_of_a_wrong_type_fails_the_test(
    tracker: TrackerServer, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tracker.descriptions:
        pytest.skip("this tracker has no description")
    desk.create()
    (sent,) = tracker.creates
    monkeypatch.setattr(tracker, "route", lambda request: Answer(201, ["no issue"]))
    tracker.handle(sent)
    wrong = [str(bug) for bug in tracker.bugs]
    tracker.bugs.clear()
    assert len(wrong) == len(tracker.descriptions)
    assert all("the answer at $: ['no issue']" in each for each in wrong)


def test_an_answer_that_a_fault_gives_is_not_held_to_the_description(tracker: TrackerServer, desk: Desk) -> None:
    tracker.faults.append(Fault("answer_after", answer=Answer(201, ["no issue"])))
    assert desk.outcome(desk.create) is not None
    assert tracker.bugs == []


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("gitea", b'{"title": "t", "labels": ["disk"]}', "$.labels[0]"),
        ("forgejo", b'{"title": "t", "due_date": 7}', "$.due_date"),
        ("gitea", b'{"body": "b"}', "'title' is a required property"),
        ("github", b'{"title": "t", "labels": [7]}', "$.labels[0]"),
        ("github", b'{"title": "t", "due_date": "2031-02-28"}', "'due_date' was unexpected"),
        ("gitlab", b'{"title": "t", "body": "b"}', "'body' was unexpected"),
        ("redmine", b'{"issue": {"project_id": 1, "subject": "s", "labels": []}}', "$.issue"),
        ("redmine", b'{"issue": {"project_id": 1, "subject": "s", "priority_id": "2"}}', "$.issue.priority_id"),
        ("jira", b'{"fields": [], "properties": []}', "$.fields"),
        ("jira", b'{"fields": {}, "properties": [{"kay": "issue-core"}]}', "$.properties[0]"),
    ],
)
def test_a_request_that_a_tracker_would_drop_or_refuse_is_noticed(name: str, body: bytes, words: str) -> None:
    (wrong,) = created(name, body)
    assert words in wrong


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gitea", b'{"title": "t", "body": "b", "labels": [1], "due_date": "2031-02-28T00:00:00Z"}'),
        ("github", b'{"title": "t", "labels": ["disk", {"name": "ops"}], "milestone": null}'),
        ("gitlab", b'{"title": "t", "labels": "disk,ops", "due_date": "2031-02-28"}'),
        ("redmine", b'{"issue": {"project_id": "web", "subject": "s", "due_date": null}}'),
        ("jira", b'{"fields": {"summary": "s"}, "properties": [{"key": "k", "value": {"any": 1}}]}'),
    ],
)
def test_nothing_is_wrong_with_a_request_as_described(name: str, body: bytes) -> None:
    assert created(name, body) == []


LIST = "/api/v1/repos/acme/web/issues"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, [{"number": 1, "title": "t", "due_date": None, "labels": None}]), ""),
        (Answer(200, [{"number": 1, "is_new_in_a_later_release": True}]), ""),
        (Answer(200, [{"number": "1"}]), "$[0].number"),
        (Answer(200, [{"number": None}]), "$[0].number"),
        (Answer(200, {"issues": []}), "the answer at $"),
        (Answer(202, []), "it never answers 202"),
        (Answer(404, "what is no JSON"), ""),
    ],
)
def test_an_answer_may_be_shorter_than_described_but_not_of_another_type(answer: Answer, words: str) -> None:
    wrong = answered("gitea", "GET", LIST, answer)
    assert len(wrong) == bool(words)
    assert words in "".join(wrong)


def test_a_parameter_that_a_list_would_ignore_is_noticed() -> None:
    assert answered("gitea", "GET", LIST, Answer(200, []), state="all", sort_by="id") == ["the query has no sort_by"]
