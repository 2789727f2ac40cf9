"""``issue sync``: what is due becomes issues."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption, completed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from issue_core.config import Settings
    from issue_core.sync_engine import Result, Summary
    from issue_core.sync_engine.verify import Mismatch, Verified

LONGEST_WATCH = 366 * 86400
"""Seconds; so long a pause at most lies between two passes."""

_PAGE = 500  # rows of one table on a terminal

app = new_app()


@app.command(
    epilog=examples(
        "issue sync",
        "issue sync --dry-run --repo 'acme/*'",
        "issue sync --wait --json",
        "issue sync --watch 60",
        "issue sync --verify --backend work",
    )
)
def sync(
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="Only tasks that go to this backend.", autocompletion=completed("backends")),
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option(
            "--repo", metavar="GLOB", help="Only tasks whose target_repo matches.", autocompletion=completed("repos")
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Take at most so many tasks in hand.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on until nothing is due or in doubt, and only what is parked is left.")
    ] = False,
    watch: Annotated[
        float | None,
        typer.Option(
            "--watch", metavar="SECONDS", min=0.1, max=LONGEST_WATCH, help="Run again, so often, until stopped."
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare the trackers' marked issues with the ledger, and write nothing."),
    ] = False,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Make one pass over what is due: each task becomes one issue.

    What waits (for a limit, a back-off, a doubt, its claim or a backend that is down) is no failure. Ends with 3 when
    a task failed, or a backend or project is parked for its credentials or a refusal.

    With --verify it lists the issues that carry an event ID and ends with 3 when one event has several (double), the
    ledger has no task of it (unknown), or the issue of a synced task is not there (missing).
    """
    from signal import SIGTERM

    from issue_core.cli import context, output
    from issue_core.cli.stopping import stopped_by
    from issue_core.errors import UsageError
    from issue_core.sync_engine import Choice, repeat
    from issue_core.sync_engine import sync as one_pass
    from issue_core.transports.nats.releasing import Release

    if (watch is not None) + wait + dry_run > 1:
        raise UsageError("--dry-run, --wait and --watch exclude each other")
    if watch is not None and watch != watch:
        raise UsageError("--watch takes a number of seconds")
    if verify and (watch is not None or wait or dry_run or limit is not None or repo is not None):
        raise UsageError("--verify goes with --backend alone: not with --repo, --limit, --dry-run, --wait or --watch")
    settings = context.settings(config, ledger)
    if verify:
        _verify(settings, backend, as_json=json)
        return
    choice = Choice(backend, repo, limit)
    report = _Report(as_json=json, dry_run=dry_run)
    with context.open_ledger(settings) as store, stopped_by(SIGTERM) as stopping, report:
        stop = stopping.event
        release = Release(settings.nats, stop, output.message if watch is not None else None)
        if watch is not None:
            gc.enable()  # this one lives long
            repeat.watch(
                store,
                settings,
                every=watch,
                choice=choice,
                tell=report.tell,
                ended=report.end_of_pass,
                stop=stop,
                release=release,
            )
            return
        if wait:
            summary = repeat.until_done(store, settings, choice=choice, tell=report.tell, stop=stop, release=release)
        else:
            summary = one_pass(
                store, settings, choice=choice, dry_run=dry_run, tell=report.tell, stop=stop, release=release
            )
    report.end(summary)
    if summary.needs_a_person:
        raise typer.Exit(3)


def _verify(settings: Settings, backend: str | None, *, as_json: bool) -> None:
    from issue_core.cli import context, output
    from issue_core.errors import IssueCoreError
    from issue_core.sync_engine.verify import verify

    def tell(found: Mismatch) -> None:
        if as_json:
            output.json_line(found.to_json())
        else:
            task = f"task {found.seq}" if found.seq is not None else "no task"
            output.line(f"{found.finding}: {found.event_id} ({task}) at {found.backend}: {' '.join(found.urls)}")

    with (
        context.open_ledger(settings) as store,
        output.interrupted_says(lambda: "not everything was compared, and nothing was changed"),
    ):
        verified = verify(store, settings, backend=backend, tell=tell)
    for name in verified.by_look:
        output.message(f"{name}: its tracker cannot list marked issues; those of synced tasks were looked for")
    if not as_json:
        output.line(_what_was_verified(verified))
    output.flush()
    for where, error in verified.failures:
        output.message(f"{where} could not be verified: {error.message}")
    if verified.failures:
        raise IssueCoreError("not everything could be verified", hint=verified.failures[0][1].hint)
    if verified.counts:
        raise typer.Exit(3)


def _what_was_verified(verified: Verified) -> str:
    counts = [f"{verified.counts[finding]} {finding}" for finding in ("double", "unknown", "missing")]
    return f"{verified.issues} marked issues: {', '.join(counts)}"


class _Report:
    """Says what happens as it happens, and at the end what waits, for which limit, and until when."""

    def __init__(self, *, as_json: bool, dry_run: bool) -> None:
        self._as_json = as_json
        self._dry_run = dry_run
        self._counts: dict[str, int] = {}
        self._header_is_due = dry_run and not as_json
        self._planned: list[Result] = []

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            done = _in_words(self._counts) if self._counts else "no task was dealt with yet"
            raise KeyboardInterrupt(f"{done}; what was under way stays in doubt, and is looked for by the next run")

    def tell(self, result: Result) -> None:
        """Say what became of one task."""
        from issue_core.cli import output

        self._counts[result.result] = self._counts.get(result.result, 0) + 1
        output.note("result", **result.to_json())
        if self._as_json:
            output.json_line(result.to_json())
        elif self._dry_run:
            self._plan_line(result)
        elif result.result == "failed":
            output.message(f"failed: task {result.seq} ({result.event_id}) at {result.backend}: {result.error}")

    def _plan_line(self, result: Result) -> None:
        from issue_core.cli import output
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
        from datetime import UTC, datetime

        from issue_core.cli import output, terminal
        from issue_core.task import to_text

        now = datetime.now(UTC)
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

    def end(self, summary: Summary) -> None:
        """Say how it went."""
        from issue_core.cli import output

        if self._as_json:
            output.flush()
            for text in _held(summary):
                output.message(text)
            return
        if self._planned:
            self._show_plan()
        output.line(("dry run: " if self._dry_run else "") + _in_words(summary.counts))
        for text in (*_waits(summary), *_held(summary)):
            output.line(text)
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
    told = {backend for backend, _ in summary.waits}
    for parked in summary.parked:
        if parked.backend not in told:
            yield f"  {parked.backend} {parked.project} is parked until {to_text(parked.until)}: {parked.reason}"
