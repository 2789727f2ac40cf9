"""A look sees every issue that carries an event ID, or says that it could not see."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from issue_core.backends.base import Target
from issue_core.backends.markup.markdown import marker
from issue_core.errors import BackendError, CredentialsRefused, OutcomeUnknown, TryLater
from tests.contract.desk import Desk
from tests.support.build import a_task
from tests.support.trackers.server import Answer, Fault, TrackerServer

LONG_AGO = timedelta(days=2)

MARKUP = (
    *("\n", "\n\n", " ", "    ", "\t", "\r\n", "word", "`", "``", "```", "~~~", "```\n", "<!--", "-->", "--", ">", "<"),
    *(
        "<pre>",
        "</pre>",
        "<details>",
        "<![CDATA[",
        "<?",
        "<!",
        "\\",
        "{code}",
        "{noformat}",
        "[",
        "](",
        "|",
        "- ",
        "# ",
    ),
    *("/close", "@you", "<!-- issue-core event=", "<!-- issue-core", "event=", "\u2028", "\N{PILE OF POO}"),
)
"""What descriptions are mixed from, to hide what follows them."""


class LeaseIsGone(Exception):
    """What the engine raises when another worker has the tasks."""


def some_tasks(desk: Desk, number: int) -> list[str]:
    """The event IDs of so many new issues."""
    tasks = [a_task() for _ in range(number)]
    for task in tasks:
        desk.create(task)
    return [task.event_id for task in tasks]


def test_nothing_is_found_where_nothing_is(tracker: TrackerServer, desk: Desk) -> None:
    assert desk.look() == {}
    tracker.plant(a_task().event_id)
    assert desk.look() == {}


def test_an_issue_is_found_on_the_third_page(tracker: TrackerServer, desk: Desk) -> None:
    tracker.page_size = 2
    task = a_task()
    issue = desk.create(task)
    for _ in range(5):
        desk.create()
    assert desk.look(task.event_id) == {task.event_id: [issue]}


def test_one_look_finds_many(tracker: TrackerServer, desk: Desk) -> None:
    tracker.page_size = 3
    issues = {task.event_id: desk.create(task) for task in [a_task() for _ in range(10)]}
    missing = a_task().event_id
    found = desk.look(*issues, missing)
    assert found == {event_id: [issue] for event_id, issue in issues.items()}


def test_of_two_issues_with_one_event_id_both_are_found_the_oldest_first(tracker: TrackerServer, desk: Desk) -> None:
    tracker.page_size = 1
    task = a_task()
    first, second = desk.create(task), desk.create(task)
    third = tracker.plant(task.event_id)
    found = desk.look(task.event_id)[task.event_id]
    assert [issue.id for issue in found[:2]] == [first.id, second.id]
    assert str(third.number) in found[2].id
    assert len(found) == 3


def test_what_was_lost_on_the_way_there_is_not_found(tracker: TrackerServer, desk: Desk) -> None:
    task = a_task()
    tracker.faults = [Fault("drop_before")]
    desk.fails(OutcomeUnknown, lambda: desk.create(task))
    assert desk.look(task.event_id) == {}


def test_what_was_lost_on_the_way_back_is_found(tracker: TrackerServer, desk: Desk) -> None:
    task = a_task()
    tracker.faults = [Fault("drop_after")]
    desk.fails(OutcomeUnknown, lambda: desk.create(task))
    (issue,) = desk.look(task.event_id)[task.event_id]
    assert issue.account == desk.backend.account()
    assert issue.url.startswith(f"{tracker.url}/")
    assert issue.project == tracker.project


def test_a_list_that_lags_shows_the_issue_later(tracker: TrackerServer, desk: Desk) -> None:
    task = a_task()
    tracker.lag = 3600.0
    issue = desk.create(task)
    assert desk.look(task.event_id) == {}
    tracker.issues[0].seen_from = tracker.now()
    assert desk.look(task.event_id) == {task.event_id: [issue]}


@pytest.mark.parametrize("hours", [-1, 1, 26])
def test_an_issue_is_found_whatever_the_trackers_clock_says(tracker: TrackerServer, desk: Desk, hours: int) -> None:
    tracker.skew = timedelta(hours=hours)
    tracker.page_size = 2
    task = a_task()
    issue = desk.create(task)
    for _ in range(4):
        desk.create()
    assert desk.look(task.event_id) == {task.event_id: [issue]}


def test_a_look_ends_where_it_need_not_go_further(tracker: TrackerServer, desk: Desk) -> None:
    tracker.page_size = 2
    for n in range(40):
        tracker.plant(a_task().event_id, minutes_ago=60 + n)
    task = a_task()
    desk.create(task)
    before = len(tracker.requests)
    assert set(desk.look(task.event_id)) == {task.event_id}
    assert len(tracker.requests) - before < 10


def test_the_look_goes_back_as_far_as_it_is_asked_to(tracker: TrackerServer, desk: Desk) -> None:
    tracker.page_size = 2
    event_id = a_task().event_id
    tracker.plant(event_id, minutes_ago=300)
    for n in range(5):
        tracker.plant(a_task().event_id, minutes_ago=n)
    assert desk.look(event_id) == {}
    assert set(desk.look(event_id, ago=timedelta(hours=6))) == {event_id}


def test_a_strangers_issue_is_found_with_the_strangers_account(tracker: TrackerServer, desk: Desk) -> None:
    event_id = a_task().event_id
    tracker.plant(event_id)
    (issue,) = desk.look(event_id)[event_id]
    assert issue.account == tracker.stranger
    assert issue.account != desk.backend.account()


def test_a_closed_issue_is_found(tracker: TrackerServer, desk: Desk) -> None:
    task = a_task()
    issue = desk.create(task)
    tracker.close_issue(tracker.issues[0])
    assert desk.look(task.event_id) == {task.event_id: [issue]}


def test_an_event_id_that_a_description_quotes_is_not_found(tracker: TrackerServer, desk: Desk) -> None:
    other = a_task()
    quoted = f"{marker(other)}\n\n```\n{marker(other)}\n```\n\n    {marker(other)}\nic-{other.event_id}\n"
    task = a_task(
        description=quoted, title=f"See {other.event_id}", source_id=f"<!-- issue-core event={other.event_id}"
    )
    issue = desk.create(task)
    assert desk.look(other.event_id) == {}
    assert desk.look(task.event_id) == {task.event_id: [issue]}


def test_no_mixture_of_markup_hides_an_event_id_or_shows_anothers(tracker: TrackerServer, desk: Desk) -> None:
    dice, other = random.Random(7), a_task()
    parts = [*MARKUP, marker(other), marker(other)[:40], f"ic-{other.event_id}"]
    tasks = [a_task(labels=[], description="".join(dice.choices(parts, k=dice.randint(1, 12)))) for _ in range(150)]
    issues = {task.event_id: [desk.create(task)] for task in tasks}
    assert tracker.event_ids() == list(issues)
    assert desk.look(*issues, other.event_id, ago=LONG_AGO) == issues


def test_the_lease_is_kept_while_a_long_list_is_read(tracker: TrackerServer, desk: Desk) -> None:
    tracker.page_size = 1
    tasks = some_tasks(desk, 4)
    kept: list[int] = []
    desk.look(*tasks, keep_lease=lambda: kept.append(len(tracker.requests)))
    assert len(set(kept)) >= 3


def test_what_keep_lease_raises_passes(tracker: TrackerServer, desk: Desk) -> None:
    tracker.page_size = 1
    tasks = some_tasks(desk, 4)

    def lease_is_gone() -> None:
        raise LeaseIsGone

    with pytest.raises(LeaseIsGone):
        desk.look(*tasks, keep_lease=lease_is_gone)


@pytest.mark.parametrize("kind", ["drop_before", "cut", "answer_before"])
@pytest.mark.parametrize("after", range(5))
def test_a_list_that_was_not_read_to_its_end_says_nothing(
    tracker: TrackerServer, desk: Desk, kind: str, after: int
) -> None:
    tracker.page_size = 1
    tasks = some_tasks(desk, 7)
    broken = Answer(502, "<h1>Bad gateway</h1>")
    tracker.faults = [Fault(kind, on="read", times=None, after=after, answer=broken)]  # type: ignore[arg-type]
    desk.fails(TryLater, lambda: desk.look(*tasks))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b"{}", b"[1]", b'"x"', b'{"issues": 7}', b"[{}]", b"[" * 9999]
)
def test_an_answer_that_is_no_list_is_not_taken_for_an_empty_one(
    tracker: TrackerServer, desk: Desk, body: bytes
) -> None:
    tracker.page_size = 1
    tasks = some_tasks(desk, 4)
    for after in range(4):
        answer = Answer(200, body)
        tracker.faults = [Fault("answer_before", on="read", times=None, after=after, answer=answer)]
        with pytest.raises(BackendError) as caught:
            desk.look(*tasks)
        assert not isinstance(caught.value, OutcomeUnknown)


def test_an_address_that_is_not_configured_gets_no_token(tracker: TrackerServer, desk: Desk) -> None:
    with type(tracker)() as other:
        elsewhere = Target("work", other.url, tracker.project)
        desk.fails(CredentialsRefused, lambda: desk.look(target=elsewhere))
        assert other.requests == []


def test_a_former_address_is_looked_at_where_it_was(tracker: TrackerServer, desk: Desk) -> None:
    task = a_task()
    with type(tracker)() as new:
        moved = desk.open(url=new.url, former_urls=(tracker.url,))
        desk.create(task)
        found = moved.look(desk.target, {task.event_id}, tracker.now() - LONG_AGO, keep_lease=lambda: None)
        assert set(found) == {task.event_id}
        assert new.creates == []
        moved.close()
