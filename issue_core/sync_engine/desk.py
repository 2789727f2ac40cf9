"""What the parts of one backend's run share: the backend, the clock, the gate, and how a result is told."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from issue_core.backends.base import Backend, Target, Traits
from issue_core.config import BackendSettings, SyncSettings
from issue_core.errors import BackendError, CredentialsRefused, Limited, OutcomeUnknown, ProjectClosed, Unreachable
from issue_core.ledger import Ledger, Transaction, limits
from issue_core.ledger.limits import WHOLE_BACKEND, Pace, Parked
from issue_core.ledger.outbox import Times, Waiting
from issue_core.sync_engine.plan import Plan, deferred, parked_for
from issue_core.sync_engine.results import Result

UNKNOWN_IN_A_ROW = 5
"""So many outcomes in a row that nobody knows, and the backend is parked."""

DEFAULT_LIMIT_WAIT = 60.0
"""Seconds to wait when a tracker says that its limit is used up, but not until when."""

LEAST_LIMIT_WAIT = 0.2
"""Seconds to wait after a limit in any case, also where the tracker says that it is none."""


class Budget:
    """How many tasks this run may still take in hand, over all backends (``None``: all)."""

    def __init__(self, limit: int | None) -> None:
        self._left = limit
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one; ``False`` when there is none left."""
        with self._lock:
            if self._left == 0:
                return False
            if self._left is not None:
                self._left -= 1
            return True

    def give_back(self) -> None:
        """Put back one that was taken for a task which then was not taken in hand."""
        with self._lock:
            if self._left is not None:
                self._left += 1


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why nothing goes to a target in this run, and until when. ``refused``: a probe was refused in this very run."""

    reason: str
    until: datetime | None
    refused: Parked | None = None
    parked: bool = True


@dataclass(slots=True)
class Desk:
    """One backend's place of work in one run. Belongs to one thread."""

    backend: Backend
    settings: BackendSettings
    sync: SyncSettings
    plan: Plan
    ledger: Ledger
    worker: str
    is_alive: Callable[[str], bool]
    tell: Callable[[Result], None]
    stop: threading.Event
    budget: Budget
    only: set[int] | None = None
    """The seqs that this pass is about; ``None``: all."""
    blocked: dict[str, Blocked] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    _account: str | None = None
    _here: str = ""

    @property
    def name(self) -> str:
        """The configured backend's name."""
        return self.backend.name

    @property
    def traits(self) -> Traits:
        """How the backend wants to be used."""
        return self.backend.traits

    @property
    def pace(self) -> Pace:
        """How fast creates may follow each other."""
        return Pace(self.traits.min_interval, self.traits.per_minute, self.traits.per_hour)

    @property
    def times(self) -> Times:
        """How long an attempt may take, and what follows it."""
        return Times(self.sync.request_timeout, self.traits.settle, self.sync.lease)

    def mine(self, waiting: Waiting) -> bool:
        """Whether a pending task is this backend's, and one that this pass is about."""
        if self.only is not None and waiting.seq not in self.only:
            return False
        return self.plan.choice.has(waiting.target_repo) and self.plan.backend_of(waiting) == self.name

    def account(self, target: Target) -> str | None:
        """The account that creates; ``None``: it cannot be had, and the gate to ``target`` is closed."""
        if self._account is None:
            try:
                self._account = self.backend.account()
            except BackendError as error:
                with self.ledger.write() as tx:
                    if self.park_for(tx, error, target) is None:
                        self.block(error.message, self.again(error))
        return self._account

    def back_off(self, tries: int) -> timedelta:
        """How long to wait after so many vain tries: doubling from the first to the longest wait, with jitter."""
        first, longest = self.sync.backoff
        wait = min(longest, first * 2.0 ** min(tries, 40))
        return timedelta(seconds=wait * random.uniform(0.75, 1.0))  # noqa: S311 - spreads load, guards nothing

    def again(self, error: BackendError) -> datetime:
        """When to ask again for what ``error`` kept from us, where nothing else says it."""
        wait = timedelta(seconds=error.retry_after) if error.retry_after else self.back_off(0)
        return self.ledger.clock.now() + wait

    def defer(self, waiting: Waiting, why: Blocked) -> None:
        """Tell that a task waits."""
        self.tell(deferred(waiting, self.name, why.reason, until=why.until, parked=why.parked))

    # --- the gate: what is parked -------------------------------------------------------------------------------

    def gate(self, target: Target, here: Target) -> Blocked | None:
        """Whether tasks may go to ``target`` now; of what is parked and due, one probe a run finds out.

        ``here`` is where the tasks would go today: ``target`` may be at an address that the backend had before, and
        when that is gone, it is not the backend that is parked.
        """
        self._here = here.address
        for key, place in ((WHOLE_BACKEND, here), (self._project(target), target)):
            if key not in self.passed and not self.closed(target):
                self._ask(key, place)
        return self.closed(target)

    def closed(self, target: Target) -> Blocked | None:
        """What :meth:`gate` knows already, without a look into the ledger or at the tracker."""
        return self.blocked.get(WHOLE_BACKEND) or self.blocked.get(self._project(target))

    def _project(self, target: Target) -> str:
        return target.project if self._is_here(target) else f"{target.project} at {target.address}"

    def _is_here(self, target: Target) -> bool:
        return target.address == self._here

    def _ask(self, key: str, target: Target) -> None:
        now = self.ledger.clock.now()
        with self.ledger.read() as connection:
            limited = limits.limited(connection, self.name, now)
            parked = limits.parked(connection, self.name).get(key)
        if limited is not None:
            self._block(key, Blocked(limited.reason, limited.until, parked=False))
        elif parked is None:
            self.passed.add(key)
        elif parked.until > now >= parked.since:
            self._block(key, Blocked(parked_for(parked), parked.until))
        else:
            self._probe(parked, target)

    def _probe(self, parked: Parked, target: Target) -> None:
        try:
            self.backend.probe(target)
        except BackendError as error:
            with self.ledger.write() as tx:
                if parked.project == WHOLE_BACKEND and isinstance(error, ProjectClosed):
                    # The backend answers again; it is the project that does not.
                    self._open(tx, parked)
                    self.park_for(tx, error, target)
                else:
                    self.park_for(tx, error, target, probed=parked)
        else:
            with self.ledger.write() as tx:
                self._open(tx, parked)

    def _open(self, tx: Transaction, parked: Parked) -> None:
        limits.unpark(tx, self.name, parked.project)
        limits.end_streak(tx, self.name)
        self.passed.add(parked.project)

    def park_for(
        self, tx: Transaction, error: BackendError, target: Target, *, probed: Parked | None = None
    ) -> Blocked | None:
        """Leave alone what ``error`` says is not to be had; gives what is blocked now, if anything.

        ``probed`` is what a vain probe was for; it stays parked whatever the error.
        """
        if isinstance(error, Limited):
            told = DEFAULT_LIMIT_WAIT if error.retry_after is None else max(error.retry_after, LEAST_LIMIT_WAIT)
            until = tx.moment + timedelta(seconds=told)
            limits.limit(tx, self.name, until, error.message)
            return self._block(WHOLE_BACKEND, Blocked(f"the tracker's limit: {error.message}", until, parked=False))
        key = self._at_fault(tx, error, target)
        if key is None and probed is not None:
            key = probed.project
        if key is None:
            return None
        still = probed is not None and probed.project == key
        probes = probed.probes + 1 if probed is not None and still else 0
        wait = timedelta(seconds=error.retry_after) if error.retry_after else self.back_off(probes)
        parked = limits.park(
            tx, self.name, key, code=error.code, reason=error.message, until=tx.moment + wait, probes=probes
        )
        refused = parked if still and isinstance(error, ProjectClosed) else None
        return self._block(key, Blocked(parked_for(parked), parked.until, refused))

    def _at_fault(self, tx: Transaction, error: BackendError, target: Target) -> str | None:
        """What the error says is not to be had: the backend, the project; ``None``: neither."""
        if isinstance(error, ProjectClosed):
            return self._project(target)
        if isinstance(error, OutcomeUnknown):
            gone = limits.count_unknown(tx, self.name) >= UNKNOWN_IN_A_ROW
        else:
            gone = isinstance(error, Unreachable | CredentialsRefused)
        if not gone:
            return None
        return WHOLE_BACKEND if self._is_here(target) else self._project(target)

    def _block(self, key: str, blocked: Blocked) -> Blocked:
        self.passed.discard(key)
        self.blocked[key] = blocked
        return blocked

    def block(self, reason: str, until: datetime | None) -> None:
        """Let nothing more go to this backend in this run."""
        self._block(WHOLE_BACKEND, Blocked(reason, until, parked=False))
