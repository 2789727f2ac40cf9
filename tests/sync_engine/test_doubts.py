"""A task in doubt is looked for where its attempt went, when the tracker must be done with it, before it goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from issue_core import Ledger, sync
from issue_core.backends.base import Target
from issue_core.ledger import outbox
from issue_core.ledger.outbox import Where
from issue_core.task import Task
from tests.support import tracker as scripted
from tests.support.clock import Patience
from tests.support.tracker import ADDRESS, Fault
from tests.sync_engine.rig import SETTLE, SOON, TIMEOUT, Rig, a_backend

ANSWER_LOST = Fault("unknown_after")
REQUEST_LOST = Fault("unknown_before")


def test_an_issue_whose_answer_was_lost_is_adopted_not_doubled(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    (result,) = rig.sync()
    assert (result.result, result.until) == ("deferred", rig.clock.now() + timedelta(seconds=SOON))
    assert rig.task(event_id).in_doubt_since is not None
    rig.clock.move(SOON)
    (result,) = rig.sync()
    assert result.result == "adopted"
    assert len(rig.tracker.calls("create")) == 1
    assert rig.kinds(event_id) == ["created", "attempt", "doubt", "adopted"]
    assert (rig.task(event_id).state, rig.task(event_id).attempts) == ("synced", 1)


def test_nothing_is_looked_for_before_the_tracker_must_be_done(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.clock.move(SOON - 0.5)
    (result,) = rig.sync()
    assert (result.result, result.until) == ("deferred", rig.clock.now() + timedelta(seconds=0.5))
    assert rig.tracker.calls("look") == []


def test_a_request_that_is_carried_out_late_is_not_sent_twice(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(replace(ANSWER_LOST, seconds=SOON - 1))
    rig.sync()
    for _ in range(8):
        rig.clock.move(SOON / 8)
        rig.sync()
    assert rig.states() == {"synced": 1}
    assert len(rig.tracker.calls("create")) == 1


def test_a_lost_request_is_sent_again_once_its_issue_is_seen_to_be_absent(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(REQUEST_LOST)
    rig.sync()
    rig.clock.move(SOON)
    (result,) = rig.sync()
    assert (result.result, rig.task(event_id).in_doubt_since) == ("deferred", None)
    assert rig.task(event_id).attempts == 1
    rig.clock.move(8)
    assert rig.outcomes() == ["created"]
    assert rig.task(event_id).attempts == 2
    assert rig.kinds(event_id) == ["created", "attempt", "doubt", "absent", "attempt", "synced"]


def test_an_issue_that_is_never_there_fails_the_task_in_the_end(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(replace(REQUEST_LOST, times=None))
    for _ in range(12):
        rig.sync()
        rig.clock.move(SOON)
    assert (rig.task(event_id).state, rig.task(event_id).attempts) == ("failed", 4)
    assert len(rig.tracker.calls("create")) == 4
    assert rig.summary.counts == {}


def test_an_absence_is_asked_for_as_often_as_the_tracker_needs(rig: Rig) -> None:
    rig.configure(backends=[a_backend(looks=3, look_interval=60.0)])
    (event_id,) = rig.ingest()
    rig.tracker.will(REQUEST_LOST)
    rig.sync()
    rig.clock.move(SOON)
    for looks in (1, 2):
        assert rig.outcomes() == ["deferred"]
        assert len(rig.tracker.calls("look")) == looks
        rig.clock.move(59)
        assert rig.outcomes() == ["deferred"]
        assert len(rig.tracker.calls("look")) == looks
        rig.clock.move(1)
    rig.sync()
    assert len(rig.tracker.calls("look")) == 3
    assert (rig.task(event_id).attempts, rig.task(event_id).in_doubt_since) == (1, None)


@pytest.mark.parametrize("lag", [{"hidden_looks": 1}, {"lag": SOON + 59}])
def test_a_list_that_lags_behind_is_not_believed_at_once(rig: Rig, lag: dict[str, float]) -> None:
    rig.configure(backends=[a_backend(looks=2, look_interval=60.0)])
    rig.ingest()
    rig.tracker.be(**lag)
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.clock.move(SOON)
    assert rig.outcomes() == ["deferred"]
    rig.clock.move(60)
    assert rig.outcomes() == ["adopted"]
    assert len(rig.tracker.calls("create")) == 1


def test_the_look_goes_where_the_attempt_went_whatever_the_configuration_says_by_then(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    moved = a_backend(projects={"acme/web": "acme/new"}, options={"address": "https://new.example"})
    rig.configure(backends=[moved, a_backend("other")], routes=(("acme/*", "other"),))
    rig.clock.move(SOON)
    (result,) = rig.sync()
    assert (result.result, result.backend) == ("adopted", "work")
    assert [(call.address, call.project) for call in rig.tracker.calls("look")] == [(ADDRESS, "acme/web")]
    assert rig.task(event_id).backend == "work"


def test_a_task_that_was_in_no_doubt_goes_where_the_route_points_now(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(REQUEST_LOST)
    rig.sync()
    rig.configure(backends=[a_backend(), a_backend("other")], default_backend="other")
    rig.clock.move(SOON)
    rig.sync()
    rig.clock.move(SOON)
    rig.sync()
    assert (rig.task(event_id).backend, rig.task(event_id).state) == ("other", "synced")


def test_one_listing_settles_all_doubts_of_a_project(rig: Rig) -> None:
    rig.ingest(4)
    rig.tracker.will(replace(ANSWER_LOST, times=2), replace(REQUEST_LOST, times=2))
    rig.sync()
    rig.clock.move(SOON)
    assert rig.outcomes() == ["adopted", "adopted", "deferred", "deferred"] or rig.states()["synced"] == 2
    assert len(rig.tracker.calls("look")) == 1


def test_a_retry_ends_no_doubt(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.retry()
    rig.retry(event_id)
    assert rig.outcomes() == ["deferred"]
    rig.clock.move(SOON)
    assert rig.outcomes() == ["adopted"]


def test_a_look_that_came_to_no_end_settles_nothing(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(ANSWER_LOST, Fault("unreachable", "look"))
    rig.sync()
    rig.clock.move(SOON)
    (result,) = rig.sync()
    assert result.result == "deferred"
    assert rig.task(event_id).in_doubt_since is not None
    rig.clock.move(SOON)
    assert rig.outcomes() == ["adopted"]


def test_a_doubt_waits_by_the_running_clock_alone(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.clock.jump(10**6)
    rig.sync()
    assert rig.tracker.calls("look") == []
    rig.clock.jump(-2 * 10**6)
    rig.clock.move(SOON)
    rig.sync()
    assert len(rig.tracker.calls("look")) == 1


@pytest.mark.parametrize("wrong_by", [-(10**6), 0, 10**6])
def test_after_a_restart_a_doubt_waits_until_the_machine_has_been_up_for_so_long(rig: Rig, wrong_by: float) -> None:
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.clock.reboot(off=5, up=SOON - 1)
    rig.clock.jump(wrong_by)
    rig.sync()
    assert rig.tracker.calls("look") == []
    rig.clock.move(1)
    rig.sync()
    assert len(rig.tracker.calls("look")) == 1


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("ahead", [86_400, -86_400])
def test_an_issue_is_found_that_was_made_while_our_clock_was_wrong(rig: Rig, ahead: float, *, corrected: bool) -> None:
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.clock.jump(ahead)
    rig.sync()
    if corrected:
        rig.clock.jump(-ahead)
    rig.clock.move(SOON)
    assert rig.outcomes() == ["adopted"]


def test_an_issue_is_found_though_the_trackers_clock_is_an_hour_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the tracker does not even say what time it is there."""
    monkeypatch.setattr(scripted, "clients_clock", scripted.clock)
    rig.clock.jump(3600)
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.clock.move(SOON)
    assert rig.outcomes() == ["adopted"]


