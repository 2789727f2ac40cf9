"""A task becomes one issue, with one request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.desk import Desk
from tests.support.build import a_task
from tests.support.trackers.server import TrackerServer


class LeaseIsGone(Exception):
    """What the engine raises when another worker has the task."""


def test_a_task_becomes_one_issue_that_carries_its_event_id(tracker: TrackerServer, desk: Desk) -> None:
    task = a_task()
    issue = desk.create(task)
    (made,) = tracker.issues
    assert tracker.event_ids() == [task.event_id]
    assert (made.project, made.title, made.account) == (tracker.project, task.title, tracker.account)
    assert issue.project == tracker.project
    assert str(made.number) in issue.id
    assert issue.url.startswith(f"{tracker.url}/")
    assert issue.id in issue.url
    assert issue.account == desk.backend.account()


def test_a_task_in_no_doubt_costs_one_request(tracker: TrackerServer, desk: Desk) -> None:
    labels = ["disk", "ops"]
    desk.backend.account()
    desk.create(a_task(labels=labels))
    before = len(tracker.requests)
    desk.create(a_task(labels=labels))
    assert len(tracker.requests) == before + 1
    assert len(tracker.creates) == 2


def test_a_task_without_labels_is_sent_with_one_request_from_the_start(tracker: TrackerServer, desk: Desk) -> None:
    desk.create(a_task(labels=[]))
    assert [request for request in tracker.requests if request.method != "GET"] == tracker.creates
    assert len(tracker.creates) == len(tracker.issues) == 1


def test_what_before_send_raises_passes_and_nothing_was_sent(tracker: TrackerServer, desk: Desk) -> None:
    def lease_is_gone() -> None:
        raise LeaseIsGone

    with pytest.raises(LeaseIsGone):
        desk.create(before_send=lease_is_gone)
    assert tracker.creates == []
    desk.create()
    assert len(tracker.issues) == 1


def test_before_send_is_asked_right_before_the_issue_is_made(tracker: TrackerServer, desk: Desk) -> None:
    seen: list[tuple[int, int]] = []
    desk.create(before_send=lambda: seen.append((len(tracker.creates), len(tracker.issues))))
    assert seen == [(0, 0)]


def test_several_threads_make_one_issue_for_each_task(tracker: TrackerServer, desk: Desk) -> None:
    tasks = [a_task(labels=["disk", f"host-{n % 3}"]) for n in range(24)]
    with ThreadPoolExecutor(8) as threads:
        issues = list(threads.map(desk.create, tasks))
    assert sorted(tracker.event_ids()) == sorted(task.event_id for task in tasks)
    assert len({issue.id for issue in issues}) == 24
    assert {each: found.id for each, (found,) in desk.look(*(task.event_id for task in tasks)).items()} == {
        task.event_id: issue.id for task, issue in zip(tasks, issues, strict=True)
    }


@pytest.mark.parametrize(
    "description",
    [
        "x" * 60_000,
        "a line\n" * 8_000,
        "\N{PILE OF POO}\N{COMBINING ACUTE ACCENT} \n" * 15_000,
        "```\nnever closed",
        "<!-- never closed",
        "<details><pre><code>",
        "\x00".join(["~~~", "-->", "--!>", "]]>"]).replace("\x00", "\n"),
        "bell \x07, escape \x1b[31m, tab \t, and a line that ends as on Windows\r\n",
        "/close\n/label ~bug\n@everyone #1 !1",
        "{code}\n{noformat}\n|a|\n<pre>",
        "",
    ],
    ids=["long", "lines", "wide", "fence", "comment", "html", "ends", "controls", "commands", "wiki", "empty"],
)
def test_no_description_hides_the_event_id(tracker: TrackerServer, desk: Desk, description: str) -> None:
    task = a_task(description=description)
    issue = desk.create(task)
    assert tracker.event_ids() == [task.event_id]
    (found,) = desk.look(task.event_id)[task.event_id]
    assert found.id == issue.id


@pytest.mark.parametrize("title", ["x" * 255, "ü" * 255, "\N{PILE OF POO}" * 255, "#1 [x](y) <b> @everyone", "/close"])
def test_every_title_that_a_task_can_have_is_taken(tracker: TrackerServer, desk: Desk, title: str) -> None:
    desk.create(a_task(title=title))
    (made,) = tracker.issues
    assert made.title[:20] == title[:20]


def test_labels_of_every_form_are_taken(tracker: TrackerServer, desk: Desk) -> None:
    labels = ["two words", "a,b", "größe", "x" * 50, 'quo"te', "<b>", "scope::one", "a/b"]
    task = a_task(labels=labels, due_date="2031-02-28", priority="high")
    desk.create(task)
    assert tracker.event_ids() == [task.event_id]


def test_a_hundred_labels_are_taken(tracker: TrackerServer, desk: Desk) -> None:
    task = a_task(labels=[f"label-{n}" for n in range(100)])
    desk.create(task)
    assert tracker.event_ids() == [task.event_id]


def test_a_renamed_project_gets_exactly_one_issue(tracker: TrackerServer, desk: Desk) -> None:
    if not tracker.redirects:
        pytest.skip("this tracker redirects nothing")
    new = tracker.project + "-renamed"
    tracker.projects.add(new)
    tracker.projects.discard(tracker.project)
    tracker.renamed[tracker.project] = new
    first, second = a_task(), a_task()
    desk.create(first)
    desk.create(second)
    assert [made.project for made in tracker.issues] == [new, new]
    assert tracker.event_ids() == [first.event_id, second.event_id]
    assert set(desk.look(first.event_id, second.event_id)) == {first.event_id, second.event_id}


def test_a_probe_and_a_check_make_nothing(tracker: TrackerServer, desk: Desk) -> None:
    desk.probe()
    findings = desk.backend.check()
    assert findings
    assert [finding.what for finding in findings if not finding.ok] == []
    assert tracker.creates == []
    assert {request.method for request in tracker.requests} <= {"GET", "POST"}
