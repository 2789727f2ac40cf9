"""``issue nats``: set up the streams of NATS, and see how it stands in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from issue_core.cli.group import Group, examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption
from issue_core.config.settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from issue_core.transports.nats.status import Status
    from issue_core.transports.nats.streams import Drift, State
    from issue_core.transports.nats.wanted import Wanted

_NAME = re.compile(r"[^\s.*>/\\]+")
_FILTER = re.compile(r"[^\s.]+(\.[^\s.]+)*")
_DEFAULTS = NatsSettings()

app = new_app(
    cls=Group,
    help="Set up the streams of NATS, and see how it stands in them.",
    epilog=examples("issue nats setup --replicas 3", "issue nats status"),
)

UrlOption = Annotated[
    str | None, typer.Option("--nats-url", metavar="URL", help="The server, several with commas; else NATS_URL.")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="A context of the nats CLI; else NATS_CONTEXT.")
]
StreamOption = Annotated[
    str | None, typer.Option("--stream", metavar="NAME", help=f"The stream of the tasks. Default: {_DEFAULTS.stream}.")
]
DurableOption = Annotated[
    str | None, typer.Option("--durable", metavar="NAME", help=f"The consumer. Default: {_DEFAULTS.durable}.")
]
FilterOption = Annotated[
    str | None,
    typer.Option("--filter", metavar="SUBJECT", help=f"What the consumer gets. Default: {_DEFAULTS.filter}"),
]


def settings_with(
    settings: NatsSettings,
    *,
    url: str | None = None,
    context: str | None = None,
    stream: str | None = None,
    durable: str | None = None,
    subjects: str | None = None,
) -> NatsSettings:
    """The settings with what the options say in place of the file's and the environment's.

    Raises:
        UsageError: the NATS client is not installed, or something can be no name.
    """
    from issue_core.transports.nats import require

    require()
    if url:
        settings = settings._replace(url=url, login=None)
    given = {"context": context, "stream": stream, "durable": durable, "filter": subjects}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value}
    settings = settings._replace(**changes)
    _require_names(settings)
    return settings


def _require_names(settings: NatsSettings) -> None:
    from issue_core.errors import UsageError

    for what in ("stream", "durable", "bucket"):
        # They are tokens of subjects of the JetStream API.
        if not _NAME.fullmatch(name := getattr(settings, what)):
            raise UsageError(f"{name!r} can be no name of a {what}", hint="Letters, digits, _ and - are safe.")
    if not _FILTER.fullmatch(settings.filter):
        raise UsageError(f"{settings.filter!r} is no subject", hint="Give one such as act.tasks.create.>")


@app.command(
    epilog=examples(
        "issue nats setup --nats-url nats://127.0.0.1:4222",
        "issue nats setup --replicas 3 --claims",
        "issue nats setup --apply",
    )
)
def setup(
    replicas: Annotated[
        int | None,
        typer.Option("--replicas", metavar="N", min=1, max=5, help="On so many servers. Default: 1, or as it is."),
    ] = None,
    claims: Annotated[
        bool, typer.Option("--claims", help="Also make the bucket with which several hosts share one consumer.")
    ] = False,
    claims_ttl: Annotated[
        str | None,
        typer.Option("--claims-ttl", metavar="AGE", help="How long a claim is kept, such as 400d. Default: for ever."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Change what differs and can be changed.")] = False,
    nats_url: UrlOption = None,
    context: ContextOption = None,
    stream: StreamOption = None,
    durable: DurableOption = None,
    subjects: FilterOption = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Make the streams and the consumer that are missing; show each setting that differs in those that are there.

    Nothing that exists is changed without --apply. Ends with 3 when something still differs.
    """
    from issue_core.cli import output
    from issue_core.errors import UsageError
    from issue_core.transports.nats import names
    from issue_core.transports.nats.waiting import run
    from issue_core.transports.nats.wanted import all_wanted

    settings = settings_for(
        config, ledger, url=nats_url, context=context, stream=stream, durable=durable, subjects=subjects
    )
    if not names.covers(names.TASKS, settings.filter):
        raise UsageError(
            f"the filter {settings.filter} gets nothing: subjects of tasks are {names.TASKS}",
            hint=f"Give one below it, such as {names.CREATE}.>",
        )
    if claims_ttl is not None and not (claims or settings.claims):
        raise UsageError("--claims-ttl has no meaning without --claims")
    wanted = all_wanted(settings, replicas=replicas, claims=claims or settings.claims, claims_ttl=_seconds(claims_ttl))
    states = run(_set_up(settings, wanted, apply=apply))
    for state in states:
        if json:
            output.json_line(_to_json(state))
        else:
            for text in _lines(state):
                output.line(text)
    if any(state.drift for state in states):
        raise typer.Exit(3)