def test_a_second_look_goes_back_as_far_as_the_first(rig: Rig) -> None:
    rig.configure(backends=[a_backend(looks=2, look_interval=60.0)])
    rig.ingest()
    rig.tracker.be(hidden_looks=1)
    rig.tracker.will(ANSWER_LOST)
    rig.clock.jump(86_400)
    rig.sync()
    rig.clock.jump(-86_400)
    rig.clock.move(2 * 3600)
    assert rig.outcomes() == ["deferred"]
    rig.clock.move(60)
    assert rig.outcomes() == ["adopted"]


def test_a_restart_between_two_looks_costs_no_more_than_the_wait_between_them(rig: Rig) -> None:
    rig.configure(backends=[a_backend(looks=2, look_interval=60.0)])
    rig.ingest()
    rig.tracker.be(hidden_looks=1)
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.clock.move(5 * 3600)
    assert rig.outcomes() == ["deferred"]
    rig.clock.reboot(off=5, up=60)
    assert rig.outcomes() == ["adopted"]


@pytest.mark.parametrize("looks", [1, 2])
def test_an_issue_is_found_that_was_made_with_a_wrong_clock_before_a_restart(rig: Rig, looks: int) -> None:
    rig.configure(backends=[a_backend(looks=looks, look_interval=60.0)])
    rig.ingest()
    rig.tracker.be(hidden_looks=looks - 1)
    rig.tracker.will(ANSWER_LOST)
    rig.clock.jump(2 * 86_400)
    rig.sync()
    rig.clock.jump(-2 * 86_400)
    rig.clock.reboot(off=86_400, up=SOON)
    for _ in range(looks):
        results = rig.outcomes()
        rig.clock.move(60)
    assert results == ["adopted"]


def test_a_lost_answer_is_waited_for_from_the_attempt_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def take_long(task: Task, target: Target, timeout: float) -> None:
        rig.clock.move(10)

    monkeypatch.setattr(scripted, "on_create", take_long)
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    (result,) = rig.sync()
    assert result.until == rig.clock.now() + timedelta(seconds=SOON - 10)


