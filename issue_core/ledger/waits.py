"""Who has waited for long: pending tasks, tasks in doubt, and tasks that are held."""

from __future__ import annotations

import sqlite3

from issue_core.ledger import facets, facts

EVER = "9999-12-31T23:59:59.999Z"
"""In place of now: no time is still to come."""

_IN_DOUBT = """
    SELECT count(*) FROM tasks INDEXED BY tasks_in_doubt
    WHERE in_doubt_since IS NOT NULL AND in_doubt_since <= :before AND created_at <= :before AND state = 'pending'
"""

_BLOCKS = """
    SELECT block, first_at FROM facets CROSS JOIN blocks USING (block)
    WHERE facet = 'state' AND value = :state ORDER BY first_at, block
"""

# A time to come says that the clock was wrong then: the task waits since now at the latest.
_PENDING = """
    SELECT min(min(created_at, :now)) FROM tasks WHERE seq BETWEEN :low AND :high AND state = 'pending'
"""
_HELD = """
    SELECT min(min(coalesce(updated_at, created_at), :now)) FROM tasks
    WHERE seq BETWEEN :low AND :high AND state = 'held'
"""


def in_doubt_for_long(connection: sqlite3.Connection, before: str, now: str) -> int:
    """How many pending tasks have been in doubt since ``before`` or longer.

    What became so by a restore counts from the restore on: nobody could have looked for it before.
    """
    restored = facts.read(connection, facts.RESTORED_AT)
    if restored and before < restored <= now:
        return 0
    n: int = connection.execute(_IN_DOUBT, {"before": before}).fetchone()[0]
    return n


def oldest_pending_at(connection: sqlite3.Connection, now: str = EVER) -> str | None:
    """Since when the pending task waits that waits longest; ``None``: none does. Times after ``now`` count as now.

    Where the clock was set back while tasks came in, it may be too late by less than an hour.
    """
    return _oldest(connection, "pending", _PENDING, now)


def oldest_held_at(connection: sqlite3.Connection, now: str) -> str | None:
    """The same of the tasks that are held, since their last change."""
    return _oldest(connection, "held", _HELD, now)


def _oldest(connection: sqlite3.Connection, state: str, query: str, now: str) -> str | None:
    # No task of a block is older than the hour that the block begins with; of a million pending tasks a block or two
    # are read, of tasks that have changed since they came more.
    oldest = None
    for block, first_at in connection.execute(_BLOCKS, {"state": state}):
        if oldest and first_at >= oldest[:13]:
            break
        bounds = {"low": block * facets.BLOCK, "high": block * facets.BLOCK + facets.BLOCK - 1}
        found = connection.execute(query, {**bounds, "now": now}).fetchone()[0]
        oldest = min(filter(None, (oldest, found)), default=None)
    return oldest
