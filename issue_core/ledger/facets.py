"""Which stretches of the ledger may hold a task in a certain state, or with a certain repo, priority, source or label.

An index row for every task and every value would double the work of storing a task. Tasks are read by ``seq``, so
it is enough to know the *blocks* of :data:`BLOCK` consecutive seqs that may hold a value (PostgreSQL calls this a
block range index): a batch of thousands adds a handful of rows, and a query reads only the blocks that can hold an
answer. All values but the state stay as they are; a block that has no task left in a state is forgotten by sync,
which is the one to walk through them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from issue_core.ledger.rows import put
from issue_core.task import Spec, TaskState

if TYPE_CHECKING:
    from issue_core.ledger import Transaction

BLOCK = 1024

MOST_NOTED = 10_000
"""So many rows are remembered as written, at most."""

_ADD = "INSERT OR IGNORE INTO facets (facet, value, block) VALUES (?, ?, ?)"

_ADD_TIME = """
    INSERT INTO blocks (block, first_at, last_at) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)
    WHERE excluded.first_at < first_at OR excluded.last_at > last_at
"""

_BLOCKS_OF = "SELECT block FROM facets WHERE facet = :facet AND value = :value"
_BLOCKS_SINCE = "SELECT block FROM blocks WHERE last_at >= :value"
_BLOCKS_UNTIL = "SELECT block FROM blocks WHERE first_at < :value"

# SQLite would walk the whole table to find the few that are in doubt.
_BLOCKS_IN_DOUBT = """
    SELECT DISTINCT seq / :size FROM tasks INDEXED BY tasks_in_doubt WHERE in_doubt_since IS NOT NULL
"""

_FORGET = "DELETE FROM facets WHERE facet = 'state' AND value = :state AND block = :block"

_STILL_THERE = "SELECT 1 FROM tasks WHERE seq BETWEEN :low AND :high AND state = :state LIMIT 1"

FACETS = ("state", "repo", "priority", "source", "source_type", "label")


def add(tx: Transaction, first_seq: int, state: TaskState, specs: Sequence[Spec]) -> None:
    """Note the values of new tasks, which have the seqs from ``first_seq`` on, one after the other."""
    start = 0
    while start < len(specs):
        block = (first_seq + start) // BLOCK
        end = min((block + 1) * BLOCK - first_seq, len(specs))
        # A state's row may be forgotten by sync at any time. All others stay: what was noted once need not be again.
        new = {row for row in _values(block, specs[start:end]) if row not in tx.noted}
        put(tx.connection, _ADD, [("state", state, block), *new])
        hour = ("", tx.now[:13], block)
        if hour not in tx.noted:
            tx.connection.execute(_ADD_TIME, (block, *_hour(tx.now)))
            new.add(hour)
        _note(tx.noted, new)
        start = end


def _note(noted: set[tuple[str, str, int]], new: set[tuple[str, str, int]]) -> None:
    if len(noted) > MOST_NOTED:
        noted.clear()
    noted |= new


def _hour(now: str) -> tuple[str, str]:
    """The first and the last moment of the hour: a block's bounds may be wider than they must, and a page of the
    ledger is written once an hour for them and not once a commit."""
    return f"{now[:14]}00:00.000Z", f"{now[:14]}59:59.999Z"


def add_state(tx: Transaction, seq: int, state: TaskState) -> None:
    """Note that task ``seq`` is in ``state`` now."""
    tx.connection.execute(_ADD, ("state", state, seq // BLOCK))


def forget_empty(tx: Transaction, state: TaskState, block: int) -> None:
    """Forget that ``block`` may hold a task in ``state``, if it holds none."""
    bounds = {"low": block * BLOCK, "high": block * BLOCK + BLOCK - 1}
    if tx.connection.execute(_STILL_THERE, {**bounds, "state": state}).fetchone() is None:
        tx.connection.execute(_FORGET, {"state": state, "block": block})


def _values(block: int, specs: Iterable[Spec]) -> Iterator[tuple[str, str, int]]:
    yield from (("repo", repo, block) for repo in {spec.target_repo for spec in specs})
    yield from (("priority", priority, block) for priority in {spec.priority for spec in specs})
    yield from (("source", source, block) for source in {spec.source_id for spec in specs})
    yield from (("source_type", kind, block) for kind in {spec.source_type for spec in specs})
    labels = {label for spec in specs for label in spec.labels}
    yield from (("label", label, block) for label in {label.casefold() for label in labels})


def ranges(
    connection: sqlite3.Connection, asked: Mapping[str, Any], *, newest_first: bool
) -> Iterator[tuple[int, int]]:
    """The ranges of seq (first, last) that can hold a task with all the values asked for, in the order to read them."""
    found: set[int] | None = None
    for facet, value in asked.items():
        if (query := _query_for(facet)) is None:
            continue
        key = value.casefold() if facet == "label" else value
        blocks = {row[0] for row in connection.execute(query, {"facet": facet, "value": key, "size": BLOCK})}
        found = blocks if found is None else found & blocks
    if found is None:
        yield 0, 2**62
        return
    for block in sorted(found, reverse=newest_first):
        yield block * BLOCK, block * BLOCK + BLOCK - 1


def _query_for(name: str) -> str | None:
    if name in FACETS:
        return _BLOCKS_OF
    times = {"created_since": _BLOCKS_SINCE, "created_until": _BLOCKS_UNTIL}
    return {**times, "in_doubt": _BLOCKS_IN_DOUBT}.get(name)
