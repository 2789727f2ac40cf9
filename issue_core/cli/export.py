"""``issue export``: every task, the oldest first, for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import (
    ConfigOption,
    InDoubtOption,
    JsonOption,
    LabelOption,
    LedgerOption,
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

    from issue_core.task import Task

Format = Literal["ndjson", "csv", "taskspec"]

CSV_COLUMNS = (
    "seq",
    "event_id",
    "state",
    "title",
    "description",
    "target_repo",
    "priority",
    "labels",
    "due_in_days",
    "due_date",
    "source_type",
    "source_id",
    "activity_definition_id",
    "created_at",
    "updated_at",
    "backend",
    "attempts",
    "next_attempt_at",
    "in_doubt_since",
    "last_error",
    "remote_id",
    "remote_url",
    "remote_project",
    "synced_at",
    "sightings",
    "extra",
    "ingestion",
)
"""The columns of ``--format csv``. ``labels``, ``sightings``, ``extra`` and ``ingestion`` are JSON; null is empty."""

app = new_app()


@app.command(
    epilog=examples(
        "issue export > tasks.ndjson",
        "issue export --format csv --state synced --since 30d > synced.csv",
        "issue export --format taskspec | issue ingest --ledger other.db",
    )
)
def export(
    form: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = "ndjson",
    state: StateOption = None,
    repo: RepoOption = None,
    priority: PriorityOption = None,
    label: LabelOption = None,
    source: SourceOption = None,
    source_type: SourceTypeOption = None,
    in_doubt: InDoubtOption = False,
    since: SinceOption = None,
    until: UntilOption = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Write tasks to standard output, the oldest first.

    ndjson: the task objects, one a line.

    csv: one row a task below a line of names, its lines ending as in RFC 4180; labels, sightings, extra and ingestion
    are JSON in it.

    taskspec: the TaskSpecs, as another ledger would take them.
    """
    from collections import Counter

    from issue_core.cli import context, output
    from issue_core.errors import UsageError
    from issue_core.ledger import queries

    if json and form == "csv":
        raise UsageError("--json and --format csv exclude each other")
    hidden = form == "csv" and output.on_terminal()
    with context.open_ledger(context.settings(config, ledger)) as store, store.read() as connection:
        wanted = chosen(
            store.clock.now(),
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
        written: Counter[str] = Counter()
        tasks = output.counted(queries.tasks(connection, wanted, limit=None, newest_first=False), written, "tasks")
        with output.interrupted_says(lambda: f"{written['tasks']} tasks were written; it is not all of them"):
            for text in {"ndjson": _ndjson, "csv": _csv, "taskspec": _taskspec}[form](tasks):
                output.write(output.escape(text, multiline=True) if hidden else text)


def _ndjson(tasks: Iterator[Task]) -> Iterator[str]:
    from issue_core.cli.output import to_json

    return (to_json(task.to_json()) + "\n" for task in tasks)


def _taskspec(tasks: Iterator[Task]) -> Iterator[str]:
    from issue_core.cli.output import to_json
    from issue_core.ledger.queries import spec_of
    from issue_core.taskspec import as_document

    return (to_json(as_document(spec_of(task))) + "\n" for task in tasks)


def _csv(tasks: Iterator[Task]) -> Iterator[str]:
    import csv
    from io import StringIO

    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for task in tasks:
        writer.writerow(_row(task))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _row(task: Task) -> list[Any]:
    from issue_core.cli.output import to_json

    remote = task.remote
    values = task.to_json() | {
        "remote_id": remote and remote.id,
        "remote_url": remote and remote.url,
        "remote_project": remote and remote.project,
        "synced_at": remote and remote.synced_at,
        "ingestion": task.ingestion,
    }
    return [
        to_json(value) if isinstance(value, dict | list) else value for value in (values[name] for name in CSV_COLUMNS)
    ]
