"""What a shell may complete a word to: a handful of names, found in the same time whatever the ledger's size."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from issue_core.ledger import queries
from issue_core.task import TaskState

WINDOW = 20_000
"""So many of the newest tasks are looked through for a beginning that more tasks have than are worth sorting."""

_SORTED = 2_000  # as many event IDs with the same beginning are sorted by age

_NEWEST = "SELECT seq, state, title, event_id FROM tasks ORDER BY seq DESC LIMIT :limit"

_COUNT_FROM = """
    SELECT count(*) FROM (SELECT 1 FROM tasks WHERE event_id >= :low AND event_id < :high LIMIT :limit)
"""

_NEWEST_FROM = """
    SELECT seq, state, title, event_id FROM tasks WHERE seq IN (
        SELECT seq FROM tasks WHERE event_id >= :low AND event_id < :high ORDER BY seq DESC LIMIT :limit
    ) ORDER BY seq DESC
"""

# The + keeps SQLite from the index of event IDs, which would have to be sorted.
_NEWEST_IN_WINDOW = """
    SELECT seq, state, title, event_id FROM tasks
    WHERE seq > (SELECT max(seq) FROM tasks) - :window AND +event_id >= :low AND +event_id < :high
    ORDER BY seq DESC LIMIT :limit
"""

_FIRST_FROM = """
    SELECT seq, state, title, event_id FROM tasks WHERE event_id >= :low AND event_id < :high
    ORDER BY event_id LIMIT :limit
"""

# From one value to the next through the index: however many tasks have a value, it costs one step.
_VALUES = """
    WITH RECURSIVE found (value) AS (
        SELECT * FROM (
            SELECT value FROM facets WHERE facet = :facet AND value >= :low AND value < :high ORDER BY value LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT value FROM facets WHERE facet = :facet AND value > found.value AND value < :high
            ORDER BY value LIMIT 1
        ) FROM found WHERE found.value IS NOT NULL
    )
    SELECT value FROM found WHERE value IS NOT NULL LIMIT :limit
"""

_REJECTS = """
    SELECT id, kind, state, last_at FROM rejects
    WHERE id BETWEEN :low AND :high AND (:state IS NULL OR state = :state) ORDER BY id DESC LIMIT :limit
"""


class TaskName(NamedTuple):
    """A task by what a person knows it by."""

    seq: int
    state: TaskState
    title: str
    event_id: str


class RejectName(NamedTuple):
    """A reject by what a person knows it by."""

    id: int
    kind: str
    state: str
    last_at: str


def event_ids(connection: sqlite3.Connection, beginning: str, *, limit: int) -> list[TaskName]:
    """Tasks whose event ID begins so, the newest first.

    Where very many begin so and none of them is among the newest :data:`WINDOW` tasks, any of them.
    """
    if not beginning:
        return _named(connection, _NEWEST, limit=limit)
    if not beginning.isascii():
        return []
    bounds: dict[str, str | int] = {"low": beginning, "high": beginning + "\U0010ffff", "limit": limit}
    [(n,)] = connection.execute(_COUNT_FROM, {**bounds, "limit": _SORTED})
    if n < _SORTED:
        return _named(connection, _NEWEST_FROM, **bounds)
    found = _named(connection, _NEWEST_IN_WINDOW, **bounds, window=WINDOW)
    return found or _named(connection, _FIRST_FROM, **bounds)


def _named(connection: sqlite3.Connection, query: str, **bounds: str | int) -> list[TaskName]:
    return [TaskName(*row) for row in connection.execute(query, bounds)]


def failed(connection: sqlite3.Connection, beginning: str, *, limit: int) -> list[TaskName]:
    """Failed tasks whose event ID begins so, of the newest :data:`_SORTED` failed ones; the newest first."""
    newest = queries.tasks(connection, queries.Filter(state="failed"), limit=_SORTED, newest_first=True)
    fitting = (task for task in newest if task.event_id.startswith(beginning))
    return [TaskName(task.seq, task.state, task.title, task.event_id) for task in islice(fitting, limit)]


def values(connection: sqlite3.Connection, facet: str, beginning: str, *, limit: int) -> list[str]:
    """The repos, sources or labels (in lower case) that begin so, in their order."""
    bounds = {"facet": facet, "low": beginning, "high": beginning + "\U0010ffff", "limit": limit}
    return [row[0] for row in connection.execute(_VALUES, bounds)]


def reject_ids(
    connection: sqlite3.Connection, beginning: str, *, state: str | None, limit: int
) -> Iterator[RejectName]:
    """Rejects in ``state`` (None: any) whose ID begins with these digits, the newest first, at most ``limit``."""
    for low, high in _ranges(beginning):
        for row in connection.execute(_REJECTS, {"low": low, "high": high, "state": state, "limit": limit}):
            yield RejectName(*row)
            limit -= 1
        if limit <= 0:
            return


def _ranges(digits: str) -> Iterator[tuple[int, int]]:
    """The numbers that begin with ``digits``, the largest first: 12 is 120…129 and 12…12, and so on."""
    if not digits:
        yield 1, 2**63 - 1
    elif digits.isascii() and digits.isdigit() and digits[0] != "0":
        low = int(digits)
        for zeros in reversed(range(19 - len(digits))):
            yield low * 10**zeros, (low + 1) * 10**zeros - 1
