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
    from collections.abc import Iterator, Mapping
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


def _unchanged(listed: Mapping[str, int]) -> str:
    return f"{listed['tasks']} tasks were listed, and nothing was changed"


def _print(tasks: Iterator[Task], now: datetime, *, json: bool) -> None:
    """Print the tasks as they are read."""
    from collections import Counter

    from issue_core.cli import output

    listed: Counter[str] = Counter()
    tasks = output.counted(tasks, listed, "tasks")
    with output.interrupted_says(lambda: _unchanged(listed)):
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
    from issue_core.cli import terminal
    from issue_core.cli.output import styled

    width = terminal.width()
    has_urls = width >= terminal.WIDE and any(task.remote for task in tasks)
    names = ("seq", "state", "prio", "accepted", "repo", "title", *(["issue"] if has_urls else []))
    table = terminal.table(*names, right=frozenset({"seq", "accepted"}))
    for task in tasks:
        url = task.remote.url if task.remote else None
        # Where there is no room for the address, the title leads there.
        title = terminal.linked(task.title, url) if url and not has_urls else styled(task.title, "none")
        table.add_row(
            styled(task.seq),
            styled(task.state),
            styled(task.priority),
            styled(terminal.ago(task.created_at, now), "dim"),
            styled(task.target_repo, "none"),
            title,
            *([terminal.linked(url, url) if url else ""] if has_urls else []),
        )
    repo = table.columns[4]
    repo.max_width = width * 2 // 9
    terminal.fit(table, at=5)
    return table
