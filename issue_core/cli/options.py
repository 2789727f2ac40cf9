"""Options that more than one command has, and the reading of their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issue_core.task import STATES, Priority, SourceType, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from issue_core.ledger.queries import Filter

LedgerOption = Annotated[
    Path | None,
    typer.Option("--ledger", metavar="PATH", help="The ledger file; else ISSUE_CORE_LEDGER, else the configuration."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="PATH", help="The configuration file; else ISSUE_CORE_CONFIG."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def completed(what: str) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    """What asks :mod:`issue_core.cli.completion` for names of this kind, once a shell does."""

    def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        from issue_core.cli import completion

        return completion.offered(getattr(completion, what), ctx, incomplete)

    return complete


# The values stand in the help: as a metavar they would be broken in the middle of a word at 80 columns.
StateOption = Annotated[
    TaskState | None,
    typer.Option("--state", metavar="STATE", help=f"Only tasks in this state: {', '.join(STATES)}."),
]
RepoOption = Annotated[
    str | None,
    typer.Option("--repo", metavar="REPO", help="Only tasks with this target_repo.", autocompletion=completed("repos")),
]
PriorityOption = Annotated[Priority | None, typer.Option("--priority", help="Only tasks with this priority.")]
LabelOption = Annotated[
    str | None,
    typer.Option(
        "--label",
        metavar="LABEL",
        help="Only tasks with this label, whatever its case.",
        autocompletion=completed("labels"),
    ),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="SOURCE_ID", help="Only tasks with this source_id.", autocompletion=completed("sources")
    ),
]
SourceTypeOption = Annotated[SourceType | None, typer.Option("--source-type", help="Only tasks with this source_type.")]
# More than 2**31 nobody asks for; SQLite could not count much further.
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=0, max=2**31, help="At most so many; 0 is all.")]
InDoubtOption = Annotated[
    bool, typer.Option("--in-doubt", help="Only tasks whose last attempt has no known outcome yet.")
]
_WHEN = "an age like 45s, 30m, 12h, 7d, or a date or time in UTC like 2026-01-31 or 2026-01-31T09:00"
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help=f"Only tasks accepted at WHEN or later: {_WHEN}.")
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="WHEN", help="Only tasks accepted before WHEN: the same forms.")
]


def chosen(
    now: datetime,
    *,
    state: TaskState | None,
    repo: str | None,
    priority: Priority | None,
    label: str | None,
    source: str | None,
    source_type: SourceType | None,
    in_doubt: bool,
    since: str | None,
    until: str | None,
) -> Filter:
    """The filter that these options make.

    Raises:
        UsageError: an age or a date cannot be read.
    """
    from issue_core.ledger.queries import Filter

    return Filter(
        state=state,
        repo=repo,
        priority=priority,
        label=label,
        source=source,
        source_type=source_type,
        in_doubt=in_doubt or None,
        created_since=None if since is None else moment(since, now, "--since"),
        created_until=None if until is None else moment(until, now, "--until"),
    )


def moment(text: str, now: datetime, option: str) -> str:
    """The time that ``text`` stands for, as the ledger writes times: an age counted back from ``now``, or a date.

    Raises:
        UsageError: it is neither.
    """
    from datetime import UTC, datetime, timedelta

    from issue_core.config.values import parse_duration
    from issue_core.errors import UsageError
    from issue_core.task import to_text

    try:
        if text[-1:] in ("s", "m", "h", "d"):
            return to_text(now - timedelta(seconds=parse_duration(text)))
        named = datetime.fromisoformat(text)
        return to_text(named if named.tzinfo else named.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {text!r}: neither an age nor a date", hint=f"Give {_WHEN}.") from None


def seconds(text: str, option: str) -> float:
    """The seconds of an age like ``1h``.

    Raises:
        UsageError: it is none.
    """
    from issue_core.config.values import parse_duration
    from issue_core.errors import UsageError

    try:
        return parse_duration(text)
    except ValueError as unfit:
        raise UsageError(f"{option} {text!r}: {unfit}") from None
