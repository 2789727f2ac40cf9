"""Damage that SQLite does not see: each row that cannot be what it says is told, and no other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from issue_core.errors import LedgerCorrupt
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, glances, health, history, limits, outbox, queries, rejects, schema
from issue_core.ledger.copies import backup
from issue_core.ledger.outbox import Times, Where
from issue_core.taskspec.canonical import digest
from tests.migration.record import lay
from tests.support.clock import MovedClock
from tests.support.specs import a_spec, an_event_id, specs, written


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Three tasks, the first with an attempt and a conflict, two rejects, and a backend that is parked."""
    spec = a_spec(triggering_event_id=an_event_id(1), labels=["ops"], extra={"rack": 7})
    with Ledger(tmp_path / "ledger.db", clock=MovedClock()) as opened:
        ingest(opened, [written(spec), written(a_spec()), written(a_spec())])
        ingest(opened, [written(spec | {"title": "Other"}), b"{}"])
        with opened.write() as tx:
            times = Times(timeout=30, settle=30, lease=90)
            where = Where("work", "https://tracker.example.org", "acme/web", "bot")
            outbox.begin(tx, 1, where, owner="me", times=times, running=1.0, boot="b")
            limits.park(tx, "work", "", code="unreachable", reason="no route", until=opened.clock.now())
        yield opened


def damage(ledger: Ledger, statement: str) -> None:
    ledger.close()
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        [(trigger,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'history_is_not_rewritten'")
        connection.execute("DROP TRIGGER history_is_not_rewritten")
        connection.execute(statement)
        connection.execute(trigger)


def told(ledger: Ledger, *, with_digest: bool = True, most: int = 5) -> list[str]:
    with ledger.read() as connection:
        return health.problems(connection, most=most, digest=digest if with_digest else None)


SEEN_BY_SQL = {
    "UPDATE tasks SET state = 'qending' WHERE seq = 2": "task 2: state 'qending' is none of pending, synced",
    "UPDATE tasks SET priority = 'hihg' WHERE seq = 2": "task 2: priority 'hihg' is none of",
    "UPDATE tasks SET created_at = substr(created_at, 1, 23) || 's' WHERE seq = 1": "task 1: '2026-03-01T09:00:00",
    "UPDATE tasks SET updated_at = '2026-19-01T09:00:00.000Z' WHERE seq = 1": "task 1: '2026-19-01",
    "UPDATE tasks SET next_attempt_at = '' WHERE seq = 1": "task 1: '' is no time",
    "UPDATE tasks SET labels = '[' WHERE seq = 3": "task 3: ",
    "UPDATE tasks SET extra = '' WHERE seq = 2": "task 2: ",
    "UPDATE tasks SET sightings = '' WHERE seq = 2": "task 2: ",
    "UPDATE rejects SET place = '' WHERE id = 2": "reject 2: ",
    "UPDATE tasks SET description = CAST(x'ff41' AS TEXT) WHERE seq = 2": "task 2: it holds text that is no UTF-8",
    "UPDATE history SET at = 'x' WHERE n = 2": "task 1: entry 2 of its history: 'x' is no time",
    "UPDATE history SET detail = CAST(x'ff41' AS TEXT) WHERE n = 1": "task 1: entry 1 of its history: it holds text",
    "UPDATE rejects SET errors = '[' WHERE id = 2": "reject 2: ",
    "UPDATE rejects SET transport = 'clj' WHERE id = 1": "reject 1: transport 'clj' is none of",
    "UPDATE attempts SET started_at = '2026-03-01'": "attempt 1: '2026-03-01' is no time",
    "ALTER TABLE limits RENAME COLUMN limit_reason TO limit_raason": "the table limits is not as it was made",
    "DROP TRIGGER tally_moves": "the trigger tally_moves is not as it was made",
    "UPDATE blocks SET last_at = 'x'": "block 0: 'x' is no time",
    "UPDATE parked SET until = 'x'": "what is parked of work: 'x' is no time",
    "UPDATE parked SET reason = CAST(x'ff41' AS TEXT)": "the table parked: it holds text that is no UTF-8",
}
SEEN_BY_READING = {
    "UPDATE tasks SET description = 'other words' WHERE seq = 2": "task 2: what it asks for has another digest",
    "UPDATE tasks SET digest = x'00' WHERE seq = 2": "task 2: what it asks for has another digest",
    "UPDATE tasks SET title = x'4142' WHERE seq = 2": "task 2: title is no TEXT",
    "UPDATE tasks SET labels = '{}' WHERE seq = 2": "task 2: '{}' is no JSON list of strings",
    "UPDATE tasks SET extra = '[1]' WHERE seq = 2": "task 2: '[1]' is no JSON object",
    "UPDATE tasks SET created_at = '2026-02-30T09:00:00.000Z' WHERE seq = 1": "task 1: '2026-02-30",
    "UPDATE rejects SET errors = '[1, 2]' WHERE id = 1": "reject 1: '[1, 2]' is no JSON list of pairs",
    "UPDATE rejects SET raw = CAST('[]' AS BLOB) WHERE id = 2": "reject 2: its bytes have another SHA-256",
}


@pytest.mark.parametrize(("statement", "said"), (SEEN_BY_SQL | SEEN_BY_READING).items())
def test_a_row_that_cannot_be_what_it_says_is_told_and_is_the_only_one(
    ledger: Ledger, statement: str, said: str
) -> None:
    assert told(ledger) == []
    damage(ledger, statement)
    [found] = told(ledger)
    assert found.startswith(said)


@pytest.mark.parametrize("statement", SEEN_BY_SQL)
def test_what_sql_can_see_keeps_a_copy_from_being_made(ledger: Ledger, statement: str) -> None:
    assert told(ledger, with_digest=False) == []
    damage(ledger, statement)
    [found] = told(ledger, with_digest=False)
    with pytest.raises(LedgerCorrupt, match="there is no copy") as caught:
        backup(ledger, ledger.path.with_name("copy.db"))
    assert found in caught.value.message


def test_what_somebody_has_added_to_the_schema_is_no_damage(ledger: Ledger) -> None:
    damage(ledger, "CREATE INDEX of_mine ON tasks (target_repo)")
    assert told(ledger) == told(ledger, with_digest=False) == []


def test_rows_behind_one_that_is_damaged_are_read_too_and_only_the_first_few_are_told(ledger: Ledger) -> None:
    damage(ledger, "UPDATE tasks SET description = CAST(x'ff41' AS TEXT)")
    assert [each.partition(":")[0] for each in told(ledger)] == ["task 1", "task 2", "task 3"]
    assert [each.partition(":")[0] for each in told(ledger, most=2)] == ["task 1", "task 2"]


@given(st.lists(specs(), max_size=8))
@settings(max_examples=30, deadline=None)
def test_whatever_is_stored_is_sound(tmp_path_factory: pytest.TempPathFactory, given_specs: list[object]) -> None:
    with Ledger(tmp_path_factory.mktemp("sound") / "ledger.db") as ledger:
        ingest(ledger, [*map(written, given_specs), b"\xff\xfe", b'{"a": "\\ud800"}'])
        assert told(ledger) == []
        assert told(ledger, with_digest=False) == []


@pytest.mark.parametrize("version", range(1, schema.SCHEMA_VERSION + 1))
def test_what_earlier_releases_have_stored_is_sound(tmp_path: Path, version: int) -> None:
    lay(version, tmp_path / "ledger.db")
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert told(ledger) == []
        assert told(ledger, with_digest=False) == []


READ: dict[str, Callable[[sqlite3.Connection], object]] = {
    "tasks": lambda connection: list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=False)),
    "glances": lambda connection: glances.newest(connection, state=None, limit=9),
    "waiting": lambda connection: outbox.in_doubt(connection, after=0, limit=9),
    "history": lambda connection: history.of_task(connection, 1),
    "rejects": lambda connection: rejects.page(connection, state=None, limit=9),
    "parked": limits.all_parked,
    "counts": queries.counts,
}


