"""Records a ledger of today's schema as text: ``python -m tests.migration.record``.

It writes ``ledger-v<N>.sql``, which makes the ledger again, and ``ledger-v<N>.json``: what can be read in it.
Once a schema is released its two files are never written again: they stand for the ledgers that people have.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from issue_core.ingestion import ingest, replay
from issue_core.ledger import Ledger, history, metrics, outbox, outcomes, queries, rejects, schema
from issue_core.task import Document, Oversize, Place, to_text
from tests.support.clock import MovedClock
from tests.support.specs import a_spec, an_event_id, written

HERE = Path(__file__).parent


def sql_of(version: int) -> Path:
    """The recorded ledger of a schema."""
    return HERE / f"ledger-v{version}.sql"


def reading_of(version: int) -> Path:
    """What could be read in it by the release that recorded it."""
    return HERE / f"ledger-v{version}.json"


def make(path: Path) -> None:
    """A ledger in which a little of everything has happened, always the same."""
    clock = MovedClock()
    with Ledger(path, clock=clock, run="recorded") as ledger:
        specs = [a_spec(triggering_event_id=an_event_id(n), source_id=f"rule-{n % 3}") for n in range(8)]
        specs[1] |= {
            "labels": ["Ops", "straße"],
            "priority": "high",
            "description": "# Why\n\n«é» 😀\n",
            "due_in_days": 9,
        }
        specs[2] |= {
            "team": {"on_call": [1, 2.5, None, 2**70]},
            "activity_definition_id": "a-7",
            "target_repo": "notes",
        }
        ingest(ledger, [Document(written(spec), Place("in.ndjson", n)) for n, spec in enumerate(specs, 1)])
        clock.move(90_000)
        meta = {"stream": "ACT_TASKS", "sequence": 7}
        more = [
            written(specs[1]),
            written(specs[2] | {"title": "other"}),
            written(a_spec(triggering_event_id=an_event_id(9))),
        ]
        ingest(ledger, [Document(raw, meta=meta) for raw in more], transport="nats")
        ingest(ledger, [b"{", b'{"title": "\xff"}', b"{"], transport="rest")
        ingest(ledger, [Document(b"{" * 100, Place("big", 1), Oversize(2_000_000, "ab" * 32, 1_048_576))])
        ingest(ledger, [written(specs[0] | {"title": "a second task"})])
        replay(ledger, 5, as_new=True)
        clock.move(60)
        _sync_some(ledger, clock)


def _sync_some(ledger: Ledger, clock: MovedClock) -> None:
    issue = {"id": "41", "url": "https://git.example.org/acme/web/issues/41", "project": "acme/web"}
    with ledger.write() as tx:
        outcomes.link(tx, 1, "work", issue=issue, notes=["no such label: ops"], adopted=False, attempt=None)
        outcomes.fail(tx, 2, "refused", "422: title is too long", doubt_ends=True, tries=1)
        outcomes.fail(tx, 3, "refused", "422: no", doubt_ends=True, tries=1)
        outbox.retry(tx, [3])
        later = clock.now() + timedelta(minutes=5)
        tx.connection.execute("UPDATE tasks SET next_attempt_at = ? WHERE seq = 4", (to_text(later),))
        rejects.close(tx, 2, "dropped")
    _attempt_some(ledger, clock)


def _attempt_some(ledger: Ledger, clock: MovedClock) -> None:
    where = outbox.Where("work", "https://git.example.org", "acme/web", "bot")
    began: dict[str, Any] = {
        "owner": "worker",
        "times": outbox.Times(30.0, 30.0, 120.0),
        "running": clock.running(),
        "boot": clock.boot(),
    }
    issue = {"id": "42", "url": "https://git.example.org/acme/web/issues/42", "project": "acme/web"}
    with ledger.write() as tx:
        made, lost, _under_way = (outbox.begin(tx, seq, where, **began) for seq in (5, 6, 7))
        assert made is not None
        assert lost is not None
        outcomes.succeed(tx, made, issue=issue, notes=(), adopted=False)
        outcomes.leave_in_doubt(tx, lost, "the connection broke")


def as_sql(path: Path) -> str:
    """The ledger at ``path`` as the statements that make it again."""
    with closing(sqlite3.connect(path)) as connection:
        pragmas = [
            f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version", "journal_mode")
        ]
        return "\n".join(["-- python -m tests.migration.record", *pragmas, *connection.iterdump()]) + "\n"


def lay(version: int, path: Path) -> None:
    """Make the recorded ledger of a schema again, at ``path``."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(sql_of(version).read_text())


def reading(path: Path) -> dict[str, Any]:
    """All that can be read in the ledger at ``path``."""
    with Ledger(path) as ledger, ledger.read() as connection:
        tasks = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=False))
        kept = [rejects.get(connection, reject.id) for reject in rejects.page(connection, state=None, limit=1000)]
        found = {
            "tasks": [task.to_json() for task in tasks],
            "history": [[entry.to_json() for entry in history.of_task(connection, task.seq)] for task in tasks],
            "rejects": [reject.to_json() | {"raw": reject.text} for reject in kept],
            "counts": queries.counts(connection)._asdict(),
            "attempts": [[*which, n] for which, n in metrics.attempts(connection).items()],
        }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def main() -> None:
    """Record today's schema."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        make(path)
        sql_of(schema.SCHEMA_VERSION).write_text(as_sql(path))
        reading_of(schema.SCHEMA_VERSION).write_text(json.dumps(reading(path), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
