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
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from rich.table import Table
    from rich.text import Text

    from issue_core.task import Task

HEADER = ("seq", "event_id", "state", "priority", "repo", "title", "created_at", "url")
"""What a pipe gets, tab-separated, below a line with these names."""

_SPARE = ("issue", "accepted", "prio", "repo")  # columns that go, in this order, where the title has no room

_ENOUGH = 30  # characters of a title that tell what it is about

_ALL = "issue list without filters shows all; issue status counts them."
_FIRST = "issue ingest FILE stores TaskSpecs; issue new TITLE --repo REPO makes a task by hand."

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
    from issue_core.cli import context
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
            _say_none(store.path, is_filtered=wanted != queries.Filter())
        else:
            _print(chain([first], found), now, json=json)


def _say_none(ledger: Path, *, is_filtered: bool) -> None:
    from issue_core.cli import output

    output.message("no such task" if is_filtered else f"no task in the ledger {ledger}")
    if output.is_watched():
        output.message(f"hint: {_ALL if is_filtered else _FIRST}")


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
    """The tasks in as many columns as there is room for beside the title."""
    from issue_core.cli import terminal

    cells = _cells(tasks, now, is_wide=terminal.width() >= terminal.WIDE)
    return terminal.with_room(cells, _SPARE, _drawn, of="title", enough=min(terminal.width() // 4, _ENOUGH))


def _cells(tasks: list[Task], now: datetime, *, is_wide: bool) -> dict[str, list[Text]]:
    """The columns, by their names. Whether the address has a column or not, the title leads there."""
    from issue_core.cli import terminal
    from issue_core.cli.output import styled

    urls = [task.remote.url if task.remote else None for task in tasks]
    cells = {
        "seq": [styled(task.seq) for task in tasks],
        "state": [_state(task, now, says_when=is_wide) for task in tasks],
        "prio": [styled(task.priority) for task in tasks],
        "accepted": [styled(terminal.ago(task.created_at, now), "dim") for task in tasks],
        "repo": [styled(task.target_repo, "none") for task in tasks],
        "title": [_leading_to(url, task.title) for task, url in zip(tasks, urls, strict=True)],
    }
    if is_wide and any(urls):
        cells["issue"] = [_leading_to(url, url) for url in urls]
    if is_wide and any(map(_error, tasks)):
        cells["error"] = [styled(_error(task), "none") for task in tasks]
    return cells


def _drawn(cells: Mapping[str, Sequence[Text]]) -> Table:
    from issue_core.cli import terminal

    table = terminal.table(*cells, right=frozenset({"seq", "accepted"}))
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    named = dict(zip(cells, table.columns, strict=True))
    if "repo" in named:
        named["repo"].max_width = terminal.width() * 2 // 9
    if "issue" in named:  # an address that is cut leads nowhere
        named["issue"].min_width = terminal.needed(named["issue"])
    terminal.fit(table, at=list(cells).index("title"))
    return table


def _state(task: Task, now: datetime, *, says_when: bool) -> Text:
    """The state; of a task that is pending for a reason of its own, that reason."""
    from issue_core.cli import terminal
    from issue_core.cli.output import STYLES, styled
    from issue_core.task import to_text

    shown: str = task.state
    if task.state == "pending" and task.in_doubt_since:
        shown = "in doubt"
    elif task.state == "pending" and says_when and task.next_attempt_at and task.next_attempt_at > to_text(now):
        shown = f"pending, {terminal.ago(task.next_attempt_at, now)}"
    text: Text = styled(shown, STYLES[task.state])
    return text


def _leading_to(url: str | None, shown: str | None) -> Text:
    from issue_core.cli import terminal
    from issue_core.cli.output import styled

    text: Text = terminal.linked(shown, url) if url else styled(shown, "none")
    return text


def _error(task: Task) -> str:
    """The first line of what a failed task failed for; of another, nothing."""
    return (task.last_error or "").partition("\n")[0] if task.state == "failed" else ""
