"""Several workers share one ledger: a task is one living worker's, and a dead one's is free at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing

import pytest

from issue_core import Ledger, sync
from issue_core.backends.base import Issue, Target
from issue_core.errors import LedgerError
from issue_core.ledger import outbox, outcomes
from issue_core.ledger.outbox import Attempt, Times, Where
from issue_core.ledger.workers import enlisted, is_alive
from issue_core.sync_engine import creates
from issue_core.task import Task
from tests.support import tracker as scripted
from tests.support.clock import Patience
from tests.support.tracker import ACCOUNT, ADDRESS
from tests.sync_engine.rig import SETTLE, SOON, TIMEOUT, Rig, a_backend

LEASE = 120.0


@pytest.fixture
def other(rig: Rig) -> Iterator[ExitStack]:
    """Another worker of the rig's ledger, which lives until this is closed."""
    with ExitStack() as life:
        yield life


def begin(rig: Rig, life: ExitStack, seq: int = 1) -> Attempt:
    """The other worker begins an attempt, and is heard of no more."""
    worker = life.enter_context(enlisted(rig.ledger.path))
    with rig.ledger.write() as tx:
        attempt = outbox.begin(
            tx,
            seq,
            Where("work", ADDRESS, "acme/web", ACCOUNT),
            owner=worker,
            times=Times(TIMEOUT, SETTLE, LEASE),
            running=rig.clock.running(),
            boot=rig.clock.boot(),
        )
    assert attempt is not None
    return attempt


def in_another_run(rig: Rig) -> Callable[[], None]:
    """One pass by another process."""

    def run() -> None:
        with Ledger(rig.ledger.path, clock=rig.clock) as ledger:
            sync(ledger, rig.settings, stop=Patience(rig.clock))

    return run


@pytest.mark.parametrize("jump", [0.0, 10.0**7, -(10.0**7)])
def test_a_task_of_a_living_worker_is_left_to_it_whatever_the_wall_clock_says(
    rig: Rig, other: ExitStack, jump: float
) -> None:
    rig.ingest(2)
    begin(rig, other)
    rig.clock.jump(jump)
    rig.clock.move(LEASE)
    assert [result.seq for result in rig.sync()] == [2]
    assert rig.summary.others_at_work
    assert len(rig.tracker.calls("create")) == 1
    other.close()
    rig.sync()


def test_a_lease_that_ran_out_is_free_and_its_task_is_looked_for_first(rig: Rig, other: ExitStack) -> None:
    (event_id,) = rig.ingest()
    begin(rig, other)
    rig.tracker.plant(event_id)
    rig.clock.move(LEASE + 1)
    assert rig.outcomes() == ["adopted"]
    assert rig.tracker.calls("create") == []


def test_a_dead_workers_task_is_in_doubt_until_the_tracker_must_be_done_with_it(rig: Rig, other: ExitStack) -> None:
    rig.ingest()
    begin(rig, other)
    other.close()
    rig.clock.move(SOON - 1)
    assert rig.outcomes() == ["deferred"]
    assert rig.tracker.calls("look") == []
    rig.clock.move(1)
    assert rig.outcomes() == ["created"]
    assert [call.operation for call in rig.tracker.calls()] == ["account", "look", "create"]


def test_where_a_dead_worker_can_do_nothing_more_its_task_goes_on_at_once(rig: Rig, other: ExitStack) -> None:
    rig.configure(backends=[a_backend(options={"settles_with_worker": True})])
    (event_id,) = rig.ingest()
    begin(rig, other)
    assert rig.sync() == []
    other.close()
    assert rig.outcomes() == ["created"]
    assert rig.task(event_id).attempts == 2


