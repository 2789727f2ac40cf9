"""What a backend is waiting for: its pace, the tracker's own limit, and what is parked, over all processes."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from issue_core.errors import LedgerCorrupt
from issue_core.ledger import rows
from issue_core.task import from_text, to_text

if TYPE_CHECKING:
    from issue_core.ledger import Transaction

WHOLE_BACKEND = ""
"""In place of a project: the backend itself is parked."""

_STATE = "SELECT next_free_at, limited_until, limit_reason FROM limits WHERE backend = :backend"
_LIMITED = "SELECT backend, limited_until FROM limits WHERE limited_until > :now ORDER BY backend"

_TAKE = """
    INSERT INTO limits (backend, next_free_at) VALUES (:backend, :next_free_at)
    ON CONFLICT DO UPDATE SET next_free_at = excluded.next_free_at
"""

_LIMIT = """
    INSERT INTO limits (backend, limited_until, limit_reason) VALUES (:backend, :until, :reason)
    ON CONFLICT DO UPDATE SET limited_until = excluded.limited_until, limit_reason = excluded.limit_reason
"""

_STREAK = """
    INSERT INTO limits (backend, unknown_streak) VALUES (:backend, 1)
    ON CONFLICT DO UPDATE SET unknown_streak = unknown_streak + 1
"""

_STREAK_NOW = "SELECT unknown_streak FROM limits WHERE backend = :backend"
_END_STREAK = "UPDATE limits SET unknown_streak = 0 WHERE backend = :backend AND unknown_streak > 0"

# The attempt after which the window has room again: the n-th newest within it. What lies in the future was
# written by a clock that has been set back since.
_NTH_NEWEST = """
    SELECT started_at FROM attempts WHERE backend = :backend AND started_at > :since AND started_at <= :now
    ORDER BY started_at DESC LIMIT 1 OFFSET :n
"""

_PARKED = "SELECT project, code, reason, since, until, probes FROM parked WHERE backend = :backend"
_ALL_PARKED = "SELECT backend, project, code, reason, since, until, probes FROM parked ORDER BY backend, project"

_PARK = """
    INSERT INTO parked (backend, project, code, reason, since, until, probes)
    VALUES (:backend, :project, :code, :reason, :now, :until, :probes)
    ON CONFLICT DO UPDATE SET
        code = excluded.code, reason = excluded.reason, since = min(since, excluded.since),
        until = iif(since > excluded.since, excluded.until, max(until, excluded.until)),
        probes = max(probes, excluded.probes)
"""

_UNPARK = "DELETE FROM parked WHERE backend = :backend AND project = :project"
_UNPARK_NOW = "UPDATE parked SET until = :now WHERE until > :now"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast creates may follow each other: seconds between two, and the most in a minute and an hour (0: any)."""

    min_interval: float
    per_minute: int
    per_hour: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Why nothing may be sent yet, and until when."""

    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Parked:
    """A backend (``project`` empty) or a project that is left alone until ``until``, after ``probes`` vain probes."""

    backend: str
    project: str
    code: str
    reason: str
    since: datetime
    until: datetime
    probes: int

    @property
    def name(self) -> str:
        """Backend and project, as people read them."""
        return f"{self.backend} {self.project}".rstrip()


def wait(connection: sqlite3.Connection, backend: str, pace: Pace, now: datetime) -> Wait | None:
    """What the next create at ``backend`` has to wait for; ``None``: it may go at once."""
    waits = [
        limited(connection, backend, now),
        _interval(connection, backend, pace.min_interval, now),
        *_windows(connection, backend, pace, now),
    ]
    return max(filter(None, waits), key=lambda w: w.until, default=None)


def limited(connection: sqlite3.Connection, backend: str, now: datetime) -> Wait | None:
    """The tracker's own limit, if it holds: until then it wants no request at all."""
    _, until, reason = _standing(connection, backend)
    if until is None or from_text(until) <= now:
        return None
    return Wait(f"the tracker's limit: {reason}", from_text(until))


def all_limited(connection: sqlite3.Connection, now: datetime) -> dict[str, datetime]:
    """Each backend whose tracker's own limit holds, and until when."""
    return {name: from_text(until) for name, until in connection.execute(_LIMITED, {"now": to_text(now)})}


