"""``issue sync``: what is due becomes issues."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption, completed

if TYPE_CHECKING:
    from issue_core.config import Settings
    from issue_core.sync_engine.verify import Mismatch, Verified

LONGEST_WATCH = 366 * 86400
"""Seconds; so long a pause at most lies between two passes."""

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
        typer.Option(
            "--backend",
            metavar="NAME",
            help="Only tasks that go to this backend.",
            autocompletion=completed("backends"),
        ),
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option(
            "--repo", metavar="GLOB", help="Only tasks whose target_repo matches.", autocompletion=completed("repos")
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Take at most so many tasks in hand.")
    ] = None,
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

    from issue_core.cli import context
    from issue_core.cli.stopping import stopped_by
    from issue_core.cli.sync_report import Report
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
    report = Report(as_json=json, dry_run=dry_run, wait=wait, every=watch)
    with context.open_ledger(settings) as store, stopped_by(SIGTERM) as stopping, report:
        stop = stopping.event
        release = Release(settings.nats, stop, report.say if watch is not None else None)
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
