"""What is not to be had is left alone for a while; everything else goes on, and no task pays for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from issue_core import Ledger, ingest, sync
from issue_core.ledger import limits, outcomes
from tests.support.cli import a_spec, ndjson
from tests.support.tracker import Fault, Kind
from tests.sync_engine.rig import SOON, Rig, a_backend

DOWN = Fault("unreachable", None, times=None)
CLOSED = Fault("project", None, project="acme/closed", times=None)
ANSWER_LOST = Fault("unknown_after")
DAY = 86_400


def operations(rig: Rig) -> list[str]:
    """What was asked of the tracker, but for who we are."""
    return [call.operation for call in rig.tracker.calls() if call.operation != "account"]


def two_backends(rig: Rig) -> None:
    """``acme`` goes to ``work``, ``other`` to another backend at another address."""
    other = a_backend("other", options={"address": "https://other.example"})
    rig.configure(backends=[a_backend(), other], routes=(("other/*", "other"),))


@pytest.mark.parametrize("kind", ["unreachable", "credentials"])
def test_a_backend_that_is_not_to_be_had_is_parked_and_its_tasks_lose_no_attempt(rig: Rig, kind: Kind) -> None:
    event_ids = rig.ingest(12)
    rig.tracker.will(replace(DOWN, kind=kind, operation="create"))
    results = rig.sync()
    assert [result.result for result in results] == ["deferred"] * 12
    assert {result.parked for result in results} == {True}
    assert len(rig.tracker.calls("create")) <= 4
    assert {rig.task(event_id).attempts for event_id in event_ids} == {0}
    assert {rig.task(event_id).in_doubt_since for event_id in event_ids} == {None}
    assert rig.summary.needs_a_person is (kind == "credentials")


def test_the_other_backends_go_on(rig: Rig) -> None:
    two_backends(rig)
    rig.ingest(2, repo="acme/web")
    rig.ingest(3, repo="other/api")
    rig.tracker.will(replace(DOWN, project="acme/web"))
    assert rig.outcomes() == ["deferred"] * 2 + ["created"] * 3


def test_nothing_is_asked_of_a_parked_backend_and_the_tasks_say_until_when(rig: Rig) -> None:
    rig.ingest(2)
    rig.tracker.will(DOWN)
    rig.sync()
    calls = rig.tracker.calls()
    rig.clock.move(5.9)
    results = rig.sync()
    assert rig.tracker.calls() == calls
    assert {result.until for result in results} == {rig.parked()[""].until}
    assert "unreachable" in (results[0].reason or "")


def test_a_parked_backend_is_probed_once_a_run_and_the_wait_doubles(rig: Rig) -> None:
    rig.ingest(5)
    rig.tracker.will(DOWN)
    rig.sync()
    for longest in (16, 32, 64, 128, 256, 512, 1000, 1000):
        before = operations(rig)
        rig.clock.move((rig.parked()[""].until - rig.clock.now()).total_seconds())
        assert rig.outcomes() == ["deferred"] * 5
        assert operations(rig) == [*before, "probe"]
        wait = (rig.parked()[""].until - rig.clock.now()).total_seconds()
        assert 0.74 * longest <= wait <= longest


def test_a_backend_that_is_back_takes_all_tasks_in_the_same_run(rig: Rig) -> None:
    rig.ingest(5)
    rig.tracker.will(DOWN)
    rig.sync()
    rig.tracker.lift()
    rig.clock.move(8)
    assert rig.outcomes() == ["created"] * 5
    assert rig.parked() == {}


def test_requests_that_meet_the_same_end_at_once_count_as_one(rig: Rig) -> None:
    rig.ingest(4)
    rig.tracker.will(replace(DOWN, operation="create"))
    rig.sync()
    assert len(rig.tracker.calls("create")) == 4
    assert rig.parked()[""].probes == 0


def test_an_outage_of_days_costs_no_task_anything(rig: Rig) -> None:
    event_ids = rig.ingest(3)
    rig.tracker.will(DOWN)
    for _ in range(40):
        rig.sync()
        rig.clock.move(DAY / 8)
    assert {rig.task(event_id).attempts for event_id in event_ids} == {0}
    rig.tracker.lift()
    assert rig.outcomes() == ["created"] * 3


def test_a_project_that_is_closed_is_parked_alone(rig: Rig) -> None:
    closed, *_ = rig.ingest(3, repo="acme/closed")
    rig.ingest(2, repo="acme/web")
    rig.tracker.will(CLOSED)
    assert rig.outcomes() == ["deferred"] * 3 + ["created"] * 2
    assert list(rig.parked()) == ["acme/closed"]
    assert rig.summary.needs_a_person
    rig.ingest(1, repo="acme/web")
    assert rig.outcomes() == ["deferred"] * 3 + ["created"]
    assert rig.task(closed).attempts == 0


def test_tasks_fail_that_are_older_than_a_day_when_their_project_is_still_closed(rig: Rig) -> None:
    old = rig.ingest(2, repo="acme/closed")
    rig.tracker.will(CLOSED)
    rig.sync()
    rig.clock.move(DAY - 1)
    (young,) = rig.ingest(repo="acme/closed")
    assert rig.outcomes() == ["deferred"] * 3
    rig.clock.move(1000)
    results = rig.sync()
    assert [result.result for result in results] == ["failed", "failed", "deferred"]
    assert results[0].error == "the tracker says: project"
    assert [rig.task(event_id).state for event_id in (*old, young)] == ["failed", "failed", "pending"]
    rig.tracker.lift()
    rig.retry()
    assert rig.outcomes() == ["created"] * 3


def test_a_task_in_doubt_does_not_fail_with_its_project(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("unknown_after"), replace(CLOSED, project="acme/web"))
    rig.sync()
    for _ in range(3):
        rig.clock.move(DAY)
        assert rig.outcomes() == ["deferred"]
    assert rig.task(event_id).in_doubt_since is not None
    rig.tracker.lift()
    rig.clock.move(1000)
    assert rig.outcomes() == ["adopted"]


def test_no_task_fails_for_a_project_that_was_not_parked_before(rig: Rig) -> None:
    """The probe that a backend is back may find a project closed: that is news of today, however old the tasks are."""
    rig.ingest(2)
    rig.tracker.will(DOWN)
    rig.sync()
    rig.clock.move(2 * DAY)
    rig.tracker.lift()
    rig.tracker.will(replace(CLOSED, project="acme/web"))
    assert rig.outcomes() == ["deferred"] * 2
    assert list(rig.parked()) == ["acme/web"]


def test_a_project_whose_backend_goes_down_leaves_the_gate_closed(rig: Rig) -> None:
    rig.ingest(2)
    rig.tracker.will(replace(CLOSED, project="acme/web"))
    rig.sync()
    rig.tracker.lift()
    rig.tracker.will(DOWN)
    rig.clock.move(8)
    before = operations(rig)
    assert rig.outcomes() == ["deferred"] * 2
    assert operations(rig) == [*before, "probe"]
    assert set(rig.parked()) == {"", "acme/web"}


def test_five_unknown_outcomes_in_a_row_park_the_backend(rig: Rig) -> None:
    rig.configure(backends=[a_backend(max_in_flight=1)])
    rig.ingest(9)
    rig.tracker.will(Fault("unknown_before", times=None))
    results = rig.sync()
    assert len(rig.tracker.calls("create")) == 5
    assert [result.parked for result in results] == [False] * 5 + [True] * 4
    assert list(rig.parked()) == [""]


def test_an_answer_in_between_keeps_the_backend_open(rig: Rig) -> None:
    rig.configure(backends=[a_backend(max_in_flight=1)])
    rig.ingest(9)
    lost = Fault("unknown_before", times=4)
    rig.tracker.will(lost, Fault("refused"), lost)
    rig.sync()
    assert len(rig.tracker.calls("create")) == 9
    assert rig.parked() == {}


def test_unknown_outcomes_in_a_row_are_counted_over_runs(rig: Rig) -> None:
    rig.configure(backends=[a_backend(max_in_flight=1)])
    rig.tracker.will(Fault("unknown_before", times=None))
    for _ in range(5):
        assert rig.parked() == {}
        rig.ingest()
        rig.sync()
    assert list(rig.parked()) == [""]


def test_a_backend_parked_for_its_silence_is_opened_by_an_answer_to_a_probe(rig: Rig) -> None:
    rig.configure(backends=[a_backend(max_in_flight=1)])
    rig.ingest(10)
    rig.tracker.will(Fault("unknown_before", times=5))
    rig.sync()
    rig.tracker.will(Fault("unknown_before", times=4))
    rig.clock.move(8)
    assert rig.outcomes() == ["deferred"] * 9 + ["created"]
    assert rig.parked() == {}


def test_retry_makes_the_probe_due_now(rig: Rig) -> None:
    rig.ingest(2)
    rig.tracker.will(DOWN)
    for _ in range(6):
        rig.sync()
        rig.clock.move(600)
    rig.sync()
    rig.tracker.lift()
    assert rig.outcomes() == ["deferred"] * 2
    rig.retry()
    assert rig.outcomes() == ["created"] * 2


def test_what_was_parked_by_a_clock_that_was_ahead_is_not_parked_for_so_long(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(DOWN)
    rig.clock.jump(DAY)
    rig.sync()
    rig.clock.jump(-DAY)
    assert rig.outcomes() == ["deferred"]
    assert rig.parked()[""].until <= rig.clock.now() + timedelta(seconds=16)
    rig.tracker.lift()
    rig.clock.move(16)
    assert rig.outcomes() == ["created"]


def test_an_address_that_is_gone_does_not_hold_up_the_one_in_its_place(rig: Rig) -> None:
    """A doubt that can never be settled where its attempt went must not park today's backend."""
    (lost,) = rig.ingest()
    rig.tracker.will(Fault("unknown_after"))
    rig.sync()
    rig.tracker.will(replace(DOWN, address="https://tracker.example"))
    rig.configure(backends=[a_backend(options={"address": "https://new.example"})])
    rig.clock.move(SOON)
    for _ in range(4):
        rig.ingest(2)
        assert rig.outcomes() == ["deferred", "created", "created"]
        rig.clock.move(1000)
    assert "" not in rig.parked()
    assert rig.task(lost).in_doubt_since is not None
    rig.tracker.lift()
    assert rig.outcomes() == ["adopted"]


