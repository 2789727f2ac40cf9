"""A dry run of ingest: what would be new, without a write to the ledger."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

from issue_core.ledger import Ledger, queries
from issue_core.ledger.connection import translated
from issue_core.task import Accepted, Spec, TaskState

_IN_LEDGER = "SELECT seq, digest, state FROM tasks WHERE event_id = :event_id"
_MEET = "INSERT OR IGNORE INTO met VALUES (:event_id, :digest, :spec)"
_MET = "SELECT digest, spec FROM met WHERE event_id = :event_id"


class Found(NamedTuple):
    """What stands under an event ID: ``seq`` and ``state`` are ``None`` for what this dry run alone has met."""

    seq: int | None
    state: TaskState | None
    digest: bytes
    spec: Spec


class Rehearsal:
    """Remembers what a dry run has met so far, in a private temporary database that moves to disk as it grows."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._met = sqlite3.connect("", isolation_level=None)
        self._met.execute("CREATE TABLE met (event_id TEXT PRIMARY KEY, digest BLOB, spec TEXT) WITHOUT ROWID")

    def meet(self, item: Accepted) -> Found | None:
        """What stands under the event ID of ``item`` already; ``None`` if it would be created."""
        event_id = item.spec.event_id
        with self._ledger.read() as connection:
            row = connection.execute(_IN_LEDGER, {"event_id": event_id}).fetchone()
            if row is not None:
                seq, digest, state = row
                return Found(seq, state, digest, queries.spec_of(queries.task(connection, seq)))
        parameters = {"event_id": event_id, "digest": item.digest, "spec": json.dumps(item.spec)}
        with translated(Path(gettempdir())):
            if self._met.execute(_MEET, parameters).rowcount:
                return None
            digest, spec = self._met.execute(_MET, parameters).fetchone()
        return Found(None, None, digest, Spec(*json.loads(spec)))

    def close(self) -> None:
        """Forget what was met."""
        self._met.close()
