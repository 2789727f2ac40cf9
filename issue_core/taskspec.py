"""TaskSpec: what comes in. Judges a document, and gives what passed one canonical form and digest.

The model is strict: JSON types are not coerced (``"7"`` is no integer). Unknown fields are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from issue_core.task import Accepted, Document, FieldProblem, Priority, Rejected, SourceType, Spec

MAX_DESCRIPTION = 60_000
MAX_LABELS = 100

_UUID_SPELLINGS = re.compile(
    r"(?:urn:uuid:)?(?:\{(?P<braced>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}"
    r"|(?P<plain>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|(?P<bare>[0-9a-f]{32}))",
    re.IGNORECASE,
)
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Unicode's Cc, and the two separators that break a line without being control characters.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


def parse_event_id(text: str) -> str:
    """The event ID in the one spelling that the ledger uses: lower case, with hyphens.

    Takes RFC 9562's form in any case, bare or in braces, with or without hyphens or ``urn:uuid:``.

    Raises:
        ValueError: it is no UUID in any usual spelling.
    """
    if _CANONICAL_UUID.fullmatch(text):
        return text
    spelled = _UUID_SPELLINGS.fullmatch(text)
    if spelled is None:
        raise ValueError("not a UUID")
    return str(UUID(next(part for part in spelled.groups() if part)))


def _event_id(text: str) -> str:
    try:
        return parse_event_id(text)
    except ValueError:
        raise PydanticCustomError("event_id", "must be a UUID, such as 0190c7a4-9d5e-7c3b-8a43-3f2b8a1c9d10") from None


def _each_label_once(labels: list[str]) -> list[str]:
    if len(labels) > 1:
        first_spelling: dict[str, str] = {}
        for label in labels:
            first_spelling.setdefault(label.casefold(), label)
        labels = list(first_spelling.values())
    if len(labels) > MAX_LABELS:
        raise PydanticCustomError("labels", f"has {len(labels)} different labels; {MAX_LABELS} are allowed")
    return labels


_Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50, pattern=_NO_CONTROLS)]
_Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=_NO_CONTROLS)]
_Description = Annotated[str, StringConstraints(max_length=MAX_DESCRIPTION, pattern=r"^[^\x00]*$")]
_Repo = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f-\x9f]*$")]
_SourceId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_CONTROLS)]
_DefinitionId = Annotated[str, StringConstraints(max_length=200, pattern=_NO_CONTROLS)]


class TaskSpec(BaseModel):
    """What automation asks for: one task, under one event ID.

    ``TaskSpec.model_validate`` raises ``pydantic.ValidationError`` when a rule is broken.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    title: _Title = Field(description="One line of 1 to 255 characters after trimming.")
    description: _Description = Field(default="", description="Markdown, at most 60,000 characters.")
    target_repo: _Repo = Field(description="Where the task belongs: 1 to 200 characters without white space.")
    priority: Priority = Field(default="medium", description="high, medium or low.")
    labels: Annotated[list[_Label], AfterValidator(_each_label_once)] = Field(
        default=[], description="At most 100 labels of 1 to 50 characters; case does not tell two labels apart."
    )
    due_in_days: Annotated[int, Field(ge=0, le=3650)] | None = Field(
        default=None, description="Days from the UTC date of the first acceptance to the due date, 0 to 3650."
    )
    source_type: SourceType = Field(description="rule or instruction.")
    source_id: _SourceId = Field(description="Which rule or instruction asks, 1 to 200 characters.")
    triggering_event_id: Annotated[str, AfterValidator(_event_id)] = Field(
        description="The event ID: a UUID in any usual spelling, and the one key of the task."
    )
    activity_definition_id: _DefinitionId | None = Field(default=None, description="At most 200 characters.")


class _Ordinary(TaskSpec):
    """The same, without what only Python can put right: pydantic's own code takes or refuses all of it, faster."""

    labels: list[_Label] = Field(default=[], max_length=MAX_LABELS)
    triggering_event_id: Annotated[str, StringConstraints(pattern=f"^{_CANONICAL_UUID.pattern}$")]


TaskIngestionRequest = TaskSpec
"""The older name of :class:`TaskSpec`."""


def judge(document: Document, *, strict: bool = False) -> Accepted | Rejected:
    """Decide whether ``document`` is a TaskSpec. ``strict`` refuses fields that a TaskSpec does not have."""
    return _accepted_at_once(document) or _judge_in_full(document, strict)


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
    if len(spec.labels) > 1 and _as_a_set(tuple(spec.labels))[0] < len(spec.labels):
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
        value = _parse(document)
    except _Unreadable as unreadable:
        return Rejected(document, (FieldProblem("document", str(unreadable)),))
    try:
        spec = TaskSpec.model_validate(value)
    except ValidationError as invalid:
        return Rejected(document, tuple(_problems_of_spec(invalid, value, strict)), _event_id_in(value))
    extra = spec.model_extra
    if not extra:
        return _accepted(document, spec, None)
    if problems := [*_problems_of_extra(extra), *(_unknown(extra) if strict else ())]:
        return Rejected(document, tuple(problems), spec.triggering_event_id)
    return _accepted(document, spec, extra)


