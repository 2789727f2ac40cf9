"""``issue doctor``: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issue_core.backends.base import Finding
    from issue_core.config import Settings
    from issue_core.ledger import Ledger

app = new_app()


@app.command(epilog=examples("issue doctor", "issue doctor --json | jq 'select(.ok | not)'"))
def doctor(json: JsonOption = False, ledger: LedgerOption = None, config: ConfigOption = None) -> None:
    """Look at the ledger, its place, the clock, the configuration, each backend and NATS. Nothing is changed.

    All of the ledger is read. Each finding that is not ok says how to mend it. Ends with 3 when there is one, with 2
    when the configuration cannot be read.

    With --json: an object for each finding, with ok, about, what and hint.
    """
    from issue_core.cli import context, output
    from issue_core.cli.config import conclude, print_in_words

    settings = context.settings(config, ledger)
    wrong = 0
    with context.open_ledger(settings) as store:
        for about, finding in _findings(store, settings):
            wrong += not finding.ok
            if json:
                output.json_line({"ok": finding.ok, "about": about, "what": finding.what, "hint": finding.hint})
            else:
                print_in_words(about, finding)
    conclude(wrong, json=json)


def _findings(ledger: Ledger, settings: Settings) -> Iterator[tuple[str, Finding]]:
    from issue_core.cli import checkups
    from issue_core.cli.config import findings
    from issue_core.errors import LedgerError

    yield from (("place", each) for each in checkups.place(ledger))
    yield from (("configuration", each) for each in checkups.secret_files(settings))
    yield from ((f"backend {name}" if name else "configuration", each) for name, each in findings(settings))
    try:
        yield from (("ledger", each) for each in checkups.ledger_file(ledger))
        yield from (("clock", each) for each in checkups.clock(ledger))
        yield from (("routes", each) for each in checkups.routes(ledger, settings))
        yield from (("tasks", each) for each in checkups.needs(ledger))
        yield from (("nats", each) for each in checkups.nats(ledger, settings))
    except LedgerError as error:
        from issue_core.backends.base import Finding

        yield "ledger", Finding(ok=False, what=error.message, hint=error.hint)
