"""``issue ingest``: TaskSpecs from files or a pipe into the ledger."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption, completed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from issue_core.ledger import Ledger
    from issue_core.task import Document, Receipt
    from issue_core.transports.stream import Input

    Answer = Callable[[Iterator[tuple[list[Document], bool]]], Iterator[list[Receipt]]]

REJECTED = ("conflict", "invalid")

_WARNINGS = 20  # different ones that are shown

app = new_app()


@app.command(
    epilog=examples(
        "issue ingest tasks.ndjson",
        "emitter | issue ingest --json",
        "issue ingest --dry-run --strict *.json",
        "issue ingest --replaces 3 mended.json",
    )
)
def ingest(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="What to read; - or no file is standard input."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse fields that a TaskSpec does not have.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Judge all of it and say what would happen; store nothing.")
    ] = False,
    replaces: Annotated[
        int | None,
        typer.Option(
            "--replaces",
            metavar="REJECT_ID",
            help="The reject that this input sets right; it is closed.",
            autocompletion=completed("open_rejects"),
        ),
    ] = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Store TaskSpecs, each one once, and say what became of them.

    Reads JSON documents one after another, on one line or many, or one JSON array; in memory that does not grow with
    the input. What is no TaskSpec does not stop the rest: it is kept among the rejects and said on standard error.
    Ends with 3 when something was rejected.
    """
    from issue_core.cli import context, output
    from issue_core.transports.stream import open_inputs

    settings = context.settings(config, ledger)
    inputs = open_inputs(files or ["-"])
    _refuse_the_ledger(inputs, settings.ledger)
    counts: Counter[str] = Counter()
    with (
        context.open_ledger(settings) as store,
        _answering(store, strict, dry_run, replaces, settings.ingest.max_document) as answer,
        _progress_said(counts, dry_run=dry_run),
    ):
        warnings = _read(inputs, answer, counts, max_document=settings.ingest.max_document, json=json)
    if not json:
        for warning, n in warnings.most_common(_WARNINGS):
            output.message(f"warning: {warning}" + (f" (in {n} TaskSpecs)" if n > 1 else ""))
        output.line(_summary(counts, dry_run=dry_run))
    if any(counts[outcome] for outcome in REJECTED):
        raise typer.Exit(3)


def _refuse_the_ledger(inputs: list[Input], ledger: Path) -> None:
    # Not only nonsense: to close a file that SQLite has open drops the locks of this process (POSIX).

    from issue_core.errors import UsageError

    for each in inputs:
        if each.name != "-" and ledger.exists() and ledger.samefile(each.name):
            raise UsageError(f"{each.name} is the ledger itself", hint="Name a file with TaskSpecs in it.")


@contextmanager
def _answering(store: Ledger, strict: bool, dry_run: bool, replaces: int | None, max_document: int) -> Iterator[Answer]:
    """What gives the receipts of one batch after another: ingest, or its rehearsal.

    Raises:
        NotFound: there is no reject ``replaces``.
    """
    if replaces is not None:
        from issue_core.ledger import rejects

        with store.read() as connection:
            rejects.get(connection, replaces)
    from issue_core.ingestion import ingest_each, rehearse

    if not dry_run:
        yield lambda given: ingest_each(
            store, given, transport="cli", strict=strict, max_document=max_document, replaces=replaces
        )
        return
    from issue_core.ledger.rehearsal import Rehearsal

    rehearsal = Rehearsal(store)
    try:
        yield lambda given: (
            list(rehearse(rehearsal, documents, strict=strict, max_document=max_document)) for documents, _ in given
        )
    finally:
        rehearsal.close()


@contextmanager
def _progress_said(counts: Mapping[str, int], *, dry_run: bool) -> Iterator[None]:
    """Whatever ends the reading half-way says how much was stored before."""
    from issue_core.errors import IssueCoreError

    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_so_far(counts, dry_run)) from None
    except IssueCoreError as error:
        if not counts:
            raise
        raise type(error)(f"{error.message}\n{_so_far(counts, dry_run)}", hint=error.hint) from error


def _so_far(counts: Mapping[str, int], dry_run: bool) -> str:
    if dry_run:
        return "this was a dry run, nothing was stored"
    stored = counts["created"] + counts["duplicate"]
    return f"at least {stored} TaskSpecs are stored; they are safe, and count as duplicates when this is run again"


def _read(inputs: list[Input], answer: Answer, counts: Counter[str], *, max_document: int, json: bool) -> Counter[str]:
    """Answer every batch of every input, and count the outcomes; gives how often there was which warning."""
    from issue_core.cli.progress import progress

    warnings: Counter[str] = Counter()
    with progress([each.size for each in inputs]) as advanced:
        for each in inputs:
            before = counts.total()
            _hint_at_terminal(each)
            for receipts in answer(_documents(each, max_document, lambda source, n: advanced(source, n, counts))):
                _count(receipts, counts, warnings)
                _report(receipts, json=json)
                del receipts
            if counts.total() == before:
                _say_empty(each)
    return warnings


def _documents(
    source: Input, max_document: int, advanced: Callable[[Input, int], None]
) -> Iterator[tuple[list[Document], bool]]:
    """The batches of one input, each with whether the next one is at hand."""
    from issue_core.cli import output
    from issue_core.transports.stream import batches

    with source.open() as descriptor:
        for batch in batches(descriptor, file=source.name, max_document=max_document):
            advanced(source, batch.bytes_read)
            if output.says_details():
                for document in batch.documents:
                    text = document.raw.decode("utf-8", "backslashreplace")
                    output.detail("document", **document.place.to_json(), text=text)
            yield batch.documents, batch.more_at_hand
            del batch  # two batches at a time are enough in memory


def _count(receipts: list[Receipt], counts: Counter[str], warnings: Counter[str]) -> None:
    counts.update([receipt.outcome for receipt in receipts])
    for receipt in receipts:
        if receipt.warnings:
            warnings.update(receipt.warnings)


def _report(receipts: list[Receipt], *, json: bool) -> None:
    from issue_core.cli import output
    from issue_core.cli.receipts import noted, rejected

    noted(receipts)
    if json:
        output.write("".join([output.to_json(receipt.to_json()) + "\n" for receipt in receipts]))
        output.flush()
        return
    for receipt in receipts:
        if receipt.outcome in REJECTED:
            output.message(rejected(receipt))


def _hint_at_terminal(source: Input) -> None:
    import sys

    from issue_core.cli import output

    if source.name == "-" and sys.stdin is not None and sys.stdin.isatty():
        output.message("reading TaskSpecs from this terminal, one JSON object after another; end with Ctrl-D")


def _say_empty(source: Input) -> None:
    from issue_core.cli import output

    name = "standard input" if source.name == "-" else source.name
    output.message(f"{name} was empty: no TaskSpec in it")


def _summary(counts: Mapping[str, int], *, dry_run: bool) -> str:
    from issue_core.cli import output
    from issue_core.task import OUTCOMES

    number = "{:,}" if output.on_terminal() else "{}"
    parts = ", ".join(f"{number.format(counts[outcome])} {outcome}" for outcome in OUTCOMES)
    total = number.format(sum(counts.values()))
    return f"{total} received: {parts}" + (" (dry run: nothing was stored)" if dry_run else "")