def test_all_of_a_request_is_over_before_its_issue_is_looked_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one that was sent late, for something held it up between its attempt and the first byte."""
    rig.configure(backends=[a_backend(lookup="always")])
    for _ in range(4):
        rig.tracker.plant("another event", account="somebody")
    margins = []

    def take_long() -> None:
        rig.clock.move(40)

    def measure(task: Task, target: Target, timeout: float) -> None:
        ((look_after,),) = rig.sql("SELECT look_after FROM attempts WHERE outcome IS NULL")
        margins.append(look_after - (rig.clock.running() + timeout))

    monkeypatch.setattr(scripted, "on_page", take_long)
    monkeypatch.setattr(scripted, "on_create", measure)
    rig.ingest()
    assert rig.outcomes() == ["created"]
    assert margins == [SETTLE]


def test_a_doubt_that_another_run_settled_meanwhile_is_not_settled_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this run lists project A, the other one settles B's doubt, tries again, and is in doubt anew."""
    rig.ingest(repo="acme/a")
    rig.ingest(repo="acme/b")
    rig.tracker.will(Fault("unknown_after", project="acme/a"), Fault("unknown_before", project="acme/b"))
    rig.sync()
    rig.tracker.plant("another event", account="somebody", project="acme/a")
    rig.clock.move(SOON)

    def the_other_run() -> None:
        monkeypatch.setattr(scripted, "on_page", None)
        with Ledger(rig.ledger.path, clock=rig.clock) as ledger:
            sync(ledger, rig.settings)
            rig.tracker.will(Fault("unknown_after", project="acme/b", seconds=SOON - 1))
            rig.clock.move(8)
            sync(ledger, rig.settings)

    monkeypatch.setattr(scripted, "on_page", the_other_run)
    rig.sync()
    assert len(rig.tracker.calls("create")) == 3
    for _ in range(4):
        rig.clock.move(SOON / 2)
        rig.sync()
    assert rig.states() == {"synced": 2}
    assert len(rig.tracker.calls("create")) == 3


def test_a_doubt_without_an_attempt_on_record_is_looked_for_where_the_route_points(rig: Rig) -> None:
    """Such a doubt comes of a restored backup."""
    there, missing = rig.ingest(2)
    with rig.ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET in_doubt_since = created_at")
    rig.tracker.plant(there)
    results = rig.sync()
    assert rig.task(there).state == "synced"
    assert "adopted" in [result.result for result in results]
    assert rig.kinds(there) == ["created", "assumed", "adopted"]
    rig.clock.move(SOON)
    rig.sync()
    assert [call.event_id for call in rig.tracker.calls("create")] == [missing]


def test_no_attempt_is_assumed_for_a_task_that_is_in_no_doubt_any_more(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.sync()
    with rig.ledger.write() as tx:
        outbox.assume_attempt(
            tx, 1, Where("work", ADDRESS, "acme/web", ""), wait=0, running=rig.clock.running(), boot=rig.clock.boot()
        )
    assert rig.task(event_id).in_doubt_since is None


def test_a_doubt_at_a_backend_that_is_not_configured_any_more_waits_and_says_so(rig: Rig) -> None:
    first, second = rig.ingest(2)
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.configure(backends=[a_backend("other")], default_backend="other")
    rig.clock.move(SOON)
    (result,) = rig.sync()
    assert (result.result, result.parked) == ("deferred", True)
    assert "'work'" in (result.reason or "")
    assert rig.sync(repo="another/*") == []
    rig.configure(backends=[a_backend(), a_backend("other")])
    assert rig.outcomes() == ["adopted"]
    assert {rig.task(first).state, rig.task(second).state} == {"synced"}


def test_a_long_listing_keeps_its_leases(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    for _ in range(20):
        rig.tracker.plant("another event", account="somebody")
    rig.clock.move(SOON)
    others: list[list[str]] = []

    def go_slowly() -> None:
        rig.clock.move(50)
        with Ledger(rig.ledger.path, clock=rig.clock) as ledger:
            others.append(list(sync(ledger, rig.settings, stop=Patience(rig.clock)).counts))

    monkeypatch.setattr(scripted, "on_page", go_slowly)
    assert rig.outcomes() == ["adopted"]
    assert others == [[]] * 10


def test_a_stop_ends_a_long_listing_and_the_next_run_takes_it_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.tracker.plant("another event", account="somebody")
    rig.clock.move(SOON)
    monkeypatch.setattr(scripted, "on_page", rig.patience.set)
    assert "adopted" not in rig.outcomes()
    assert rig.sql("SELECT * FROM leases") == []
    monkeypatch.setattr(scripted, "on_page", None)
    rig.patience.clear()
    assert rig.outcomes() == ["adopted"]


def test_what_is_waited_for_is_the_time_that_the_tracker_needs(rig: Rig) -> None:
    """The settle time is the tracker's own, unless the configuration says otherwise."""
    rig.configure(backends=[a_backend(settle=500.0)])
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    (result,) = rig.sync()
    assert result.until == rig.clock.now() + timedelta(seconds=TIMEOUT + 500)
