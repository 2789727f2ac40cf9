"""Tasks in doubt: an attempt was made, and nobody knows whether it worked. Look where it went, then adopt or go on.

Only a settled look ends a doubt. It is taken when the tracker must be done with what it may have received, at the
target that the attempt had, with the eyes of the account.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from issue_core.backends.base import Issue, Target
from issue_core.errors import BackendError
from issue_core.ledger import Transaction, history, outbox, outcomes
from issue_core.ledger.outbox import Unsettled, Waiting, Where
from issue_core.sync_engine.desk import Blocked, Desk
from issue_core.sync_engine.results import Result
from issue_core.task import Remote, from_text

PAGE = 500
"""So many tasks share one listing, at most."""

CLOCK_MARGIN = timedelta(hours=1, minutes=5)
"""How far a tracker's clock may differ from ours without an issue being overlooked."""


class LeaseLost(Exception):
    """The lease ran out before the work was done; another worker may have the task by now."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A task in doubt, and the attempts that made it so."""

    waiting: Waiting
    attempts: tuple[Unsettled, ...]

    @property
    def since(self) -> datetime:
        """From when on the issue may have been made."""
        told = from_text(self.waiting.in_doubt_since or self.waiting.created_at)
        return min([told, *(attempt.since for attempt in self.attempts)])

    @property
    def targets(self) -> tuple[Target, ...]:
        """Where the attempts went."""
        wheres = (attempt.where for attempt in self.attempts)
        return tuple(dict.fromkeys(Target(where.backend, where.address, where.project) for where in wheres))


def settle(desk: Desk) -> None:
    """Look for the issues of all tasks that are in doubt at this desk's backend and may be looked for now."""
    after = 0
    while not desk.stop.is_set():
        with desk.ledger.read() as connection:
            page = outbox.in_doubt(connection, after=after, limit=PAGE)
        if not page:
            return
        after = page[-1].seq
        for targets, doubts in _by_targets(_ready(desk, page)).items():
            if not desk.stop.is_set():
                _look(desk, targets, doubts)


def _ready(desk: Desk, page: Iterable[Waiting]) -> Iterator[Doubt]:
    for waiting in page:
        if not desk.mine(waiting):
            continue
        doubt = _doubt(desk, waiting)
        if doubt is None:
            continue
        look_in = 0.0 if desk.traits.settles_with_worker else max(attempt.look_in for attempt in doubt.attempts)
        if look_in > 0:
            until = desk.ledger.clock.now() + timedelta(seconds=look_in)
            reason = "in doubt whether its issue was made: it will be looked for when the tracker must be done"
            desk.defer(waiting, Blocked(reason, until, parked=False))
        else:
            yield doubt


def _doubt(desk: Desk, waiting: Waiting) -> Doubt | None:
    """The doubt as it stands; ``None`` when the task is in the hands of a living worker."""
    clock = desk.ledger.clock
    longest = max(desk.sync.request_timeout + desk.traits.settle, desk.traits.look_interval)
    for _ in range(2):
        with desk.ledger.read() as connection:
            if outbox.is_leased(connection, waiting.seq):
                return None
            now, running, boot = clock.now(), clock.running(), clock.boot()
            if outbox.is_explained(connection, waiting.seq):
                attempts = outbox.unsettled(
                    connection, waiting.seq, now=now, running=running, boot=boot, longest=longest
                )
                return Doubt(waiting, tuple(attempts))
            wait = outbox.wait_after_restore(connection, now, desk.sync.request_timeout + desk.traits.settle)
        # In doubt for another reason than an attempt on record: the place to look is where the route points now.
        target = desk.backend.target(waiting.target_repo)
        where = Where(target.backend, target.address, target.project, "")
        with desk.ledger.write() as tx:
            outbox.assume_attempt(tx, waiting.seq, where, wait=wait, running=clock.running(), boot=clock.boot())
    return None


def _by_targets(doubts: Iterable[Doubt]) -> dict[tuple[Target, ...], list[Doubt]]:
    groups: dict[tuple[Target, ...], list[Doubt]] = {}
    for doubt in doubts:
        groups.setdefault(doubt.targets, []).append(doubt)
    return groups


def _look(desk: Desk, targets: Sequence[Target], doubts: Sequence[Doubt]) -> None:
    here = desk.backend.target(doubts[0].waiting.target_repo)
    for target in targets:
        if blocked := desk.gate(target, here):
            _defer(desk, doubts, blocked)
            return
    account = desk.account(here)
    if account is None:
        _defer(desk, doubts, desk.closed(here))
        return
    if leased := _lease(desk, doubts):
        _look_leased(desk, targets, leased, account)


def _look_leased(desk: Desk, targets: Sequence[Target], doubts: Sequence[Doubt], account: str) -> None:
    lease = _Lease(desk, [doubt.waiting.seq for doubt in doubts])
    event_ids = frozenset(doubt.waiting.event_id for doubt in doubts)
    since = min(doubt.since for doubt in doubts) - CLOCK_MARGIN
    found: dict[str, list[Issue]] = {}
    for target in targets:
        try:
            seen = desk.backend.look(target, event_ids, since, keep_lease=lease.keep)
        except BackendError as error:
            with desk.ledger.write() as tx:
                blocked = desk.park_for(tx, error, target)
            reason = f"in doubt, and could not be looked for: {error.message}"
            _give_up(desk, doubts, blocked or Blocked(reason, desk.again(error), parked=False))
            return
        except LeaseLost:
            reason = "in doubt, and there was no time left to look for it"
            _give_up(desk, doubts, Blocked(reason, desk.ledger.clock.now(), parked=False))
            return
        for event_id, issues in seen.items():
            found.setdefault(event_id, []).extend(issues)
    _write_down(desk, doubts, found, account)


