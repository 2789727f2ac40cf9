"""Whose a task is, where several ledgers take the same ones: ``held`` until its claim is known.

A ledger that was marked stays so. Its new tasks are ``held``, which sync never touches; so is what was pending when it
was marked, and in no doubt: of that there is no issue. The claim then makes a task ``pending`` here, or ``elsewhere``:
another ledger makes its issue. What is of before and not claimed yet is held when it would be tried again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from issue_core.ledger import facets, facts, history
from issue_core.task import TaskState

if TYPE_CHECKING:
    from issue_core.ledger import Ledger, Transaction

_BLOCKS = "SELECT block FROM facets WHERE facet = 'state' AND value = :state ORDER BY block"

_HELD = "SELECT seq, event_id, digest FROM tasks WHERE seq BETWEEN :low AND :high AND state = 'held' ORDER BY seq"

_UNDER_WAY = """
    SELECT seq, event_id, digest FROM tasks
    WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state <> 'elsewhere' ORDER BY seq
"""

_COUNT_HELD = "SELECT coalesce(sum(n), 0) FROM tallies WHERE state = 'held'"

# One that is in doubt without an attempt on record is of a ledger that was restored: nothing is under way.
_HOLD = """
    UPDATE tasks SET state = 'held', updated_at = :now
    WHERE seq BETWEEN :low AND :high AND state = 'pending'
    AND (in_doubt_since IS NULL OR NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.seq = tasks.seq))
    RETURNING seq
"""

_RELEASE = """
    UPDATE tasks SET state = 'pending', updated_at = :now, in_doubt_since = coalesce(in_doubt_since, :doubt)
    WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'held' RETURNING seq
"""

_CEDE = """
    UPDATE tasks SET state = 'elsewhere', updated_at = :now, in_doubt_since = NULL
    WHERE seq = :seq AND (state = 'held' OR (state = 'pending' AND in_doubt_since IS NULL))
"""

_IS_CLAIMED = "SELECT 1 FROM history WHERE seq = :seq AND kind = 'claimed'"

_STATE = "SELECT state FROM tasks WHERE seq = :seq"

_CONTESTED = """
    SELECT 1 FROM history WHERE seq = :seq AND kind = 'contested' AND json_extract(detail, '$.ledger') = :ledger
"""


class Claimable(NamedTuple):
    """A task as far as its claim goes. ``digest`` is the SHA-256 of its content."""

    seq: int
    event_id: str
    digest: bytes


class Identity(NamedTuple):
    """Under which ID this ledger claims, and under which ones it did before it was restored from a backup."""

    own: str
    former: frozenset[str]


def is_marked(connection: sqlite3.Connection) -> bool:
    """Whether the tasks of this ledger must be claimed."""
    return facts.read(connection, facts.CLAIMS_SINCE) is not None


def identity(connection: sqlite3.Connection) -> Identity | None:
    """The IDs of a marked ledger; None where it is not marked."""
    own = facts.read(connection, facts.LEDGER_ID)
    return Identity(own, frozenset(_former(connection))) if own else None


def every_id(connection: sqlite3.Connection) -> list[str]:
    """The IDs under which this ledger claims or ever has, the oldest first."""
    own = facts.read(connection, facts.LEDGER_ID)
    return [*_former(connection), *([own] if own else [])]


def take_a_new_id(connection: sqlite3.Connection, inherited: Sequence[str]) -> None:
    """Claim under another ID from now on, if tasks are claimed here: the old one may be in use by who was copied.

    Its own ID so far becomes a former one; so do those ``inherited`` from the ledger in whose place it comes.
    """
    if former := list(dict.fromkeys([*every_id(connection), *inherited])):
        facts.write(connection, facts.FORMER_LEDGER_IDS, json.dumps(former))
    if is_marked(connection):
        facts.write(connection, facts.LEDGER_ID, str(uuid4()))


def mark(tx: Transaction) -> None:
    """Let every task of this ledger be claimed from now on, for good; what waits and is in no doubt is ``held``."""
    if is_marked(tx.connection):
        return
    facts.write(tx.connection, facts.LEDGER_ID, str(uuid4()))
    facts.write(tx.connection, facts.CLAIMS_SINCE, tx.now)
    for block in _blocks(tx.connection, "pending"):
        held = [seq for (seq,) in tx.connection.execute(_HOLD, {"now": tx.now, **_bounds(block)})]
        _note_state(tx, held, "held")
        for seq in held:
            history.add(tx, seq, "held")


def state_to_try_again(tx: Transaction, seq: int) -> TaskState:
    """In which state task ``seq`` waits for its next try: ``held``, where it must be claimed and was not yet."""
    if not is_marked(tx.connection) or tx.connection.execute(_IS_CLAIMED, {"seq": seq}).fetchone():
        return "pending"
    return "held"


def count_held(connection: sqlite3.Connection) -> int:
    """How many tasks wait for their claim."""
    n: int = connection.execute(_COUNT_HELD).fetchone()[0]
    return n


def held_pages(ledger: Ledger) -> Iterator[list[Claimable]]:
    """Every held task by rising seq, a block of seqs at a time; what holds none any more is forgotten on the way."""
    with ledger.read() as connection:
        blocks = _blocks(connection, "held")
    for block in blocks:
        with ledger.read() as connection:
            page = [Claimable(*row) for row in connection.execute(_HELD, _bounds(block))]
        if page:
            yield page
        else:
            with ledger.write() as tx:
                facets.forget_empty(tx, "held", block)


def claimable(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[Claimable]:
    """Those of ``seqs`` that are not known to be another ledger's."""
    return [Claimable(*row) for row in connection.execute(_UNDER_WAY, {"seqs": json.dumps(seqs)})]


