"""``issue dlq``: messages that no host could answer for; read them, replay them, drop them."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from issue_core.cli.group import Group, examples, new_app
from issue_core.cli.nats import ContextOption, StreamOption, UrlOption, settings_for
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption, LimitOption

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from rich.table import Table

    from issue_core.config import NatsSettings
    from issue_core.transports.nats.dead_letters import DeadLetter
    from issue_core.transports.nats.replaying import Replayed

app = new_app(
    cls=Group,
    help="Read, replay and drop dead letters: messages of NATS that were delivered five times and never answered.",
    epilog=examples("issue dlq list", "issue dlq show 3", "issue dlq replay --all"),
)

HEADER = ("seq", "state", "died_at", "reason", "deliveries", "repo", "event_id", "size")
"""What a pipe gets of the list, tab-separated, below a line with these names."""

_PAGE = 1000  # rows of one table on a terminal
_NUMBERS = 10  # numbers that are named in one line

SeqArgument = Annotated[
    int, typer.Argument(metavar="SEQ", min=1, max=2**63 - 1, help="The dead letter's number, as the list has it.")
]
SeqsArgument = Annotated[
    list[int] | None,
    typer.Argument(metavar="[SEQ]...", min=1, max=2**63 - 1, help="The dead letters' numbers, as the list has them."),
]


@app.command("list", epilog=examples("issue dlq list", "issue dlq list --limit 0 --json"))
def list_dead_letters(
    limit: LimitOption = 50,
    nats_url: UrlOption = None,
    context: ContextOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """List dead letters, the newest first.

    The state is whole where a full copy is kept; pointer where the message is still in its stream, and issue subscribe
    has not copied it yet; expired where it left the stream before that, and nothing of it is left but that it was.

    In a pipe the columns are seq, state, died_at, reason, deliveries, repo, event_id and size, separated by tabs,
    below a line with these names. With --json each is an object with seq, state, died_at, reason, deliveries,
    consumer, stream, stream_seq, subject, target_repo, event_id and size; what is not known is null.
    """
    from issue_core.transports.nats.waiting import run

    settings = settings_for(config, ledger, url=nats_url, context=context, stream=stream)
    run(_list(settings, limit or None, json=json))


async def _list(settings: NatsSettings, limit: int | None, *, json: bool) -> None:
    from issue_core.cli import output
    from issue_core.transports.nats import dead_letters, names
    from issue_core.transports.nats.connection import connected

    async with connected(settings) as link:
        found = dead_letters.newest(link, settings, limit)
        first = await anext(found, None)
        if first is None:
            output.message(f"no dead letter in {names.dead_letters(settings.stream)}")
        elif json:
            output.json_line(first.to_json())
            async for letter in found:
                output.json_line(letter.to_json())
        else:
            await _print(first, found)


async def _print(first: DeadLetter, found: AsyncIterator[DeadLetter]) -> None:
    """Print them as they are read; of what a table waits for, no bodies are kept."""
    from issue_core.cli import output

    if not output.on_terminal():
        output.tsv(HEADER, [_row(first)])
        async for letter in found:
            output.row(_row(letter))
        return
    rows = [_row(first)]
    async for letter in found:
        if len(rows) == _PAGE:
            output.show(_table(rows))
            rows = []
        rows.append(_row(letter))
    output.show(_table(rows))


@app.command(epilog=examples("issue dlq show 3", "issue dlq show 3 --raw | issue ingest"))
def show(
    seq: SeqArgument,
    raw: Annotated[bool, typer.Option("--raw", help="Write the body as it came, and nothing else.")] = False,
    nats_url: UrlOption = None,
    context: ContextOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Show one dead letter: where it came from, its headers and its body.

    In a pipe: one line for each field, its name and its value separated by a tab. With --json it is what the list has,
    with headers, raw (the body as text) and raw_base64 (the body byte for byte), which are null where it expired.
    """
    from issue_core.cli import output
    from issue_core.errors import UsageError
    from issue_core.transports.nats.waiting import run

    if raw and output.on_terminal():
        raise UsageError("the body as it came could do anything to a terminal", hint="Send it to a file: --raw > FILE")
    letter = run(_find(settings_for(config, ledger, url=nats_url, context=context, stream=stream), seq))
    if raw:
        output.write_bytes(_body(letter))
    elif json:
        output.json_line(_with_body(letter))
    elif output.on_terminal():
        _show(letter)
    else:
        output.tsv(("field", "value"), [*_fields(letter), *([] if letter.body is None else [("raw", letter.text)])])


