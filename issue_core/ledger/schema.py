"""The ledger's tables, as a chain of migrations that only ever grows.

``PRAGMA user_version`` holds the number of migrations that a ledger has seen, so that opening one costs no look
into sqlite-utils. A released migration is never changed; ``tests/migration`` keeps a ledger of each.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

APPLICATION_ID = 0x49535355  # "ISSU": tells a ledger from any other SQLite file
SCHEMA_VERSION = 1

_V1 = (
    """
    CREATE TABLE meta (
        key   TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    # description and extra stand last: SQLite reads a row's columns from the left, and these two may be long.
    """
    CREATE TABLE tasks (
        seq                    INTEGER PRIMARY KEY,
        event_id               TEXT NOT NULL UNIQUE,
        state                  TEXT NOT NULL,
        digest                 BLOB NOT NULL,
        title                  TEXT NOT NULL,
        target_repo            TEXT NOT NULL,
        priority               TEXT NOT NULL,
        labels                 TEXT NOT NULL,
        due_in_days            INTEGER,
        due_date               TEXT,
        source_type            TEXT NOT NULL,
        source_id              TEXT NOT NULL,
        activity_definition_id TEXT,
        transport              TEXT NOT NULL,
        transport_detail       TEXT,
        run                    TEXT NOT NULL,
        sightings              TEXT,
        created_at             TEXT NOT NULL,
        updated_at             TEXT,
        backend                TEXT,
        attempts               INTEGER NOT NULL DEFAULT 0,
        next_attempt_at        TEXT,
        in_doubt_since         TEXT,
        last_error             TEXT,
        remote_id              TEXT,
        remote_url             TEXT,
        remote_project         TEXT,
        synced_at              TEXT,
        extra                  TEXT,
        description            TEXT NOT NULL
    )
    """,
    # Both columns, so that counting the doubts reads no task.
    "CREATE INDEX tasks_in_doubt ON tasks (backend, in_doubt_since) WHERE in_doubt_since IS NOT NULL",
    # Which blocks of consecutive seqs may hold a task with this value: see ledger/facets.py.
    """
    CREATE TABLE facets (
        facet TEXT NOT NULL,
        value TEXT NOT NULL,
        block INTEGER NOT NULL,
        PRIMARY KEY (facet, value, block)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE blocks (
        block    INTEGER PRIMARY KEY,
        first_at TEXT NOT NULL,
        last_at  TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE history (
        seq    INTEGER NOT NULL REFERENCES tasks (seq),
        n      INTEGER NOT NULL,
        at     TEXT NOT NULL,
        kind   TEXT NOT NULL,
        detail TEXT,
        run    TEXT NOT NULL,
        PRIMARY KEY (seq, n)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE rejects (
        id          INTEGER PRIMARY KEY,
        kind        TEXT NOT NULL CHECK (kind IN ('invalid', 'conflict', 'elsewhere')),
        state       TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'dropped')),
        sha256      TEXT NOT NULL UNIQUE,
        length      INTEGER NOT NULL,
        event_id    TEXT,
        errors      TEXT NOT NULL,
        place       TEXT NOT NULL,
        transport   TEXT NOT NULL,
        count       INTEGER NOT NULL DEFAULT 1,
        first_at    TEXT NOT NULL,
        last_at     TEXT NOT NULL,
        closed_at   TEXT,
        replayed_as TEXT,
        raw         BLOB NOT NULL
    )
    """,
    "CREATE INDEX rejects_by_state ON rejects (state)",
    """
    CREATE TABLE attempts (
        id         INTEGER PRIMARY KEY,
        seq        INTEGER NOT NULL REFERENCES tasks (seq),
        backend    TEXT NOT NULL,
        address    TEXT NOT NULL,
        project    TEXT NOT NULL,
        account    TEXT NOT NULL,
        started_at TEXT NOT NULL,
        boot       TEXT NOT NULL,
        running    REAL NOT NULL,
        look_after REAL NOT NULL,
        looks      INTEGER NOT NULL DEFAULT 0,
        outcome    TEXT,
        ended_at   TEXT,
        error      TEXT,
        run        TEXT NOT NULL
    )
    """,
    "CREATE INDEX attempts_of_task ON attempts (seq)",
    "CREATE INDEX attempts_by_backend ON attempts (backend, started_at)",
    """
    CREATE TABLE leases (
        seq        INTEGER PRIMARY KEY REFERENCES tasks (seq),
        owner      TEXT NOT NULL,
        attempt_id INTEGER REFERENCES attempts (id),
        until      REAL NOT NULL
    )
    """,
    """
    CREATE TABLE limits (
        backend        TEXT PRIMARY KEY,
        next_free_at   TEXT,
        limited_until  TEXT,
        limit_reason   TEXT,
        unknown_streak INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE parked (
        backend TEXT NOT NULL,
        project TEXT NOT NULL,
        code    TEXT NOT NULL,
        reason  TEXT NOT NULL,
        since   TEXT NOT NULL,
        until   TEXT NOT NULL,
        probes  INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (backend, project)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE received (
        transport TEXT NOT NULL,
        outcome   TEXT NOT NULL,
        n         INTEGER NOT NULL,
        PRIMARY KEY (transport, outcome)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tallies (
        state       TEXT NOT NULL,
        backend     TEXT NOT NULL,
        target_repo TEXT NOT NULL,
        n           INTEGER NOT NULL,
        PRIMARY KEY (state, backend, target_repo)
    ) WITHOUT ROWID
    """,
    # Every later change of a task's state is counted here, whoever makes it; new tasks are counted by the batch.
    """
    CREATE TRIGGER tally_moves AFTER UPDATE OF state, backend ON tasks
    WHEN old.state <> new.state OR old.backend IS NOT new.backend
    BEGIN
        UPDATE tallies SET n = n - 1
        WHERE state = old.state AND backend = coalesce(old.backend, '') AND target_repo = old.target_repo;
        INSERT INTO tallies VALUES (new.state, coalesce(new.backend, ''), new.target_repo, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    END
    """,
    # How many attempts there ever were, and what became of them: counting the attempts themselves would read them all.
    """
    CREATE TABLE attempt_counts (
        backend TEXT NOT NULL,
        outcome TEXT NOT NULL,
        n       INTEGER NOT NULL,
        PRIMARY KEY (backend, outcome)
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER attempt_begun AFTER INSERT ON attempts
    BEGIN
        INSERT INTO attempt_counts VALUES (new.backend, '', 1) ON CONFLICT DO UPDATE SET n = n + 1;
    END
    """,
    # Each attempt counts once as unknown at most, and once under what it came to in the end.
    """
    CREATE TRIGGER attempt_ended AFTER UPDATE OF outcome ON attempts
    WHEN new.outcome IS NOT old.outcome AND new.outcome <> '' AND coalesce(old.outcome, 'unknown') = 'unknown'
    BEGIN
        INSERT INTO attempt_counts VALUES (new.backend, new.outcome, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    END
    """,
    # The history is append-only, and says so to whoever opens the file.
    """
    CREATE TRIGGER history_is_kept BEFORE DELETE ON history
    BEGIN SELECT raise(ABORT, 'the history is append-only'); END
    """,
    """
    CREATE TRIGGER history_is_not_rewritten BEFORE UPDATE ON history
    BEGIN SELECT raise(ABORT, 'the history is append-only'); END
    """,
    # REPLACE deletes without a word to the trigger above, unless recursive_triggers is on.
    """
    CREATE TRIGGER history_is_not_replaced BEFORE INSERT ON history
    WHEN EXISTS (SELECT 1 FROM history WHERE seq = new.seq AND n = new.n)
    BEGIN SELECT raise(ABORT, 'the history is append-only'); END
    """,
)


def migrations() -> Migrations:
    """The chain, oldest first. Brings sqlite-utils along: call it only when a ledger must change."""
    from sqlite_utils import Migrations

    chain = Migrations("issue-core")

    @chain(name="v1")
    def v1(db: Database) -> None:
        for statement in _V1:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    return chain


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the ledger behind ``connection`` up to this release. The caller holds the ledger's file lock, and closes
    ``connection`` when this raises, which undoes what was begun."""
    from sqlite_utils import Database

    # In one transaction: a start that is cut off leaves nothing half-done, and readers see the old or the new.
    connection.execute("BEGIN IMMEDIATE")
    migrations().apply(Database(connection, execute_plugins=False))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def empty() -> sqlite3.Connection:
    """A ledger with nothing in it, in memory: what a reader sees where there is no ledger yet."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    for statement in _V1:
        connection.execute(statement)
    return connection


def is_stand_in(connection: sqlite3.Connection) -> bool:
    """Whether ``connection`` goes to what :func:`empty` gave, and not to a file."""
    file: str = connection.execute("PRAGMA database_list").fetchone()[2]
    return not file
