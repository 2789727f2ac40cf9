"""Documents in, receipts out: the only way into the ledger, whatever brought them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID, uuid5

from issue_core import taskspec
from issue_core.errors import UsageError
from issue_core.ledger import Ledger, Transaction, history, queries, rejects, tasks
from issue_core.ledger.rehearsal import Rehearsal
from issue_core.task import MAX_DOCUMENT, Accepted, Document, FieldProblem, Receipt, Rejected, Spec, Transport

MOST_DIFFERENCES = 100
"""As many fields as a person reads."""

SECOND_TASK = (
    "looks like a second task of one event: give it an event ID of its own, derived from the event and what asks, "
    "such as uuid5(event, source_id); issue rejects replay --as-new does that with this one"
)


def ingest(
    ledger: Ledger,
    documents: Iterable[Document | bytes | str],
    *,
    transport: Transport = "cli",
    strict: bool = False,
    max_document: int = MAX_DOCUMENT,
    replaces: int | None = None,
) -> list[Receipt]:
    """Store each document as a task, once, and say what became of it.

    One receipt a document, in the order given. All of them are on disk when this returns: the ledger commits
    once, with ``synchronous=FULL``. ``strict`` refuses unknown fields, and a document of more than ``max_document``
    bytes is invalid. ``replaces`` is the ID of a reject that the first document which is stored sets right: the
    reject is closed with its event ID.

    Raises:
        LedgerBusy: another process held the write lock longer than ``ledger.busy_timeout`` seconds.
        LedgerFull: the disk or the quota is full; nothing of this batch was stored.
        LedgerError: the ledger cannot be written; see its other subclasses.
        NotFound: there is no reject ``replaces``; nothing was stored.
        UsageError: it was dealt with already; nothing was stored.
        TypeError: ``documents`` is one document, not several.
    """
    if isinstance(documents, str | bytes | Document):
        raise TypeError("documents must be several: for a single one, give a list with it")
    judged = [
        taskspec.judge(_as_document(document), strict=strict, max_document=max_document) for document in documents
    ]
    return store_judged(ledger, judged, transport=transport, replaces=replaces)


def store_judged(
    ledger: Ledger, judged: list[Accepted | Rejected], *, transport: Transport, replaces: int | None = None
) -> list[Receipt]:
    """The second half of :func:`ingest`, for documents that were judged already. Raises what ``ingest`` raises."""
    if not judged:
        return []
    with ledger.write() as tx:
        return _store(tx, judged, transport, replaces)


def ingest_each(
    ledger: Ledger,
    batches: Iterable[tuple[Sequence[Document], bool]],
    *,
    transport: Transport,
    strict: bool = False,
    max_document: int = MAX_DOCUMENT,
    replaces: int | None = None,
) -> Iterator[list[Receipt]]:
    """:func:`ingest` for one batch after another, faster: while one is written to the disk, the next is judged.

    With each batch comes whether more input is at hand: if not, its receipts are given at once, else when the next
    batch was judged. Either way they are given when the batch is on the disk. Raises what :func:`ingest` raises.
    """
    behind: list[Receipt] = []
    for documents, more_at_hand in batches:
        judged = [taskspec.judge(document, strict=strict, max_document=max_document) for document in documents]
        if behind:
            ledger.settle()
            yield behind
        with ledger.write_behind() if more_at_hand else ledger.write() as tx:
            receipts = _store(tx, judged, transport, replaces)
        if replaces is not None and any(map(_is_stored, receipts)):
            replaces = None
        del documents, judged  # the next batch is read before this name gets its value
        if more_at_hand:
            behind = receipts
        else:
            behind = []
            yield receipts
    if behind:
        ledger.settle()
        yield behind


def _store(
    tx: Transaction, judged: list[Accepted | Rejected], transport: Transport, replaces: int | None
) -> list[Receipt]:
    if replaces is not None:
        _require_open(rejects.get(tx.connection, replaces))
    receipts = list(_receipts(tx, judged, transport))
    tasks.count_received(tx, transport, Counter(receipt.outcome for receipt in receipts))
    if replaces is not None:
        _close_as_replayed(tx, replaces, receipts)
    return receipts


def replay(ledger: Ledger, reject_id: int, *, as_new: bool = False, max_document: int = MAX_DOCUMENT) -> Receipt:
    """Judge a reject again, by today's rules, and store it if it passes; then the reject is closed.

    ``as_new`` gives it an event ID of its own, ``uuid5(event, source_id)``: for a conflict that is a second task.

    Raises:
        NotFound: there is no such reject.
        UsageError: only its head was kept, it was dealt with already, or it is a conflict and not ``as_new``.
        LedgerError: the ledger cannot be written.
    """
    with ledger.read() as connection:
        reject = rejects.get(connection, reject_id)
    _require_open(reject)
    if not reject.whole:
        raise UsageError(
            f"reject {reject_id} was over the size limit: only its first {len(reject.raw):,} bytes were kept",
            hint="Send it again from where it came, or drop it.",
        )
    if reject.kind != "invalid" and not as_new:
        raise UsageError(
            f"reject {reject_id} is a {reject.kind}: its event ID belongs to a task that is there already",
            hint="If it asks for a second task: --as-new. If not: issue rejects drop.",
        )
    document = Document(reject.raw, reject.place)
    judged = taskspec.judge(document, max_document=max_document)
    if isinstance(judged, Rejected):
        return Receipt("invalid", judged.event_id, reject_id=reject_id, errors=judged.errors, place=reject.place)
    if as_new:
        document = _under_an_id_of_its_own(document, judged.spec)
    return ingest(ledger, [document], transport=reject.transport, max_document=max_document, replaces=reject_id)[0]


def rehearse(
    rehearsal: Rehearsal,
    documents: Iterable[Document | bytes | str],
    *,
    strict: bool = False,
    max_document: int = MAX_DOCUMENT,
) -> Iterator[Receipt]:
    """What :func:`ingest` would answer, without writing to the ledger: ``seq`` is only known for what is there already.

    Raises:
        LedgerError: the ledger cannot be read; see its subclasses.
    """
    for document in documents:
        item = taskspec.judge(_as_document(document), strict=strict, max_document=max_document)
        place = item.document.place
        if isinstance(item, Rejected):
            yield Receipt("invalid", item.event_id, errors=item.errors, place=place)
            continue
        found = rehearsal.meet(item)
        if found is None:
            yield Receipt("created", item.spec.event_id, warnings=item.warnings, place=place)
        elif found.digest == item.digest or _same_by_todays_rules(found.spec, item):
            yield Receipt("duplicate", item.spec.event_id, found.seq, found.state, item.warnings, place=place)
        else:
            errors = _differences(found.spec, item.spec)
            yield Receipt("conflict", item.spec.event_id, found.seq, found.state, errors=errors, place=place)


def _as_document(given: Document | bytes | str) -> Document:
    if isinstance(given, Document):
        return given
    return Document(given.encode("utf-8", "surrogatepass") if isinstance(given, str) else given)


def _receipts(tx: Transaction, judged: list[Accepted | Rejected], transport: Transport) -> Iterator[Receipt]:
    stored = iter(tasks.store(tx, [item for item in judged if isinstance(item, Accepted)], transport))
    for item in judged:
        if isinstance(item, Rejected):
            yield _invalid(tx, item, transport)
            continue
        document, spec, digest, warnings = item
        seq, state, stored_digest, created = next(stored)
        if created:
            yield Receipt("created", spec.event_id, seq, state, warnings, None, (), document.place)
        elif stored_digest == digest or _is_duplicate(tx, seq, item):
            tasks.sight(tx, seq, transport)
            yield Receipt("duplicate", spec.event_id, seq, state, warnings, None, (), document.place)
        else:
            yield _conflict(tx, seq, item, transport)


def _invalid(tx: Transaction, item: Rejected, transport: Transport) -> Receipt:
    reject_id, _ = rejects.keep(tx, item.document, "invalid", item.errors, transport, item.event_id)
    return Receipt("invalid", item.event_id, reject_id=reject_id, errors=item.errors, place=item.document.place)


def _conflict(tx: Transaction, seq: int, item: Accepted, transport: Transport) -> Receipt:
    task = queries.task(tx.connection, seq)
    errors = _differences(queries.spec_of(task), item.spec)
    reject_id, is_new = rejects.keep(tx, item.document, "conflict", errors, transport, item.spec.event_id)
    if is_new:
        history.add(tx, seq, "conflict", reject_id=reject_id, fields=[error.field for error in errors])
    # No warnings: nothing of this document was kept with a task.
    return Receipt(
        "conflict", item.spec.event_id, seq, task.state, reject_id=reject_id, errors=errors, place=item.document.place
    )


def _is_duplicate(tx: Transaction, seq: int, item: Accepted) -> bool:
    """Whether only the rules changed between the digest that stands in the ledger and today's."""
    same = _same_by_todays_rules(queries.spec_of(queries.task(tx.connection, seq)), item)
    if same:
        tasks.renew_digest(tx, seq, item.digest)
    return same


