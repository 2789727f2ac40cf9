"""The way out: each due task becomes one issue, whatever dies when.

``plan`` says what goes where. Each backend then has a thread and a ``desk`` of its own, so that one that is down
holds up no other: first it settles its ``doubts``, then it makes its ``creates``.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import closing
from functools import partial

from issue_core.config import Settings
from issue_core.ledger import Ledger, claims, limits, outbox
from issue_core.ledger.workers import enlisted, is_alive
from issue_core.sync_engine import doubts, plan
from issue_core.sync_engine.creates import Creates, in_thread
from issue_core.sync_engine.desk import Budget, Desk
from issue_core.sync_engine.plan import Choice, Plan
from issue_core.sync_engine.results import Result, Summary

__all__ = ["Choice", "Release", "Result", "Summary", "sync"]

Tell = Callable[[Result], None]

Release = Callable[[Ledger], str]
"""Settles held tasks with those who claim the same ones; gives what keeps those that are still held, or nothing."""

LAST_MOMENT = 0.7
"""Seconds that an interrupted run gives to what is under way."""


def sync(
    ledger: Ledger,
    settings: Settings | None = None,
    *,
    choice: Choice | None = None,
    dry_run: bool = False,
    tell: Tell | None = None,
    stop: threading.Event | None = None,
    release: Release | None = None,
) -> Summary:
    """One pass over what is due: each task becomes one issue, or it is said why it waits.

    ``settings`` are those of the configuration; without any, everything goes to the ``local`` backend. ``tell`` is
    called in this thread with the result of each task as it comes. ``dry_run`` only says what would be done. When
    ``stop`` is set, nothing new is begun; what is under way is finished and written down. ``release`` is called first
    where tasks are held.

    Raises:
        ConfigError: a backend cannot be used as it is configured.
        UsageError: ``choice`` names a backend that is not there.
        LedgerError: the ledger cannot be read or written; attempts that are under way are left in doubt.
    """
    settings = settings or Settings(ledger.path)
    summary = Summary()

    def count(result: Result) -> None:
        summary.add(result)
        if tell is not None:
            tell(result)

    with closing(Plan(settings, ledger.path, choice or Choice())) as routes:
        if dry_run:
            plan.rehearse(routes, ledger, count)
        else:
            if release is not None and _holds(ledger):
                summary.held_for = release(ledger)
            _run(routes, ledger, summary, count, stop or threading.Event())
            if routes.choice.backend is None and routes.choice.repo is None:
                _forget_idle_parks(routes, ledger)
    with ledger.read() as connection:
        summary.parked = limits.all_parked(connection)
        summary.held = claims.count_held(connection)
    return summary


def _holds(ledger: Ledger) -> bool:
    with ledger.read() as connection:
        is_to_be_marked = ledger.claims and not claims.is_marked(connection)
        held = claims.count_held(connection)
    if is_to_be_marked:
        with ledger.write() as tx:
            held = claims.count_held(tx.connection)
    return held > 0


def _run(routes: Plan, ledger: Ledger, summary: Summary, tell: Tell, stop: threading.Event) -> None:
    names, missing = routes.needed(ledger)
    _tell_of_missing(ledger, missing, routes.choice, tell)
    if not names:
        return
    # A backend that cannot be opened is the user's mistake: say so before anything is begun.
    opened = [routes.backend(name) for name in names]
    results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
    with ledger.write():
        pass  # what takes no writes, such as a copy, says so before anything is laid beside it
    with enlisted(ledger.path) as worker:
        budget = Budget(routes.choice.limit)
        desks = [
            Desk(
                backend=backend,
                settings=routes.settings.backends[backend.name],
                sync=routes.settings.sync,
                plan=routes,
                ledger=ledger.beside(),
                worker=worker,
                is_alive=partial(is_alive, ledger.path),
                tell=results.put,
                stop=stop,
                budget=budget,
            )
            for backend in opened
        ]
        running = [in_thread(partial(_work, desk, results)) for desk in desks]
        try:
            _drain(results, len(running), tell)
        except BaseException:
            # What is under way gets a moment to be written down; the rest stays in doubt.
            stop.set()
            wait(running, timeout=LAST_MOMENT)
            raise
        met_others = [future.result() for future in running]
        summary.others_at_work = any(met_others)


def _forget_idle_parks(routes: Plan, ledger: Ledger) -> None:
    """What is parked and has no task waiting for it any more would never be probed: it is parked no longer."""
    with ledger.read() as connection:
        parked = limits.all_parked(connection)
    if not parked:
        return
    wanted = routes.wanted(ledger)
    idle = [each for each in parked if (each.backend, each.project) not in wanted]
    if idle:
        with ledger.write() as tx:
            for each in idle:
                limits.unpark(tx, each.backend, each.project)


def _drain(results: queue.SimpleQueue[Result | None], desks: int, tell: Tell) -> None:
    """Tell each result as it comes, until every desk has said that it is done."""
    while desks:
        result = results.get()
        if result is None:
            desks -= 1
        else:
            tell(result)


def _work(desk: Desk, results: queue.SimpleQueue[Result | None]) -> bool:
    """One backend's pass; gives whether other workers have some of its tasks in hand."""
    try:
        with closing(desk.ledger):
            _free_the_dead(desk)
            met_others = _pass(desk)
            while not desk.stop.is_set() and _somebody_died(desk):
                # Its tasks are free, and this run takes them too; all others were told of already.
                desk.only = _free_the_dead(desk)
                met_others = _pass(desk) or met_others
            return met_others or _others(desk)
    finally:
        results.put(None)


def _pass(desk: Desk) -> bool:
    doubts.settle(desk)
    creates = Creates(desk)
    creates.run()
    return creates.met_others


def _free_the_dead(desk: Desk) -> set[int]:
    if not _others(desk):
        return set()
    with desk.ledger.write() as tx:
        return outbox.free_the_dead(tx, desk.worker, desk.ledger.clock.running(), desk.is_alive)


def _others(desk: Desk) -> bool:
    with desk.ledger.read() as connection:
        return bool(outbox.owners(connection, desk.worker))


def _somebody_died(desk: Desk) -> bool:
    """Whether a worker died while this pass went on."""
    with desk.ledger.read() as connection:
        owners = outbox.owners(connection, desk.worker)
    return any(not desk.is_alive(owner) for owner in owners)


def _tell_of_missing(ledger: Ledger, missing: list[str], choice: Choice, tell: Tell) -> None:
    """Tasks in doubt at a backend that is not configured any more wait, and say so."""
    if not missing:
        return
    after = 0
    while True:
        with ledger.read() as connection:
            page = outbox.in_doubt(connection, after=after, limit=doubts.PAGE)
        if not page:
            return
        after = page[-1].seq
        for waiting in page:
            if waiting.backend in missing and choice.has(waiting.target_repo):
                tell(plan.deferred(waiting, waiting.backend, plan.not_configured(waiting.backend), parked=True))
