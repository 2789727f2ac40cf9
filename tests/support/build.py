"""Builders of records for tests."""

from __future__ import annotations

from itertools import count
from typing import Any
from uuid import UUID, uuid5

from issue_core.task import Task

_NUMBERS = count(1)
_SPACE = UUID("6f1d2c4a-8e0b-4b58-9a53-2d7c1e90ab34")


def a_task(**changes: Any) -> Task:
    """A task as it may stand in the ledger, with a ``seq`` and an event ID of its own unless ``changes`` set them.

    ``ingestion`` follows from the other fields, ``changes`` included.
    """
    seq: int = changes.get("seq") or next(_NUMBERS)
    fields: dict[str, Any] = {
        "seq": seq,
        "event_id": str(uuid5(_SPACE, str(seq))),
        "state": "pending",
        "title": "Disk is nearly full",
        "description": "`/var` is at **93 %**.\n",
        "target_repo": "acme/web",
        "priority": "medium",
        "labels": ["disk", "ops"],
        "due_in_days": None,
        "source_type": "rule",
        "source_id": "disk-watch",
        "activity_definition_id": None,
        "due_date": None,
        "extra": {},
        "created_at": "2026-03-01T09:00:00.000Z",
        "updated_at": "2026-03-01T09:00:00.000Z",
        "sightings": {"cli": 1},
        "backend": None,
        "attempts": 0,
        "next_attempt_at": None,
        "in_doubt_since": None,
        "last_error": None,
        "remote": None,
    } | changes
    fields.setdefault("ingestion", _ingestion(fields))
    return Task(**fields)


def _ingestion(fields: dict[str, Any]) -> dict[str, Any]:
    same = ("source_type", "source_id", "activity_definition_id", "target_repo")
    return {
        "triggering_event_id": fields["event_id"],
        **{name: fields[name] for name in same},
        "transport": "cli",
        "received_at": fields["created_at"],
    }
