"""Facts about the ledger itself, by their names."""

from __future__ import annotations

import sqlite3

CLAIMS_SINCE = "claims_since"
"""When it was marked as one whose tasks must be claimed."""

LEDGER_ID = "ledger_id"
"""Under which ID it claims them."""

FORMER_LEDGER_IDS = "former_ledger_ids"
"""Those that it had before it was restored from a copy: a JSON list."""

COPIED_AT = "copied_at"
"""Since when it is a copy, or set aside: it takes nothing any more."""

RESTORED_AT = "restored_at"
"""When it was restored from a copy."""

DOUBT_SINCE = "doubt_since"
"""From when on it does not know what it has done, as it was restored from a copy of that time."""

DOUBT_UNTIL = "doubt_until"
"""Until when a new task may be one that it had before it was restored."""

TAKES_NOTHING = "this is a copy of a ledger, or one that was set aside; it takes nothing"
"""What it says to those who write to it nevertheless."""

_READ = "SELECT value FROM meta WHERE key = :key"
_READ_ALL = "SELECT key, value FROM meta"
_WRITE = "INSERT OR REPLACE INTO meta (key, value) VALUES (:key, :value)"
_FORGET = "DELETE FROM meta WHERE key = :key"


def read(connection: sqlite3.Connection, key: str) -> str | None:
    """The fact, if it is known."""
    row = connection.execute(_READ, {"key": key}).fetchone()
    return None if row is None else str(row[0])


def read_all(connection: sqlite3.Connection) -> dict[str, str]:
    """Every fact."""
    return dict(connection.execute(_READ_ALL))


def write(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Note a fact, in the transaction that is open."""
    connection.execute(_WRITE, {"key": key, "value": value})


def forget(connection: sqlite3.Connection, key: str) -> None:
    """It is no fact any more."""
    connection.execute(_FORGET, {"key": key})