def test_a_limit_is_obeyed_by_every_kind_of_request_and_across_runs(rig: Rig) -> None:
    in_doubt, limited, _ = rig.ingest(3)
    rig.configure(backends=[a_backend(max_in_flight=1)])
    rig.tracker.will(Fault("unknown_after"), Fault("limited", retry_after=SOON + 100))
    results = rig.sync()
    until = rig.clock.now() + timedelta(seconds=SOON + 100)
    assert [result.until == until for result in results] == [False, True, True]
    assert rig.task(limited).attempts == 0
    calls = rig.tracker.calls()
    rig.clock.move(SOON + 99)
    results = rig.sync()
    assert rig.tracker.calls() == calls
    assert {(result.until, result.parked) for result in results} == {(until, False)}
    assert "limit" in (results[0].reason or "")
    rig.retry()
    rig.sync()
    assert rig.tracker.calls() == calls
    rig.clock.move(1)
    assert rig.outcomes() == ["adopted", "created", "created"]
    assert rig.task(in_doubt).attempts == 1


def test_a_limit_without_an_end_is_waited_for_a_minute(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(Fault("limited"))
    (result,) = rig.sync()
    assert result.until == rig.clock.now() + timedelta(seconds=60)
    assert rig.summary.next_at == result.until


def test_an_account_that_cannot_be_learnt_begins_no_attempt(rig: Rig) -> None:
    event_ids = rig.ingest(2)
    rig.tracker.will(Fault("try_later", "account"))
    results = rig.sync()
    assert [result.result for result in results] == ["deferred"] * 2
    assert {rig.kinds(event_id)[-1] for event_id in event_ids} == {"created"}
    assert rig.summary.next_at is not None
    assert rig.outcomes() == ["created"] * 2


def test_what_no_task_waits_for_any_more_is_parked_no_longer(tmp_path: Path) -> None:
    (tmp_path / "issues").mkdir()
    (tmp_path / "issues" / "blocked").write_text("a file where the project's folder should be")
    with Ledger(tmp_path / "ledger.db") as ledger:
        ingest(ledger, [ndjson(a_spec(target_repo="blocked"))])
        assert [parked.project for parked in sync(ledger).parked] == ["blocked"]
        assert [parked.project for parked in sync(ledger).parked] == ["blocked"]
        with ledger.write() as tx:
            outcomes.fail(tx, 1, "refused", "no", doubt_ends=True)
        summary = sync(ledger)
    assert summary.parked == []
    assert not summary.needs_a_person


def test_a_doubt_elsewhere_keeps_nothing_parked_and_one_there_does(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    rig.tracker.will(CLOSED)
    rig.ingest(repo="acme/closed")
    rig.sync()
    assert [parked.project for parked in rig.summary.parked] == ["acme/closed"]
    with rig.ledger.write() as tx:
        outcomes.fail(tx, 2, "refused", "no", doubt_ends=True)
        limits.park(tx, "work", "acme/web", code="project", reason="gone", until=rig.clock.now() + timedelta(hours=1))
    rig.sync()
    assert [parked.project for parked in rig.summary.parked] == ["acme/web"]
