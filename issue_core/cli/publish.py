"""``issue publish``: TaskSpecs from files or a pipe into NATS, for emitters."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.nats import ContextOption, StreamOption, UrlOption, settings_with
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from issue_core.config import NatsSettings
    from issue_core.task import Document
    from issue_core.transports.nats.publishing import Published
    from issue_core.transports.stream import Input

OUTCOMES = ("published", "duplicate", "invalid")

_WARNINGS = 20  # different ones that are shown

app = new_app()


@app.command(
    epilog=examples(
        "issue publish tasks.ndjson",
        "emitter | issue publish --nats-url nats://nats.example.org --json",
    )
)
def publish(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="What to read; - or no file is standard input."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse fields that a TaskSpec does not have.")] = False,
    nats_url: UrlOption = None,
    context: ContextOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Publish TaskSpecs to NATS, and wait until the stream has each one.

    Reads what issue ingest reads. The ledger is not used: it is for the hosts that run issue subscribe. What is no
    TaskSpec, or too large for the stream, is not published and said on standard error. Ends with 3 when there was such.

    What is published a second time, within the stream's window of two minutes, counts as a duplicate at once; later,
    the ledger tells.
    """
    import gc

    from issue_core.cli import context as command
    from issue_core.cli import output
    from issue_core.transports.nats.waiting import run
    from issue_core.transports.stream import open_inputs

    settings = command.settings(config, ledger)
    nats = settings_with(settings.nats, url=nats_url, context=context, stream=stream)
    inputs = open_inputs(files or ["-"])
    gc.set_threshold(20_000)  # ten objects a document, none of them in a cycle: not to be looked through so often
    gc.enable()  # it may read for days
    counts: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    with _progress_said(counts):
        run(
            _publish(
                nats, inputs, counts, warnings, strict=strict, max_document=settings.ingest.max_document, json=json
            )
        )
    if not json:
        for warning, n in warnings.most_common(_WARNINGS):
            output.message(f"warning: {warning}" + (f" (in {n} TaskSpecs)" if n > 1 else ""))
        output.line(_summary(counts))
    if counts["invalid"]:
        raise typer.Exit(3)


async def _publish(
    nats: NatsSettings,
    inputs: list[Input],
    counts: Counter[str],
    warnings: Counter[str],
    *,
    strict: bool,
    max_document: int,
    json: bool,
) -> None:
    from issue_core.cli import output
    from issue_core.transports.nats.background import in_background
    from issue_core.transports.nats.connection import connected
    from issue_core.transports.nats.publishing import Publisher

    async with (
        connected(nats, say=output.message) as link,
        Publisher(link, nats.stream, max_document, strict) as publisher,
    ):
        try:
            async for documents in in_background(_documents(inputs, max_document)):
                published = await publisher.publish(documents)
                counts.update([each.outcome for each in published])
                warnings.update([warning for each in published for warning in each.warnings])
                _report(published, json=json)
        finally:
            counts["stored"] = publisher.stored


def _documents(inputs: list[Input], max_document: int) -> Iterator[list[Document]]:
    from issue_core.transports.stream import batches

    for each in inputs:
        with each.open() as descriptor:
            for batch in batches(descriptor, file=each.name, max_document=max_document):
                yield batch.documents


def _report(published: list[Published], *, json: bool) -> None:
    from issue_core.cli import output
    from issue_core.cli.receipts import noted, problems, shortened

    noted(published, "published")
    if json:
        output.write("".join([output.to_json(each.to_json()) + "\n" for each in published]))
        output.flush()
        return
    for each in published:
        if each.outcome == "invalid":
            output.message(shortened(f"{each.place.shown()}: not published (invalid): {problems(each.errors)}"))


@contextmanager
def _progress_said(counts: Mapping[str, int]) -> Iterator[None]:
    """Whatever ends it half-way says how much was published before."""
    from issue_core.errors import IssueCoreError

    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_so_far(counts)) from None
    except IssueCoreError as error:
        if not counts["stored"]:
            raise
        raise type(error)(f"{error.message}\n{_so_far(counts)}", hint=error.hint) from error


def _so_far(counts: Mapping[str, int]) -> str:
    return f"at least {counts['stored']} TaskSpecs are in the stream; all of the input may be published again"


def _summary(counts: Mapping[str, int]) -> str:
    total = sum(counts[outcome] for outcome in OUTCOMES)
    return f"{total} read: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES)
