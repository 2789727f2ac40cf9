"""Each task becomes one issue, and what the tracker says about it decides what comes next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from issue_core.backends.base import Target
from issue_core.task import Task, from_text, to_text
from tests.support import tracker as scripted
from tests.support.tracker import ACCOUNT, ADDRESS, Fault
from tests.sync_engine.rig import SETTLE, SOON, TIMEOUT, Rig


def test_each_task_becomes_one_issue_and_costs_one_request(rig: Rig) -> None:
    event_ids = rig.ingest(9)
    assert rig.outcomes() == ["created"] * 9
    assert sorted(issue.event_id for issue in rig.tracker.issues()) == sorted(event_ids)
    assert [call.operation for call in rig.tracker.calls()] == ["account"] + ["create"] * 9
    assert rig.states() == {"synced": 9}


def test_a_synced_task_is_left_alone_by_the_next_run(rig: Rig) -> None:
    rig.ingest(3)
    rig.sync()
    calls = rig.tracker.calls()
    assert rig.sync() == []
    assert rig.tracker.calls() == calls


def test_the_task_knows_its_issue(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    (result,) = rig.sync()
    (issue,) = rig.tracker.issues()
    task = rig.task(event_id)
    assert result.remote == task.remote
    assert task.remote is not None
    assert (task.remote.id, task.remote.project) == (str(issue.id), "acme/web")
    assert task.remote.url == f"{ADDRESS}/acme/web/{issue.id}"
    assert (task.backend, task.attempts, task.in_doubt_since) == ("work", 1, None)
    assert rig.kinds(event_id) == ["created", "attempt", "synced"]


def test_the_attempt_is_on_the_disk_before_the_request_leaves(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []

    def read_the_ledger(task: Task, target: Target, timeout: float) -> None:
        query = """
            SELECT address, project, account, outcome, look_after, leases.until, in_doubt_since
            FROM attempts JOIN leases ON attempt_id = id JOIN tasks ON tasks.seq = leases.seq WHERE event_id = ?
        """
        seen.extend(rig.sql(query, task.event_id))

    monkeypatch.setattr(scripted, "on_create", read_the_ledger)
    rig.ingest()
    rig.sync()
    running = rig.clock.running()
    now = to_text(rig.clock.now())
    assert seen == [(ADDRESS, "acme/web", ACCOUNT, None, running + TIMEOUT + SETTLE, running + 120, now)]


def test_a_refusal_for_good_fails_the_task_at_once(rig: Rig) -> None:
    refused, fine = rig.ingest(2)
    rig.tracker.will(Fault("refused", event_id=refused))
    results = rig.sync()
    assert [result.result for result in results] == ["failed", "created"]
    assert results[0].error == "the tracker says: refused"
    task = rig.task(refused)
    assert (task.state, task.attempts, task.in_doubt_since) == ("failed", 1, None)
    assert rig.kinds(refused) == ["created", "attempt", "failed"]
    assert rig.task(fine).state == "synced"
    rig.clock.move(10**6)
    assert rig.sync() == []
    assert rig.summary.needs_a_person is False


def test_a_failed_task_is_tried_again_after_a_retry(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("refused"))
    rig.sync()
    assert rig.summary.needs_a_person
    assert rig.retry(event_id) == 1
    assert rig.outcomes() == ["created"]
    assert rig.kinds(event_id) == ["created", "attempt", "failed", "retry", "attempt", "synced"]


def test_the_wait_between_tries_doubles_and_after_the_last_the_task_fails(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("try_later", times=None))
    for longest in (8, 16, 32):
        (result,) = rig.sync()
        assert result.result == "deferred"
        assert result.until is not None
        wait = (result.until - rig.clock.now()).total_seconds()
        assert 0.75 * longest - 0.001 <= wait <= longest
        rig.clock.move(wait - 1)
        (waiting,) = rig.sync()
        assert (waiting.result, waiting.until) == ("deferred", from_text(to_text(result.until)))
        rig.clock.move(1)
    assert rig.outcomes() == ["failed"]
    assert len(rig.tracker.calls("create")) == 4
    assert rig.task(event_id).attempts == 4


def test_the_wait_between_tries_does_not_outgrow_the_longest(rig: Rig) -> None:
    rig.ingest()
    rig.configure(sync=replace(rig.settings.sync, backoff=(8.0, 20.0), max_attempts=50))
    rig.tracker.will(Fault("try_later", times=None))
    waits = []
    for _ in range(20):
        (result,) = rig.sync()
        assert result.until is not None
        waits.append((result.until - rig.clock.now()).total_seconds())
        rig.clock.move(waits[-1])
    assert 15 <= max(waits) <= 20
    assert len(rig.tracker.calls("create")) == 20


def test_a_tracker_that_says_when_to_come_back_is_taken_at_its_word(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(Fault("try_later", retry_after=500))
    (result,) = rig.sync()
    assert result.until == rig.clock.now() + timedelta(seconds=500)
    rig.clock.move(499)
    assert rig.outcomes() == ["deferred"]
    rig.clock.move(1)
    assert rig.outcomes() == ["created"]


def test_retry_makes_a_waiting_task_due_now(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(Fault("try_later", retry_after=500))
    rig.sync()
    assert rig.retry() == 1
    assert rig.outcomes() == ["created"]


def test_what_is_known_of_a_task_survives_a_change_of_its_route(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("try_later"))
    rig.sync()
    rig.clock.move(SOON)
    rig.configure(routes=(("acme/*", "work"),))
    assert rig.outcomes() == ["created"]
    assert rig.task(event_id).attempts == 2


def test_blocks_of_tasks_that_are_all_done_are_not_walked_again(rig: Rig) -> None:
    rig.ingest(3)
    assert rig.sql("SELECT value FROM facets WHERE facet = 'state'") == [("pending",)]
    rig.sync()
    assert rig.sql("SELECT value FROM facets WHERE facet = 'state'") == [("synced",)]


def test_a_block_that_has_a_waiting_task_is_kept(rig: Rig) -> None:
    waiting, _ = rig.ingest(2)
    rig.tracker.will(Fault("try_later", event_id=waiting))
    rig.sync()
    rig.clock.move(SOON)
    assert rig.outcomes() == ["created"]


def test_a_stop_begins_nothing_and_loses_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.ingest(20)

    def stop(task: Task, target: Target, timeout: float) -> None:
        rig.patience.set()

    monkeypatch.setattr(scripted, "on_create", stop)
    created = rig.outcomes()
    assert 1 <= len(created) <= 4
    assert set(created) == {"created"}
    rig.patience.clear()
    monkeypatch.setattr(scripted, "on_create", None)
    assert rig.outcomes() == ["created"] * (20 - len(created))