_validate_json = _Ordinary.__pydantic_validator__.validate_json

_known_fields = itemgetter(*("triggering_event_id" if name == "event_id" else name for name in Spec._fields[:-1]))


def _accepted(document: Document, spec: TaskSpec, extra: dict[str, Any] | None) -> Accepted:
    kept = Spec._make((*_known_fields(spec.__dict__), extra))
    return Accepted(document, kept, digest(kept), tuple(_warnings(extra)) if extra else ())


def digest(spec: Spec) -> bytes:
    """SHA-256 of the canonical form: what two TaskSpecs share when they ask for the same thing.

    The form is each field's name and value, sorted by name, all of them parted by NUL, which no field can hold.
    Fields at their default are left out, so that a field which a later release adds changes no digest of today;
    labels count as a set, whatever their case; unknown fields come last, as JSON with sorted keys.
    """
    form = ""
    if spec.activity_definition_id is not None:
        form = f"activity_definition_id\0{spec.activity_definition_id}\0"
    if spec.description:
        form += f"description\0{spec.description}\0"
    if spec.due_in_days is not None:
        form += f"due_in_days\0{spec.due_in_days}\0"
    if spec.labels:
        form += f"labels\0{_as_a_set(tuple(spec.labels))[1]}\0"
    if spec.priority != "medium":
        form += f"priority\0{spec.priority}\0"
    form += (
        f"source_id\0{spec.source_id}\0source_type\0{spec.source_type}\0target_repo\0{spec.target_repo}\0"
        f"title\0{spec.title}\0triggering_event_id\0{spec.event_id}"
    )
    if spec.extra:
        form += "\0" + json.dumps(spec.extra, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(form.encode()).digest()


# An emitter gives the same few sets of labels again and again.
@lru_cache(maxsize=1024)
def _as_a_set(labels: tuple[str, ...]) -> tuple[int, str]:
    """How many different labels these are, and what every spelling of the set has in common."""
    folded = {label.casefold() for label in labels}
    return len(folded), "\n".join(sorted(folded))


def as_document(spec: Spec) -> dict[str, Any]:
    """The JSON object that asks for ``spec``, with each field that is not at its default."""
    known = {
        "title": spec.title,
        "description": spec.description or None,
        "target_repo": spec.target_repo,
        "priority": spec.priority,
        "labels": spec.labels or None,
        "due_in_days": spec.due_in_days,
        "source_type": spec.source_type,
        "source_id": spec.source_id,
        "triggering_event_id": spec.event_id,
        "activity_definition_id": spec.activity_definition_id,
    }
    return {name: value for name, value in known.items() if value is not None} | (spec.extra or {})


def judge_again(stored: Spec) -> Accepted | Rejected:
    """Judge by today's rules what an earlier release stored."""
    return judge(Document(json.dumps(as_document(stored)).encode()))


def differing_fields(first: Spec, second: Spec) -> list[str]:
    """The fields in which two specs with one event ID ask for different things, unknown ones included."""
    known = [
        "triggering_event_id" if name == "event_id" else name
        for name in Spec._fields
        if name != "extra" and _comparable(name, getattr(first, name)) != _comparable(name, getattr(second, name))
    ]
    one, other = first.extra or {}, second.extra or {}
    unknown = [
        name
        for name in sorted(one.keys() | other.keys())
        if name not in one or name not in other or one[name] != other[name]
    ]
    return known + unknown


def _comparable(name: str, value: Any) -> Any:
    return {label.casefold() for label in value} if name == "labels" else value


# --- reading a document -------------------------------------------------------------------------------------------


class _Unreadable(Exception):
    """The document is no JSON, or cannot be read as the JSON that it is."""


def _parse(document: Document) -> Any:
    if document.oversize:
        raise _Unreadable(
            f"is {document.oversize.length:,} bytes long; {document.oversize.limit:,} are allowed "
            "(max_document in the section [ingest] of the configuration)"
        )
    if document.broken:
        raise _Unreadable(document.broken)
    try:
        value = _decoder.decode(document.raw.decode())
    except UnicodeDecodeError as error:
        raise _Unreadable(
            f"is not valid UTF-8: the byte 0x{document.raw[error.start]:02x} at byte {error.start + 1} fits nowhere"
        ) from None
    except json.JSONDecodeError as error:
        raise _Unreadable(f"is not JSON: {error.msg[:1].lower()}{error.msg[1:]} at {_where(error)}") from None
    except RecursionError:
        raise _Unreadable("is nested too deeply to be read") from None
    except ValueError as error:
        # The only other one: Python reads no integer of more than sys.get_int_max_str_digits() digits.
        raise _Unreadable(f"holds a number that is too long to be read: {error}") from None
    if not isinstance(value, dict):
        raise _Unreadable(f"must be a JSON object, not {_kind(value)}")
    return value


def _where(error: json.JSONDecodeError) -> str:
    return f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unreadable(f"gives the key {_quoted(twice)} twice")
    return value


class _NoJsonNumber(float):
    """NaN or an infinity: Python's reader takes them, JSON (RFC 8259, section 6) does not."""


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_NoJsonNumber)


