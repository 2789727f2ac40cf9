"""``issue list``: tasks, newest first."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import (
    ConfigOption,
    InDoubtOption,
    JsonOption,
    LabelOption,
    LedgerOption,
    LimitOption,
    PriorityOption,
    RepoOption,
    SinceOption,
    SourceOption,
    SourceTypeOption,
    StateOption,
    UntilOption,
    chosen,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rich.table import Table

    from issue_core.task import Task

HEADER = ("seq", "event_id", "state", "priority", "repo", "title", "created_at", "url")
"""What a pipe gets, tab-separated, below a line with these names."""

_PAGE = 500  # rows of one table on a terminal: rich needs all of a table before it can draw the first line

app = new_app()


@app.command(
    epilog=examples(
        "issue list",
        "issue list --state failed --since 7d",
        "issue list --repo acme/web --label disk --limit 0 --json",
        "issue list --limit 0 | cut -f 2",
    )
)
def list_tasks(
    state: StateOption = None,
    repo: RepoOption = None,
    priority: PriorityOption = None,
    label: LabelOption = None,
    source: SourceOption = None,
    source_type: SourceTypeOption = None,
    in_doubt: InDoubtOption = False,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 50,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """List tasks, the newest first.

    In a pipe the columns are seq, event_id, state, priority, repo, title, created_at and url, separated by tabs,
    below a line with these names.
    """
    from issue_core.cli import context, output
    from issue_core.ledger import queries

    with context.open_ledger(context.settings(config, ledger)) as store, store.read() as connection:
        now = store.clock.now()
        wanted = chosen(
            now,
            state=state,
            repo=repo,
            priority=priority,
            label=label,
            source=source,
            source_type=source_type,
            in_doubt=in_doubt,
            since=since,
            until=until,
        )
        found = queries.tasks(connection, wanted, limit=limit or None, newest_first=True)
        first = next(found, None)
        if first is None:
            output.message(f"no task in the ledger {store.path}" if wanted == queries.Filter() else "no such task")
        else:
            _print(chain([first], found), now, json=json)


def _print(tasks: Iterator[Task], now: datetime, *, json: bool) -> None:
    """Print the tasks as they are read."""
    from issue_core.cli import output

    if json:
        for task in tasks:
            output.json_line(task.to_json())
    elif output.on_terminal():
        while page := list(islice(tasks, _PAGE)):
            output.show(_table(page, now))
    else:
        output.tsv(HEADER, map(_row, tasks))


def _row(task: Task) -> tuple[object, ...]:
    url = task.remote.url if task.remote else None
    return (
        task.seq, task.event_id, task.state, task.priority, task.target_repo, task.title, task.created_at, url
    )  # fmt: skip


def _table(tasks: list[Task], now: datetime) -> Table:
    from rich.table import Table

    from issue_core.cli.output import styled

    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("seq", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("prio", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("repo", no_wrap=True, max_width=18, overflow="ellipsis")
    table.add_column("title", no_wrap=True, overflow="ellipsis", ratio=3)
    if any(task.remote for task in tasks):
        table.add_column("issue", no_wrap=True, overflow="ellipsis", ratio=2)
    for task in tasks:
        link = (_linked(task.remote.url),) if task.remote else ()
        columns = (task.seq, task.state, task.priority, age(task.created_at, now), task.target_repo, task.title)
        table.add_row(*(styled(column) for column in columns[:3]), *(styled(c, "none") for c in columns[3:]), *link)
    return table


def _linked(url: str) -> object:
    from issue_core.cli.output import styled

    is_safe = url.isascii() and url.isprintable() and " " not in url
    return styled(url, f"link {url}" if is_safe else "none")


def age(then: str, now: datetime) -> str:
    """How long ago ``then`` (as the ledger writes times) was, in one figure: ``42s``, ``7m``, ``3h``, ``12d``."""
    from issue_core.task import from_text

    seconds = max(0, int((now - from_text(then)).total_seconds()))
    return span(seconds)


def span(seconds: float) -> str:
    """A length of time in one figure: ``42s``, ``7m``, ``3h``, ``12d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"
