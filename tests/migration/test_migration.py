"""Ledgers of every schema are brought up to today's, whole or not at all, and lose nothing on the way."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, queries, schema
from tests.migration.record import lay, make, reading, reading_of, sql_of
from tests.support.specs import a_spec, an_event_id, written

ROOT = Path(__file__).parents[2]
VERSIONS = range(1, schema.SCHEMA_VERSION + 1)

AGAIN = """
Is this schema released? Then leave it as it is, and add a migration.
If not: python -m tests.migration.record
"""


def schema_of(path: Path) -> dict[tuple[str, str], str]:
    """Everything that makes the schema, but what sqlite-utils keeps for itself."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE tbl_name NOT LIKE '\\_%' ESCAPE '\\'"
        )
        return {(kind, name): " ".join((sql or "").split()) for kind, name, sql in rows}


def marks_of(path: Path) -> tuple[int, int, str]:
    """``application_id``, ``user_version`` and the journal mode."""
    with closing(sqlite3.connect(path)) as connection:
        return tuple(
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "journal_mode")
        )


TODAY = (schema.APPLICATION_ID, schema.SCHEMA_VERSION, "wal")


def open_to_write(path: Path) -> None:
    with Ledger(path) as ledger, ledger.write():
        pass


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A ledger that today's release has made, with nothing in it."""
    path = tmp_path / "fresh.db"
    open_to_write(path)
    return path


def said_before(before: Any, now: Any) -> bool:
    """Whether ``now`` says all that ``before`` did; a later release may say more."""
    if isinstance(before, dict):
        return isinstance(now, dict) and all(name in now and said_before(before[name], now[name]) for name in before)
    if isinstance(before, list):
        return isinstance(now, list) and len(before) == len(now) and all(map(said_before, before, now))
    return bool(before == now)


# --- the ledgers of released schemas --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_there_is_a_recorded_ledger_of_every_schema(version: int) -> None:
    assert sql_of(version).is_file(), AGAIN
    assert reading_of(version).is_file(), AGAIN


def test_the_recorded_ledger_of_todays_schema_is_todays(tmp_path: Path, fresh: Path) -> None:
    lay(schema.SCHEMA_VERSION, tmp_path / "recorded.db")
    assert schema_of(tmp_path / "recorded.db") == schema_of(fresh), AGAIN


def test_the_recorded_ledger_holds_something_in_every_table_that_keeps_things(tmp_path: Path) -> None:
    lay(schema.SCHEMA_VERSION, tmp_path / "recorded.db")
    with closing(sqlite3.connect(tmp_path / "recorded.db")) as connection:
        kept = ("tasks", "history", "rejects", "facets", "blocks", "tallies", "received", "attempts", "attempt_counts")
        for table in kept:
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0, table  # noqa: S608 - named here


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_ledger_becomes_one_of_today_and_keeps_all_that_is_in_it(
    tmp_path: Path, fresh: Path, version: int
) -> None:
    path = tmp_path / "ledger.db"
    lay(version, path)
    recorded = json.loads(reading_of(version).read_text())
    assert said_before(recorded, reading(path))  # read as it is
    assert marks_of(path)[1] == version  # reading migrates nothing
    open_to_write(path)
    assert schema_of(path) == schema_of(fresh)
    assert marks_of(path) == TODAY
    assert said_before(recorded, reading(path))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_older_ledger_holds_is_a_duplicate_when_it_comes_again(tmp_path: Path, version: int) -> None:
    path = tmp_path / "ledger.db"
    lay(version, path)
    with Ledger(path) as ledger:
        spec = a_spec(triggering_event_id=an_event_id(0), source_id="rule-0")
        outcomes = [
            receipt.outcome for receipt in ingest(ledger, [written(spec), b"{", written(spec | {"title": "x"})])
        ]
        assert outcomes == ["duplicate", "invalid", "conflict"]


def test_making_the_recorded_ledger_again_gives_the_same(tmp_path: Path) -> None:
    """So that a diff of the record shows what the code changed, and nothing else."""
    make(tmp_path / "one.db")
    lay(schema.SCHEMA_VERSION, tmp_path / "other.db")
    assert reading(tmp_path / "one.db") == reading(tmp_path / "other.db"), AGAIN


def test_the_empty_ledger_that_readers_see_has_todays_schema(tmp_path: Path, fresh: Path) -> None:
    with closing(schema.empty()) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    assert {(kind, name): " ".join((sql or "").split()) for kind, name, sql in rows} == schema_of(fresh)


# --- first starts that were cut off ---------------------------------------------------------------------------------


def _run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def _made_but_not_marked(path: Path) -> None:
    open_to_write(path)
    _run(path, "PRAGMA user_version = 0")


CUT_OFF: dict[str, Callable[[Path], object]] = {
    "an empty file": lambda path: path.touch(),
    "a file in WAL mode without a table": lambda path: _run(path, "PRAGMA journal_mode = WAL"),
    "a file that has its mark and no table": lambda path: _run(
        path, f"PRAGMA application_id = {schema.APPLICATION_ID}"
    ),
    "a ledger without its version": _made_but_not_marked,
}


@pytest.mark.parametrize("left", CUT_OFF.values(), ids=CUT_OFF.keys())
def test_what_a_first_start_left_behind_is_empty_to_read_and_finished_by_the_next_writer(
    tmp_path: Path, fresh: Path, left: Callable[[Path], object]
) -> None:
    path = tmp_path / "ledger.db"
    left(path)
    with Ledger(path) as ledger:
        with ledger.read() as connection:
            assert queries.counts(connection).total == 0
        ingest(ledger, [written(a_spec())])
    assert schema_of(path) == schema_of(fresh)
    assert marks_of(path) == TODAY


# Makes a ledger again and again, each time in a process that is killed before it runs one more statement than the
# last one, until one comes through; prints how many that were.
KILLED = """
import os, signal, sqlite3, sys
from itertools import count
from issue_core.ledger import Ledger, connection

def start(path, statements):
    left = iter(range(statements))
    def run(statement):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
    def opened(uri, busy_timeout, make=connection._open):
        made = make(uri, busy_timeout)
        made.set_trace_callback(run)
        return made
    connection._open = opened
    with Ledger(path) as ledger, ledger.write():
        pass

import sqlite_utils
for n in count():
    child = os.fork()
    if child == 0:
        start(f"{sys.argv[1]}/{n}/ledger.db", n)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        print(n)
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""


def test_a_first_start_that_is_killed_at_any_statement_is_finished_by_the_next_writer(
    tmp_path: Path, fresh: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    kills = int(ran.stdout)
    assert kills > 20
    expected = schema_of(fresh)
    for n in range(kills):
        path = tmp_path / str(n) / "ledger.db"
        with Ledger(path) as ledger:
            with ledger.read() as connection:
                assert queries.counts(connection).total == 0
            ingest(ledger, [written(a_spec())])
        assert schema_of(path) == expected
        assert marks_of(path) == TODAY
