"""``issue retry``: failed and waiting tasks are due again."""

from __future__ import annotations

from typing import Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption, completed

app = new_app()


@app.command(epilog=examples("issue retry 12 0190c7a4", "issue retry --all"))
def retry(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="Event IDs, beginnings of them, or seqs.", autocompletion=completed("failed")
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every task that is failed or waits.")] = False,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Make failed tasks pending again, and waiting ones due now.

    Backends and projects that are parked are tried at once, too. Clears no doubt and no tracker's limit.
    """
    from issue_core.cli import context, output
    from issue_core.errors import UsageError
    from issue_core.ledger import limits, outbox, queries

    if bool(wanted) == every:
        raise UsageError("name the tasks to try again, or say --all", hint="issue list --state failed shows them.")
    due = parked = 0
    with context.open_ledger(context.settings(config, ledger)) as store:
        with store.read() as connection:
            seqs = [queries.find(connection, each) for each in wanted or ()]
            is_empty = not any(queries.by_state(connection).values())
        if not is_empty:  # or it would be made here, if it is not there yet
            with store.write() as tx:
                due = outbox.retry_all(tx) if every else outbox.retry(tx, seqs)
                parked = limits.probe_now(tx)
    if json:
        output.json_line({"due": due, "unparked": parked})
    else:
        made_due = f"{due} due now" if due else "nothing had to be made due"
        output.line(made_due + (f", {parked} parked to be tried" if parked else ""))