def _same_by_todays_rules(stored: Spec, item: Accepted) -> bool:
    again = taskspec.judge_again(stored)
    return isinstance(again, Accepted) and again.digest == item.digest


def _differences(stored: Spec, new: Spec) -> tuple[FieldProblem, ...]:
    """What differs between two specs with one event ID; with a hint where they look like two tasks of one event."""
    fields = taskspec.differing_fields(stored, new)
    problems = [
        FieldProblem(field, "differs from what this event ID stands for already") for field in fields[:MOST_DIFFERENCES]
    ]
    if len(fields) > MOST_DIFFERENCES:
        problems.append(FieldProblem("document", f"differs in {len(fields) - MOST_DIFFERENCES:,} more fields"))
    if {"source_id", "target_repo", "title"} & set(fields):
        problems.append(FieldProblem("triggering_event_id", SECOND_TASK))
    return tuple(problems)


def _under_an_id_of_its_own(document: Document, spec: Spec) -> Document:
    value = json.loads(document.raw)
    value["triggering_event_id"] = str(uuid5(UUID(spec.event_id), spec.source_id))
    return document._replace(raw=json.dumps(value, ensure_ascii=False).encode())


def _require_open(reject: rejects.Reject) -> None:
    if reject.state != "open":
        raise UsageError(f"reject {reject.id} was {reject.state} at {reject.closed_at}")


def _is_stored(receipt: Receipt) -> bool:
    return receipt.outcome in ("created", "duplicate")


def _close_as_replayed(tx: Transaction, reject_id: int, receipts: list[Receipt]) -> None:
    for receipt in receipts:
        if _is_stored(receipt):
            rejects.close(tx, reject_id, "replayed", receipt.event_id)
            return
