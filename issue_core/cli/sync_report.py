"""What ``issue sync`` says: of each task, how far it is, and at the end what waits and why."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from issue_core.cli import output
from issue_core.cli.done import told_all_the_same
from issue_core.cli.status_line import StatusLine
from issue_core.clock import figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from issue_core.ledger.limits import Parked
    from issue_core.sync_engine import Result, Summary

_PAGE = 500  # rows of one table on a terminal


class Report:
    """Says what happens as it happens, and at the end what waits, for which limit, and until when.

    ``wait``: of a task that waits is told once, until something about it changes. ``every``: seconds between passes.
    """

    def __init__(self, *, as_json: bool, dry_run: bool, wait: bool, every: float | None) -> None:
        self._as_json = as_json
        self._dry_run = dry_run
        self._wait = wait
        self._every = every
        self._counts: Counter[str] = Counter()
        self._waiting: dict[int, datetime | None] = {}  # with `wait`: by seq, and until when
        self._next_pass: float | None = None
        self._began = time.monotonic()
        self._header_is_due = dry_run and not as_json
        self._planned: list[Result] = []
        self._line = StatusLine(self._status)
        self._around = ExitStack()

    def __enter__(self) -> Report:
        self._around.enter_context(told_all_the_same(self._done))
        self._around.callback(self._line.stop)
        if not self._dry_run:
            self._line.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        self._around.__exit__(kind, *raised)
        if kind is KeyboardInterrupt:
            done = self._so_far() or "no task was dealt with yet"
            if self._dry_run:
                raise KeyboardInterrupt(f"{done}; nothing was changed")
            in_doubt = "if anything was under way, it stays in doubt, and is looked for by the next run"
            raise KeyboardInterrupt(f"{done}; {in_doubt}")

    def say(self, text: str) -> None:
        """Say something beside the output."""
        with self._line.away():
            output.message(text)

    def tell(self, result: Result) -> None:
        """Say what became of one task."""
        self._count(result)
        output.note("result", **result.to_json())
        if self._as_json:
            with self._line.away():
                output.json_line(result.to_json())
        elif self._dry_run:
            self._plan_line(result)
        elif result.result == "failed":
            self.say(f"failed: task {result.seq} ({result.event_id}) at {result.backend}: {result.error}")

    def _count(self, result: Result) -> None:
        if self._next_pass is not None:  # this is the first of a new one
            self._next_pass = None
            self._counts["deferred"] = 0
        self._waiting.pop(result.seq, None)
        if self._wait and result.result == "deferred":
            self._waiting[result.seq] = None if result.parked else result.until
        else:
            self._counts[result.result] += 1

    def _so_far(self) -> str:
        counts = Counter(dict(self._counts))  # the status line asks in its own thread
        counts["deferred"] += len(self._waiting)
        counts = +counts
        return _in_words(counts) if counts else ""

    def _done(self) -> str:
        so_far = self._so_far()
        return f"so far: {so_far}" if so_far and not self._dry_run else ""

    def _status(self) -> str:
        """How far it is, for a person who waits; called by the status line's thread."""
        left = self._seconds_left()
        now = f"next look in {figure(left)}" if left > 0 else f"at work for {figure(time.monotonic() - self._began)}"
        return "; ".join(filter(None, (self._so_far(), now)))

    def _seconds_left(self) -> float:
        if (next_pass := self._next_pass) is not None:
            return next_pass - time.monotonic()
        first = min(filter(None, list(self._waiting.values())), default=None)
        return 0 if first is None else (first - _now()).total_seconds()

    def _plan_line(self, result: Result) -> None:
        from issue_core.task import to_text

        if output.on_terminal():
            self._planned.append(result)
            if len(self._planned) == _PAGE:
                self._show_plan()
            return
        if self._header_is_due:
            output.row(("seq", "event_id", "backend", "result", "reason", "until"))
            self._header_is_due = False
        until = result.until and to_text(result.until)
        output.row((result.seq, result.event_id, result.backend, result.result, result.reason, until))

    def _show_plan(self) -> None:
        from issue_core.cli import terminal
        from issue_core.task import to_text

        now = _now()
        table = terminal.table("seq", "backend", "result", "until", "reason", right=frozenset({"seq"}))
        for each in self._planned:
            until = each.until and terminal.ago(to_text(each.until), now)
            table.add_row(*map(output.styled, (each.seq, each.backend, each.result, until, each.reason)))
        self._planned.clear()
        terminal.fit(table, at=4)
        output.show(table)

    def end_of_pass(self, summary: Summary) -> None:
        """Say how one pass of many went, if anything happened in it."""
        if summary.counts:
            self.end(summary)
        self._counts["deferred"] = summary.counts["deferred"]
        self._next_pass = time.monotonic() + (self._every or 0)

    def end(self, summary: Summary) -> None:
        """Say how it went."""
        with self._line.away():
            self._end(summary)

    def _end(self, summary: Summary) -> None:
        if self._as_json:
            output.flush()
            for text in _held(summary):
                output.message(text)
            return
        if self._planned:
            self._show_plan()
        output.line(("dry run: " if self._dry_run else "") + _in_words(summary.counts))
        waits = _waits_from_now(summary, _now()) if output.on_terminal() else _waits(summary)
        for text in (*waits, *_held(summary)):
            output.line(text)
        if summary.parked and not self._dry_run:
            output.line("  once that is mended, issue retry --all has it tried at once")
        output.flush()


def _in_words(counts: Mapping[str, int]) -> str:
    known = {
        "created": "created",
        "adopted": "adopted",
        "planned": "planned",
        "failed": "failed",
        "deferred": "waiting",
    }
    parts = [f"{counts[name]} {word}" for name, word in known.items() if counts.get(name)]
    return ", ".join(parts) or "nothing was due"


def _held(summary: Summary) -> Iterator[str]:
    """A line about the tasks that are not known to be this ledger's yet, if there are any."""
    if summary.held:
        yield f"  {summary.held} held until they are claimed" + (f": {summary.held_for}" if summary.held_for else "")


def _waits(summary: Summary) -> Iterator[str]:
    """One line for each thing that tasks wait for: how many, where, why, until when."""
    from issue_core.task import to_text

    for (backend, reason), (n, until) in sorted(summary.waits.items()):
        when = f", the first until {to_text(until)}" if until else ""
        yield f"  {n} at {backend}: {reason}{when}"
    for parked in _parked_beside(summary):
        yield f"  {parked.name} is parked until {to_text(parked.until)}: {parked.reason}"


def _waits_from_now(summary: Summary, now: datetime) -> Iterator[str]:
    """The same for a person at a terminal, with times as they are from ``now``."""
    for (backend, reason), (n, until) in sorted(summary.waits.items()):
        when = f", {'the first ' if n > 1 else ''}{_again('goes on', until, now)}" if until else ""
        yield f"  {n} at {backend}: {reason.removesuffix('.') if when else reason}{when}"
    for parked in _parked_beside(summary):
        yield f"  {parked.name} is parked, {_again('tried again', parked.until, now)}: {parked.reason}"


def _again(what: str, until: datetime, now: datetime) -> str:
    from issue_core.cli.terminal import ago
    from issue_core.task import to_text

    return f"{what} {ago(to_text(until), now)}" if until > now else f"{what} with the next run"


def _parked_beside(summary: Summary) -> Iterator[Parked]:
    """What is parked at a backend of which no task was told that it waits."""
    told = {backend for backend, _ in summary.waits}
    return (parked for parked in summary.parked if parked.backend not in told)


def _now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)
