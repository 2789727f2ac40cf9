"""``issue restore``: a copy takes the ledger's place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption

app = new_app()


@app.command(epilog=examples("issue restore /backups/ledger-20300101T040000Z.db", "issue restore copy.db --settled"))
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy that `issue backup` wrote.")],
    settled: Annotated[
        bool, typer.Option("--settled", help="No input of the time since the copy will be run again.")
    ] = False,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Lay a copy in the ledger's place. A ledger that is there is kept beside it, under another name.

    What the lost ledger has done since the copy was made is not known. So every task that is not known to be synced is
    looked for at its tracker before its issue is made. For 30 days so is every task that comes in: the input since then
    may be run again, and should be. --settled says that it will not be.
    """
    from issue_core.cli import context, output
    from issue_core.ledger.copies import restore as lay

    with context.open_ledger(context.settings(config, ledger)) as store:
        done = lay(store, file, settled=settled)
        path = store.path
    if json:
        kept = None if done.kept_aside is None else str(done.kept_aside)
        output.json_line({**done._asdict(), "ledger": str(path), "kept_aside": kept})
        return
    output.line(f"{path}: {done.tasks:,} tasks as of {done.since}, {done.in_doubt:,} of them in doubt")
    if done.kept_aside:
        output.line(f"the ledger that was there is kept as {done.kept_aside}")
