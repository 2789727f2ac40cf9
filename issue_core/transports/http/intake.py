"""What is posted: documents in, receipts out. The answer begins when all of it is on the disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from issue_core.errors import IssueCoreError, LedgerBusy
from issue_core.group_commit import GroupCommit
from issue_core.task import Document, Place, Receipt
from issue_core.transports.http.answers import JSON, NDJSON, Answer, HttpError, encoded, problem
from issue_core.transports.http.wire import Request
from issue_core.transports.splitter import Splitter
from issue_core.transports.unit import Unit

BATCH, BATCH_BYTES = 1_000, 4 * 1024 * 1024
"""Documents, and bytes of them, that a long body has in one commit: other requests' turns come in between."""

IN_MEMORY = 1024 * 1024
"""Bytes of a body, or of an answer, that stay in memory; what is longer lies in a temporary file."""

_PIECE = 256 * 1024
_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_STATUS = {"created": 201, "duplicate": 200}

Done = Callable[[Answer | IssueCoreError], None]
"""Who hears the answer, or why there is none, when it is there."""


def take(
    group: GroupCommit,
    request: Request,
    body: Callable[[], Iterator[bytes]],
    key: str | None,
    done: Done | None = None,
) -> Answer | None:
    """Store what ``request`` brings, and answer with its receipts.

    With ``done``, the answer to a single document comes that way, in whatever thread, and here None is given.

    Raises:
        HttpError: the body is of another type, too large, too slow or malformed; nothing of it was stored.
        LedgerError: the ledger cannot take it. What was stored of a long body before is a duplicate the next time.
        OSError: there is no room for a long body on the disk.
    """
    meta = {"key": key} if key else None
    media_type = _media_type(request)
    if not request.has_framing:
        raise HttpError(411, "a body is needed, with its Content-Length or in chunks")
    if media_type == JSON and request.length is not None and request.length <= group.max_document:
        raw = b"".join(body())
        if _begins(raw) == b"[":
            return _array(group, [raw], meta)
        return _one(group, Document(raw.removeprefix(_BOM).strip(_SPACE), meta=meta), done)
    with SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
        for piece in body():
            spool.write(piece)
        if media_type == NDJSON:
            return _lines(group, _pieces(spool), meta)
        spool.seek(0)
        if _begins(spool.read(group.max_document)) == b"[":
            return _array(group, _pieces(spool), meta)
        return _one(group, _whole(spool, group.max_document)._replace(meta=meta), None)


def _media_type(request: Request) -> str:
    given = request.headers.get("content-type", JSON)
    media_type, _, parameters = given.partition(";")
    media_type = media_type.strip().lower()
    charset = parameters.replace(" ", "").lower()
    if media_type not in (JSON, NDJSON) or ("charset=" in charset and "charset=utf-8" not in charset.replace('"', "")):
        raise HttpError(
            415,
            f"the body must be {JSON} or {NDJSON}, in UTF-8",
            headers={"Accept-Post": f"{JSON}, {NDJSON}"},
        )
    return media_type


def _begins(raw: bytes) -> bytes:
    """The first byte that is no white space and no byte order mark."""
    return raw.removeprefix(_BOM).lstrip(_SPACE)[:1]


def _pieces(spool: IO[bytes]) -> Iterator[bytes]:
    spool.seek(0)
    while piece := spool.read(_PIECE):
        yield piece


def _whole(spool: IO[bytes], limit: int) -> Document:
    """A body that is one document, however long: over the limit it is its head, its length and its hash."""
    unit = Unit(Place(), limit)
    for number, piece in enumerate(_pieces(spool)):
        unit.add(piece if number else piece.removeprefix(_BOM))
    return unit.document()


