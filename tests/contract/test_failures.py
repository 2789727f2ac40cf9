"""What a tracker's refusals and failures mean, and that they mean the same with each of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module

import pytest

from issue_core.errors import (
    BackendError,
    CredentialsRefused,
    Limited,
    OutcomeUnknown,
    ProjectClosed,
    Refused,
    TryLater,
    Unreachable,
)
from tests.contract.desk import Desk
from tests.support.build import a_task
from tests.support.trackers.server import TOKEN_VARIABLE, Answer, Fault, TrackerServer

Call = Callable[[], object]

BROKEN = Answer(500, "<html><h1>Internal error</h1></html>", {"Content-Type": "text/html"})


def reads(desk: Desk) -> dict[str, Call]:
    """The calls that make nothing."""
    return {"probe": desk.probe, "look": desk.look}


def calls(desk: Desk) -> dict[str, Call]:
    """All calls that speak with the tracker."""
    return {"create": lambda: desk.create(a_task(labels=[])), **reads(desk)}


# --- refusals -------------------------------------------------------------------------------------------------------


def test_refused_credentials_are_told_by_every_call(tracker: TrackerServer, desk: Desk) -> None:
    tracker.token = "another-token"  # noqa: S105 - of a tracker that lives as long as a test
    for call in [desk.backend.account, *calls(desk).values()]:
        assert desk.fails(CredentialsRefused, call).hint
    assert tracker.issues == []


def test_credentials_that_are_refused_later_are_told_too(tracker: TrackerServer, desk: Desk) -> None:
    desk.create()
    desk.look()
    tracker.token = "another-token"  # noqa: S105 - of a tracker that lives as long as a test
    for call in calls(desk).values():
        desk.fails(CredentialsRefused, call)
    assert len(tracker.issues) == 1


def test_a_token_that_cannot_be_read_is_refused_and_nothing_is_sent(
    tracker: TrackerServer, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE)
    for call in [desk.backend.account, *calls(desk).values()]:
        desk.fails(CredentialsRefused, call)
    assert tracker.requests == []


def test_a_project_that_is_not_there_is_closed_for_every_call(tracker: TrackerServer, desk: Desk) -> None:
    desk.fails(ProjectClosed, lambda: desk.create(target=desk.nowhere))
    desk.fails(ProjectClosed, lambda: desk.probe(desk.nowhere))
    desk.fails(ProjectClosed, lambda: desk.look(target=desk.nowhere))
    assert tracker.issues == []


def test_a_project_that_closes_later_is_closed_for_a_create(tracker: TrackerServer, desk: Desk) -> None:
    desk.create()
    tracker.closed.add(tracker.project)
    desk.fails(ProjectClosed, desk.create)
    assert len(tracker.issues) == 1


def test_a_closed_project_leaves_the_others_open(tracker: TrackerServer, desk: Desk) -> None:
    tracker.closed.add(tracker.other_project)
    desk.create()
    desk.probe()


@pytest.mark.parametrize("status", [400, 422])
def test_what_the_tracker_will_never_take_is_refused(tracker: TrackerServer, desk: Desk, status: int) -> None:
    tracker.faults = [Fault("answer_before", answer=Answer(status, {"message": "Validation Failed"}))]
    assert str(status) in desk.fails(Refused, desk.create).message
    assert desk.create().project == tracker.project


def test_each_limit_is_told_with_the_time_to_wait(tracker: TrackerServer, desk: Desk) -> None:
    for number, (_, wait) in enumerate(tracker.limited()):
        for name, call in calls(desk).items():
            tracker.faults = [Fault("answer_before", on="any", times=None, answer=tracker.limited()[number][0])]
            error = desk.fails(Limited, call)
            tracker.faults = []
            if wait is None:
                assert error.retry_after is None, name
            else:
                assert error.retry_after == pytest.approx(wait, abs=2.0), name
    assert tracker.issues == []


# --- in doubt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("acted", [False, True])
def test_a_servers_error_leaves_a_create_in_doubt(tracker: TrackerServer, desk: Desk, status: int, acted: bool) -> None:
    task = a_task()
    answer = BROKEN._replace(status=status)
    tracker.faults = [Fault("answer_after" if acted else "answer_before", answer=answer)]
    desk.fails(OutcomeUnknown, lambda: desk.create(task))
    assert set(desk.look(task.event_id)) == ({task.event_id} if acted else set())


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_servers_error_while_reading_is_for_now(tracker: TrackerServer, desk: Desk, status: int) -> None:
    tracker.faults = [Fault("answer_before", on="read", times=None, answer=BROKEN._replace(status=status))]
    for call in reads(desk).values():
        desk.fails(TryLater, call)
    tracker.faults = []
    desk.probe()


@pytest.mark.parametrize("kind", ["delay", "late", "drip"])
def test_an_answer_that_comes_too_late_leaves_a_create_in_doubt(tracker: TrackerServer, desk: Desk, kind: str) -> None:
    desk.backend.account()
    tracker.faults = [Fault(kind, seconds=30.0)]  # type: ignore[arg-type]
    began = time.monotonic()
    desk.fails(OutcomeUnknown, lambda: desk.create(a_task(labels=[]), timeout=0.5))
    assert 0.4 < time.monotonic() - began < 1.5


def test_what_comes_before_a_create_takes_its_time_and_no_more(tracker: TrackerServer, desk: Desk) -> None:
    tracker.faults = [Fault("delay", on="read", times=None, seconds=30.0)]
    began = time.monotonic()
    error = desk.outcome(lambda: desk.create(a_task(labels=["disk"]), timeout=0.5))
    assert time.monotonic() - began < 1.5
    assert len(tracker.issues) == (error is None)
    assert error is None or error.known


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "cut"])
def test_a_connection_that_breaks_leaves_a_create_in_doubt(tracker: TrackerServer, desk: Desk, kind: str) -> None:
    for _ in range(2):  # on a fresh connection, and on one that is kept
        tracker.faults = [Fault(kind)]  # type: ignore[arg-type]
        sent = len(tracker.creates)
        desk.fails(OutcomeUnknown, lambda: desk.create(a_task(labels=[])))
        assert len(tracker.creates) == sent + 1
        desk.probe()


@pytest.mark.parametrize(
    "body", [None, b"", "<html>", b"\xff\xfe", [], {}, {"number": None}, 7, "7", {"id": {}}, b"[" * 9999]
)
def test_an_answer_that_makes_no_sense_leaves_a_create_in_doubt(
    tracker: TrackerServer, desk: Desk, body: object
) -> None:
    tracker.faults = [Fault("answer_after", answer=Answer(201, body))]
    desk.fails(OutcomeUnknown, desk.create)


@pytest.mark.parametrize("status", [200, 202, 204, 206, 299])
def test_another_success_than_created_leaves_a_create_in_doubt(tracker: TrackerServer, desk: Desk, status: int) -> None:
    tracker.faults = [Fault("answer_after", status=status)]
    desk.fails(OutcomeUnknown, desk.create)


@pytest.mark.parametrize("status", [300, 304, 418, 451, 408, 425, 599])
def test_a_strange_status_is_an_error_and_made_no_second_issue(tracker: TrackerServer, desk: Desk, status: int) -> None:
    tracker.faults = [Fault("answer_before", answer=Answer(status, {"message": "strange"}))]
    with pytest.raises(BackendError):
        desk.create()
    assert len(tracker.creates) == 1
    assert tracker.issues == []


def test_a_huge_answer_is_not_read(tracker: TrackerServer, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("issue_core.backends.http"), "LARGEST", 100_000)
    huge = Answer(201, b" " * 300_000)
    tracker.faults = [Fault("answer_after", answer=huge)]
    desk.fails(OutcomeUnknown, desk.create)
    tracker.faults = [Fault("answer_before", on="read", times=None, answer=huge)]
    desk.fails(TryLater, desk.look)


# --- not there ------------------------------------------------------------------------------------------------------


def test_a_tracker_that_is_not_there_is_unreachable_for_every_call(tracker: TrackerServer, desk: Desk) -> None:
    tracker.refuse()
    for call in [desk.backend.account, *calls(desk).values()]:
        desk.fails(Unreachable, call)


def test_a_tracker_that_goes_away_is_unreachable_for_every_call(tracker: TrackerServer, desk: Desk) -> None:
    desk.create()
    desk.look()
    tracker.refuse()
    for call in reads(desk).values():
        with pytest.raises((Unreachable, TryLater)):
            call()
    desk.fails(Unreachable, desk.create)


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_redirect_to_another_host_closes_the_project_and_sends_nothing_there(
    tracker: TrackerServer, desk: Desk, status: int
) -> None:
    desk.backend.account()
    with type(tracker)() as other:
        away = Answer(status, None, {"Location": f"{other.url}/anywhere"})
        tracker.faults = [Fault("answer_before", on="any", times=None, answer=away)]
        for call in calls(desk).values():
            desk.fails(ProjectClosed, call)
        assert other.requests == []


def test_a_redirect_in_a_circle_ends(tracker: TrackerServer, desk: Desk) -> None:
    desk.create()
    around = Answer(307, None, {"Location": tracker.creates[0].path})
    tracker.faults = [Fault("answer_before", times=None, answer=around)]
    desk.fails(ProjectClosed, desk.create)
    assert len(tracker.creates) < 10
    assert len(tracker.issues) == 1


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_no_message_holds_the_token_even_if_the_tracker_says_it(
    tracker: TrackerServer, desk: Desk, status: int
) -> None:
    words = f"the token {tracker.token} is bad"
    for body in ({"message": words, "errors": [words], "errorMessages": [words], "error": words}, words):
        tracker.faults = [Fault("answer_before", on="any", times=None, answer=Answer(status, body))]
        for call in calls(desk).values():
            with pytest.raises(BackendError) as caught:
                call()
            assert tracker.token not in f"{caught.value.message} {caught.value.hint}"
        assert not any(tracker.token in f"{finding}" for finding in desk.backend.check())


# --- the check ------------------------------------------------------------------------------------------------------


def wrong(desk: Desk, **changes: object) -> str:
    """What a check of a backend with these options finds wrong."""
    backend = desk.open(**changes)
    bad = [finding for finding in backend.check() if not finding.ok]
    backend.close()
    assert all(finding.hint for finding in bad)
    return "\n".join(f"{finding.what} ({finding.hint})" for finding in bad)


def test_a_check_finds_nothing_wrong_with_what_is_well(desk: Desk) -> None:
    assert wrong(desk) == ""


def test_a_check_names_a_token_that_is_refused(tracker: TrackerServer, desk: Desk) -> None:
    tracker.token = "another-token"  # noqa: S105 - of a tracker that lives as long as a test
    assert "token" in wrong(desk).lower()


def test_a_check_names_a_project_that_is_not_there(tracker: TrackerServer, desk: Desk) -> None:
    assert tracker.unknown_project in wrong(desk, project=tracker.unknown_project)


def test_a_check_names_an_address_where_nothing_listens(tracker: TrackerServer, desk: Desk) -> None:
    tracker.refuse()
    assert tracker.url.removeprefix("http://") in wrong(desk)
