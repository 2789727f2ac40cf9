"""``issue new``: a person's short cut to one task."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption, completed
from issue_core.task import Document, Priority, Receipt

SOURCE = "issue new"
"""The ``source_id`` of a task that a person made here, unless one is given."""

app = new_app()


@app.command(
    epilog=examples(
        "issue new 'Renew the certificate' --repo acme/web --priority high --due-in 7",
        "issue new 'Look at the log' --repo acme/web --label ops --label disk",
        "git log -1 --format=%b | issue new 'Follow up' --repo acme/web --description -",
    )
)
def new(
    title: Annotated[str, typer.Argument(metavar="TITLE", help="The task in one line.")],
    repo: Annotated[
        str,
        typer.Option(
            "--repo",
            "-r",
            metavar="REPO",
            help="Where the task belongs: its target_repo.",
            autocompletion=completed("repos"),
        ),
    ],
    description: Annotated[
        str, typer.Option("--description", "-d", metavar="TEXT", help="Markdown; - reads it from standard input.")
    ] = "",
    priority: Annotated[Priority, typer.Option("--priority", "-p", help="How urgent it is.")] = "medium",
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            "-l",
            metavar="LABEL",
            help="A label; give the option once for each.",
            autocompletion=completed("labels"),
        ),
    ] = None,
    due_in: Annotated[int | None, typer.Option("--due-in", metavar="DAYS", help="Due in so many days.")] = None,
    source_id: Annotated[str, typer.Option("--source-id", metavar="SOURCE_ID", help="Who or what asks.")] = SOURCE,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Make one task, under a fresh event ID.

    What is wrong with it is said at once (exit code 2) and nothing is stored.
    """
    from uuid import uuid4

    spec: dict[str, Any] = {
        "title": title,
        "description": _from_standard_input() if description == "-" else description,
        "target_repo": repo,
        "priority": priority,
        "labels": label or [],
        "due_in_days": due_in,
        "source_type": "instruction",
        "source_id": source_id,
        "triggering_event_id": str(uuid4()),
    }
    from issue_core.cli import context, output
    from issue_core.cli.done import told_all_the_same
    from issue_core.cli.receipts import noted

    settings = context.settings(config, ledger)
    document = _judged(spec)
    from issue_core.ingestion import ingest

    with context.open_ledger(settings) as store:
        [receipt] = ingest(store, [document], transport="new")
    noted([receipt])
    with told_all_the_same(lambda: f"task {receipt.seq} ({receipt.event_id}) is stored"):
        if json:
            output.json_line(receipt.to_json())
        else:
            output.line(_in_words(receipt))


def _from_standard_input() -> str:
    import sys

    from issue_core.errors import UsageError

    if sys.stdin is None:
        raise UsageError("standard input is closed: there is no description to read")
    from issue_core.cli.output import interrupted_says

    with interrupted_says(lambda: "nothing was stored"):
        return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def _judged(spec: dict[str, Any]) -> Document:
    """The document that ``spec`` makes, if it is a TaskSpec: a person's typo is no reject to keep.

    Raises:
        UsageError: it is none; with every reason.
    """
    from json import dumps

    from issue_core.errors import UsageError
    from issue_core.task import Rejected
    from issue_core.taskspec import judge

    document = Document(dumps(spec).encode())
    judged = judge(document)
    if isinstance(judged, Rejected):
        reasons = "".join(f"\n{_option(error.field)} {error.problem}" for error in judged.errors)
        raise UsageError(f"this is no TaskSpec; nothing was stored{reasons}", hint="issue new --help shows the form.")
    return document


_OPTIONS = {"title": "TITLE", "target_repo": "--repo", "due_in_days": "--due-in", "labels": "--label"}


def _option(field: str) -> str:
    """The option that sets ``field`` (``labels[2]``, too)."""
    name = field.split("[")[0]
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}")


def _in_words(receipt: Receipt) -> str:
    return f"{receipt.outcome} task {receipt.seq} ({receipt.event_id})"
