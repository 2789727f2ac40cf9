"""``issue subscribe``: TaskSpecs from NATS into the ledger."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.nats import ContextOption, DurableOption, FilterOption, StreamOption, UrlOption, settings_with
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from issue_core.cli.stopping import Stop
    from issue_core.config import NatsSettings, Settings
    from issue_core.ledger import Ledger
    from issue_core.task import Receipt

_WARNINGS = 20  # different ones that are shown at a time
_EVERY = 60.0  # seconds between two lines that say how far it is
_SYNC_GRACE, _HURRY = 8.0, 0.8  # seconds that a request to a tracker has when it is told to stop; after a Ctrl-C

app = new_app()


@app.command(
    epilog=examples(
        "issue subscribe --nats-url nats://nats.example.org --sync",
        "issue subscribe --until-empty --json",
    )
)
def subscribe(
    nats_url: UrlOption = None,
    context: ContextOption = None,
    stream: StreamOption = None,
    durable: DurableOption = None,
    subjects: FilterOption = None,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, max=256, help="Take at most so many at a time.")
    ] = 256,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End when nothing waits and nothing is under way, with any host.")
    ] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Also make issues, whenever something is due: no cron is needed.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse fields that a TaskSpec does not have.")] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Serve /metrics, /healthz and /readyz on this port; 0: any that is free.",
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option("--metrics-host", metavar="HOST", help="Serve them on this address; nobody needs a key.")
    ] = "127.0.0.1",
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Take TaskSpecs from NATS: a message is acknowledged when its task is on the disk.

    What is no TaskSpec, or conflicts with a task, lies among the rejects and is acknowledged, too. When the ledger
    cannot be written, nothing is taken until it can. When the server goes, it is waited for.

    SIGTERM and Ctrl-C end it when the batch in hand is stored. --until-empty ends with 3 when nothing has moved for
    three minutes.
    """
    import gc
    from signal import SIGINT, SIGTERM

    from issue_core.cli import context as command
    from issue_core.cli import output
    from issue_core.cli.stopping import stopped_by

    settings = command.settings(config, ledger)
    nats = _settings(settings, url=nats_url, context=context, stream=stream, durable=durable, subjects=subjects)
    said = _Said(json=json)
    gc.freeze()  # what was imported stays: no need to look through it again
    gc.enable()  # this one lives long
    with (
        command.open_ledger(settings, long_lived=True) as store,
        stopped_by(SIGTERM, SIGINT) as stop,
        _sync_beside(store, settings, said, stop, wanted=sync),
        _observed(store, nats, said, (metrics_host, metrics_port), batch) as hear,
    ):
        import asyncio

        from issue_core.transports.nats import subscriber

        choices = subscriber.Choices(batch, strict, settings.ingest.max_document, until_empty)
        output.message(f"taking tasks from {nats.stream} into {settings.ledger}")
        try:
            taking = subscriber.subscribe(nats, store, choices, stop.event, heard=said.heard, say=said.say, **hear)
            end = asyncio.run(taking)
        finally:
            said.summary()
    if end == "stuck":
        output.message("something is left, and nothing has moved for three minutes; `issue nats status` shows what")
        raise typer.Exit(3)
    if stop.by == SIGINT:
        raise KeyboardInterrupt("what was taken is stored; what was not answered comes again")


def _settings(settings: Settings, *, subjects: str | None, **given: str | None) -> NatsSettings:
    from issue_core.errors import UsageError
    from issue_core.transports.nats import names

    nats = settings_with(settings.nats, subjects=subjects, **given)
    if not names.covers(f"{names.CREATE}.>", nats.filter):
        raise UsageError(
            f"the filter {nats.filter} gets what is no new task",
            hint=f"Give {names.CREATE}.> or one below it: update and close have no meaning yet.",
        )
    return nats


@contextmanager
def _sync_beside(store: Ledger, settings: Settings, said: _Said, stop: Stop, *, wanted: bool) -> Iterator[None]:
    """Sync in a thread of its own until the block ends, if it is wanted."""
    if not wanted:
        yield
        return
    from signal import SIGINT

    from issue_core.transports.beside import SyncBeside

    with store.write():
        pass  # makes the ledger, or says now why it cannot be written
    beside = SyncBeside(store, settings, said.say, settles=False)
    said.created = beside.wake
    beside.start()
    try:
        yield
    finally:
        beside.stop()
        beside.wait(_HURRY if stop.by == SIGINT else _SYNC_GRACE)


@contextmanager
def _observed(
    store: Ledger, nats: NatsSettings, said: _Said, address: tuple[str, int | None], batch: int
) -> Iterator[dict[str, Any]]:
    """Serve the metrics until the block ends, if there is a port for them; gives what hears of the run for them."""
    host, port = address
    if port is None:
        yield {}
        return
    from issue_core.transports.nats.observing import Observer, observable

    observer = Observer(nats)
    said.took = observer.took
    with observable(observer, store, (host, port), batch=batch, say=said.say) as url:
        said.say(f"metrics at {url}")
        yield {"met": observer.meet, "able": observer.able}


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class _Said:
    """What was heard so far, and how it is said: a receipt a line with ``json``, else a line now and then."""

    json: bool
    created: Callable[[], None] = _nothing
    took: Callable[[], None] = _nothing
    counts: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    due: float = field(default_factory=lambda: time.monotonic() + _EVERY)

    def say(self, text: str) -> None:
        """Something happened."""
        from issue_core.cli import output

        output.message(text)

    def heard(self, receipts: Sequence[Receipt]) -> None:
        """These are stored and acknowledged."""
        from issue_core.cli import output
        from issue_core.cli.receipts import noted, rejected

        self.took()
        noted(receipts)
        self.counts.update([each.outcome for each in receipts])
        if any(each.state == "pending" for each in receipts):
            self.created()
        if self.json:
            output.write("".join([output.to_json(each.to_json()) + "\n" for each in receipts]))
            output.flush()
            return
        self.warnings.update([warning for each in receipts for warning in each.warnings])
        for each in receipts:
            if each.outcome in ("invalid", "conflict"):
                output.message(rejected(each))
        if time.monotonic() >= self.due:
            self.summary()

    def summary(self) -> None:
        """Say how many there were, and what was strange about them since it was said last."""
        from issue_core.cli import output
        from issue_core.task import OUTCOMES

        self.due = time.monotonic() + _EVERY
        if self.json or not self.counts:
            return
        for warning, n in self.warnings.most_common(_WARNINGS):
            output.message(f"warning: {warning}" + (f" (in {n} TaskSpecs)" if n > 1 else ""))
        self.warnings.clear()
        total = sum(self.counts.values())
        output.line(f"{total} taken: " + ", ".join(f"{self.counts[outcome]} {outcome}" for outcome in OUTCOMES))
        output.flush()