@pytest.mark.parametrize(
    ("what", "statement", "row"),
    [
        ("tasks", "UPDATE tasks SET created_at = 'x' WHERE seq = 1", "task 1 is damaged"),
        ("tasks", "UPDATE tasks SET state = 'qending' WHERE seq = 2", "task 2 is damaged"),
        ("tasks", "UPDATE tasks SET labels = '7' WHERE seq = 2", "task 2 is damaged"),
        ("tasks", "UPDATE tasks SET title = x'41' WHERE seq = 3", "task 3 is damaged: title is no text"),
        (
            "tasks",
            "UPDATE tasks SET description = CAST(x'ff41' AS TEXT)",
            "Could not decode to UTF-8 column 'description'",
        ),
        ("glances", "UPDATE tasks SET updated_at = 'x' WHERE seq = 1", "task 1 is damaged"),
        ("waiting", "UPDATE tasks SET in_doubt_since = 'x' WHERE seq = 1", "task 1 is damaged"),
        ("history", "UPDATE history SET detail = '[]' WHERE n = 2", "entry 2 of the history is damaged"),
        ("rejects", "UPDATE rejects SET errors = '[1, 2]' WHERE id = 1", "reject 1 is damaged"),
        ("rejects", "UPDATE rejects SET last_at = 'x' WHERE id = 1", "reject 1 is damaged"),
        ("parked", "UPDATE parked SET since = 'x'", "what is parked of work is damaged"),
        ("counts", "UPDATE tasks SET state = 'qending' WHERE seq = 2", "the table tallies is damaged"),
        ("counts", "UPDATE tallies SET target_repo = x'41'", "the table tallies is damaged"),
    ],
)
def test_whoever_reads_a_damaged_row_learns_which_it_is_and_how_to_mend_it(
    ledger: Ledger, what: str, statement: str, row: str
) -> None:
    damage(ledger, statement)
    with pytest.raises(LedgerCorrupt) as caught, ledger.read() as connection:
        READ[what](connection)
    assert caught.value.message.startswith(f"ledger {ledger.path}: ")
    assert row in caught.value.message
    assert f"issue restore BACKUP --ledger {ledger.path}" in str(caught.value.hint)
    assert "A'" not in caught.value.message.partition("UTF-8")[2]


def test_a_task_without_a_value_that_every_task_has_cannot_be_read(ledger: Ledger) -> None:
    path = ledger.path
    changed = "replace(sql, 'attempts               INTEGER NOT NULL DEFAULT 0', 'attempts INTEGER')"
    ledger.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"UPDATE sqlite_master SET sql = {changed} WHERE name = 'tasks'")  # noqa: S608 - a constant
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE tasks SET attempts = NULL WHERE seq = 1")
    with ledger.read() as reading, pytest.raises(LedgerCorrupt, match="task 1 is damaged: attempts is no number"):
        queries.task(reading, 1)
