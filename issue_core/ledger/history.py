"""What happened to a task: rows that are only ever added, in the transaction of the change that they tell of.

The first entry, ``created``, is read from the task's own row, which says the same and never changes in that.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

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

_DOUBLES = "SELECT count(*) FROM history WHERE kind IN ('late', 'double', 'contested')"


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


def count_doubles(connection: sqlite3.Connection) -> int:
    """How many entries tell of an issue that may be one too many: made too late, found beside another,
    or of a task that another ledger has claimed."""
    n: int = connection.execute(_DOUBLES).fetchone()[0]
    return n


def of_task(connection: sqlite3.Connection, seq: int) -> list[HistoryEntry]:
    """Everything that happened to task ``seq``, oldest first."""
    return [_entry(row) for row in connection.execute(_OF_TASK, {"seq": seq})]


def latest(connection: sqlite3.Connection, seq: int, *, limit: int) -> list[HistoryEntry]:
    """The last ``limit`` things that happened to task ``seq``, oldest first."""
    return [_entry(row) for row in connection.execute(_LATEST, {"seq": seq, "limit": limit})]


def _entry(row: tuple[str, str, str | None, str, int]) -> HistoryEntry:
    at, kind, detail, run, _ = row
    return HistoryEntry(at, kind, {**(json.loads(detail) if detail else {}), "run": run})
