"""TaskSpec: what comes in. Judges a document, and gives what passed one canonical form and digest.

The model is strict: JSON types are not coerced (``"7"`` is no integer). Unknown fields are kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from issue_core.task import Accepted, Document, FieldProblem, Priority, Rejected, SourceType, Spec

MAX_DESCRIPTION = 60_000
MAX_LABELS = 100

_UUID_SPELLINGS = re.compile(
    r"(?:urn:uuid:)?(?:\{(?P<braced>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}"
    r"|(?P<plain>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|(?P<bare>[0-9a-f]{32}))",
    re.IGNORECASE | re.ASCII,
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


def _readable_list(labels: Any) -> Any:
    # pydantic keeps half a kilobyte for each wrong one: a hostile megabyte would take a third of a gigabyte.
    if isinstance(labels, list) and len(labels) > 100 * MAX_LABELS:
        raise PydanticCustomError("labels", f"has {len(labels):,} labels; {MAX_LABELS} different ones are allowed")
    return labels


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
    labels: Annotated[list[_Label], BeforeValidator(_readable_list), AfterValidator(_each_label_once)] = Field(
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
    known = {name: field for name, field in value.items() if name in TaskSpec.model_fields}
    extra = {name: field for name, field in value.items() if name not in TaskSpec.model_fields}
    problems = chain(_problems_of_extra(extra), _unknown(extra) if strict else ())
    try:
        spec = TaskSpec.model_validate(known)
    except ValidationError as invalid:
        return Rejected(document, _first(chain(_problems_of_spec(invalid), problems)), _event_id_in(value))
    if found := _first(problems):
        return Rejected(document, found, spec.triggering_event_id)
    return _accepted(document, spec, extra or None)


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
        if name not in one or name not in other or _in_json(one[name]) != _in_json(other[name])
    ]
    return known + unknown


def _comparable(name: str, value: Any) -> Any:
    return {label.casefold() for label in value} if name == "labels" else value


def _in_json(value: Any) -> str:
    """For Python 1, 1.0 and true are equal; in JSON, and so in the digest, they differ."""
    return json.dumps(value, sort_keys=True)


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
        what = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
        raise _Unreadable(f"is not JSON: {what} at {_where(error)}") from None
    except RecursionError:
        raise _Unreadable("is nested too deeply to be read") from None
    except ValueError:
        # The only other one: so long an integer takes Python too much time to read.
        raise _Unreadable(f"holds a number of more than {sys.get_int_max_str_digits():,} digits") from None
    if not isinstance(value, dict):
        raise _Unreadable(f"must be a JSON object, not {_kind(value)}")
    return value


def _where(error: json.JSONDecodeError) -> str:
    return f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        times = Counter(name for name, _ in pairs)
        raise _Unreadable(f"gives the key {_quoted(times.most_common(1)[0][0])} twice")
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


MAX_PROBLEMS = 100
"""How many of a document's problems are told, and how many of its unknown fields are named."""


def _first(problems: Iterable[FieldProblem]) -> tuple[FieldProblem, ...]:
    """As many as a person reads: a hostile megabyte could have half a million."""
    told = tuple(islice(problems, MAX_PROBLEMS + 1))
    if len(told) <= MAX_PROBLEMS:
        return told
    return (*told[:MAX_PROBLEMS], FieldProblem("document", f"has more problems than these {MAX_PROBLEMS}"))


def _problems_of_spec(invalid: ValidationError) -> Iterator[FieldProblem]:
    for error in invalid.errors(include_url=False):
        yield FieldProblem(_path(error["loc"]), _in_words(error))


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
        length = len(_as_counted(found, error["loc"][0]))
        return f"is {length:,} characters long; {context['max_length']:,} are allowed"
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
    start = text.index(_as_counted(text, field))
    bad = text.index("\0") if field == "description" else next(_UNPRINTABLE.finditer(text, start)).start()
    return f"must not hold a control character (U+{ord(text[bad]):04X} at character {bad + 1})"


# What pydantic trims: Unicode's White_Space. str.strip() takes U+001C to U+001F away too.
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def _as_counted(text: str, field: int | str) -> str:
    return text.strip(_WHITE_SPACE) if field in ("title", "labels") else text


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


def _problems_of_extra(value: Any, path: tuple[int | str, ...] = ()) -> Iterator[FieldProblem]:
    """What a known field refuses, an unknown one refuses too, at any depth."""
    if len(path) > MAX_DEPTH:
        yield FieldProblem(_spelled(path), f"is nested more than {MAX_DEPTH} levels deep")
    elif isinstance(value, dict):
        for name, inner in value.items():
            if not _is_text(name):
                yield FieldProblem(_spelled(path) or "document", _bad_text(name, "a field's name "))
            yield from _problems_of_extra(inner, (*path, name))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from _problems_of_extra(inner, (*path, n))
    elif isinstance(value, str) and not _is_text(value):
        yield FieldProblem(_spelled(path), _bad_text(value))
    elif isinstance(value, float) and not math.isfinite(value):
        yield FieldProblem(_spelled(path), "must not be NaN or infinite: JSON has no such number")


def _is_text(text: str) -> bool:
    return not (_UNPRINTABLE.search(text) or _SURROGATE.search(text))


def _bad_text(text: str, what: str = "") -> str:
    return what + (_surrogate(text) if _SURROGATE.search(text) else _bad_character(text, "extra"))


def _spelled(path: tuple[int | str, ...]) -> str:
    """The path in characters that can be shown and stored, and not many of them: names are as long as one likes."""
    text = _path(path)
    text = text if _is_text(text) else json.dumps(text)
    return text if len(text) <= 200 else text[:199] + "…"


def _unknown(extra: dict[str, Any]) -> Iterator[FieldProblem]:
    for name in extra:
        yield FieldProblem(_spelled((name,)), f"is no field of a TaskSpec{_did_you_mean(name)}")


def _warnings(extra: dict[str, Any]) -> Iterator[str]:
    for name in islice(extra, MAX_PROBLEMS):
        yield f"unknown field {_quoted(name)} kept{_did_you_mean(name)}"
    if len(extra) > MAX_PROBLEMS:
        yield f"{len(extra) - MAX_PROBLEMS:,} more unknown fields kept"


def _did_you_mean(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, TaskSpec.model_fields, n=1, cutoff=0.75)
    return f" (did you mean {_quoted(near[0])}?)" if near else ""