async def _find(settings: NatsSettings, seq: int) -> DeadLetter:
    from issue_core.transports.nats.connection import connected
    from issue_core.transports.nats.dead_letters import find

    async with connected(settings) as link:
        return await find(link, settings, seq)


def _body(letter: DeadLetter) -> bytes:
    from issue_core.errors import NotFound

    if letter.body is None:
        raise NotFound(f"dead letter {letter.seq} has no body: its message expired before it was copied.")
    return letter.body


@app.command(epilog=examples("issue dlq replay 3 4", "issue dlq replay --all"))
def replay(
    seqs: SeqsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    nats_url: UrlOption = None,
    context: ContextOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Publish dead letters again, each under its own subject, and remove them once the stream has them.

    For when the cause is mended: issue subscribe gets each as a new message. Doing it twice does no harm. Ends with 3
    when one of them cannot be published. With --json each is an object with seq, outcome (replayed, gone or refused),
    stream, stream_seq and problem.
    """
    from issue_core.cli import output
    from issue_core.transports.nats.waiting import run

    settings = settings_for(config, ledger, url=nats_url, context=context, stream=stream)
    _refuse_unclear(seqs, every)
    told = _Told(json=json)
    with _progress_said(told.counts, "replayed"):
        run(_replay(settings, seqs, told.hear))
    if not json:
        told.refusals()
        output.line(told.summary())
    if told.counts["refused"]:
        raise typer.Exit(3)


async def _replay(settings: NatsSettings, seqs: Sequence[int] | None, hear: Callable[[Replayed], None]) -> None:
    from issue_core.transports.nats.connection import connected
    from issue_core.transports.nats.dead_letters import find
    from issue_core.transports.nats.replaying import replay, replay_all

    async with connected(settings) as link:
        if not seqs:
            async for each in replay_all(link, settings):
                hear(each)
            return
        wanted = dict.fromkeys(seqs)
        for seq in wanted:
            await find(link, settings, seq)
        for seq in wanted:
            hear(await replay(link, settings, seq))


class _Told:
    """What became of dead letters so far: counted, and said if not too many are alike."""

    def __init__(self, *, json: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._json = json
        self._problems: dict[str, list[int]] = {}
        self._alike: Counter[str] = Counter()

    def hear(self, replayed: Replayed) -> None:
        """This became of one."""
        from issue_core.cli import output
        from issue_core.cli.receipts import noted

        noted([replayed], "replayed")
        self.counts[replayed.outcome] += 1
        if self._json:
            output.json_line(replayed.to_json())
        elif replayed.problem:
            self._alike[replayed.problem] += 1
            if self._alike[replayed.problem] <= _NUMBERS:
                self._problems.setdefault(replayed.problem, []).append(replayed.seq)

    def summary(self) -> str:
        """How many there were."""
        gone = f", {self.counts['gone']} gone before" if self.counts["gone"] else ""
        return f"{self.counts['replayed']} replayed, {self.counts['refused']} refused{gone}"

    def refusals(self) -> None:
        """Say which were refused, and why."""
        from issue_core.cli import output

        for problem, seqs in self._problems.items():
            more = self._alike[problem] - len(seqs)
            which = ", ".join(map(str, seqs)) + (f" and {more} more" if more else "")
            output.message(f"dead letter{'s' * (len(seqs) > 1)} {which} cannot be replayed: {problem}")


@app.command(epilog=examples("issue dlq drop 3 4", "issue dlq drop --all --yes"))
def drop(
    seqs: SeqsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    nats_url: UrlOption = None,
    context: ContextOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Remove dead letters that nobody needs, for good; on a terminal, it is asked first. With --json: how many.

    A message that has no copy yet stays in its stream until it expires, but is not delivered again.
    """
    from issue_core.cli import output
    from issue_core.transports.nats.waiting import run

    settings = settings_for(config, ledger, url=nats_url, context=context, stream=stream)
    _refuse_unclear(seqs, every)
    if not yes:
        _confirm(settings, seqs)
    counts: Counter[str] = Counter()
    with _progress_said(counts, "dropped"):
        run(_drop(settings, seqs, counts))
    if json:
        output.json_line({"dropped": counts["dropped"]})
    else:
        output.line(f"{counts['dropped']} dropped")


async def _drop(settings: NatsSettings, seqs: Sequence[int] | None, counts: Counter[str]) -> None:
    from issue_core.transports.nats.connection import connected
    from issue_core.transports.nats.dead_letters import find
    from issue_core.transports.nats.replaying import drop, drop_all

    async with connected(settings) as link:
        if not seqs:
            counts["dropped"] = await drop_all(link, settings)
            return
        wanted = dict.fromkeys(seqs)
        for seq in wanted:
            await find(link, settings, seq)
        for seq in wanted:
            counts["dropped"] += await drop(link, settings, seq)


def _confirm(settings: NatsSettings, seqs: Sequence[int] | None) -> None:
    """Ask whoever sits there.

    Raises:
        UsageError: nobody does.
        typer.Exit: they do not want it.
    """
    import sys

    from issue_core.cli import output
    from issue_core.errors import UsageError
    from issue_core.transports.nats import names

    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError("dead letters are dropped for good, and nobody is there to ask", hint="Say --yes.")
    what = f"dead letter {', '.join(map(str, dict.fromkeys(seqs)))}" if seqs else "every dead letter"
    output.message(f"drop {what} in {names.dead_letters(settings.stream)} for good? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        output.message("nothing was dropped")
        raise typer.Exit(1)


def _refuse_unclear(seqs: Sequence[int] | None, every: bool) -> None:
    from issue_core.errors import UsageError

    if bool(seqs) == every:
        raise UsageError("name the dead letters by their numbers, or say --all", hint="issue dlq list shows them.")


@contextmanager
def _progress_said(counts: Mapping[str, int], done: str) -> Iterator[None]:
    """Whatever ends it half-way says how far it came."""
    from issue_core.errors import NatsError

    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{counts[done]} {done}; the rest is as it was") from None
    except NatsError as error:
        if not counts[done]:
            raise
        so_far = f"{counts[done]} {done} before that; the rest is as it was, and it can be done again"
        raise type(error)(f"{error.message}\n{so_far}", hint=error.hint, api_code=error.api_code) from error


def _row(letter: DeadLetter) -> tuple[object, ...]:
    return (
        letter.seq, letter.state, letter.died_at, letter.reason, letter.deliveries, letter.target_repo,
        letter.event_id, letter.size,
    )  # fmt: skip


def _fields(letter: DeadLetter) -> list[tuple[str, object]]:
    fields: list[tuple[str, object]] = [(name, value) for name, value in letter.to_json().items() if value is not None]
    return [*fields, *(("header", f"{name}: {value}") for name, value in letter.headers.items())]


def _with_body(letter: DeadLetter) -> dict[str, Any]:
    from base64 import b64encode

    body = letter.body
    known = None if body is None else b64encode(body).decode()
    return letter.to_json() | {
        "headers": dict(letter.headers),
        "raw": None if body is None else letter.text,
        "raw_base64": known,
    }


def _table(rows: Sequence[Sequence[object]]) -> Table:
    from datetime import UTC, datetime

    from rich.table import Table

    from issue_core.cli import terminal
    from issue_core.cli.output import styled

    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("seq", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    table.add_column("tries", justify="right", no_wrap=True)
    table.add_column("repo", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("event_id", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("size", justify="right", no_wrap=True)
    now = datetime.now(UTC)
    for seq, state, died_at, *rest in rows:
        table.add_row(*(styled(value) for value in (seq, state, terminal.ago(str(died_at), now), *rest)))
    return table


def _show(letter: DeadLetter) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from issue_core.cli.output import escape, show, styled

    fields = Table.grid("", Column(overflow="fold"), padding=(0, 2))
    for name, value in _fields(letter):
        fields.add_row(styled(name, "bold"), styled(value))
    show(fields, Text(""), Text(escape(letter.text, multiline=True)))