def test_a_worker_that_dies_while_a_run_goes_on_leaves_its_tasks_to_that_run(
    rig: Rig, other: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.configure(backends=[a_backend(options={"settles_with_worker": True})])
    rig.ingest(3)
    begin(rig, other)

    def die(task: Task, target: Target, timeout: float) -> None:
        other.close()

    monkeypatch.setattr(scripted, "on_create", die)
    results = rig.sync()
    assert [(result.seq, result.result) for result in results] == [(1, "created"), (2, "created"), (3, "created")]


def test_each_task_is_told_of_once_also_when_a_worker_dies_meanwhile(
    rig: Rig, other: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.configure(backends=[a_backend(options={"settles_with_worker": True})])
    rig.ingest(3)
    rig.tracker.will(scripted.Fault("try_later", times=2, retry_after=500))
    rig.sync(limit=1)
    begin(rig, other, seq=2)

    def die(task: Task, target: Target, timeout: float) -> None:
        other.close()

    monkeypatch.setattr(scripted, "on_create", die)
    results = rig.sync()
    assert [(result.seq, result.result) for result in results] == [(1, "deferred"), (2, "created"), (3, "deferred")]


def test_a_late_success_of_an_overtaken_worker_is_written_down_and_changes_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was suspended while its request was answered; meanwhile another one has found the issue."""
    (event_id,) = rig.ingest()
    overtake = in_another_run(rig)

    def be_suspended(issue: Issue) -> None:
        monkeypatch.setattr(scripted, "on_answer", None)
        rig.clock.move(LEASE + 1)
        overtake()

    monkeypatch.setattr(scripted, "on_answer", be_suspended)
    assert rig.sync() == []
    assert rig.kinds(event_id) == ["created", "attempt", "adopted", "late"]
    (late,) = rig.history(event_id, "late")
    assert late["id"] == str(rig.tracker.issues()[0].id)
    assert (rig.task(event_id).state, rig.task(event_id).attempts) == ("synced", 1)


def test_a_late_failure_of_an_overtaken_worker_changes_nothing(rig: Rig, other: ExitStack) -> None:
    (event_id,) = rig.ingest()
    attempt = begin(rig, other)
    rig.clock.move(LEASE + 1)
    rig.sync()
    before = rig.task(event_id)
    with rig.ledger.write() as tx:
        outcomes.refuse(tx, attempt, "refused", "no")
        outcomes.give_back(tx, attempt, "limited", "no")
        outcomes.leave_in_doubt(tx, attempt, "no")
        outcomes.try_later(tx, attempt, "try_later", "no", next_at=rig.clock.now(), max_attempts=1)
    assert rig.task(event_id) == before
    assert before.state == "synced"


def test_a_task_whose_lease_is_gone_before_the_request_is_not_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a thread is held up for longer than its request may take; the task waits for nothing."""
    (event_id,) = rig.ingest()
    create = scripted.Scripted.create

    def be_held_up(*arguments: object, **named: object) -> Issue:
        monkeypatch.setattr(scripted.Scripted, "create", create)
        rig.clock.move(TIMEOUT)
        return create(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(scripted.Scripted, "create", be_held_up)
    (result,) = rig.sync()
    assert (result.result, result.until) == ("deferred", rig.clock.now())
    assert rig.tracker.calls("create") == []
    assert (rig.task(event_id).attempts, rig.task(event_id).in_doubt_since) == (0, None)
    assert rig.outcomes() == ["created"]


@pytest.mark.parametrize(("held_up", "timeouts"), [(10.0, [TIMEOUT - 10]), (TIMEOUT / 2 + 1, [])])
def test_a_request_that_is_sent_late_has_so_much_less_time_and_soon_too_little(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, held_up: float, timeouts: list[float]
) -> None:
    """All requests must be over when their issues are looked for, whatever holds them up before they are sent."""
    start, given = creates.in_thread, []

    def start_late(work: Callable[[], creates.Done]) -> Future[creates.Done]:
        rig.clock.move(held_up)
        return start(work)

    def note(task: Task, target: Target, timeout: float) -> None:
        given.append(timeout)

    monkeypatch.setattr(creates, "in_thread", start_late)
    monkeypatch.setattr(scripted, "on_create", note)
    rig.ingest()
    rig.sync()
    assert given == timeouts


def test_a_task_that_another_run_has_put_in_doubt_meanwhile_is_not_sent_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This run picked both tasks when they were due; before it comes to the second, the other one has tried it."""
    rig.configure(backends=[a_backend(max_in_flight=1)])
    _, second = rig.ingest(2)
    rig.tracker.will(scripted.Fault("unknown_after", event_id=second))
    other_run = in_another_run(rig)

    def run_another(task: Task, target: Target, timeout: float) -> None:
        monkeypatch.setattr(scripted, "on_create", None)
        other_run()

    monkeypatch.setattr(scripted, "on_create", run_another)
    rig.sync()
    assert rig.task(second).in_doubt_since is not None
    assert [call.event_id for call in rig.tracker.calls("create")].count(second) == 1


def test_two_runs_at_once_share_the_work(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.ingest(30)
    other_run = in_another_run(rig)

    def run_another(task: Task, target: Target, timeout: float) -> None:
        monkeypatch.setattr(scripted, "on_create", None)
        other_run()

    monkeypatch.setattr(scripted, "on_create", run_another)
    rig.sync()
    assert rig.states() == {"synced": 30}
    assert len(rig.tracker.calls("create")) == 30


def test_a_worker_is_alive_as_long_as_its_lock_and_leaves_nothing_behind(rig: Rig) -> None:
    rig.ingest()
    ledger = rig.ledger.path
    with enlisted(ledger) as one, enlisted(ledger) as another:
        assert one != another
        assert is_alive(ledger, one)
        assert is_alive(ledger, another)
        assert not is_alive(ledger, "0000000000000000")
    assert not is_alive(ledger, one)
    assert list(ledger.with_name(ledger.name + ".workers").iterdir()) == []


def test_a_ledger_that_fails_ends_the_run_only_when_its_requests_have_come_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.configure(backends=[a_backend(max_in_flight=2)])
    rig.ingest(2)
    both_sent = threading.Barrier(2)
    alive_at_the_end: list[bool] = []

    def break_the_ledger(issue: Issue) -> None:
        if both_sent.wait() == 0:
            with closing(sqlite3.connect(rig.ledger.path)) as connection:
                connection.execute("ALTER TABLE attempts RENAME TO lost")
            return
        ((owner,),) = rig.sql("SELECT DISTINCT owner FROM leases")
        # Long enough for the run to end, if it would not wait for this answer.
        threading.Event().wait(0.3)
        alive_at_the_end.append(is_alive(rig.ledger.path, owner))

    monkeypatch.setattr(scripted, "on_answer", break_the_ledger)
    with pytest.raises(LedgerError):
        rig.sync()
    assert alive_at_the_end == [True]
    with rig.ledger.write() as tx:
        tx.connection.execute("ALTER TABLE lost RENAME TO attempts")
    monkeypatch.setattr(scripted, "on_answer", None)
    rig.clock.move(SOON)
    assert rig.outcomes() == ["adopted"] * 2
