"""Who waits longest is found whatever the clock said meanwhile, and not by reading all that wait."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, facets, waits
from issue_core.task import to_text
from tests.support.clock import START, MovedClock
from tests.support.specs import a_spec, written

HOUR = 3600.0


def store(ledger: Ledger, n: int) -> None:
    ingest(ledger, [written(a_spec()) for _ in range(n)])


def oldest(ledger: Ledger) -> str | None:
    with ledger.read() as connection:
        return waits.oldest_pending_at(connection, to_text(ledger.clock.now()))


def at(hours: float) -> str:
    return to_text(START + timedelta(hours=hours))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    """A clock, in a house where a block has four tasks."""
    monkeypatch.setattr(facets, "BLOCK", 4)
    return MovedClock()


def test_a_task_of_a_clock_that_was_ahead_hides_none_that_came_after_it(tmp_path: Path, clock: MovedClock) -> None:
    with Ledger(tmp_path / "ledger.db", clock=clock) as ledger:
        assert oldest(ledger) is None
        clock.jump(1000 * HOUR)
        store(ledger, 9)
        clock.jump(-1000 * HOUR)
        assert oldest(ledger) == at(0)
        store(ledger, 9)
        clock.move(5 * HOUR)
        store(ledger, 9)
        assert oldest(ledger) == at(0)


def test_where_all_times_are_still_to_come_the_oldest_waits_since_now(tmp_path: Path, clock: MovedClock) -> None:
    with Ledger(tmp_path / "ledger.db", clock=clock) as ledger:
        store(ledger, 9)
        clock.jump(-2 * HOUR)
        assert oldest(ledger) == at(-2)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 6)), max_size=8), st.sets(st.integers(1, 30)))
@example([(0, 1), (15, 3), (-12, 4), (30, 1)], {1})  # the first block is older than those of it that wait
def test_however_the_clock_jumps_the_oldest_is_known_to_the_hour(
    tmp_path_factory: pytest.TempPathFactory, jumps: list[tuple[int, int]], done: set[int]
) -> None:
    clock = MovedClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facets, "BLOCK", 4)
        with Ledger(tmp_path_factory.mktemp("any") / "ledger.db", clock=clock) as ledger:
            times: list[str] = []
            for jump, n in jumps:
                clock.jump(jump * HOUR / 3)
                store(ledger, n)
                times += [to_text(clock.now())] * n
            with ledger.write() as tx:
                for seq in done:
                    tx.connection.execute("UPDATE tasks SET state = 'synced' WHERE seq = ?", (seq,))
            clock.jump(HOUR / 2)
            now = to_text(clock.now())
            waiting = [time for seq, time in enumerate(times, start=1) if seq not in done]
            expected = min((min(time, now) for time in waiting), default=None)
            found = oldest(ledger)
            assert (found and found[:13]) == (expected and expected[:13])


def test_of_many_blocks_of_one_hour_one_is_read(tmp_path: Path, clock: MovedClock) -> None:
    with Ledger(tmp_path / "ledger.db", clock=clock) as ledger:
        store(ledger, 50)
        clock.move(60)
        store(ledger, 50)
        statements: list[str] = []
        with ledger.read() as connection:
            connection.set_trace_callback(statements.append)
            waits.oldest_pending_at(connection, to_text(clock.now()))
            connection.set_trace_callback(None)
            plans = [row[3] for query in statements for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
        assert len(statements) == 2
        assert [plan for plan in plans if plan.startswith("SCAN")] == []
