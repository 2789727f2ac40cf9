"""Creates are paced as the tracker asks, over all processes of the ledger."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from issue_core import Ledger, sync
from issue_core.backends.base import Target
from issue_core.task import Task
from tests.support import tracker as scripted
from tests.support.clock import Patience
from tests.sync_engine.rig import Rig, a_backend


def gaps(rig: Rig, n: int = 1) -> list[float]:
    """The seconds from each create to the n-th after it."""
    times = [call.at for call in rig.tracker.calls("create")]
    return [(later - earlier).total_seconds() for earlier, later in zip(times, times[n:], strict=False)]


def test_creates_keep_their_distance(rig: Rig) -> None:
    rig.configure(backends=[a_backend(min_interval=3.0)])
    rig.ingest(6)
    assert rig.outcomes() == ["created"] * 6
    assert gaps(rig) == [3.0] * 5


def test_creates_of_two_processes_keep_their_distance(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.configure(backends=[a_backend(min_interval=3.0)])
    rig.ingest(8)

    def run_another(task: Task, target: Target, timeout: float) -> None:
        monkeypatch.setattr(scripted, "on_create", None)
        with Ledger(rig.ledger.path, clock=rig.clock) as ledger:
            assert sync(ledger, rig.settings, stop=Patience(rig.clock)).counts["created"] >= 1

    monkeypatch.setattr(scripted, "on_create", run_another)
    rig.sync()
    assert len(rig.tracker.calls("create")) == 8
    assert min(gaps(rig)) >= 3.0


@pytest.mark.parametrize(("key", "span"), [("per_minute", 60.0), ("per_hour", 3600.0)])
def test_no_span_has_more_creates_than_it_may(rig: Rig, key: str, span: float) -> None:
    rig.configure(backends=[a_backend(options={key: 3})])
    rig.ingest(8)
    for _ in range(4):
        rig.sync()
        rig.clock.move(span)
    assert rig.states() == {"synced": 8}
    assert min(gaps(rig, 3)) >= span


def test_a_long_wait_ends_the_run_and_says_for_what(rig: Rig) -> None:
    rig.configure(backends=[a_backend(options={"per_hour": 2})])
    rig.ingest(5)
    results = rig.sync()
    assert [result.result for result in results] == ["created"] * 2 + ["deferred"] * 3
    assert {(result.reason, result.parked) for result in results[2:]} == {("2 creates in one hour", False)}
    assert {result.until for result in results[2:]} == {rig.clock.now() + timedelta(hours=1)}
    assert rig.patience.waited == []


def test_a_short_wait_is_waited_for_within_the_run(rig: Rig) -> None:
    rig.configure(backends=[a_backend(options={"per_minute": 2})])
    rig.ingest(5)
    assert rig.outcomes() == ["created"] * 5
    assert rig.patience.waited == [60.0, 60.0]


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_stops_no_create(rig: Rig, jump: float) -> None:
    rig.configure(backends=[a_backend(min_interval=3.0, options={"per_minute": 2, "per_hour": 9})])
    rig.ingest(2)
    rig.sync()
    rig.clock.jump(jump)
    rig.ingest(2)
    assert rig.outcomes() == ["created"] * 2
    assert sum(rig.patience.waited) <= 60 + 3 * 3


def test_an_interval_that_was_made_shorter_counts_at_once(rig: Rig) -> None:
    rig.configure(backends=[a_backend(min_interval=50.0)])
    rig.ingest()
    rig.sync()
    rig.configure(backends=[a_backend(min_interval=1.0)])
    rig.clock.move(1)
    rig.ingest()
    assert rig.outcomes() == ["created"]
    assert rig.patience.waited == []


def test_at_most_so_many_requests_are_under_way(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.configure(backends=[a_backend(max_in_flight=2)])
    under_way = []

    def count(task: Task, target: Target, timeout: float) -> None:
        under_way.append(rig.sql("SELECT count(*) FROM leases")[0][0])

    monkeypatch.setattr(scripted, "on_create", count)
    rig.ingest(7)
    rig.sync()
    assert max(under_way) <= 2
    assert all(later >= earlier for earlier, later in pairwise(call.at for call in rig.tracker.calls("create")))