# --- saying what is wrong -----------------------------------------------------------------------------------------


def _event_id_in(value: dict[str, Any]) -> str | None:
    try:
        return parse_event_id(value.get("triggering_event_id", ""))
    except (ValueError, TypeError):
        return None


def _problems_of_spec(invalid: ValidationError, value: dict[str, Any], strict: bool) -> Iterator[FieldProblem]:
    for error in invalid.errors(include_url=False):
        yield FieldProblem(_path(error["loc"]), _in_words(error))
    extra = {name: field for name, field in value.items() if name not in TaskSpec.model_fields}
    yield from _problems_of_extra(extra)
    if strict:
        yield from _unknown(extra)


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _in_words(error: ErrorDetails) -> str:
    kind, found, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "is required"
    if isinstance(found, _NoJsonNumber):
        return f"must not be {_kind(found)}: JSON has no such number"
    if kind == "string_unicode" or (isinstance(found, str) and _SURROGATE.search(found)):
        return _surrogate(found)
    if kind == "string_pattern_mismatch":
        return _bad_character(found, str(error["loc"][0]))
    if kind == "string_too_short":
        return "must not be empty"
    if kind in ("string_too_long", "too_long"):
        return f"is {len(found):,} characters long; {context['max_length']:,} are allowed"
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"must be between 0 and 3650, not {_quoted(found)}"
    if kind == "literal_error":
        return f"must be {context['expected'].replace(chr(39), chr(34))}, not {_quoted(found)}"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {_kind(found)}"
    return error["msg"]


_EXPECTED = {"string_type": "a string", "int_type": "a whole number", "list_type": "a list of strings"}


def _bad_character(text: str, field: str) -> str:
    if field == "target_repo" and (space := re.search(r"\s", text)):
        return f"must not hold white space (character {space.start() + 1})"
    bad = text.find("\0") if field == "description" else next(m.start() for m in _UNPRINTABLE.finditer(text.strip()))
    shown = text if field == "description" else text.strip()
    return f"must not hold a control character (U+{ord(shown[bad]):04X} at character {bad + 1})"


def _surrogate(text: str) -> str:
    found = _SURROGATE.search(text)
    where = f" (U+{ord(found.group()):04X} at character {found.start() + 1})" if found else ""
    return f"must not hold half of a surrogate pair{where}"


def _kind(value: Any) -> str:
    if isinstance(value, _NoJsonNumber):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(float(value))]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"the number {_quoted(value)}"
    return "a string" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _quoted(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, str | int | float) else _kind(value)
    return text if len(text) <= 60 else text[:57] + "…" + ('"' if text[0] == '"' else "")


# --- fields that a TaskSpec does not have ---------------------------------------------------------------------------

MAX_DEPTH = 100
"""How deeply the value of an unknown field may be nested."""


def _problems_of_extra(extra: dict[str, Any]) -> Iterator[FieldProblem]:
    """What a known field refuses, an unknown one refuses too, at any depth."""
    open_values: list[tuple[str, Any, int]] = [("", extra, 0)]
    while open_values:
        path, value, depth = open_values.pop()
        if depth > MAX_DEPTH:
            yield FieldProblem(path[:200], f"is nested more than {MAX_DEPTH} levels deep")
        elif isinstance(value, dict):
            open_values += [(f"{path}.{name}".removeprefix("."), inner, depth + 1) for name, inner in value.items()]
            yield from (
                FieldProblem(_printable(path) or "document", _bad_text(name, "a field's name "))
                for name in value
                if not _is_text(name)
            )
        elif isinstance(value, list):
            open_values += [(f"{path}[{n}]", inner, depth + 1) for n, inner in enumerate(value)]
        elif isinstance(value, str) and not _is_text(value):
            yield FieldProblem(_printable(path), _bad_text(value))
        elif isinstance(value, float) and not math.isfinite(value):
            yield FieldProblem(_printable(path), "must not be NaN or infinite: JSON has no such number")


def _is_text(text: str) -> bool:
    return not (_UNPRINTABLE.search(text) or _SURROGATE.search(text))


def _bad_text(text: str, what: str = "") -> str:
    return what + (_surrogate(text) if _SURROGATE.search(text) else _bad_character(text, "extra"))


def _printable(path: str) -> str:
    return path if _is_text(path) else json.dumps(path)


def _unknown(extra: dict[str, Any]) -> Iterator[FieldProblem]:
    for name in extra:
        yield FieldProblem(name, f"is no field of a TaskSpec{_did_you_mean(name)}")


def _warnings(extra: dict[str, Any]) -> Iterator[str]:
    for name in extra:
        yield f"unknown field {_quoted(name)} kept{_did_you_mean(name)}"


def _did_you_mean(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, TaskSpec.model_fields, n=1, cutoff=0.75)
    return f" (did you mean {_quoted(near[0])}?)" if near else ""
