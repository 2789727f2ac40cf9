"""What happened to a task: rows that are only ever added, in the transaction of the change that they tell of.

The first entry, ``created``, is read from the task's own row, which says the same and never changes in that.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from issue_core.ledger import rows
from issue_core.task import HistoryEntry

if TYPE_CHECKING:
    from issue_core.ledger import Transaction

_ADD = """
    INSERT INTO history (seq, n, at, kind, detail, run)
    VALUES (:seq, (SELECT coalesce(max(n), 0) + 1 FROM history WHERE seq = :seq), :at, :kind, :detail, :run)
"""

_OF_TASK = """
    SELECT created_at AS at, 'created' AS kind, json_object('transport', transport) AS detail, run, 0 AS n
    FROM tasks WHERE seq = :seq
    UNION ALL
    SELECT at, kind, detail, run, n FROM history WHERE seq = :seq ORDER BY n
"""

_LATEST = f"SELECT * FROM ({_OF_TASK} DESC LIMIT :limit) ORDER BY n"  # noqa: S608 - the query is a constant above

# Each entry is read once, and only the few that tell of a double ask what came after them.
_DOUBLES = """
    SELECT count(*), min(seq) FROM history AS told
    WHERE kind IN ('late', 'double', 'contested') AND NOT EXISTS (
        SELECT 1 FROM history AS later WHERE later.seq = told.seq AND later.n > told.n AND (
            later.kind IN ('linked', 'settled') OR (later.kind = 'elsewhere' AND told.kind = 'contested')
        )
    )
"""

_DOUBLES_OF = f"{_DOUBLES} AND seq = :seq"


def add(tx: Transaction, seq: int, kind: str, **detail: Any) -> None:
    """Write down that ``kind`` happened to task ``seq`` in this transaction; ``None`` details are left out."""
    kept = {name: value for name, value in detail.items() if value is not None}
    tx.connection.execute(
        _ADD,
        {
            "seq": seq,
            "at": tx.now,
            "kind": kind,
            "detail": json.dumps(kept, ensure_ascii=False) if kept else None,
            "run": tx.run,
        },
    )


def doubles(connection: sqlite3.Connection) -> tuple[int, int | None]:
    """How many entries tell of an issue that may be one too many, and the first task that has one.

    Such an issue was made too late, found beside another, or is of a task that another ledger has claimed. What a
    person has settled since (``issue link``), or was given away after all, does not count.
    """
    n, seq = connection.execute(_DOUBLES).fetchone()
    return n, seq


def has_doubles(connection: sqlite3.Connection, seq: int) -> bool:
    """Whether task ``seq`` is among those of :func:`doubles`."""
    return bool(connection.execute(_DOUBLES_OF, {"seq": seq}).fetchone()[0])


def of_task(connection: sqlite3.Connection, seq: int) -> list[HistoryEntry]:
    """Everything that happened to task ``seq``, oldest first."""
    return [_entry(row) for row in connection.execute(_OF_TASK, {"seq": seq})]


def latest(connection: sqlite3.Connection, seq: int, *, limit: int) -> list[HistoryEntry]:
    """The last ``limit`` things that happened to task ``seq``, oldest first."""
    return [_entry(row) for row in connection.execute(_LATEST, {"seq": seq, "limit": limit})]


def _entry(row: tuple[str, str, str | None, str, int]) -> HistoryEntry:
    at, kind, detail, run, n = row
    try:
        rows.times(at)
        return HistoryEntry(at, kind, {**rows.an_object(detail), "run": run})
    except rows.UNREADABLE as error:
        raise rows.damaged(f"entry {n} of the history", error) from error
