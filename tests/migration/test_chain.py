"""The chain of migrations: one more link brings every ledger up once, whoever comes first, or leaves it as it was."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from issue_core.errors import LedgerError, LedgerTooNew
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, queries, schema
from tests.migration.record import lay, reading
from tests.support.specs import a_spec, written

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

NEXT = schema.SCHEMA_VERSION + 1
TASKS = 40
"""How many tasks the racing writers store between them."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of today's schema, with a little of everything in it."""
    laid = tmp_path / "ledger.db"
    lay(schema.SCHEMA_VERSION, laid)
    return laid


def a_later_release(monkeypatch: pytest.MonkeyPatch, change: Callable[[Database], None]) -> None:
    """From now on this program is the next release, whose schema has one change more."""
    today = schema.migrations

    def migrations() -> Migrations:
        chain = today()
        chain(name=f"v{NEXT}")(change)
        return chain

    monkeypatch.setattr(schema, "migrations", migrations)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", NEXT)


def add_a_column(db: Database) -> None:
    db.execute("ALTER TABLE tasks ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'")


def change_and_fail(db: Database) -> None:
    add_a_column(db)
    db.execute("DROP TABLE rejects")
    db.execute("UPDATE nowhere SET n = 1")


def asked(path: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows, by a connection that has nothing to do with ours."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def schema_in(path: Path) -> list[tuple[Any, ...]]:
    return asked(path, "SELECT type, name, sql FROM sqlite_master ORDER BY type, name")


def test_a_reader_of_a_later_release_reads_an_older_ledger_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, tables = reading(path), schema_in(path)
    a_later_release(monkeypatch, add_a_column)
    assert reading(path) == before
    assert schema_in(path) == tables
    assert asked(path, "PRAGMA user_version") == [(NEXT - 1,)]


def test_the_first_writer_of_a_later_release_brings_the_ledger_up_and_keeps_all_that_is_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = reading(path)
    a_later_release(monkeypatch, add_a_column)
    with Ledger(path) as ledger, ledger.write() as tx:
        assert tx.connection.execute("SELECT DISTINCT mood FROM tasks").fetchall() == [("calm",)]
    assert reading(path) == before
    assert asked(path, "PRAGMA user_version") == [(NEXT,)]
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


def test_the_release_before_refuses_a_ledger_that_was_brought_up(path: Path) -> None:
    with pytest.MonkeyPatch.context() as later:
        a_later_release(later, add_a_column)
        with Ledger(path) as ledger, ledger.write():
            pass
    with pytest.raises(LedgerTooNew), Ledger(path) as ledger, ledger.write():
        pass
    with pytest.raises(LedgerTooNew), Ledger(path) as ledger, ledger.read():
        pass


def test_of_many_writers_that_come_at_once_one_brings_the_ledger_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a thread with connections of its own; the lock is on a descriptor, so threads meet it as processes do."""
    before = len(reading(path)["tasks"])
    brought_up: list[int] = []
    start = threading.Barrier(8)

    def change(db: Database) -> None:
        brought_up.append(threading.get_ident())
        add_a_column(db)

    def come(_: int) -> list[str]:
        start.wait()
        with Ledger(path) as ledger:
            return [receipt.outcome for _ in range(TASKS // 8) for receipt in ingest(ledger, [written(a_spec())])]

    a_later_release(monkeypatch, change)
    with ThreadPoolExecutor(8) as pool:
        outcomes = [outcome for found in pool.map(come, range(8)) for outcome in found]
    assert outcomes == ["created"] * TASKS
    assert len(brought_up) == 1
    assert len(reading(path)["tasks"]) == before + TASKS
    rows = asked(path, "SELECT name FROM _sqlite_migrations ORDER BY id")
    assert rows == [(f"v{version}",) for version in range(1, NEXT + 1)]


def test_a_migration_that_fails_says_so_and_leaves_the_ledger_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, tables = reading(path), schema_in(path)
    with pytest.MonkeyPatch.context() as later:
        a_later_release(later, change_and_fail)
        for _ in range(2):
            with pytest.raises(LedgerError, match="no such table: nowhere") as caught:
                _store(path)
            assert str(path) in caught.value.message
        assert reading(path) == before
    assert schema_in(path) == tables
    assert asked(path, "PRAGMA user_version") == [(NEXT - 1,)]
    _store(path)
    a_later_release(monkeypatch, add_a_column)
    _store(path)
    with Ledger(path) as ledger, ledger.read() as connection:
        assert queries.counts(connection).total == len(before["tasks"]) + 2


def _store(path: Path) -> None:
    with Ledger(path) as ledger:
        ingest(ledger, [json.dumps(a_spec())])
