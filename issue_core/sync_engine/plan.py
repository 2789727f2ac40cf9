"""What goes where: which backend has a task, and which tasks a run is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path

from issue_core import backends
from issue_core.backends.base import Backend, Target
from issue_core.config import Settings, route
from issue_core.errors import ConfigError, UsageError
from issue_core.ledger import Ledger, limits, outbox, queries
from issue_core.ledger.outbox import Waiting
from issue_core.sync_engine.results import Result


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tasks a run is about: one backend, one repo (a glob), at most ``limit`` tasks; ``None``: all."""

    backend: str | None = None
    repo: str | None = None
    limit: int | None = None

    def has(self, target_repo: str) -> bool:
        """Whether a task with this ``target_repo`` is chosen."""
        return self.repo is None or self.repo == target_repo or fnmatchcase(target_repo, self.repo)


Standing = tuple[dict[str, limits.Parked], limits.Wait | None]


class Plan:
    """The routes of the configuration, and the backends behind them, each opened when it is first needed."""

    def __init__(self, settings: Settings, ledger: Path, choice: Choice) -> None:
        if choice.backend is not None and choice.backend not in settings.backends:
            known = ", ".join(sorted(settings.backends))
            raise UsageError(f"there is no backend {choice.backend!r}", hint=f"The configuration has: {known}.")
        routed = {settings.default_backend, *(name for _, name in settings.routes)}
        for name in sorted(routed - settings.backends.keys()):
            raise ConfigError(f"tasks go to a backend {name!r}, which is not configured")
        self.settings = settings
        self.choice = choice
        self._home = ledger.absolute().parent
        self._open: dict[str, Backend] = {}
        self._routes: dict[str, str] = {}

    def backend_of(self, waiting: Waiting) -> str:
        """The backend that has this task: for one in doubt, where its attempt went; else where the route points now."""
        if waiting.in_doubt_since and waiting.backend:
            return waiting.backend
        return self._route(waiting.target_repo)

    def _route(self, target_repo: str) -> str:
        if target_repo not in self._routes:
            self._routes[target_repo] = route(self.settings, target_repo)
        return self._routes[target_repo]

    def backend(self, name: str) -> Backend:
        """The backend ``name``, opened."""
        if name not in self._open:
            timeout = self.settings.sync.request_timeout
            self._open[name] = backends.open_backend(
                self.settings.backends[name], home=self._home, request_timeout=timeout
            )
        return self._open[name]

    def needed(self, ledger: Ledger) -> tuple[list[str], list[str]]:
        """The backends that have tasks of this run: those that are configured, and those that no longer are."""
        with ledger.read() as connection:
            names = {self._route(repo) for repo in queries.repos_in(connection, "pending") if self.choice.has(repo)}
            names |= outbox.backends_in_doubt(connection)
        if self.choice.backend is not None:
            names &= {self.choice.backend}
        return sorted(names & self.settings.backends.keys()), sorted(names - self.settings.backends.keys())

    def wanted(self, ledger: Ledger) -> set[tuple[str, str]]:
        """What pending tasks wait for, as (backend, project), and each of those backends as a whole.

        A task in doubt waits for where its attempts went, too.
        """
        with ledger.read() as connection:
            repos = queries.repos_in(connection, "pending")
            wanted = outbox.places_in_doubt(connection)
        for repo in repos:
            target = self.backend(self._route(repo)).target(repo)
            wanted.add((target.backend, target.project))
        return wanted | {(backend, limits.WHOLE_BACKEND) for backend, _ in wanted}

    def close(self) -> None:
        """Let go of every backend."""
        for backend in self._open.values():
            backend.close()


def rehearse(plan: Plan, ledger: Ledger, tell: Callable[[Result], None]) -> None:
    """Say what a run would do, without a write anywhere and without a word to a tracker."""
    left = plan.choice.limit
    standing = cache(partial(_standing, ledger))
    for _, page in outbox.pending_pages(ledger):
        for waiting in page:
            name = plan.backend_of(waiting)
            if not plan.choice.has(waiting.target_repo) or plan.choice.backend not in (None, name):
                continue
            result = _rehearsed(plan, standing, ledger.clock.now(), name, waiting)
            if result.result == "planned" and left is not None:
                if left == 0:
                    return
                left -= 1
            tell(result)


def _standing(ledger: Ledger, backend: str) -> Standing:
    """What is parked of a backend, and the limit that holds it back."""
    with ledger.read() as connection:
        return limits.parked(connection, backend), limits.limited(connection, backend, ledger.clock.now())


def _rehearsed(plan: Plan, standing: Callable[[str], Standing], now: datetime, name: str, waiting: Waiting) -> Result:
    if name not in plan.settings.backends:
        return deferred(waiting, name, not_configured(name), parked=True)
    if waiting.in_doubt_since:
        return Result(waiting.event_id, waiting.seq, name, "planned", "in doubt: it will be looked for first")
    if (until := outbox.not_before(waiting, now)) is not None:
        return deferred(waiting, name, back_off(waiting), until=until)
    target = plan.backend(name).target(waiting.target_repo)
    parked, limited = standing(name)
    for project in (limits.WHOLE_BACKEND, target.project):
        if project in parked and parked[project].until > now:
            return deferred(waiting, name, parked_for(parked[project]), until=parked[project].until, parked=True)
    if limited:
        return deferred(waiting, name, limited.reason, until=limited.until)
    return Result(waiting.event_id, waiting.seq, name, "planned", f"to {shown(target)}")


def shown(target: Target) -> str:
    """A target as a person reads it."""
    return f"{target.project} at {target.address}"


def deferred(
    waiting: Waiting, backend: str, reason: str, *, until: datetime | None = None, parked: bool = False
) -> Result:
    """The result of a task that waits."""
    return Result(waiting.event_id, waiting.seq, backend, "deferred", reason, until, parked=parked)


def back_off(waiting: Waiting) -> str:
    """Why a task waits for its next try."""
    return f"back-off after {waiting.attempts} tries: {waiting.last_error}"


def not_configured(backend: str) -> str:
    """Why a task in doubt waits for ever."""
    return f"in doubt at backend {backend!r}, which the configuration does not have any more (issue link settles it)"


def parked_for(parked: limits.Parked) -> str:
    """Why nothing goes to a backend or a project."""
    what = f"project {parked.project}" if parked.project else f"backend {parked.backend}"
    return f"{what} is parked: {parked.reason}"