def _one(group: GroupCommit, document: Document, done: Done | None) -> Answer | None:
    if not document.raw:
        raise HttpError(400, "the body is empty: send a TaskSpec, an array of them, or NDJSON")
    if done is None:
        return _receipt(document, group.ingest([document])[0], group.max_document)
    limit = group.max_document
    group.submit(
        [document],
        lambda outcome: done(outcome if isinstance(outcome, IssueCoreError) else _receipt(document, outcome[0], limit)),
    )
    return None


def _receipt(document: Document, receipt: Receipt, limit: int) -> Answer:
    told = {"outcome": receipt.outcome, "event_id": receipt.event_id}
    shown = receipt.to_json()
    location = {"Location": f"/issues/{receipt.event_id}"}
    if receipt.outcome in ("created", "duplicate"):
        return Answer(_STATUS[receipt.outcome], encoded(shown), headers=location, told=told)
    if receipt.outcome == "conflict":
        detail = f"the event ID {receipt.event_id} stands for another task already"
        return problem(409, detail, shown, headers=location, told=told)
    status, detail = _invalid(document, receipt, limit)
    return problem(status, f"{detail}; it is kept as reject {receipt.reject_id}", shown, told=told)


def _invalid(document: Document, receipt: Receipt, limit: int) -> tuple[int, str]:
    if document.oversize or len(document.raw) > limit:
        return (
            413,
            f"a TaskSpec has {limit:,} bytes at most (max_document in the section [ingest] of the configuration)",
        )
    if not _is_json(document.raw):
        return 400, "the body is not JSON: " + _in_words(receipt)
    return 422, "this is no TaskSpec: " + _in_words(receipt)


def _in_words(receipt: Receipt) -> str:
    return "; ".join(f"{error.field}: {error.problem}" for error in receipt.errors[:10])


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        return True  # as far as anybody can tell
    except ValueError:
        return False
    return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _array(group: GroupCommit, pieces: Iterable[bytes], meta: dict[str, Any] | None) -> Answer:
    return _many(group, pieces, meta, start=b"[", between=b",", end=b"]", media_type=JSON)


def _lines(group: GroupCommit, pieces: Iterable[bytes], meta: dict[str, Any] | None) -> Answer:
    return _many(group, pieces, meta, start=b"", between=b"\n", end=b"\n", media_type=NDJSON)


def _many(
    group: GroupCommit,
    pieces: Iterable[bytes],
    meta: dict[str, Any] | None,
    *,
    start: bytes,
    between: bytes,
    end: bytes,
    media_type: str,
) -> Answer:
    """The receipts of many documents: written down while they are stored, and sent when all are."""
    outcomes: dict[str, int] = {}
    with ExitStack() as undo:
        written = undo.enter_context(SpooledTemporaryFile(max_size=IN_MEMORY))
        written.write(start)
        first = True
        for batch in _batches(pieces, meta, group.max_document):
            if group.ending:
                raise LedgerBusy("the server is about to end")
            for receipt in group.ingest(batch):
                outcomes[receipt.outcome] = outcomes.get(receipt.outcome, 0) + 1
                written.write((b"" if first else between) + encoded(receipt.to_json()))
                first = False
        if media_type == JSON or not first:
            written.write(end)
        length = written.tell()
        undo.pop_all()
    return Answer(200, written, media_type, length=length, told=outcomes)


def _batches(pieces: Iterable[bytes], meta: dict[str, Any] | None, max_document: int) -> Iterator[list[Document]]:
    splitter = Splitter(file=None, max_document=max_document)
    hand: list[Document] = []
    size = 0
    for documents in _parts(splitter, pieces):
        for document in documents:
            hand.append(document if meta is None else document._replace(meta=meta))
            size += len(document.raw)
            if len(hand) >= BATCH or size >= BATCH_BYTES:
                yield hand
                hand, size = [], 0
    if hand:
        yield hand


def _parts(splitter: Splitter, pieces: Iterable[bytes]) -> Iterator[list[Document]]:
    for piece in pieces:
        yield from splitter.feed_by_parts(piece)
    yield from splitter.close_by_parts()
