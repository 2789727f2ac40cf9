"""The history of a task: in the transaction of what it tells of, and never changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from issue_core.errors import LedgerError
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, history, outbox, outcomes, queries, rejects
from issue_core.task import HistoryEntry
from tests.support.clock import MovedClock
from tests.support.specs import a_spec, an_event_id, written


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock=MovedClock(), run="r") as opened:
        ingest(opened, [written(a_spec()), written(a_spec())])
        yield opened


def the_history(ledger: Ledger, seq: int) -> list[HistoryEntry]:
    with ledger.read() as connection:
        return history.of_task(connection, seq)


def test_entries_stand_in_the_order_in_which_they_happened_whatever_the_clock_said(ledger: Ledger) -> None:
    assert isinstance(ledger.clock, MovedClock)
    for n in range(12):
        ledger.clock.jump(-60)
        with ledger.write() as tx:
            history.add(tx, 1 + n % 2, f"kind-{n}", n=n, nothing=None, text="«é»")
    entries = the_history(ledger, 2)
    assert [entry.kind for entry in entries] == ["created", *(f"kind-{n}" for n in range(1, 12, 2))]
    assert entries[1] == HistoryEntry("2026-03-01T08:58:00.000Z", "kind-1", {"n": 1, "text": "«é»", "run": "r"})
    assert entries[1].to_json() == {
        "at": "2026-03-01T08:58:00.000Z",
        "kind": "kind-1",
        "n": 1,
        "text": "«é»",
        "run": "r",
    }


def test_what_is_rolled_back_is_not_told(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError):
        _tell_and_raise(ledger)
    assert [entry.kind for entry in the_history(ledger, 1)] == ["created"]


def _tell_and_raise(ledger: Ledger) -> None:
    with ledger.write() as tx:
        history.add(tx, 1, "retry")
        raise RuntimeError


def test_a_change_that_cannot_be_told_does_not_happen(ledger: Ledger) -> None:
    ingest(ledger, [written(a_spec(triggering_event_id=an_event_id(1)))])
    with ledger.write() as tx:
        outcomes.fail(tx, 3, "refused", "no", doubt_ends=True)
        tx.connection.execute("CREATE TRIGGER no_room BEFORE INSERT ON history BEGIN SELECT raise(ABORT, 'no'); END")
    conflict = written(a_spec(triggering_event_id=an_event_id(1), title="other"))
    with pytest.raises(LedgerError):
        ingest(ledger, [written(a_spec()), conflict])
    with pytest.raises(LedgerError):
        _retry(ledger, 3)
    with ledger.read() as connection:
        assert queries.counts(connection).received == {"created": 3, "duplicate": 0, "conflict": 0, "invalid": 0}
        assert queries.counts(connection).states["failed"] == 1
        assert queries.counts(connection).total == 3
        assert rejects.page(connection, state=None, limit=9) == []
    assert [entry.kind for entry in the_history(ledger, 3)] == ["created", "failed"]


def _retry(ledger: Ledger, seq: int) -> None:
    with ledger.write() as tx:
        outbox.retry(tx, [seq])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE history SET kind = 'x'",
        "DELETE FROM history",
        "UPDATE OR REPLACE history SET n = 2",
        "DELETE FROM history WHERE n = 1",
        "INSERT OR REPLACE INTO history SELECT seq, n, at, 'x', detail, run FROM history",
        "REPLACE INTO history (seq, n, at, kind, run) VALUES (1, 1, '', 'x', '')",
    ],
)
def test_no_program_can_change_or_delete_an_entry(ledger: Ledger, statement: str) -> None:
    with ledger.write() as tx:
        history.add(tx, 1, "one")
        history.add(tx, 1, "two")
    before = the_history(ledger, 1)
    ledger.close()
    with closing(sqlite3.connect(ledger.path)) as tool:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            tool.execute(statement)
        tool.commit()
    assert the_history(ledger, 1) == before


def test_a_task_that_is_not_there_has_no_history(ledger: Ledger) -> None:
    assert the_history(ledger, 3) == []
