"""``issue rejects``: input that became no task; read it, replay it, drop it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from issue_core.cli.group import Group, examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption, LimitOption, completed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rich.table import Table
    from rich.text import Text

    from issue_core.ledger import Ledger
    from issue_core.ledger.rejects import Reject

app = new_app(
    cls=Group,
    help="Read, replay and drop what was refused. Nothing that was refused is lost.",
    epilog=examples("issue rejects list", "issue rejects show 3", "issue rejects replay --all"),
)

State = Literal["open", "replayed", "dropped", "all"]
HEADER = ("id", "state", "kind", "count", "last_at", "place", "problems")
"""What a pipe gets of the list, tab-separated, below a line with these names."""

_SPARE = ("last", "count", "place", "kind", "state")  # columns that go, in this order, where problems have no room

_LONGEST_PLACE = 24  # characters of where a reject stood that a terminal shows

IdArgument = Annotated[
    int,
    typer.Argument(
        metavar="ID",
        min=1,
        help="The reject's ID, as the list shows it.",
        autocompletion=completed("all_rejects"),
    ),
]
IdsArgument = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="[ID]...",
        min=1,
        help="The rejects' IDs, as the list shows them.",
        autocompletion=completed("open_rejects"),
    ),
]


@app.command(
    "list",
    epilog=examples("issue rejects list", "issue rejects list --state all --limit 0 --json"),
)
def list_rejects(
    state: Annotated[State, typer.Option("--state", help="Only rejects in this state.")] = "open",
    limit: LimitOption = 50,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """List rejects, the newest first.

    In a pipe the columns are id, state, kind, count, last_at, place and problems, separated by tabs, below a line
    with these names.
    """
    from issue_core.cli import context, output
    from issue_core.ledger import rejects

    with context.open_ledger(context.settings(config, ledger)) as store, store.read() as connection:
        found = rejects.page(connection, state=None if state == "all" else state, limit=limit or -1)
    if not found:
        output.message("no reject" if state == "all" else f"no reject is {state}")
    elif json:
        for reject in found:
            output.json_line(reject.to_json())
    elif output.on_terminal():
        output.show(_table(found, store.clock.now(), every_state=state == "all"))
    else:
        output.tsv(HEADER, map(_row, found))


@app.command(epilog=examples("issue rejects show 3", "issue rejects show 3 --raw > mended.json"))
def show(
    reject_id: IdArgument,
    raw: Annotated[bool, typer.Option("--raw", help="Write the bytes as they came, and nothing else.")] = False,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Show one reject: what came, how often, and why it was refused.

    In a pipe: one line for each field, its name and its value separated by a tab.
    """
    from issue_core.cli import context, output
    from issue_core.errors import UsageError
    from issue_core.ledger import rejects

    with context.open_ledger(context.settings(config, ledger)) as store, store.read() as connection:
        reject = rejects.get(connection, reject_id)
    if raw:
        if output.on_terminal():
            raise UsageError(
                "the bytes as they came could do anything to a terminal", hint="Send them to a file: --raw > FILE"
            )
        output.write_bytes(reject.raw)
    elif json:
        output.json_line(reject.to_json() | {"raw": reject.text})
    elif output.on_terminal():
        _show(reject, store.clock.now())
    else:
        output.tsv(("field", "value"), [*_fields(reject), ("raw", reject.text)])