@app.command(epilog=examples("issue nats status", "issue nats status --json | jq .lag"))
def status(
    nats_url: UrlOption = None,
    context: ContextOption = None,
    stream: StreamOption = None,
    durable: DurableOption = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Say how much waits in the stream, how much is under way, and what nobody could handle.

    In a pipe: one line for each counter, its name and its value separated by a tab.
    """
    from issue_core.cli import output
    from issue_core.transports.nats.waiting import run

    settings = settings_for(config, ledger, url=nats_url, context=context, stream=stream, durable=durable)
    found = run(_read_status(settings))
    if json:
        output.json_line(found.to_json())
    elif output.on_terminal():
        for text in _words(found):
            output.line(text)
    else:
        output.tsv(("counter", "value"), _rows(found))


def settings_for(config: Path | None, ledger: Path | None, **given: str | None) -> NatsSettings:
    """The settings in force, with what the options say. Raises what :func:`settings_with` raises, and ConfigError."""
    from issue_core.cli import context

    return settings_with(context.settings(config, ledger).nats, **given)


def _seconds(age: str | None) -> float | None:
    from issue_core.cli.options import seconds
    from issue_core.errors import UsageError
    from issue_core.transports.nats.wanted import LEAST_TTL

    if age is None:
        return None
    if (ttl := seconds(age, "--claims-ttl")) < LEAST_TTL:
        raise UsageError(
            f"--claims-ttl {age} is too short: a dead letter may be replayed after more than three months",
            hint=f"Give {LEAST_TTL // 86400}d or more; whoever has forgotten a claim makes the issue again.",
        )
    return ttl


async def _set_up(settings: NatsSettings, wanted: Sequence[Wanted], *, apply: bool) -> list[State]:
    from issue_core.transports.nats.connection import connected
    from issue_core.transports.nats.streams import set_up

    async with connected(settings) as link:
        return [await set_up(link, each, apply=apply) for each in wanted]


async def _read_status(settings: NatsSettings) -> Status:
    from issue_core.transports.nats.connection import connected
    from issue_core.transports.nats.status import read_status

    async with connected(settings) as link:
        return await read_status(link, settings)


def _to_json(state: State) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "kind": state.wanted.kind,
        "name": state.wanted.name,
        "result": state.result,
        "changed": list(state.changed),
        "drift": [asdict(each) for each in state.drift],
    }


def _lines(state: State) -> Iterator[str]:
    name = f"{state.wanted.kind} {state.wanted.name}"
    if state.changed:
        yield f"{name}: changed {', '.join(state.changed)}"
    elif not state.drift:
        yield f"{name}: {'created' if state.result == 'created' else 'as it should be'}"
    for each in state.drift:
        yield f"{name}: {_difference(each)}"


def _difference(drift: Drift) -> str:
    found, wanted = (", ".join(each) if isinstance(each, list) else each for each in (drift.found, drift.wanted))
    loses = f" and loses messages: {drift.loses}" if drift.loses else ""
    return f"{drift.field} is {found or 'unset'}, should be {wanted}{loses} ({drift.mend})"


def _rows(status: Status) -> Iterator[tuple[str, object]]:
    for name, value in status.to_json().items():
        if name == "reserved":
            yield from ((f"reserved_{verb}", count) for verb, count in value.items())
        else:
            yield name, value


def _words(status: Status) -> Iterator[str]:
    replicas = f"{status.replicas} replica" + ("" if status.replicas == 1 else "s")
    yield f"{status.stream} at {status.server}: {status.messages:,} messages, {replicas}"
    waiting = f"{status.lag:,} waiting, {status.in_flight:,} in flight, {status.redelivered:,} redelivered"
    yield f"{status.consumer}: {waiting}"
    yield f"dead letters: {status.dead_letters:,}"
    if status.expired_unread:
        yield f"expired before they were read: {status.expired_unread:,} at most"
    for verb, count in status.reserved.items():
        if count:
            yield f"{verb}: {count:,} with this reserved verb, left as they are"
    if status.claims is not None:
        yield f"claims: {status.claims:,}"
