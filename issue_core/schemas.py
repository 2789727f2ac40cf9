"""JSON Schemas (2020-12) of what goes in and what comes out, made from the records themselves."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from issue_core.task import FieldProblem, Place, Receipt, Remote, Task

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}

_TIME = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC, milliseconds."}
_EVENT_ID = {"type": "string", "format": "uuid", "description": "The event ID: the one key of a task."}

# What the Python type of a field cannot say.
_KNOWN: dict[str, dict[str, Any]] = {
    "event_id": _EVENT_ID,
    "seq": {"type": "integer", "minimum": 1, "description": "The ledger's own running number."},
    "created_at": _TIME,
    "updated_at": _TIME,
    "next_attempt_at": _TIME,
    "in_doubt_since": _TIME,
    "synced_at": _TIME,
    "due_date": {"type": "string", "format": "date"},
    "line": {"type": "integer", "minimum": 1},
    "index": {"type": "integer", "minimum": 0},
}


def taskspec() -> dict[str, Any]:
    """The schema of a TaskSpec, exact as far as JSON Schema has words for it.

    What fits it, ``ingest`` takes, but for what its description names. What does not fit it, ``ingest`` refuses.
    """
    from issue_core.taskspec import TaskSpec

    shown = TaskSpec.model_json_schema()
    fields = shown["properties"]
    fields["title"] = _without_length(fields["title"], _trimmed(255))
    fields["labels"]["items"] = _without_length(fields["labels"]["items"], _trimmed(50))
    fields["target_repo"]["pattern"] = f"^[^{_WHITE_SPACE}{_CONTROL}]*$"
    fields["triggering_event_id"]["pattern"] = EVENT_ID_SPELLINGS
    rest = {"additionalProperties": _KEPT, "propertyNames": {"pattern": _PRINTABLE}, "$defs": {"Kept": _kept()}}
    return {"$schema": DIALECT, **shown, "description": _OF_A_TASKSPEC, **rest}


_OF_A_TASKSPEC = (
    "What automation asks for: one task, under one event ID. Beyond what this schema can say, a TaskSpec has at most "
    "1 MiB (unless configured otherwise), no half of a surrogate pair, no key twice, no number that is infinite as a "
    "double or has more than 4,300 digits, no fraction or exponent in a whole number, at most 100 labels that differ "
    "in more than case, and no unknown field nested more than 100 levels deep."
)

# Unicode's White_Space, which is what is trimmed, and what breaks a line or is not printed: as ECMA-262 writes it.
# Its \s is another set, and other dialects have others still.
_WHITE_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_PRINTABLE = f"^[^{_CONTROL}]*$"

_HEX = "[0-9A-Fa-f]"
_HYPHENED = f"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"
EVENT_ID_SPELLINGS = rf"^(?:[Uu][Rr][Nn]:[Uu][Uu][Ii][Dd]:)?(?:{_HYPHENED}|\{{{_HYPHENED}\}}|{_HEX}{{32}})$"
"""Every usual spelling of a UUID, as ECMA-262 writes it."""

_KEPT = {"$ref": "#/$defs/Kept"}


def _kept() -> dict[str, Any]:
    """What a field that a TaskSpec does not have may hold."""
    return {
        "description": "The value of a field that a TaskSpec does not have: it is kept, and the receipt warns of it.",
        "anyOf": [
            {"type": ["null", "boolean", "number"]},
            {"type": "string", "pattern": _PRINTABLE},
            {"type": "array", "items": _KEPT},
            {"type": "object", "propertyNames": {"pattern": _PRINTABLE}, "additionalProperties": _KEPT},
        ],
    }


def _trimmed(most: int) -> str:
    """Up to ``most`` characters between two that are no white space, with any white space around."""
    end = f"[^{_WHITE_SPACE}{_CONTROL}]"
    return f"^[{_WHITE_SPACE}]*{end}(?:[^{_CONTROL}]{{0,{most - 2}}}{end})?[{_WHITE_SPACE}]*$"


def _without_length(schema: dict[str, Any], pattern: str) -> dict[str, Any]:
    """``pattern`` counts what is left after trimming; JSON Schema's own lengths count what is trimmed away too."""
    return {name: value for name, value in schema.items() if name != "maxLength"} | {"pattern": pattern}


def receipt() -> dict[str, Any]:
    """The schema of a receipt, as ``issue ingest --json`` prints it."""
    hints = get_type_hints(Receipt)
    place = {name: _field(name, kind) for name, kind in _placed().items()}
    always = ("outcome", "event_id", "seq", "state", "warnings")
    properties = {name: _field(name, kind) for name, kind in hints.items() if name != "place"}
    properties["errors"] = {"type": "array", "items": _object(FieldProblem)}
    of_rejects = {"required": ["reject_id", "errors"]}
    return {
        "$schema": DIALECT,
        "title": "Receipt",
        "type": "object",
        "properties": properties | place,
        "required": list(always),
        "additionalProperties": False,
        "if": {"properties": {"outcome": {"enum": ["conflict", "invalid"]}}},
        "then": of_rejects,
        "else": {"not": {"anyOf": [{"required": ["reject_id"]}, {"required": ["errors"]}]}},
    }


def task() -> dict[str, Any]:
    """The schema of a task, as ``list``, ``show`` and ``export`` print it; ``show`` adds ``history``."""
    shown = _object(Task)
    shown["properties"]["remote"] = {"anyOf": [_object(Remote), {"type": "null"}]}
    for names in (shown["properties"], shown["required"]):
        names.pop("ingestion") if isinstance(names, dict) else names.remove("ingestion")
    shown["properties"]["sync_metadata"] = _sync_metadata()
    shown["required"].append("sync_metadata")
    shown["properties"]["history"] = {"type": "array", "items": _history_entry()}
    return {"$schema": DIALECT, **shown}


def _placed() -> dict[str, Any]:
    """The fields of a place that may be there: when one is, it is not null."""
    names = {"element": "index"}
    return {names.get(name, name): get_args(kind)[0] for name, kind in get_type_hints(Place).items()}


def _sync_metadata() -> dict[str, Any]:
    fields = ("source_type", "source_id", "activity_definition_id", "target_repo")
    hints = get_type_hints(Task)
    ingestion = {
        "triggering_event_id": _EVENT_ID,
        **{name: _field(name, hints[name]) for name in fields},
        "transport": {"enum": ["cli", "new", "rest", "nats"]},
        "received_at": _TIME,
    }
    inner = {"type": "object", "properties": ingestion, "required": list(ingestion)}
    return {"type": "object", "properties": {"ingestion": inner}, "required": ["ingestion"]}


def _history_entry() -> dict[str, Any]:
    return {"type": "object", "properties": {"at": _TIME, "kind": {"type": "string"}}, "required": ["at", "kind"]}


def _object(record: type) -> dict[str, Any]:
    """A record with all of its fields, and no other."""
    properties = {name: _field(name, kind) for name, kind in get_type_hints(record).items()}
    return {
        "title": record.__name__,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _field(name: str, kind: Any) -> dict[str, Any]:
    is_optional = get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)
    known = _KNOWN.get(name)
    if known is None:
        return _of(kind)
    return {"anyOf": [known, {"type": "null"}]} if is_optional else known


def _of(kind: Any) -> dict[str, Any]:
    """The schema of a Python type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, UnionType):
        return {"anyOf": [_of(each) for each in inner]}
    if origin in (list, tuple):
        return {"type": "array", "items": _of(inner[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(inner[1])}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    return {}
