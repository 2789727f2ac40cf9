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
    """The schema of a TaskSpec. What it takes, ``ingest`` may still refuse: a rule like "no half of a surrogate
    pair" has no words in JSON Schema."""
    from issue_core.taskspec import TaskSpec

    return {"$schema": DIALECT, **TaskSpec.model_json_schema()}


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