def release(tx: Transaction, seqs: Sequence[int], *, in_doubt: bool = False) -> list[int]:
    """These are ours: the held ones among them are ``pending``; gives them.

    ``in_doubt``: the claim is older than this ledger's restoring, and their issues may be there already.
    """
    doubt = (facts.read(tx.connection, facts.DOUBT_SINCE) or tx.now) if in_doubt else None
    parameters = {"seqs": json.dumps(seqs), "now": tx.now, "doubt": doubt}
    released = sorted(seq for (seq,) in tx.connection.execute(_RELEASE, parameters))
    _note_state(tx, released, "pending")
    for seq in released:
        history.add(tx, seq, "claimed", in_doubt=in_doubt or None)
    return released


def cede(tx: Transaction, seq: int, ledger: str) -> bool:
    """Task ``seq`` is claimed by ``ledger``, which makes its issue: it is ``elsewhere``.

    ``False``: it stays as it is, for it may have its issue from here, or is ``elsewhere`` already. What may have its
    issue has an entry in its history then, since there may be two.
    """
    if tx.connection.execute(_CEDE, {"seq": seq, "now": tx.now}).rowcount:
        _note_state(tx, [seq], "elsewhere")
        history.add(tx, seq, "elsewhere", ledger=ledger)
        return True
    state = tx.connection.execute(_STATE, {"seq": seq}).fetchone()[0]
    is_noted = tx.connection.execute(_CONTESTED, {"seq": seq, "ledger": ledger}).fetchone()
    if state != "elsewhere" and not is_noted:
        history.add(tx, seq, "contested", ledger=ledger)
    return False


def _former(connection: sqlite3.Connection) -> list[str]:
    former: list[str] = json.loads(facts.read(connection, facts.FORMER_LEDGER_IDS) or "[]")
    return former


def _blocks(connection: sqlite3.Connection, state: TaskState) -> list[int]:
    return [block for (block,) in connection.execute(_BLOCKS, {"state": state})]


def _bounds(block: int) -> dict[str, int]:
    return {"low": block * facets.BLOCK, "high": block * facets.BLOCK + facets.BLOCK - 1}


def _note_state(tx: Transaction, seqs: Sequence[int], state: TaskState) -> None:
    for block in {seq // facets.BLOCK for seq in seqs}:
        facets.add_state(tx, block * facets.BLOCK, state)
