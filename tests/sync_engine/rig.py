"""A ledger, a tracker and a clock on which the tests of sync run, and the books that must balance after each run."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from issue_core import Ledger, backends, ingest, sync
from issue_core.config import BackendSettings, Settings, SyncSettings
from issue_core.ledger import facets, history, limits, outbox, queries
from issue_core.sync_engine import Choice, Result, Summary
from issue_core.task import Task
from tests.support import tracker as scripted
from tests.support.clock import MovedClock, Patience, RightClock
from tests.support.tracker import ACCOUNT, Tracker

_SPACE = UUID("f2a3a9a1-3a55-4a52-93b1-9b9d3c1a7e11")

TIMEOUT = 30.0
SETTLE = 20.0
SOON = TIMEOUT + SETTLE
"""So many seconds after an attempt its issue may be looked for."""


def a_backend(name: str = "work", **changes: Any) -> BackendSettings:
    """A scripted backend called ``name``."""
    return BackendSettings(name, "scripted", **{"settle": SETTLE, "looks": 1, "look_interval": 60.0, **changes})


class Rig:
    """What one test of sync works on. The tracker's clock is right, whatever happens to the ledger's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = MovedClock()
        self.ledger = Ledger(folder / "ledger.db", clock=self.clock)
        self.tracker = Tracker(folder / "tracker.db")
        self.settings = Settings(
            self.ledger.path,
            default_backend="work",
            backends={"work": a_backend()},
            sync=SyncSettings(request_timeout=TIMEOUT, lease=120.0, backoff=(8.0, 1000.0), max_attempts=4),
        )
        self.summary = Summary()
        self.patience = Patience(self.clock)
        self._ingested = 0
        monkeypatch.setitem(backends._MODULES, "scripted", "tests.support.tracker")
        monkeypatch.setattr(scripted, "clock", RightClock(self.clock))
        monkeypatch.setattr(scripted, "clients_clock", self.clock)

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def configure(self, **changes: Any) -> None:
        """Change some of the settings; ``backends`` as a list."""
        if "backends" in changes:
            changes["backends"] = {backend.name: backend for backend in changes["backends"]}
        self.settings = replace(self.settings, **changes)

    def ingest(self, n: int = 1, *, repo: str = "acme/web") -> list[str]:
        """Store ``n`` new tasks; gives their event IDs."""
        event_ids = [str(uuid5(_SPACE, str(self._ingested + i))) for i in range(n)]
        self._ingested += n
        fields = {"title": "Disk is nearly full", "target_repo": repo, "source_type": "rule", "source_id": "disk"}
        ingest(self.ledger, [json.dumps({**fields, "triggering_event_id": event_id}) for event_id in event_ids])
        return event_ids

    def sync(self, **choice: Any) -> list[Result]:
        """One pass; its results in the order of the tasks."""
        told: list[Result] = []
        self.summary = sync(self.ledger, self.settings, choice=Choice(**choice), tell=told.append, stop=self.patience)
        return sorted(told, key=lambda result: result.seq)

    def outcomes(self, **choice: Any) -> list[str]:
        """One pass; what each task came to."""
        return [result.result for result in self.sync(**choice)]

    def task(self, event_id: str) -> Task:
        """The task as it stands in the ledger."""
        with self.ledger.read() as connection:
            return queries.task(connection, queries.find(connection, event_id))

    def states(self) -> Counter[str]:
        """How many tasks are in each state."""
        return Counter(state for (state,) in self.sql("SELECT state FROM tasks"))

    def history(self, event_id: str, kind: str | None = None) -> list[dict[str, Any]]:
        """What happened to the task, or what of one kind."""
        with self.ledger.read() as connection:
            entries = history.of_task(connection, queries.find(connection, event_id))
        return [entry.to_json() for entry in entries if kind in (None, entry.kind)]

    def kinds(self, event_id: str) -> list[str]:
        """What happened to the task, in one word each."""
        return [entry["kind"] for entry in self.history(event_id)]

    def parked(self) -> dict[str, limits.Parked]:
        """What is parked of the backend ``work``."""
        with self.ledger.read() as connection:
            return limits.parked(connection, "work")

    def retry(self, *event_ids: str) -> int:
        """What ``issue retry`` does with these tasks, or with all."""
        with self.ledger.write() as tx:
            limits.probe_now(tx)
            if not event_ids:
                return outbox.retry_all(tx)
            return outbox.retry(tx, [queries.find(tx.connection, event_id) for event_id in event_ids])

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read the ledger as any SQLite tool does."""
        return read(self.ledger.path, query, *parameters)

    def audit(self) -> None:
        """After a run: the books balance, and nothing is in anybody's hands."""
        self.check_books()
        assert self.sql("SELECT * FROM leases") == []

    def check_books(self) -> None:
        """The counters are right, nothing is overlooked, and no event has two issues of ours."""
        recount = Counter(self.sql("SELECT state, coalesce(backend, ''), target_repo FROM tasks"))
        tallies = {row[:3]: row[3] for row in self.sql("SELECT state, backend, target_repo, n FROM tallies WHERE n")}
        assert tallies == recount
        blocks = set(self.sql("SELECT value, block FROM facets WHERE facet = 'state'"))
        assert {(state, seq // facets.BLOCK) for seq, state in self.sql("SELECT seq, state FROM tasks")} <= blocks
        assert doubled(self.tracker) == {}
        # A doubt and an attempt whose outcome nobody knows are one thing, written down twice.
        in_doubt = {row[0] for row in self.sql("SELECT seq FROM tasks WHERE in_doubt_since IS NOT NULL")}
        open_ = "SELECT DISTINCT seq FROM attempts WHERE outcome IS NULL OR outcome = 'unknown'"
        assert {row[0] for row in self.sql(open_)} == in_doubt


def read(ledger: Path, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows, by a connection that has nothing to do with ours."""
    with closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query, parameters).fetchall()


def doubled(tracker: Tracker) -> dict[str, int]:
    """The events for which our account made more than one issue."""
    made = Counter(issue.event_id for issue in tracker.issues() if issue.account == ACCOUNT)
    return {event_id: n for event_id, n in made.items() if n > 1}
