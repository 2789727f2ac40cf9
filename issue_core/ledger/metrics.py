"""What a monitor asks for, all of it from counters that each write keeps: the same time, however much is there.

Only what is refused and what is in doubt is counted when asked, in an index that holds nothing else.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import NamedTuple

from issue_core.ledger import limits, queries, waits
from issue_core.ledger.limits import Parked
from issue_core.task import from_text, to_text

BEGUN = ""
"""In place of an outcome: every attempt that was written down counts here, whatever became of it."""

UNKNOWN = "unknown"
"""The outcome of an attempt that left its task in doubt; it gets another one when the doubt is over."""

_RECEIVED = "SELECT transport, outcome, n FROM received ORDER BY transport, outcome"
_REJECTS = "SELECT state, count(*) FROM rejects GROUP BY state"
_ATTEMPTS = "SELECT backend, outcome, n FROM attempt_counts ORDER BY backend, outcome"
# Without the hint SQLite walks the whole table to find the few that are in doubt.
_IN_DOUBT = """
    SELECT coalesce(backend, ''), count(*) FROM tasks INDEXED BY tasks_in_doubt
    WHERE in_doubt_since IS NOT NULL GROUP BY backend
"""


class Reading(NamedTuple):
    """The ledger as a monitor sees it.

    ``received`` is by transport and outcome, ``attempts`` by backend and outcome (with :data:`BEGUN`), ``in_doubt`` by
    backend (empty: none yet), with 0 for each that has had an attempt. The oldest pending task waits for
    ``oldest_pending_age`` seconds (0 when none does); ``limited`` says until when a tracker wants no request.
    """

    received: dict[tuple[str, str], int]
    states: dict[str, int]
    rejects: dict[str, int]
    oldest_pending_age: float
    attempts: dict[tuple[str, str], int]
    in_doubt: dict[str, int]
    parked: list[Parked]
    limited: dict[str, datetime]


def read(connection: sqlite3.Connection, now: datetime) -> Reading:
    """Everything at once: the numbers add up when ``connection`` sees one state of the ledger."""
    tried = attempts(connection)
    quiet = dict.fromkeys([backend for backend, _ in tried], 0)
    return Reading(
        {(transport, outcome): n for transport, outcome, n in connection.execute(_RECEIVED)},
        queries.by_state(connection),
        {"open": 0, "replayed": 0, "dropped": 0} | dict(connection.execute(_REJECTS)),
        _age(waits.oldest_pending_at(connection, to_text(now)), now),
        tried,
        quiet | dict(connection.execute(_IN_DOUBT)),
        limits.all_parked(connection),
        limits.all_limited(connection, now),
    )


def attempts(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """How many attempts there ever were, by backend and outcome: :data:`BEGUN` has them all."""
    return {(backend, outcome): n for backend, outcome, n in connection.execute(_ATTEMPTS)}


def _age(at: str | None, now: datetime) -> float:
    return 0.0 if at is None else round((now - from_text(at)).total_seconds(), 3)
