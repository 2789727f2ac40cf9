"""Who has waited for long: tasks in doubt, and tasks that are held."""

from __future__ import annotations

import sqlite3

from issue_core.ledger import facets

_IN_DOUBT = """
    SELECT count(*) FROM tasks INDEXED BY tasks_in_doubt
    WHERE in_doubt_since IS NOT NULL AND in_doubt_since <= :before AND created_at <= :before
    AND state IN ('pending', 'failed')
"""

_FIRST_HELD = """
    SELECT coalesce(updated_at, created_at) FROM tasks
    WHERE seq BETWEEN :low AND :high AND state = 'held' ORDER BY seq LIMIT 1
"""


def in_doubt_since_before(connection: sqlite3.Connection, before: str) -> int:
    """How many tasks have been in doubt since ``before`` or longer."""
    n: int = connection.execute(_IN_DOUBT, {"before": before}).fetchone()[0]
    return n


def oldest_held_at(connection: sqlite3.Connection) -> str | None:
    """Since when the held task with the lowest ``seq`` is held; ``None``: no task is."""
    for low, high in facets.ranges(connection, {"state": "held"}, newest_first=False):
        if row := connection.execute(_FIRST_HELD, {"low": low, "high": high}).fetchone():
            return str(row[0])
    return None
