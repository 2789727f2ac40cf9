"""Tasks at a glance: what one row of an overview shows, read without what may be long (a description)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from issue_core.ledger import facets, rows
from issue_core.task import PRIORITIES, STATES, Priority, TaskState

LONGEST_ERROR = 600
"""So many characters of a tracker's words are read."""

_NEWEST = """
    SELECT
        seq, event_id, state, title, target_repo, priority, created_at, coalesce(updated_at, created_at), backend,
        attempts, next_attempt_at, in_doubt_since, substr(last_error, 1, :longest), remote_id, remote_url
    FROM tasks WHERE seq BETWEEN :low AND :high AND (:state IS NULL OR state = :state) ORDER BY seq DESC LIMIT :limit
"""


class Glance(NamedTuple):
    """One task in short; the fields are those of :class:`issue_core.task.Task`, ``last_error`` cut to
    :data:`LONGEST_ERROR` characters."""

    seq: int
    event_id: str
    state: TaskState
    title: str
    target_repo: str
    priority: Priority
    created_at: str
    updated_at: str
    backend: str | None
    attempts: int
    next_attempt_at: str | None
    in_doubt_since: str | None
    last_error: str | None
    remote_id: str | None
    remote_url: str | None


def newest(connection: sqlite3.Connection, *, state: TaskState | None, limit: int) -> list[Glance]:
    """The newest tasks in ``state`` (``None``: any), at most ``limit``, by falling ``seq``."""
    return list(islice(_newest(connection, state, limit), limit))


def _newest(connection: sqlite3.Connection, state: TaskState | None, limit: int) -> Iterator[Glance]:
    asked = {} if state is None else {"state": state}
    for low, high in facets.ranges(connection, asked, newest_first=True):
        parameters = {"low": low, "high": high, "state": state, "limit": limit, "longest": LONGEST_ERROR}
        yield from map(_glance, connection.execute(_NEWEST, parameters))


def _glance(row: tuple[Any, ...]) -> Glance:
    glance = Glance._make(row)
    try:
        rows.a_choice("state", glance.state, STATES)
        rows.a_choice("priority", glance.priority, PRIORITIES)
        rows.times(glance.created_at, glance.updated_at, glance.next_attempt_at, glance.in_doubt_since)
    except rows.UNREADABLE as error:
        raise rows.damaged(f"task {glance.seq}", error) from error
    return glance
