"""``issue show``: one task and all that happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption, completed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from rich.table import Table
    from rich.text import Text

    from issue_core.task import HistoryEntry, Task

IdArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The event ID, the beginning of it (4 characters or more), or the seq.",
        autocompletion=completed("event_ids"),
    ),
]

app = new_app()


@app.command(epilog=examples("issue show 12", "issue show 0190c7a4", "issue show 12 --json | jq .history"))
def show(
    wanted: IdArgument,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Show all of a task, with its history.

    In a pipe: one line for each field, its name and its value separated by a tab.
    """
    from issue_core.cli import context, output
    from issue_core.ledger import history, queries

    with context.open_ledger(context.settings(config, ledger)) as store, store.read() as connection:
        seq = queries.find(connection, wanted)
        task = queries.task(connection, seq)
        entries = history.of_task(connection, seq)
    if json:
        output.json_line(task.to_json() | {"history": [entry.to_json() for entry in entries]})
    elif output.on_terminal():
        _show(task, entries, store.clock.now())
    else:
        rows = [("history", _one_line(entry)) for entry in entries]
        output.tsv(("field", "value"), [*_fields(task), ("description", task.description), *rows])


def _fields(task: Task) -> Iterator[tuple[str, object]]:
    """Every field but the description, in words; those that hold nothing are left out."""
    shown: dict[str, Any] = task.to_json()
    for name in ("description", "remote", "sync_metadata"):
        del shown[name]
    if task.remote:
        shown |= {f"remote {name}": value for name, value in task.to_json()["remote"].items()}
    known = {*shown, "triggering_event_id"}
    shown |= {f"ingestion {name}": value for name, value in task.ingestion.items() if name not in known}
    for name, value in shown.items():
        if value not in (None, [], {}, ""):
            yield name, _in_words(value)


def _in_words(value: object) -> object:
    from issue_core.cli.output import to_json

    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return to_json(value) if isinstance(value, dict | list) else value


def _one_line(entry: HistoryEntry) -> str:
    return f"{entry.at} {entry.kind} {_details(entry.detail)}"


def _details(detail: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_in_words(value)}" for name, value in detail.items())


def _show(task: Task, entries: list[HistoryEntry], now: datetime) -> None:
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Column, Table
    from rich.text import Text

    from issue_core.cli.output import escape, styled
    from issue_core.cli.output import show as show_it

    fields = Table.grid("", Column(overflow="fold"), padding=(0, 2))
    for name, value in _fields(task):
        fields.add_row(styled(name, "bold"), _shown(name, value, now))
    parts: list[Any] = [fields]
    if task.description:
        parts += [Text(""), Padding(Text(escape(task.description, multiline=True)), (0, 0, 0, 2))]
    show_it(Group(*parts, Text(""), Text("history", style="bold"), _happened(entries, now)))


def _shown(name: str, value: object, now: datetime) -> Text:
    """A field's value as a terminal shows it."""
    from issue_core.cli import terminal
    from issue_core.cli.output import STYLES, styled

    if name.endswith(("_at", "_since")):
        return terminal.with_age(str(value), now)
    if name == "remote url":
        return terminal.linked(value, str(value))
    coloured = name in ("state", "priority", "last_error")
    text: Text = styled(value, (STYLES["failed"] if name == "last_error" else None) if coloured else "none")
    return text


def _happened(entries: list[HistoryEntry], now: datetime) -> Table:
    """The history without the attempts' numbers, on a narrow terminal without the exact times too.

    A pipe and --json have both.
    """
    from rich.table import Column, Table

    from issue_core.cli import terminal
    from issue_core.cli.output import styled

    is_wide = terminal.width() >= terminal.WIDE
    times = [Column(no_wrap=True), *([Column(justify="right", no_wrap=True)] if is_wide else [])]
    table = Table.grid(*times, Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for entry in entries:
        # The attempt's number counts those of all tasks: beside "attempts 1" it would read as the twelfth try of this.
        details = _details({name: value for name, value in entry.detail.items() if name != "attempt"})
        when = [styled(entry.at, "none")] if is_wide else []
        table.add_row(*when, styled(terminal.ago(entry.at, now), "dim"), styled(entry.kind), styled(details, "none"))
    return table
