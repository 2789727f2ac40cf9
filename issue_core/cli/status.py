"""``issue status``: how much there is of what, and what needs a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from issue_core.cli.needs import Need
    from issue_core.ledger import Ledger

UNROUTED = "unrouted"
"""In place of a backend's name: tasks that no sync has routed yet."""

HEADER = ("what", "name", "state", "value")
"""What a pipe gets, tab-separated, below a line with these names."""

_ROWS = 20  # repos shown on a terminal
_LEAST_NAME = 8  # characters of a name beside its counts; where there is no room for them, the counts go below

app = new_app()


@app.command(
    epilog=examples(
        "issue status",
        "issue status --json | jq .states.pending",
        "issue status --check --max-age 1h || mail -s 'issue-core needs you' ops",
    )
)
def status(
    check: Annotated[
        bool, typer.Option("--check", help="Print only what needs a person, and end with 3 when something does.")
    ] = False,
    max_age: Annotated[
        str | None,
        typer.Option("--max-age", metavar="AGE", help="With --check: how long a task may be pending, such as 1h."),
    ] = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Count tasks by state, backend and repo; the rejects; and how long the oldest pending task waits.

    With --check: nothing and 0 when all is well; else 3, and in one line what needs a person. That is a ledger that was
    there and is gone, a failed task, an open reject, a pending task older than --max-age, one in doubt for an hour or
    held for ten minutes, an issue that may be one too many, a backend or project that refuses, or is down for ten
    minutes.

    In a pipe: lines of what, name, state and value, separated by tabs, below a line with these names.
    """
    from issue_core.cli import context, output
    from issue_core.cli.options import seconds
    from issue_core.errors import UsageError

    if max_age is not None and not check:
        raise UsageError("--max-age has no meaning without --check")
    longest = None if max_age is None else seconds(max_age, "--max-age")
    with context.open_ledger(context.settings(config, ledger)) as store, store.read():
        shown = counted(store)
        is_screen = output.on_terminal() and not (json or check)
        found = _needs(store, shown, longest) if check or is_screen else []
        limited = _limited(store) if is_screen else ""
    if json:
        output.json_line(shown | ({"needs": [need._asdict() for need in found]} if check else {}))
    elif check:
        if found:
            output.line("; ".join(f"{need.what} ({need.hint})" for need in found))
    elif is_screen:
        _show(shown, limited, found)
    else:
        output.tsv(HEADER, _rows(shown))
    if check and found:
        raise typer.Exit(3)


def counted(ledger: Ledger) -> dict[str, Any]:
    """The counters, as the one object that ``--json`` prints."""
    from issue_core.ledger import queries, rejects
    from issue_core.task import from_text, to_text

    now = ledger.clock.now()
    with ledger.read() as connection:
        counts = queries.counts(connection, to_text(now))
        open_rejects = rejects.count_open(connection)
    oldest = counts.oldest_pending_at
    return {
        "total": counts.total,
        "states": counts.states,
        "rejects": open_rejects,
        "received": counts.received,
        "oldest_pending_age_s": oldest and round((now - from_text(oldest)).total_seconds(), 3),
        "backends": {name or UNROUTED: states for name, states in counts.backends.items()},
        "repos": counts.repos,
    }


def _needs(ledger: Ledger, shown: Mapping[str, Any], longest: float | None) -> list[Need]:
    from issue_core.cli.needs import needs

    return list(needs(ledger, shown, longest))


def _limited(ledger: Ledger) -> str:
    """Which trackers want no request for now, and when that ends."""
    from issue_core.cli import terminal
    from issue_core.ledger import limits

    now = ledger.clock.now()
    with ledger.read() as connection:
        all_limited = limits.all_limited(connection, now)
    return ", ".join(f"{name} ends {terminal.from_now((now - at).total_seconds())}" for name, at in all_limited.items())


def _rows(shown: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    yield "tasks", None, "total", shown["total"]
    yield from (("tasks", None, state, n) for state, n in shown["states"].items())
    yield from (("received", None, outcome, n) for outcome, n in shown["received"].items())
    yield "rejects", None, "open", shown["rejects"]
    yield "oldest_pending_age_s", None, "pending", shown["oldest_pending_age_s"]
    for what in ("backend", "repo"):
        for name, states in shown[f"{what}s"].items():
            yield from ((what, name, state, n) for state, n in states.items())


def _show(shown: Mapping[str, Any], limited: str, found: list[Need]) -> None:
    from rich.table import Table

    from issue_core.cli.output import STYLES, show, styled
    from issue_core.cli.terminal import from_now

    summary = Table.grid(padding=(0, 2))
    longest = len(f"{shown['total']:,}")
    for state, n in {**shown["states"], "total": shown["total"]}.items():
        summary.add_row(styled(state), styled(f"{n:>{longest},}", "bold" if n else "dim"))
    if shown["oldest_pending_age_s"] is not None:
        summary.add_row(styled("oldest pending"), styled(from_now(shown["oldest_pending_age_s"])))
    received = ", ".join(f"{n:,} {outcome}" for outcome, n in shown["received"].items())
    summary.add_row(styled("received"), styled(received))
    summary.add_row(
        styled("rejects open"),
        styled(f"{shown['rejects']:>{longest},}", STYLES["failed"] if shown["rejects"] else "dim"),
    )
    if limited:
        summary.add_row(styled("tracker's limit"), styled(limited, STYLES["deferred"]))
    show(summary)
    if found:
        show("", *(styled(f"{need.what} ({need.hint})", STYLES["failed"]) for need in found))
    for what in ("backends", "repos"):
        if shown[what]:
            show("", *_by_name(what, shown[what]))


def _by_name(what: str, counts: Mapping[str, Mapping[str, int]]) -> Iterator[RenderableType]:
    """The counts of the names that have most: a table, or where that is too wide a line for each of them."""
    from issue_core.cli import terminal
    from issue_core.cli.output import STYLES, styled
    from issue_core.task import STATES

    states = [state for state in STATES if any(state in each for each in counts.values())]
    most_first = sorted(counts.items(), key=lambda item: -sum(item[1].values()))
    table = terminal.table(what, *states, right=frozenset(states))
    for name, each in most_first[:_ROWS]:
        cells = (styled(f"{each[state]:,}", STYLES[state]) if each.get(state) else "" for state in states)
        table.add_row(styled(name, "none"), *cells)
    for column in table.columns[1:]:
        column.min_width = terminal.needed(column)
    terminal.fit(table, at=0)
    if terminal.has_room(table.columns[0], _LEAST_NAME):
        yield table
    else:
        yield styled(what, "bold")
        yield from (_as_line(name, each) for name, each in most_first[:_ROWS])
    if len(counts) > _ROWS:
        yield styled(f"and {len(counts) - _ROWS:,} more (--json has them all)", "dim")


def _as_line(name: str, states: Mapping[str, int]) -> Any:
    from issue_core.cli.output import styled

    return styled(f"{name}: " + ", ".join(f"{n:,} {state}" for state, n in states.items()), "none")
