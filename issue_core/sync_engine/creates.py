"""Tasks that are due: one attempt each, written down before the request leaves, its outcome after."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
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
from issue_core.ledger import Transaction, facets, limits, outbox
from issue_core.ledger.outbox import Attempt, Waiting, Where
from issue_core.sync_engine.desk import Blocked, Desk
from issue_core.sync_engine.doubts import LeaseLost, as_record
from issue_core.sync_engine.plan import back_off
from issue_core.sync_engine.results import Result
from issue_core.task import Remote, from_text

AHEAD = 64
"""So many due tasks are picked before the ledger is asked for the first of them."""

PATIENCE = 60.0
"""A wait of so many seconds at most is waited for within a run."""

CLOSED_FOR_GOOD = timedelta(hours=24)
"""A task older than this fails when its project is still closed to us."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """A create that came back: the issue (``adopted``: it was there), or the error."""

    attempt: Attempt
    target: Target
    issue: Issue | None = None
    adopted: bool = False
    error: BackendError | LeaseLost | None = None


class Creates:
    """The creates of one run at one backend, at most ``max_in_flight`` at once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._due = self._pick()
        self._next: deque[tuple[Waiting, Target]] = deque()
        self._in_flight: set[Future[Done]] = set()
        self._empty_blocks: list[int] = []
        self._account: str | None = None
        self._spent = False
        self.met_others = False

    def run(self) -> None:
        """Go once through all that is due."""
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
        self._forget_empty_blocks()

    # --- picking ------------------------------------------------------------------------------------------------

    def _pick(self) -> Iterator[tuple[Waiting, Target]]:
        """The tasks of this backend that are due, where the gate is open; tells what waits."""
        desk = self._desk
        for block, page in outbox.pending_pages(desk.ledger):
            if not page:
                self._empty_blocks.append(block)
            for waiting in page:
                if waiting.in_doubt_since or not desk.mine(waiting):
                    continue
                if until := outbox.not_before(waiting, desk.ledger.clock.now()):
                    desk.defer(waiting, Blocked(back_off(waiting), until, parked=False))
                    continue
                target = desk.backend.target(waiting.target_repo)
                if blocked := desk.gate(target):
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
            outbox.fail(tx, waiting.seq, blocked.refused.code, error, doubt_ends=False)
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
        if may_begin and self._account is None:
            may_begin = self._learn_account()
        if not done and not may_begin:
            return None
        told: list[Result] = []
        begun: list[tuple[Attempt, Target]] = []
        pace = None
        with desk.ledger.write() as tx:
            for item in done:
                told += self._record(tx, item)
            if may_begin:
                pace = self._begin(tx, begun)
        for attempt, target in begun:
            self._in_flight.add(in_thread(partial(self._create, attempt, target)))
        for result in told:
            desk.tell(result)
        return pace

    def _drop_what_is_closed(self) -> None:
        """Tell of the tasks that were picked before their gate closed that they wait."""
        while self._next and (blocked := self._desk.closed(self._next[0][1])):
            self._desk.defer(self._next.popleft()[0], blocked)

    def _has_room(self) -> bool:
        return len(self._in_flight) < self._desk.traits.max_in_flight

    def _learn_account(self) -> bool:
        target = self._next[0][1]
        try:
            self._account = self._desk.backend.account()
        except BackendError as error:
            with self._desk.ledger.write() as tx:
                if self._desk.park_for(tx, error, target) is None:
                    self._desk.blocked[limits.WHOLE_BACKEND] = Blocked(error.message, None, parked=False)
            return False
        return True

    def _begin(self, tx: Transaction, begun: list[tuple[Attempt, Target]]) -> limits.Wait | None:
        desk, clock = self._desk, self._desk.ledger.clock
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
            attempt = outbox.begin(
                tx,
                waiting.seq,
                Where(target.backend, target.address, target.project, self._account or ""),
                owner=desk.worker,
                lease=desk.sync.lease,
                look_after=desk.sync.request_timeout + desk.traits.settle,
                running=clock.running(),
                boot=clock.boot(),
            )
            if attempt is None:
                desk.budget.give_back()
                self.met_others = True
                continue
            limits.take(tx, desk.name, desk.pace)
            begun.append((attempt, target))
        return None

    # --- in a thread of its own ---------------------------------------------------------------------------------

    def _create(self, attempt: Attempt, target: Target) -> Done:
        desk = self._desk
        timeout = desk.sync.request_timeout

        def before_send() -> None:
            # All of the request must fit into what is left of the lease.
            if desk.ledger.clock.running() + timeout > attempt.until:
                raise LeaseLost

        try:
            if (
                desk.settings.lookup == "always"
                and attempt.task.attempts == 0
                and (issue := self._already(attempt, target))
            ):
                return Done(attempt, target, issue, adopted=True)
            issue = desk.backend.create(attempt.task, target, timeout=timeout, before_send=before_send)
        except (BackendError, LeaseLost) as error:
            return Done(attempt, target, error=error)
        return Done(attempt, target, issue)

    def _already(self, attempt: Attempt, target: Target) -> Issue | None:
        """The issue that another ledger made for this event already, where several feed one backend."""
        desk = self._desk
        since = desk.ledger.clock.now() - timedelta(seconds=desk.settings.lookup_back)
        event_id = attempt.task.event_id
        try:
            found = desk.backend.look(target, {event_id}, since, keep_lease=lambda: None).get(event_id, [])
        except OutcomeUnknown as error:
            # Nothing was created, so nothing is in doubt.
            raise TryLater(error.message, retry_after=error.retry_after) from error
        accounts = {attempt.where.account, *desk.settings.accounts}
        ours = [issue for issue in found if issue.account in accounts]
        if found and not ours:
            raise Refused(f"{found[0].url} carries this event ID, but {found[0].account!r} made it")
        return ours[0] if ours else None

    # --- outcomes -----------------------------------------------------------------------------------------------

    def _record(self, tx: Transaction, done: Done) -> Iterator[Result]:
        task, error = done.attempt.task, done.error
        name = self._desk.name
        if done.issue is not None:
            limits.end_streak(tx, name)
            if not outbox.succeed(
                tx, done.attempt, issue=as_record(done.issue), notes=done.issue.notes, adopted=done.adopted
            ):
                return
            remote = Remote(done.issue.id, done.issue.url, done.issue.project, tx.now)
            yield Result(task.event_id, task.seq, name, "adopted" if done.adopted else "created", remote=remote)
        elif isinstance(error, BackendError):
            yield self._record_error(tx, done, error)
        else:
            why = "the lease ran out before the request was sent"
            outbox.give_back(tx, done.attempt, "lease", why)
            yield Result(task.event_id, task.seq, name, "deferred", why)

    def _record_error(self, tx: Transaction, done: Done, error: BackendError) -> Result:
        desk, attempt, task = self._desk, done.attempt, done.attempt.task
        waits: Blocked | None = desk.park_for(tx, error, done.target)
        if error.known:
            limits.end_streak(tx, desk.name)
        if isinstance(error, Unreachable | CredentialsRefused | ProjectClosed | Limited):
            outbox.give_back(tx, attempt, error.code, error.message)
            desk.budget.give_back()
        elif isinstance(error, OutcomeUnknown):
            outbox.leave_in_doubt(tx, attempt, error.message)
            look_at = tx.moment + timedelta(seconds=desk.sync.request_timeout + desk.traits.settle)
            reason = f"in doubt whether its issue was made: {error.message}"
            waits = Blocked(reason, look_at, parked=False)
        elif isinstance(error, TryLater):
            pause = timedelta(seconds=error.retry_after) if error.retry_after else desk.back_off(task.attempts)
            next_at = tx.moment + pause
            if outbox.try_later(
                tx, attempt, error.code, error.message, next_at=next_at, max_attempts=desk.sync.max_attempts
            ):
                return Result(task.event_id, task.seq, desk.name, "failed", error=error.message)
            waits = Blocked(f"back-off: {error.message}", next_at, parked=False)
        else:
            outbox.refuse(tx, attempt, error.code, error.message)
            return Result(task.event_id, task.seq, desk.name, "failed", error=error.message)
        why = waits or Blocked(error.message, None)
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
            self._desk.blocked[limits.WHOLE_BACKEND] = Blocked(pace.reason, pace.until, parked=False)
        else:
            self._desk.stop.wait(seconds)

    def _forget_empty_blocks(self) -> None:
        if self._empty_blocks:
            with self._desk.ledger.write() as tx:
                for block in self._empty_blocks:
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
