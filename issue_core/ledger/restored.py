"""What makes a copy of a ledger, and what makes a ledger of a copy again.

After a restore nobody knows what the ledger has done since the copy was made, so every task that is not known to be
synced is in doubt since then. For some time that holds for new tasks, too: the input of those days may be run again.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from issue_core.errors import LedgerError
from issue_core.ledger import Transaction, claims, facts, history, outbox, schema
from issue_core.task import to_text

DOUBTFUL = timedelta(days=30)
"""For how long after a restore a new task may be one that the ledger had before."""

_GUARDED = ("tasks", "rejects", "attempts", "leases")

_GUARD = f"""
    CREATE TRIGGER IF NOT EXISTS a_copy_takes_no_{{table}} BEFORE INSERT ON {{table}}
    BEGIN SELECT raise(ABORT, '{facts.TAKES_NOTHING}'); END
"""
_UNGUARD = "DROP TRIGGER IF EXISTS a_copy_takes_no_{table}"

# A clock that was wrong for a while has left times that are still to come; they say nothing but that.
_LAST_CHANGE = """
    SELECT max(at) FILTER (WHERE at <= :now), coalesce(max(at) > :now, 0) FROM (
        SELECT created_at AS at FROM tasks
        UNION ALL SELECT updated_at FROM tasks
        UNION ALL SELECT started_at FROM attempts
    )
"""
_MADE_AT = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', min(applied_at)) FROM _sqlite_migrations"

# Those in doubt already, too: what was done since the copy may have gone to another place than what was before.
_UNKNOWN = """
    SELECT seq FROM tasks WHERE seq > :after AND state IN ('pending', 'failed', 'held') ORDER BY seq LIMIT 1000
"""

_DOUBT = """
    UPDATE tasks SET in_doubt_since = min(coalesce(in_doubt_since, :since), :since), updated_at = :now WHERE seq = :seq
"""

_COUNTS = "SELECT count(*), coalesce(sum(in_doubt_since IS NOT NULL), 0) FROM tasks"


class Heritage(NamedTuple):
    """What the ledger leaves in whose place a copy comes: the IDs under which it claimed, and whether it had to."""

    ids: list[str]
    is_marked: bool


def guard(connection: sqlite3.Connection, now: str) -> None:
    """From ``now`` on this file takes nothing: it is a copy, or was set aside. What has been one since before stays so.

    Those who wait to write find out, too.
    """
    if facts.read(connection, facts.COPIED_AT):
        return
    connection.execute("BEGIN IMMEDIATE")
    facts.write(connection, facts.COPIED_AT, now)
    for table in _GUARDED:
        connection.execute(_GUARD.format(table=table))
    connection.execute("COMMIT")


def lift_the_guard(connection: sqlite3.Connection) -> None:
    """It takes tasks again."""
    connection.execute("BEGIN IMMEDIATE")
    facts.forget(connection, facts.COPIED_AT)
    for table in _GUARDED:
        connection.execute(_UNGUARD.format(table=table))
    connection.execute("COMMIT")


def set_journal_mode(connection: sqlite3.Connection, mode: Literal["delete", "off", "wal"]) -> None:
    """Change the journal mode, which SQLite may refuse without an error.

    Raises:
        LedgerError: it did.
    """
    got = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]
    if got != mode:
        raise LedgerError(f"SQLite keeps the journal mode {got} where {mode} is wanted")


def make_a_ledger(
    connection: sqlite3.Connection, moment: datetime, run: str, heritage: Heritage | None, *, settled: bool
) -> tuple[int, int, str]:
    """Make a ledger of a copy, with an ID of its own and doubts: how many tasks, how many in doubt, since when.

    ``settled``: no input is run again of which the copy does not know.
    """
    now = to_text(moment)
    since = _since(connection, moment)
    lift_the_guard(connection)
    if connection.execute("PRAGMA user_version").fetchone()[0] != schema.SCHEMA_VERSION:
        schema.migrate(connection)
    connection.execute("BEGIN IMMEDIATE")
    tx = Transaction(connection, moment, now, run, set())
    connection.execute("DELETE FROM leases")
    claims.take_a_new_id(connection, heritage.ids if heritage else [])
    if heritage and heritage.is_marked:
        claims.mark(tx)
    _note_the_doubt(tx, since, settled=settled)
    _doubt(tx, since)
    tasks, in_doubt = connection.execute(_COUNTS).fetchone()
    connection.execute("COMMIT")
    set_journal_mode(connection, "wal")
    return tasks, in_doubt, since


def _since(connection: sqlite3.Connection, moment: datetime) -> str:
    """From when on the ledger may have done what the copy does not know."""
    now = to_text(moment)
    told = facts.read(connection, facts.COPIED_AT)
    if told and told <= now:
        return told
    # What was copied by other means does not say when: it was after its last change.
    changed, to_come = connection.execute(_LAST_CHANGE, {"now": now}).fetchone()
    made_at: str | None = connection.execute(_MADE_AT).fetchone()[0]
    # A time to come means that the clock was wrong then, or is now, and nobody knows by how much.
    earliest = to_text(moment - outbox.WRONG_CLOCK) if told or to_come else now
    return min(changed or made_at or now, earliest)


def _note_the_doubt(tx: Transaction, since: str, *, settled: bool) -> None:
    known = facts.read_all(tx.connection)
    until = known.get(facts.DOUBT_UNTIL, "")
    # A doubt of an earlier restore that is not over goes further back, whatever is said of this one.
    earlier = [known[facts.DOUBT_SINCE]] if until > tx.now else []
    facts.write(tx.connection, facts.RESTORED_AT, tx.now)
    facts.write(tx.connection, facts.DOUBT_SINCE, min([since, *earlier]))
    if not settled:
        facts.write(tx.connection, facts.DOUBT_UNTIL, to_text(tx.moment + DOUBTFUL))
    elif not earlier:
        facts.forget(tx.connection, facts.DOUBT_UNTIL)


def _doubt(tx: Transaction, since: str) -> None:
    after = 0
    while page := tx.connection.execute(_UNKNOWN, {"after": after}).fetchall():
        for (seq,) in page:
            tx.connection.execute(_DOUBT, {"seq": seq, "since": since, "now": tx.now})
            history.add(tx, seq, "restored", since=since)
        after = page[-1][0]