def _interval(connection: sqlite3.Connection, backend: str, min_interval: float, now: datetime) -> Wait | None:
    next_free_at, _, _ = _standing(connection, backend)
    if next_free_at is None or from_text(next_free_at) <= now:
        return None
    if from_text(next_free_at) > now + timedelta(seconds=min_interval):
        # So far ahead it cannot be: the clock was set back, or the interval made shorter.
        return None
    return Wait(f"one create every {min_interval:g} s", from_text(next_free_at))


def _standing(connection: sqlite3.Connection, backend: str) -> tuple[str | None, str | None, str | None]:
    row: tuple[str | None, str | None, str | None] | None
    row = connection.execute(_STATE, {"backend": backend}).fetchone()
    return row or (None, None, None)


def _windows(connection: sqlite3.Connection, backend: str, pace: Pace, now: datetime) -> list[Wait]:
    waits = []
    for most, span, name in ((pace.per_minute, 60, "minute"), (pace.per_hour, 3600, "hour")):
        if not most:
            continue
        window = {"since": to_text(now - timedelta(seconds=span)), "now": to_text(now)}
        row = connection.execute(_NTH_NEWEST, {"backend": backend, "n": most - 1, **window}).fetchone()
        if row:
            waits.append(Wait(f"{most} creates in one {name}", from_text(row[0]) + timedelta(seconds=span)))
    return waits


def take(tx: Transaction, backend: str, pace: Pace) -> None:
    """Take the backend's next free moment, which is now, in the transaction that writes the attempt down."""
    if pace.min_interval:
        next_free_at = to_text(tx.moment + timedelta(seconds=pace.min_interval))
        tx.connection.execute(_TAKE, {"backend": backend, "next_free_at": next_free_at})


def limit(tx: Transaction, backend: str, until: datetime, reason: str) -> None:
    """The tracker says that nothing may be sent before ``until``."""
    tx.connection.execute(_LIMIT, {"backend": backend, "until": to_text(until), "reason": reason})


def count_unknown(tx: Transaction, backend: str) -> int:
    """One more outcome in a row that nobody knows; gives how many it are now."""
    tx.connection.execute(_STREAK, {"backend": backend})
    n: int = tx.connection.execute(_STREAK_NOW, {"backend": backend}).fetchone()[0]
    return n


def end_streak(tx: Transaction, backend: str) -> None:
    """The tracker gave an answer."""
    tx.connection.execute(_END_STREAK, {"backend": backend})


def parked(connection: sqlite3.Connection, backend: str) -> dict[str, Parked]:
    """What is parked of ``backend``: project → why and until when; :data:`WHOLE_BACKEND` for the backend itself."""
    return {row[0]: _parked(backend, *row) for row in connection.execute(_PARKED, {"backend": backend})}


def all_parked(connection: sqlite3.Connection) -> list[Parked]:
    """Everything that is parked."""
    return [_parked(*row) for row in connection.execute(_ALL_PARKED)]


def _parked(backend: str, project: str, code: str, reason: str, since: str, until: str, probes: int) -> Parked:
    try:
        return Parked(backend, project, code, reason, from_text(since), from_text(until), probes)
    except LedgerCorrupt as error:
        raise rows.damaged(f"what is parked of {backend} {project}".rstrip(), error) from error


def park(
    tx: Transaction, backend: str, project: str, *, code: str, reason: str, until: datetime, probes: int = 0
) -> Parked:
    """Leave ``project`` (or the whole backend) alone until ``until``, after so many vain ``probes``.

    What is parked already for longer stays so, for several requests may meet the same end at once; unless a clock
    that has been set back since said for how long.
    """
    parameters = {"backend": backend, "project": project, "code": code, "reason": reason, "probes": probes}
    tx.connection.execute(_PARK, {**parameters, "now": tx.now, "until": to_text(until)})
    return parked(tx.connection, backend)[project]


def unpark(tx: Transaction, backend: str, project: str) -> None:
    """A probe went well: tasks may go there again."""
    tx.connection.execute(_UNPARK, {"backend": backend, "project": project})


def probe_now(tx: Transaction) -> int:
    """Make the probe of everything that is parked due now; gives how many it are. Clears no tracker's limit."""
    return tx.connection.execute(_UNPARK_NOW, {"now": tx.now}).rowcount
