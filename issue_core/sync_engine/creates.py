"""Tasks that are due: one attempt each, written down before the request leaves, its outcome after."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

from issue_core.backends.base import Issue, Target
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
from issue_core.ledger import Transaction, facets, limits, outbox, outcomes
from issue_core.ledger.outbox import Attempt, Waiting, Where
from issue_core.sync_engine.desk import Blocked, Desk
from issue_core.sync_engine.doubts import LeaseLost, a_strangers, as_record
from issue_core.sync_engine.plan import back_off
from issue_core.sync_engine.results import Result
from issue_core.task import Remote, from_text

AHEAD = 64
"""So many due tasks are picked before the ledger is asked for the first of them."""

BLOCKS_AT_ONCE = 32
"""So many blocks are looked at in one transaction, at the end, to see which hold no pending task any more."""

PATIENCE = 60.0
"""A wait of so many seconds at most is waited for within a run."""

CLOSED_FOR_GOOD = timedelta(hours=24)
"""A task older than this fails when its project is still closed to us."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """A request that came back: the issue (``adopted``: it was there), or the error.

    Neither: the issue was looked for before its create, and is not there. ``looked``: that was all that was asked.
    """

    attempt: Attempt
    target: Target
    issue: Issue | None = None
    adopted: bool = False
    error: BackendError | LeaseLost | None = None
    looked: bool = False

    @property
    def absent(self) -> bool:
        """Whether the create may begin now."""
        return self.issue is None and self.error is None


class Creates:
    """The creates of one run at one backend, at most ``max_in_flight`` at once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._due = self._pick()
        self._next: deque[tuple[Waiting, Target]] = deque()
        self._in_flight: set[Future[Done]] = set()
        self._blocks: list[int] = []
        self._spent = False
        self.met_others = False

    def run(self) -> None:
        """Go once through all that is due."""
        try:
            self._run()
        finally:
            # A worker ends after its requests: as long as it lives, nobody takes its attempts for settled.
            wait(self._in_flight)
        self._forget_empty_blocks()

    def _run(self) -> None:
        done: list[Done] = []
        while True:
            self._fill()
            pace = self._exchange(done)
            done = []
            if self._in_flight:
                timeout = self._seconds_until(pace) if pace and self._has_room() else None
                finished, self._in_flight = _first_of(self._in_flight, timeout)
                done = [future.result() for future in finished]
            elif not self._next or self._spent or self._desk.stop.is_set():
                break
            elif pace:
                self._wait_for(pace)

    # --- picking ------------------------------------------------------------------------------------------------

    def _pick(self) -> Iterator[tuple[Waiting, Target]]:
        """The tasks of this backend that are due, where the gate is open; tells what waits."""
        desk = self._desk
        for block, page in outbox.pending_pages(desk.ledger):
            self._blocks.append(block)
            for waiting in page:
                if waiting.in_doubt_since or not desk.mine(waiting):
                    continue
                if until := outbox.not_before(waiting, desk.ledger.clock.now()):
                    desk.defer(waiting, Blocked(back_off(waiting), until, parked=False))
                    continue
                target = desk.backend.target(waiting.target_repo)
                if blocked := desk.gate(target, target):
                    self._turn_away(waiting, blocked)
                else:
                    yield waiting, target

    def _turn_away(self, waiting: Waiting, blocked: Blocked) -> None:
        desk, now = self._desk, self._desk.ledger.clock.now()
        if blocked.refused is None or now - from_text(waiting.created_at) < CLOSED_FOR_GOOD:
            desk.defer(waiting, blocked)
            return
        error = blocked.refused.reason
        with desk.ledger.write() as tx:
            failed = outcomes.give_up(tx, waiting.seq, blocked.refused.code, error)
        if failed:
            desk.tell(Result(waiting.event_id, waiting.seq, desk.name, "failed", error=error))

    def _fill(self) -> None:
        while len(self._next) < AHEAD and not self._desk.stop.is_set() and not self._spent:
            picked = next(self._due, None)
            if picked is None:
                return
            self._next.append(picked)

    # --- one transaction: what came back, and what goes out -----------------------------------------------------

    def _exchange(self, done: list[Done]) -> limits.Wait | None:
        """Write down what came back and the next attempts, in one commit; then send those. Gives what the pace is."""
        desk = self._desk
        self._drop_what_is_closed()
        may_begin = bool(self._next) and self._has_room() and not desk.stop.is_set() and not self._spent
        if may_begin:
            account = desk.account(self._next[0][1])
            may_begin = account is not None
        if not done and not may_begin:
            return None
        told: list[Result] = []
        begun: list[Callable[[], Done]] = []
        pace = None
        with desk.ledger.write() as tx:
            for item in done:
                if item.absent:
                    told += self._go_on(tx, item, begun)
                else:
                    told += self._record(tx, item)
            if may_begin:
                pace = self._begin(tx, account or "", begun)
        self._in_flight.update(in_thread(work) for work in begun)
        for result in told:
            desk.tell(result)
        return pace

    def _drop_what_is_closed(self) -> None:
        """Tell of the tasks that were picked before their gate closed that they wait."""
        while self._next and (blocked := self._desk.closed(self._next[0][1])):
            self._desk.defer(self._next.popleft()[0], blocked)

    def _has_room(self) -> bool:
        return len(self._in_flight) < self._desk.traits.max_in_flight

    def _begin(self, tx: Transaction, account: str, begun: list[Callable[[], Done]]) -> limits.Wait | None:
        desk = self._desk
        while self._next and len(self._in_flight) + len(begun) < desk.traits.max_in_flight:
            waiting, target = self._next[0]
            if desk.closed(target):
                break
            if pace := limits.wait(tx.connection, desk.name, desk.pace, tx.moment):
                return pace
            if not desk.budget.take():
                self._spent = True
                break
            self._next.popleft()
            if attempt := self._attempt(tx, waiting, Where(target.backend, target.address, target.project, account)):
                limits.take(tx, desk.name, desk.pace)
                work = self._look_first if self._may_be_there(attempt) else self._create
                begun.append(partial(work, attempt, target))
            else:
                desk.budget.give_back()
                self.met_others = True
        return None

    def _attempt(self, tx: Transaction, waiting: Waiting, where: Where) -> Attempt | None:
        desk, clock = self._desk, self._desk.ledger.clock
        return outbox.begin(
            tx, waiting.seq, where, owner=desk.worker, times=desk.times, running=clock.running(), boot=clock.boot()
        )

    def _may_be_there(self, attempt: Attempt) -> bool:
        """Whether another ledger, that feeds this backend too, may have made the issue."""
        return self._desk.settings.lookup == "always" and attempt.task.attempts == 0

    def _go_on(self, tx: Transaction, looked: Done, begun: list[Callable[[], Done]]) -> Iterator[Result]:
        """Create what was looked for and is not there; its attempt begins only now."""
        desk, clock = self._desk, self._desk.ledger.clock
        attempt = None
        if not desk.stop.is_set() and not desk.closed(looked.target):
            attempt = outbox.restart(tx, looked.attempt, times=desk.times, running=clock.running(), boot=clock.boot())
        if attempt is None:
            return self._record(tx, replace(looked, error=LeaseLost()))
        begun.append(partial(self._create, attempt, looked.target))
        return iter(())

    # --- in a thread of its own ---------------------------------------------------------------------------------

    def _create(self, attempt: Attempt, target: Target) -> Done:
        desk, clock = self._desk, self._desk.ledger.clock
        left = attempt.deadline - clock.running()

        def before_send() -> None:
            if clock.running() >= attempt.deadline:
                raise LeaseLost

        if left < desk.sync.request_timeout / 2:
            # Something held us up. A request that ends after its time would be looked for too early.
            return Done(attempt, target, error=LeaseLost())
        try:
            issue = desk.backend.create(attempt.task, target, timeout=left, before_send=before_send)
        except (BackendError, LeaseLost) as error:
            return Done(attempt, target, error=error)
        except Exception as error:  # noqa: BLE001 - a mistake in a backend says nothing about what it has sent
            return Done(attempt, target, error=OutcomeUnknown(f"the backend failed with {type(error).__name__}"))
        return Done(attempt, target, issue)

    def _look_first(self, attempt: Attempt, target: Target) -> Done:
        """The issue that another ledger made for this event already, where several feed one backend."""
        desk, clock = self._desk, self._desk.ledger.clock
        event_id = attempt.task.event_id

        def keep_lease() -> None:
            if desk.stop.is_set() or clock.running() >= attempt.until:
                raise LeaseLost

        try:
            since = clock.now() - timedelta(seconds=desk.settings.lookup_back)
            found = desk.backend.look(target, {event_id}, since, keep_lease=keep_lease).get(event_id, [])
        except (BackendError, LeaseLost) as error:
            return Done(attempt, target, error=error, looked=True)
        ours = [issue for issue in found if issue.account in {attempt.where.account, *desk.settings.accounts}]
        if found and not ours:
            return Done(attempt, target, error=Refused(a_strangers(found[0])))
        return Done(attempt, target, ours[0] if ours else None, adopted=bool(ours))

    # --- outcomes -----------------------------------------------------------------------------------------------

    def _record(self, tx: Transaction, done: Done) -> Iterator[Result]:
        task, error = done.attempt.task, done.error
        name = self._desk.name
        if done.issue is not None:
            limits.end_streak(tx, name)
            if not outcomes.succeed(
                tx, done.attempt, issue=as_record(done.issue), notes=done.issue.notes, adopted=done.adopted
            ):
                return
            remote = Remote(done.issue.id, done.issue.url, done.issue.project, tx.now)
            yield Result(task.event_id, task.seq, name, "adopted" if done.adopted else "created", remote=remote)
        elif isinstance(error, BackendError):
            yield self._record_error(tx, done, error)
        else:
            why = "there was no time left to send the request"
            outcomes.give_back(tx, done.attempt, "lease", why)
            self._desk.budget.give_back()
            yield Result(task.event_id, task.seq, name, "deferred", why, tx.moment)

    def _record_error(self, tx: Transaction, done: Done, error: BackendError) -> Result:
        desk, attempt, task = self._desk, done.attempt, done.attempt.task
        waits: Blocked | None = desk.park_for(tx, error, done.target)
        if error.known:
            limits.end_streak(tx, desk.name)
        if done.looked or isinstance(error, Unreachable | CredentialsRefused | ProjectClosed | Limited):
            # Of what was only looked for, nothing is in doubt, whatever the look came to.
            outcomes.give_back(tx, attempt, "look" if done.looked else error.code, error.message)
            desk.budget.give_back()
        elif isinstance(error, OutcomeUnknown):
            outcomes.leave_in_doubt(tx, attempt, error.message)
            look_in = attempt.deadline + desk.traits.settle - desk.ledger.clock.running()
            look_at = tx.moment + timedelta(seconds=look_in)
            reason = f"in doubt whether its issue was made: {error.message}"
            waits = Blocked(reason, look_at, parked=False)
        elif isinstance(error, TryLater):
            pause = timedelta(seconds=error.retry_after) if error.retry_after else desk.back_off(task.attempts)
            next_at = tx.moment + pause
            if outcomes.try_later(
                tx, attempt, error.code, error.message, next_at=next_at, max_attempts=desk.sync.max_attempts
            ):
                return Result(task.event_id, task.seq, desk.name, "failed", error=error.message)
            waits = Blocked(f"back-off: {error.message}", next_at, parked=False)
        else:
            outcomes.refuse(tx, attempt, error.code, error.message)
            return Result(task.event_id, task.seq, desk.name, "failed", error=error.message)
        why = waits or Blocked(error.message, desk.again(error), parked=False)
        return Result(
            task.event_id,
            task.seq,
            desk.name,
            "deferred",
            why.reason,
            why.until,
            error=error.message,
            parked=why.parked,
        )

    # --- waiting, and the end -----------------------------------------------------------------------------------

    def _seconds_until(self, pace: limits.Wait) -> float:
        return max(0.0, (pace.until - self._desk.ledger.clock.now()).total_seconds())

    def _wait_for(self, pace: limits.Wait) -> None:
        """Wait for the pace, if that is soon; else everything that is left waits for the next run."""
        seconds = self._seconds_until(pace)
        if seconds > PATIENCE:
            self._desk.block(pace.reason, pace.until)
        else:
            self._desk.stop.wait(seconds)

    def _forget_empty_blocks(self) -> None:
        """Of the blocks that were walked through, forget those in which nothing is pending any more."""
        for start in range(0, len(self._blocks), BLOCKS_AT_ONCE):
            with self._desk.ledger.write() as tx:
                for block in self._blocks[start : start + BLOCKS_AT_ONCE]:
                    facets.forget_empty(tx, "pending", block)


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Run ``work`` in a thread that does not keep the process alive: what it leaves unfinished is in doubt."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed on to whoever asks the future
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _first_of(futures: set[Future[Done]], timeout: float | None) -> tuple[set[Future[Done]], set[Future[Done]]]:
    finished, unfinished = wait(futures, timeout, return_when=FIRST_COMPLETED)
    return finished, unfinished
