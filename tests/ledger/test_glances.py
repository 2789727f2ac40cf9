"""What an overview reads is what the tasks themselves say, in short; and a history's end is the end of all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from issue_core.ledger import Ledger, facets, glances, history, queries
from issue_core.ledger.queries import Filter
from issue_core.task import TaskState
from tests.support import busy_ledger
from tests.support.clock import MovedClock


@pytest.mark.parametrize("block", [7, facets.BLOCK])
@pytest.mark.parametrize("state", [None, "pending", "synced", "failed", "held"])
@pytest.mark.parametrize("limit", [0, 2, 30, 500])
def test_the_newest_are_those_that_a_query_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: TaskState | None, limit: int, block: int
) -> None:
    monkeypatch.setattr(facets, "BLOCK", block)
    clock = MovedClock()
    with Ledger(tmp_path / "ledger.db", clock=clock) as ledger:
        busy_ledger.fill(ledger, clock)
        with ledger.read() as connection:
            found = glances.newest(connection, state=state, limit=limit)
            tasks = list(queries.tasks(connection, Filter(state=state), limit=limit, newest_first=True))
    same = [name for name in glances.Glance._fields if not name.startswith("remote_")]
    assert [[getattr(task, name) for name in same] for task in found] == [
        [getattr(task, name) for name in same] for task in tasks
    ]
    remotes = [(task.remote.id, task.remote.url) if task.remote else (None, None) for task in tasks]
    assert [(task.remote_id, task.remote_url) for task in found] == remotes


def test_the_end_of_a_history_is_read_alone(tmp_path: Path) -> None:
    clock = MovedClock()
    with Ledger(tmp_path / "ledger.db", clock=clock) as ledger:
        busy_ledger.fill(ledger, clock)
        for n in range(5):
            with ledger.write() as tx:
                history.add(tx, 17, "deferred", n=n)
        with ledger.read() as connection:
            every = history.of_task(connection, 17)
            assert [history.latest(connection, 17, limit=n) for n in (1, 3, 100)] == [every[-1:], every[-3:], every]
            assert history.latest(connection, 10**9, limit=3) == []
