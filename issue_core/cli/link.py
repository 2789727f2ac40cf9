"""``issue link``: a person says which issue is a task's, or that there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption
from issue_core.cli.show import IdArgument

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from issue_core.config import Settings
    from issue_core.errors import UsageError
    from issue_core.ledger import Ledger
    from issue_core.ledger.linking import Linked
    from issue_core.task import Task

MAX_URL = 2000
"""The longest address of an issue, in characters."""

_BEFORE_AN_ID = frozenset({"browse", "issues", "work_items"})
"""What stands before an issue's ID in a tracker's paths; a title or a tab may follow it."""

_SECRETS = frozenset({"access_token", "api_key", "apikey", "password", "private_token", "token"})
"""Parameters with which trackers take credentials in an address."""

_TOLD: dict[Linked, str] = {
    "linked": "is synced with {url}",
    "settled": "has one issue: {url}",
    "known": "was synced with {url} already",
}

app = new_app()


@app.command(
    epilog=examples(
        "issue link 12 https://git.example.org/acme/web/issues/34",
        "issue link 0190c7a4 https://jira.example.org/browse/WEB-34",
        "issue link 12 --none",
    )
)
def link(
    wanted: IdArgument,
    url: Annotated[str | None, typer.Argument(metavar="[URL]", help="The address of the issue.")] = None,
    none: Annotated[bool, typer.Option("--none", help="There is no such issue: end the task's doubt.")] = False,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Adopt an issue that exists already as a task's own, or say that there is none.

    With URL the task is synced, and no other issue will be made for it. The tracker is not asked. Where the task's
    history names issues that may be too many (late, double, contested), URL is the one that stays, and the others are
    settled: close them first.

    With --none a task in doubt is due now, and its issue will be made. Look into the tracker first: an attempt of the
    last minute may still have its effect there.
    """
    from issue_core.cli import context, output
    from issue_core.errors import UsageError

    if (url is None) != none:
        raise UsageError("name the issue by its URL, or say --none", hint="issue link --help shows examples.")
    issue_id = None if url is None else _id_in(url)
    settings = context.settings(config, ledger)
    with context.open_ledger(settings) as store:
        if url is None or issue_id is None:
            task, told = _rule_out(store, wanted), "is in doubt no more"
        else:
            task, outcome = _link(store, settings, wanted, url, issue_id)
            told = _TOLD[outcome].format(url=url)
    if json:
        output.json_line(task.to_json())
    else:
        output.line(f"task {task.seq} {told}")


def _link(store: Ledger, settings: Settings, wanted: str, url: str, issue_id: str) -> tuple[Task, Linked]:
    """The task as it stands now, and what came of it."""
    from functools import partial

    from issue_core.config import route
    from issue_core.ledger import linking, queries, workers

    with store.read() as connection:  # where nothing is found, no ledger is made either
        task = queries.task(connection, queries.find(connection, wanted))
    pointed_to = route(settings, task.target_repo)
    running, is_alive = store.clock.running(), partial(workers.is_alive, store.path)
    with store.write() as tx:
        outcome = linking.link(
            tx, task.seq, url=url, issue_id=issue_id, route=pointed_to, running=running, is_alive=is_alive
        )
        return queries.task(tx.connection, task.seq), outcome


def _rule_out(store: Ledger, wanted: str) -> Task:
    from functools import partial

    from issue_core.ledger import linking, queries, workers

    with store.read() as connection:
        seq = queries.find(connection, wanted)
    with store.write() as tx:
        linking.rule_out(tx, seq, running=store.clock.running(), is_alive=partial(workers.is_alive, store.path))
        return queries.task(tx.connection, seq)


def _id_in(url: str) -> str:
    """The issue's ID, as far as its address tells it.

    Raises:
        UsageError: this is no address of an issue, or one that should not be kept.
    """
    from itertools import pairwise
    from urllib.parse import unquote

    parts = _parts(url)
    names = [name for name in parts.path.split("/") if name]
    if not names or (parts.scheme != "file" and names[-1] in _BEFORE_AN_ID):
        raise _unfit(url, "it names no issue")
    found = [name for before, name in pairwise(names) if before in _BEFORE_AN_ID and _has_a_digit(name)]
    issue_id = found[-1] if found and parts.scheme != "file" else names[-1]
    readable = unquote(issue_id)
    return readable if readable.isprintable() else issue_id


def _has_a_digit(name: str) -> bool:
    return any(character.isdigit() for character in name)


def _parts(url: str) -> SplitResult:
    """The parts of an address that may be kept. Raises what :func:`_id_in` raises."""
    from urllib.parse import urlsplit

    if len(url) > MAX_URL:
        raise _unfit(None, f"it has more than {MAX_URL} characters")
    if not url.isprintable() or " " in url:
        raise _unfit(url, "it must be one line without spaces")
    try:
        parts = urlsplit(url)
        if _has_credentials(parts):
            raise _unfit(None, "it has credentials in it, which do not belong into a ledger")
        parts.port  # noqa: B018 - it is read to hear whether it is one
    except ValueError as wrong:
        raise _unfit(url, str(wrong)) from None
    is_file = parts.scheme == "file" and parts.path.startswith("/")
    if not is_file and not (parts.scheme in ("http", "https") and parts.hostname):
        raise _unfit(url, "it must begin with https://, http:// or file:///")
    return parts


def _has_credentials(parts: SplitResult) -> bool:
    from urllib.parse import parse_qs

    asked = {name.lower() for name in parse_qs(parts.query, keep_blank_values=True)}
    return "@" in parts.netloc or not _SECRETS.isdisjoint(asked)


def _unfit(url: str | None, why: str) -> UsageError:
    from issue_core.errors import UsageError

    shown = "this URL" if url is None else repr(url)
    return UsageError(f"{shown} cannot be an issue's address: {why}", hint="Copy it from the browser.")
