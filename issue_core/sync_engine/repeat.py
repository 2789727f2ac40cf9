"""More than one pass: until nothing is left to wait for, or for as long as the process lives."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from issue_core.config import Settings
from issue_core.ledger import Ledger
from issue_core.sync_engine import Release, sync
from issue_core.sync_engine.plan import Choice
from issue_core.sync_engine.results import Result, Summary

OTHERS_PAUSE = 0.5
"""Seconds between two looks at what another process has in hand."""

LONGEST_PAUSE = 30.0
"""Seconds after which a pass is made in any case: a task may have come in meanwhile."""

HELD_PAUSE = 5.0
"""Seconds between two passes while tasks are held: their bucket may be back."""

SHORTEST_PAUSE = 0.05
"""Seconds; what is due in less is waited for so long, since the clocks of two machines never agree."""


def until_done(
    ledger: Ledger,
    settings: Settings,
    *,
    choice: Choice,
    tell: Callable[[Result], None],
    stop: threading.Event,
    release: Release | None = None,
) -> Summary:
    """Pass after pass, until nothing is due or in doubt any more and only what is parked is left.

    ``tell`` hears of a task that waits once, until something about it changes. Raises what ``sync`` raises.
    """
    told_of: dict[int, tuple[str | None, bool]] = {}
    whole = Summary()

    def tell_news(result: Result) -> None:
        whole.counts[result.result] += result.result != "deferred"
        waits = (result.reason, result.parked)
        if result.result != "deferred" or told_of.get(result.seq) != waits:
            tell(result)
        if result.result == "deferred":
            told_of[result.seq] = waits
        else:
            told_of.pop(result.seq, None)

    while True:
        left = None if choice.limit is None else choice.limit - whole.counts.total()
        summary = sync(ledger, settings, choice=replace(choice, limit=left), tell=tell_news, stop=stop, release=release)
        limit_used = choice.limit is not None and whole.counts.total() >= choice.limit
        if limit_used or stop.is_set() or not (summary.next_at or summary.others_at_work):
            return replace(summary, counts=whole.counts + _deferred(summary))
        stop.wait(_pause(ledger, summary))


def watch(
    ledger: Ledger,
    settings: Settings,
    *,
    every: float,
    choice: Choice,
    tell: Callable[[Result], None],
    ended: Callable[[Summary], None],
    stop: threading.Event,
    release: Release | None = None,
) -> None:
    """A pass every ``every`` seconds until ``stop`` is set; ``ended`` hears how it went. Raises what ``sync`` does."""
    while not stop.is_set():
        ended(sync(ledger, settings, choice=choice, tell=tell, stop=stop, release=release))
        stop.wait(every)


def whenever_due(
    ledger: Ledger,
    settings: Settings,
    *,
    tell: Callable[[Result], None],
    news: threading.Event,
    stop: threading.Event,
    release: Release | None = None,
) -> None:
    """A pass now, then one whenever ``news`` is set or something comes due, until ``stop`` is set (and ``news`` too).

    Raises what ``sync`` raises.
    """
    while not stop.is_set():
        news.clear()
        summary = sync(ledger, settings, tell=tell, stop=stop, release=release)
        news.wait(_pause(ledger, summary))


def _pause(ledger: Ledger, summary: Summary) -> float:
    pause = OTHERS_PAUSE if summary.others_at_work else LONGEST_PAUSE
    if summary.held:
        pause = min(pause, HELD_PAUSE)
    if summary.next_at is not None:
        pause = min(pause, (summary.next_at - ledger.clock.now()).total_seconds())
    return max(SHORTEST_PAUSE, pause)


def _deferred(summary: Summary) -> Counter[str]:
    return Counter(deferred=summary.counts["deferred"])
