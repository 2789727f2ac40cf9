"""TaskSpec: what comes in. Judges a document, and gives what passed one canonical form and digest.

The model is strict: JSON types are not coerced (``"7"`` is no integer). Unknown fields are kept.
"""

from __future__ import annotations

import hashlib
import json
from itertools import chain
from operator import itemgetter
from typing import Any

from pydantic import ValidationError

from issue_core.task import HEAD_BYTES, MAX_DOCUMENT, Accepted, Document, FieldProblem, Oversize, Rejected, Spec
from issue_core.taskspec import problems
from issue_core.taskspec.canonical import as_a_set, as_document, differing_fields, digest
from issue_core.taskspec.model import OrdinaryTaskSpec, TaskIngestionRequest, TaskSpec, parse_event_id
from issue_core.taskspec.reading import Unreadable, parse

__all__ = [
    "TaskIngestionRequest",
    "TaskSpec",
    "as_document",
    "differing_fields",
    "judge",
    "judge_again",
    "parse_event_id",
]


def judge(document: Document, *, strict: bool = False, max_document: int = MAX_DOCUMENT) -> Accepted | Rejected:
    """Decide whether ``document`` is a TaskSpec.

    ``strict`` refuses fields that a TaskSpec does not have; ``max_document`` is in bytes.
    """
    if len(document.raw) > max_document and not document.oversize:
        document = _cut(document, max_document)
    return _accepted_at_once(document) or _judge_in_full(document, strict)


def _cut(document: Document, limit: int) -> Document:
    raw = document.raw
    oversize = Oversize(len(raw), hashlib.sha256(raw).hexdigest(), limit)
    return document._replace(raw=raw[:HEAD_BYTES], oversize=oversize)


def _accepted_at_once(document: Document) -> Accepted | None:
    """The short way, for the ordinary document: well-formed, valid, no unknown field, no key twice.

    pydantic reads JSON twice as fast as Python does, but lets a repeated key pass and says little about errors.
    """
    if document.oversize or document.broken:
        return None
    try:
        spec = _validate_json(document.raw)
    except ValidationError:
        return None
    if spec.__pydantic_extra__ or not _gives_each_key_once(document.raw, len(spec.__pydantic_fields_set__)):
        return None
    if len(spec.labels) > 1 and as_a_set(tuple(spec.labels))[0] < len(spec.labels):
        return None
    return _accepted(document, spec, None)


def _gives_each_key_once(raw: bytes, fields: int) -> bool:
    """Whether ``raw``, a JSON object with ``fields`` different keys, surely has no key twice.

    Without white space every key ends in a quotation mark and a colon. Text may hold that pair too, and an inner
    object certainly does, so only the right count proves something.
    """
    return raw.translate(None, b" \t\r\n").count(b'":') == fields


def _judge_in_full(document: Document, strict: bool) -> Accepted | Rejected:
    try:
        value = parse(document)
    except Unreadable as unreadable:
        return Rejected(document, (FieldProblem("document", str(unreadable)),))
    known = {name: field for name, field in value.items() if name in TaskSpec.model_fields}
    extra = {name: field for name, field in value.items() if name not in TaskSpec.model_fields}
    of_the_rest = chain(problems.of_extra(extra), problems.of_unknown(extra) if strict else ())
    try:
        spec = TaskSpec.model_validate(known)
    except ValidationError as invalid:
        return Rejected(
            document, problems.first_of(chain(problems.of_spec(invalid), of_the_rest)), problems.event_id_in(value)
        )
    if found := problems.first_of(of_the_rest):
        return Rejected(document, found, spec.triggering_event_id)
    return _accepted(document, spec, extra or None)


_validate_json = OrdinaryTaskSpec.__pydantic_validator__.validate_json

_known_fields = itemgetter(*("triggering_event_id" if name == "event_id" else name for name in Spec._fields[:-1]))


def _accepted(document: Document, spec: TaskSpec, extra: dict[str, Any] | None) -> Accepted:
    kept = Spec._make((*_known_fields(spec.__dict__), extra))
    return Accepted(document, kept, digest(kept), tuple(problems.warnings(extra)) if extra else ())


def judge_again(stored: Spec) -> Accepted | Rejected:
    """Judge by today's rules what an earlier release stored."""
    raw = json.dumps(as_document(stored)).encode()
    return judge(Document(raw), max_document=len(raw))
