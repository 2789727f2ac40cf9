"""Tasks: stored once under their event ID."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from issue_core.ledger import facets, facts
from issue_core.ledger.rows import put
from issue_core.task import Accepted, TaskState, Transport

if TYPE_CHECKING:
    from issue_core.ledger import Transaction

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_INSERT = """
    INSERT OR IGNORE INTO tasks (
        event_id, title, description, target_repo, priority, labels, due_in_days, source_type, source_id,
        activity_definition_id, extra, digest, due_date, transport_detail, state, in_doubt_since, transport, created_at,
        run
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM tasks"

_SEEN = """
    SELECT event_id, seq, digest, state FROM tasks
    WHERE event_id IN (SELECT value FROM json_each(:event_ids))
"""

_TALLY = """
    INSERT INTO tallies (state, backend, target_repo, n) VALUES (?, '', ?, ?)
    ON CONFLICT DO UPDATE SET n = n + excluded.n
"""

# The first sighting is not written down: it is in the column transport.
_SIGHT = """
    UPDATE tasks SET sightings = json_set(
        coalesce(sightings, json_object(transport, 1)),
        '$.' || :transport,
        coalesce(json_extract(coalesce(sightings, json_object(transport, 1)), '$.' || :transport), 0) + 1
    ) WHERE seq = :seq
"""

_RECEIVED = """
    INSERT INTO received (transport, outcome, n) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET n = n + excluded.n
"""

_RENEW_DIGEST = "UPDATE tasks SET digest = :digest WHERE seq = :seq"


class Stored(NamedTuple):
    """What stands in the ledger under a document's event ID, and whether this very document put it there."""

    seq: int
    state: TaskState
    digest: bytes
    created: bool


def store(tx: Transaction, accepted: Sequence[Accepted], transport: Transport) -> list[Stored]:
    """Store each task that is not there yet; say for every one what stands under its event ID.

    The unique index decides. Of two with one event ID in a batch the first is stored.
    """
    if not accepted:
        return []
    connection = tx.connection
    state, doubt = _beginning(tx)
    written = put(connection, _INSERT, _rows(tx, accepted, transport, state, doubt))
    new = written.rowcount if written else 0
    # What this batch has stored are the newest rows: nobody else writes meanwhile, and no row is ever deleted.
    last = connection.execute(_LAST_SEQ).fetchone()[0] - new
    if new == len(accepted):
        stored = [Stored(seq, state, item.digest, True) for seq, item in enumerate(accepted, last + 1)]
        created = [item.spec for item in accepted]
    else:
        stored = _told_apart(tx, accepted, last)
        created = [item.spec for item, found in zip(accepted, stored, strict=True) if found.created]
    if created:
        facets.add(tx, last + 1, state, created)
        by_repo = Counter(spec.target_repo for spec in created)
        put(connection, _TALLY, ((state, repo, n) for repo, n in by_repo.items()))
    return stored


def _beginning(tx: Transaction) -> tuple[TaskState, str | None]:
    """The state in which a task begins, and since when it is in doubt, if it is: see ledger/claims.py, copies.py."""
    known = facts.read_all(tx.connection)
    doubt = known[facts.DOUBT_SINCE] if known.get(facts.DOUBT_UNTIL, "") > tx.now else None
    return "held" if facts.CLAIMS_SINCE in known else "pending", doubt


def _rows(
    tx: Transaction, accepted: Sequence[Accepted], transport: Transport, state: TaskState, doubt: str | None
) -> list[tuple[object, ...]]:
    today = tx.moment.date()
    spans = {spec.due_in_days for _, spec, _, _ in accepted}
    due = {None: None} | {days: (today + timedelta(days)).isoformat() for days in spans if days is not None}
    tail = (state, doubt, transport, tx.now, tx.run)
    return [
        (
            event_id,
            title,
            description,
            repo,
            priority,
            _labels(tuple(labels)) if labels else "[]",
            days,
            source_type,
            source_id,
            definition_id,
            _to_json(extra) if extra else None,
            digest,
            due[days],
            _to_json(document.meta) if document.meta else None,
            *tail,
        )
        for document, spec, digest, _ in accepted
        for (
            event_id,
            title,
            description,
            repo,
            priority,
            labels,
            days,
            source_type,
            source_id,
            definition_id,
            extra,
        ) in (spec,)
    ]


# An emitter gives the same few sets of labels again and again.
@lru_cache(maxsize=1024)
def _labels(labels: tuple[str, ...]) -> str:
    return _to_json(labels)


def _told_apart(tx: Transaction, accepted: Sequence[Accepted], last: int) -> list[Stored]:
    event_ids = json.dumps([item.spec.event_id for item in accepted])
    found = {row[0]: row[1:] for row in tx.connection.execute(_SEEN, {"event_ids": event_ids})}
    met: set[str] = set()
    stored = []
    for item in accepted:
        seq, digest, state = found[item.spec.event_id]
        created = seq > last and item.spec.event_id not in met
        met.add(item.spec.event_id)
        stored.append(Stored(seq, state, digest, created))
    return stored


def sight(tx: Transaction, seq: int, transport: Transport) -> None:
    """Count that task ``seq`` was seen once more."""
    tx.connection.execute(_SIGHT, {"seq": seq, "transport": transport})


def renew_digest(tx: Transaction, seq: int, digest: bytes) -> None:
    """Keep the digest that today's rules give to a task that an earlier release stored."""
    tx.connection.execute(_RENEW_DIGEST, {"seq": seq, "digest": digest})


def count_received(tx: Transaction, transport: Transport, outcomes: dict[str, int]) -> None:
    """Add to the number of receipts ever given, by transport and outcome."""
    put(tx.connection, _RECEIVED, ((transport, outcome, n) for outcome, n in outcomes.items()))