@app.command(epilog=examples("issue rejects replay 3", "issue rejects replay 4 --as-new", "issue rejects replay --all"))
def replay(
    reject_ids: IdsArgument = None,
    as_new: Annotated[
        bool, typer.Option("--as-new", help="For a conflict that is a second task: give it an event ID of its own.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Every open reject.")] = False,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Judge rejects again, by today's rules, and store those that pass.

    Ends with 3 when one of them is still refused. To set one right by hand: issue rejects show ID --raw, mend it,
    and issue ingest --replaces ID.
    """
    from issue_core.cli import context, output
    from issue_core.errors import UsageError
    from issue_core.ingestion import replay as replay_one

    refused = done = 0
    settings = context.settings(config, ledger)
    with (
        context.open_ledger(settings) as store,
        output.interrupted_says(lambda: f"{done} replayed, {refused} refused again; the rest is as it was"),
    ):
        wanted = _named(store, reject_ids, every)
        if not (wanted or json):
            output.line("0 replayed: no reject is open")
        for reject_id in wanted:
            try:
                receipt = replay_one(store, reject_id, as_new=as_new, max_document=settings.ingest.max_document)
            except UsageError as error:
                refused += 1
                output.show_error(error)
                continue
            refused += receipt.outcome in ("conflict", "invalid")
            done += receipt.outcome not in ("conflict", "invalid")
            _report(reject_id, receipt, json=json)
    if refused:
        raise typer.Exit(3)


def _report(reject_id: int, receipt: Any, *, json: bool) -> None:
    from issue_core.cli import output
    from issue_core.cli.receipts import noted, problems

    noted([receipt])
    if json:
        output.json_line(receipt.to_json())
    elif receipt.outcome in ("conflict", "invalid"):
        output.message(f"reject {reject_id} is refused again: {problems(receipt.errors)}")
    else:
        output.line(f"reject {reject_id}: {receipt.outcome} task {receipt.seq} ({receipt.event_id})")


@app.command(epilog=examples("issue rejects drop 3 4", "issue rejects drop --all"))
def drop(
    reject_ids: IdsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Every open reject.")] = False,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Close rejects that nobody needs. They stay in the ledger, as dropped."""
    from issue_core.cli import context, output
    from issue_core.ledger import rejects

    with (
        context.open_ledger(context.settings(config, ledger)) as store,
        output.interrupted_says(lambda: "nothing was dropped"),
    ):
        wanted = _named(store, reject_ids, every)
        if wanted:
            with store.write() as tx:
                for reject_id in wanted:
                    _refuse_closed(rejects.get(tx.connection, reject_id))
                    rejects.close(tx, reject_id, "dropped")
    if json:
        output.json_line({"dropped": wanted})
    else:
        output.line(f"{len(wanted)} dropped")


def _refuse_closed(reject: Reject) -> None:
    from issue_core.errors import UsageError

    if reject.state != "open":
        raise UsageError(f"reject {reject.id} was {reject.state} at {reject.closed_at}; nothing was changed")


def _named(store: Ledger, reject_ids: Sequence[int] | None, every: bool) -> list[int]:
    """The rejects that a person means: each one once, or all that are open.

    Raises:
        UsageError: both were asked for, or neither.
        NotFound: one of them is not in the ledger.
    """
    from issue_core.errors import UsageError
    from issue_core.ledger import rejects

    if bool(reject_ids) == every:
        raise UsageError("name the rejects by their IDs, or say --all", hint="issue rejects list shows them.")
    with store.read() as connection:
        if every:
            return rejects.open_ids(connection)
        return [rejects.get(connection, reject_id).id for reject_id in dict.fromkeys(reject_ids or ())]


def _row(reject: Reject) -> tuple[object, ...]:
    from issue_core.cli.receipts import problems

    where = reject.place.shown(reject.transport)
    return reject.id, reject.state, reject.kind, reject.count, reject.last_at, where, problems(reject.errors)


def _fields(reject: Reject) -> list[tuple[str, object]]:
    fields: list[tuple[str, object]] = [
        (name, value)
        for name, value in reject.to_json().items()
        if value is not None and name not in ("errors", "file", "line", "index")
    ]
    problems = [("problem", f"{error.field} {error.problem}") for error in reject.errors]
    return [*fields, ("place", reject.place.shown(reject.transport)), *problems]


def _table(found: list[Reject], now: datetime, *, every_state: bool) -> Table:
    """The rejects in as many columns as there is room for beside the problems."""
    from issue_core.cli import terminal

    cells = _cells(found, now, every_state=every_state)
    return terminal.with_room(cells, _SPARE, _drawn, of="problems", enough=terminal.width() // 4)


def _cells(found: list[Reject], now: datetime, *, every_state: bool) -> dict[str, list[Text]]:
    """The columns, by their names."""
    from issue_core.cli import terminal
    from issue_core.cli.output import styled
    from issue_core.cli.receipts import problems

    cells = {"id": [styled(reject.id) for reject in found]}
    if every_state:
        cells["state"] = [styled(reject.state) for reject in found]
    return cells | {
        "kind": [styled(reject.kind) for reject in found],
        "count": [styled(f"{reject.count:,}") for reject in found],
        "last": [styled(terminal.ago(reject.last_at, now), "dim") for reject in found],
        "place": [styled(_end_of(reject.place.shown(reject.transport))) for reject in found],
        "problems": [styled(problems(reject.errors), "none") for reject in found],
    }


def _drawn(cells: Mapping[str, Sequence[Text]]) -> Table:
    from issue_core.cli import terminal

    table = terminal.table(*cells, right=frozenset({"id", "count", "last"}))
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    table.columns[0].min_width = terminal.needed(table.columns[0])  # an ID that is cut names no reject
    terminal.fit(table, at=len(cells) - 1)
    return table


def _end_of(place: str) -> str:
    """The place, without the beginning of a long path."""
    return place if len(place) <= _LONGEST_PLACE else f"…{place[1 - _LONGEST_PLACE :]}"


def _show(reject: Reject, now: datetime) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from issue_core.cli.output import escape, show, styled
    from issue_core.cli.terminal import with_age

    fields = Table.grid("", Column(overflow="fold"), padding=(0, 2))
    for name, value in _fields(reject):
        fields.add_row(styled(name, "bold"), with_age(str(value), now) if name.endswith("_at") else styled(value))
    show(fields, Text(""), Text(escape(reject.text, multiline=True), overflow="fold"))
