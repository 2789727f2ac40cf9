"""When two TaskSpecs ask for the same thing: the canonical form, its digest, and what differs."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any

from issue_core.task import Spec


def digest(spec: Spec) -> bytes:
    """SHA-256 of the canonical form: what two TaskSpecs share when they ask for the same thing.

    The form is each field's name and value, sorted by name, all of them parted by NUL, which no field can hold.
    Fields at their default are left out, so that a field which a later release adds changes no digest of today;
    labels count as a set, whatever their case; unknown fields come last, as JSON with sorted keys.
    """
    event_id, title, description, repo, priority, labels, days, source_type, source_id, definition_id, extra = spec
    form = ""
    if definition_id is not None:
        form = f"activity_definition_id\0{definition_id}\0"
    if description:
        form += f"description\0{description}\0"
    if days is not None:
        form += f"due_in_days\0{days}\0"
    if labels:
        form += f"labels\0{as_a_set(tuple(labels))[1]}\0"
    if priority != "medium":
        form += f"priority\0{priority}\0"
    form += (
        f"source_id\0{source_id}\0source_type\0{source_type}\0target_repo\0{repo}\0"
        f"title\0{title}\0triggering_event_id\0{event_id}"
    )
    if extra:
        form += "\0" + json.dumps(extra, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(form.encode()).digest()


# An emitter gives the same few sets of labels again and again.
@lru_cache(maxsize=1024)
def as_a_set(labels: tuple[str, ...]) -> tuple[int, str]:
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
