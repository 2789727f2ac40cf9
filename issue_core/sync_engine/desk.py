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
from issue_core.ledger.outbox import Waiting
from issue_core.sync_engine.plan import Plan, deferred, parked_for
from issue_core.sync_engine.results import Result

UNKNOWN_IN_A_ROW = 5
"""So many outcomes in a row that nobody knows, and the backend is parked."""

DEFAULT_LIMIT_WAIT = 60.0
"""Seconds to wait when a tracker says that its limit is used up, but not until when."""


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
    blocked: dict[str, Blocked] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)

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

    def mine(self, waiting: Waiting) -> bool:
        """Whether a pending task is this backend's, and one that this run is about."""
        return self.plan.choice.has(waiting.target_repo) and self.plan.backend_of(waiting) == self.name

    def back_off(self, tries: int) -> timedelta:
        """How long to wait after so many vain tries: doubling from the first to the longest wait, with jitter."""
        first, longest = self.sync.backoff
        wait = min(longest, first * 2.0 ** min(tries, 40))
        return timedelta(seconds=wait * random.uniform(0.75, 1.0))  # noqa: S311 - spreads load, guards nothing

    def defer(self, waiting: Waiting, why: Blocked) -> None:
        """Tell that a task waits."""
        self.tell(deferred(waiting, self.name, why.reason, until=why.until, parked=why.parked))

    # --- the gate: what is parked -------------------------------------------------------------------------------

    def gate(self, target: Target) -> Blocked | None:
        """Whether tasks may go to ``target`` now; of what is parked and due, one probe a run finds out."""
        for key in (WHOLE_BACKEND, target.project):
            if key not in self.passed and key not in self.blocked:
                self._ask(key, target)
            if key in self.blocked:
                return self.blocked[key]
        return None

    def closed(self, target: Target) -> Blocked | None:
        """What :meth:`gate` knows already, without a look into the ledger or at the tracker."""
        return self.blocked.get(WHOLE_BACKEND) or self.blocked.get(target.project)

    def _ask(self, key: str, target: Target) -> None:
        with self.ledger.read() as connection:
            parked = limits.parked(connection, self.name).get(key)
        if parked is None:
            self.passed.add(key)
        elif parked.until > self.ledger.clock.now():
            self.blocked[key] = Blocked(parked_for(parked), parked.until)
        else:
            self._probe(key, target, parked)

    def _probe(self, key: str, target: Target, parked: Parked) -> None:
        try:
            self.backend.probe(target)
        except BackendError as error:
            with self.ledger.write() as tx:
                if key == WHOLE_BACKEND and isinstance(error, ProjectClosed):
                    # The backend answers again; it is the project that does not.
                    limits.unpark(tx, self.name, key)
                    self.passed.add(key)
                self.park_for(tx, error, target, probes=parked.probes + 1, key=key)
        else:
            with self.ledger.write() as tx:
                limits.unpark(tx, self.name, key)
                limits.end_streak(tx, self.name)
            self.passed.add(key)

    def park_for(
        self, tx: Transaction, error: BackendError, target: Target, *, probes: int = 0, key: str | None = None
    ) -> Blocked | None:
        """Leave alone what ``error`` says is not to be had; gives what is blocked now, if anything.

        ``key`` is what a vain probe was for, and stays parked whatever the error.
        """
        now = tx.moment
        if isinstance(error, Limited):
            until = now + timedelta(seconds=error.retry_after or DEFAULT_LIMIT_WAIT)
            limits.limit(tx, self.name, until, error.message)
            return self._block(WHOLE_BACKEND, Blocked(f"the tracker's limit: {error.message}", until, parked=False))
        if isinstance(error, Unreachable | CredentialsRefused):
            key = WHOLE_BACKEND
        elif isinstance(error, ProjectClosed):
            key = target.project
        elif isinstance(error, OutcomeUnknown) and limits.count_unknown(tx, self.name) >= UNKNOWN_IN_A_ROW:
            key = WHOLE_BACKEND
        if key is None:
            return None
        wait = timedelta(seconds=error.retry_after) if error.retry_after else self.back_off(probes)
        limits.park(tx, self.name, key, code=error.code, reason=error.message, until=now + wait)
        parked = Parked(self.name, key, error.code, error.message, now, now + wait, probes)
        refused = parked if probes and isinstance(error, ProjectClosed) else None
        return self._block(key, Blocked(parked_for(parked), now + wait, refused))

    def _block(self, key: str, blocked: Blocked) -> Blocked:
        self.passed.discard(key)
        self.blocked[key] = blocked
        return blocked