def _lease(desk: Desk, doubts: Sequence[Doubt]) -> list[Doubt]:
    wanted = [doubt for doubt in doubts if desk.budget.take()]
    if not wanted:
        return []
    with desk.ledger.write() as tx:
        until = desk.ledger.clock.running() + desk.sync.lease
        leased = [
            doubt
            for doubt in wanted
            if outbox.lease_to_look(tx, doubt.waiting.seq, doubt.attempts, owner=desk.worker, until=until)
        ]
    for _ in range(len(wanted) - len(leased)):
        desk.budget.give_back()
    return leased


def _defer(desk: Desk, doubts: Sequence[Doubt], why: Blocked | None) -> None:
    for doubt in doubts:
        desk.defer(doubt.waiting, why or Blocked("in doubt, and it is not known which account looks", None))


class _Lease:
    """The leases of one look, renewed while its listing runs."""

    def __init__(self, desk: Desk, seqs: list[int]) -> None:
        self._desk = desk
        self._seqs = seqs
        self._until = desk.ledger.clock.running() + desk.sync.lease

    def keep(self) -> None:
        """Renew the leases once half of their time is over.

        Raises:
            LeaseLost: they ran out; or the run is to stop.
        """
        running = self._desk.ledger.clock.running()
        if self._desk.stop.is_set() or running >= self._until:
            raise LeaseLost
        if self._until - running < self._desk.sync.lease / 2:
            self._until = running + self._desk.sync.lease
            with self._desk.ledger.write() as tx:
                outbox.renew(tx, self._seqs, owner=self._desk.worker, until=self._until)


def _give_up(desk: Desk, doubts: Sequence[Doubt], why: Blocked) -> None:
    """The listing did not come to its end, so it says nothing: the doubts stay."""
    with desk.ledger.write() as tx:
        for doubt in doubts:
            outcomes.end_look(tx, doubt.waiting.seq, owner=desk.worker)
    for _ in doubts:
        desk.budget.give_back()
    _defer(desk, doubts, why)


def _write_down(desk: Desk, doubts: Sequence[Doubt], found: dict[str, list[Issue]], account: str) -> None:
    told: list[Result] = []
    with desk.ledger.write() as tx:
        for doubt in doubts:
            if outcomes.end_look(tx, doubt.waiting.seq, owner=desk.worker):
                told += _settled(desk, tx, doubt, found.get(doubt.waiting.event_id, []), account)
    for result in told:
        desk.tell(result)


def _settled(desk: Desk, tx: Transaction, doubt: Doubt, issues: list[Issue], account: str) -> Iterator[Result]:
    if not issues:
        return _absent(desk, tx, doubt)
    theirs = (attempt.where.account for attempt in doubt.attempts if attempt.where.account)
    accounts = {account, *desk.settings.accounts, *theirs}
    ours = [issue for issue in issues if issue.account in accounts]
    return _adopted(desk, tx, doubt, ours) if ours else _a_strangers(desk, tx, doubt, issues[0])


def _adopted(desk: Desk, tx: Transaction, doubt: Doubt, ours: list[Issue]) -> Iterator[Result]:
    issue, *others = ours
    attempt = doubt.attempts[-1]
    outcomes.settle_as_found(tx, doubt.waiting.seq, doubt.attempts, issue=as_record(issue))
    for other in others:
        history.add(tx, doubt.waiting.seq, "double", **as_record(other))
    remote = Remote(issue.id, issue.url, issue.project, tx.now)
    yield Result(doubt.waiting.event_id, doubt.waiting.seq, attempt.where.backend, "adopted", remote=remote)


def _a_strangers(desk: Desk, tx: Transaction, doubt: Doubt, issue: Issue) -> Iterator[Result]:
    error = a_strangers(issue)
    outcomes.fail(tx, doubt.waiting.seq, "stranger", error, doubt_ends=False)
    yield Result(doubt.waiting.event_id, doubt.waiting.seq, desk.name, "failed", error=error)


def _absent(desk: Desk, tx: Transaction, doubt: Doubt) -> Iterator[Result]:
    clock, traits, waiting = desk.ledger.clock, desk.traits, doubt.waiting
    if any(attempt.looks + 1 < traits.looks for attempt in doubt.attempts):
        for attempt in doubt.attempts:
            outcomes.look_again(tx, attempt, wait=traits.look_interval, running=clock.running(), boot=clock.boot())
        until = tx.moment + timedelta(seconds=traits.look_interval)
        reason = "in doubt: not seen yet, and one look is not enough here"
        yield Result(waiting.event_id, waiting.seq, desk.name, "deferred", reason, until)
        return
    # Where a worker died the tracker is not to blame, so the task goes on at once.
    cut_off = all(attempt.cut_off for attempt in doubt.attempts)
    next_at = None if cut_off else tx.moment + desk.back_off(waiting.attempts)
    failed = outcomes.settle_as_absent(
        tx, waiting.seq, doubt.attempts, next_at=next_at, max_attempts=desk.sync.max_attempts
    )
    if failed:
        yield Result(waiting.event_id, waiting.seq, desk.name, "failed", error="no attempt of many worked")
    else:
        desk.budget.give_back()


def as_record(issue: Issue) -> dict[str, str]:
    """An issue as the ledger keeps it."""
    return {"id": issue.id, "url": issue.url, "project": issue.project}


def a_strangers(issue: Issue) -> str:
    """What is wrong with an issue that carries the event ID of a task but was not made by us."""
    return (
        f"{issue.url} carries this event ID, but {issue.account!r} made it, which is not our account; "
        "if it is to be trusted, add that account to the backend's accounts, then: issue retry; or use: issue link"
    )
