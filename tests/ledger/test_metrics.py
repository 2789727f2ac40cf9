"""Attempts are counted as a look at each of them would count, and reading the counts walks through nothing large."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from issue_core.ledger import Ledger, metrics
from issue_core.ledger.metrics import BEGUN, UNKNOWN, Reading
from tests.support.tracker import Fault
from tests.sync_engine.rig import SOON, Rig, a_backend

SMALL = {"tallies", "received", "attempt_counts", "limits", "parked", "facets"}
"""Tables with a row for each kind of thing, not for each thing: they may be read from end to end."""

FEW = {"tasks USING COVERING INDEX tasks_in_doubt", "rejects USING COVERING INDEX rejects_by_state"}
"""Indexes that hold nothing but what is counted."""


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A ledger and a tracker, and a clock that stands still."""
    rig = Rig(tmp_path, monkeypatch)
    yield rig
    rig.close()


def read(ledger: Ledger) -> Reading:
    with ledger.read() as connection:
        return metrics.read(connection, ledger.clock.now())


def counted_one_by_one(rig: Rig) -> dict[tuple[str, str], int]:
    """Every attempt that there is, and every known outcome; by a plain look at all of them."""
    rows = rig.sql("SELECT backend, outcome FROM attempts")
    ended = Counter((backend, outcome) for backend, outcome in rows if outcome not in (None, UNKNOWN))
    return ended | Counter((backend, BEGUN) for backend, _ in rows)


def without_unknown(reading: Reading) -> dict[tuple[str, str], int]:
    return {which: n for which, n in reading.attempts.items() if which[1] != UNKNOWN}


@pytest.mark.parametrize("seed", range(6))
def test_attempts_are_counted_as_they_are_after_each_run_whatever_the_tracker_does(rig: Rig, seed: int) -> None:
    rig.tracker.be(chance=0.5, seed=seed)
    rig.configure(backends=[a_backend(), a_backend("other")], routes=(("acme/api", "other"),))
    before: dict[tuple[str, str], int] = {}
    for n in range(8):
        rig.ingest(2, repo=("acme/web", "acme/api")[n % 2])
        rig.sync()
        now = read(rig.ledger)
        assert without_unknown(now) == counted_one_by_one(rig)
        assert sum(now.in_doubt.values()) == rig.sql("SELECT count(*) FROM tasks WHERE in_doubt_since NOT NULL")[0][0]
        assert all(now.attempts[which] >= n for which, n in before.items())
        before = now.attempts
        rig.clock.move(SOON)


def test_an_attempt_in_doubt_counts_as_unknown_and_once_more_when_the_doubt_is_over(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(Fault("unknown_after"))
    rig.sync()
    assert read(rig.ledger).attempts == {("work", BEGUN): 1, ("work", UNKNOWN): 1}
    assert read(rig.ledger).in_doubt == {"work": 1}
    rig.clock.move(SOON)
    rig.sync()
    assert read(rig.ledger).attempts == {("work", BEGUN): 1, ("work", UNKNOWN): 1, ("work", "found"): 1}
    assert read(rig.ledger).in_doubt == {"work": 0}


def test_what_an_attempt_came_to_is_counted_once(rig: Rig) -> None:
    rig.ingest()
    rig.sync()
    with rig.ledger.write() as tx:
        for outcome in ("created", "absent", None):
            tx.connection.execute("UPDATE attempts SET outcome = ?", (outcome,))
    assert read(rig.ledger).attempts == {("work", BEGUN): 1, ("work", "created"): 1}


def test_tasks_in_doubt_that_no_backend_has_yet_are_counted_apart(rig: Rig) -> None:
    rig.ingest(3)
    with rig.ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET in_doubt_since = ? WHERE seq < 3", (tx.now,))
    assert read(rig.ledger).in_doubt == {"": 2}


def test_a_clock_that_was_set_back_makes_no_age_negative(rig: Rig) -> None:
    rig.ingest()
    rig.clock.jump(-5)
    assert read(rig.ledger).oldest_pending_age == 0.0


def test_a_trackers_limit_is_told_while_it_holds(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(Fault("limited", retry_after=40_000.0))
    rig.sync()
    [(backend, until)] = read(rig.ledger).limited.items()
    assert (backend, (until - rig.clock.now()).total_seconds()) == ("work", 40_000.0)
    rig.clock.move(40_000)
    assert read(rig.ledger).limited == {}


def test_reading_walks_through_no_table_that_grows_with_the_tasks(rig: Rig) -> None:
    rig.ingest(3)
    rig.sync(limit=1)
    statements: list[str] = []
    with rig.ledger.read() as connection:
        connection.set_trace_callback(statements.append)
        metrics.read(connection, rig.clock.now())
        connection.set_trace_callback(None)
        plans = [row[3] for query in statements for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert len(statements) > 6
    scanned = {plan.removeprefix("SCAN ") for plan in plans if plan.startswith("SCAN")}
    assert {what for what in scanned - FEW if what.split()[0] not in SMALL} == set()
    assert scanned >= FEW
