"""The outbox: what is due, who works on it, which attempts were made and what became of them.

The order of events makes one issue a task: a lease and an attempt are committed before a request leaves, and with
them the task is *in doubt*. Only a known outcome ends the doubt: the tracker's answer, or a settled look.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from issue_core.ledger import claims, facets, facts, history, queries, rows
from issue_core.task import Task, TaskState, from_text

if TYPE_CHECKING:
    from issue_core.ledger import Ledger, Transaction

_PENDING_BLOCKS = "SELECT block FROM facets WHERE facet = 'state' AND value = 'pending' ORDER BY block"

_PENDING = """
    SELECT seq, event_id, target_repo, created_at, backend, attempts, next_attempt_at, in_doubt_since, last_error
    FROM tasks WHERE seq BETWEEN :low AND :high AND state = 'pending' ORDER BY seq
"""

# Without the hint SQLite walks the whole table by seq to find the few that are in doubt.
_IN_DOUBT = """
    SELECT seq, event_id, target_repo, created_at, backend, attempts, next_attempt_at, in_doubt_since, last_error
    FROM tasks INDEXED BY tasks_in_doubt
    WHERE in_doubt_since IS NOT NULL AND state = 'pending' AND seq > :after ORDER BY seq LIMIT :limit
"""

_BACKENDS_IN_DOUBT = "SELECT DISTINCT backend FROM tasks WHERE in_doubt_since IS NOT NULL AND state = 'pending'"

_PLACES_IN_DOUBT = """
    SELECT DISTINCT attempts.backend, attempts.project
    FROM tasks INDEXED BY tasks_in_doubt JOIN attempts ON attempts.seq = tasks.seq
    WHERE in_doubt_since IS NOT NULL AND state = 'pending' AND (outcome IS NULL OR outcome = 'unknown')
"""

_STANDING = "SELECT state, next_attempt_at, in_doubt_since FROM tasks WHERE seq = :seq"

_LEASE = "SELECT owner, until FROM leases WHERE seq = :seq"
_OWNERS = "SELECT DISTINCT owner FROM leases WHERE owner <> :me"
_TAKE_LEASE = "INSERT OR REPLACE INTO leases (seq, owner, attempt_id, until) VALUES (:seq, :owner, :attempt_id, :until)"
_RENEW = "UPDATE leases SET until = :until WHERE owner = :owner AND seq IN (SELECT value FROM json_each(:seqs))"
_FREE = "DELETE FROM leases WHERE owner = :owner OR until < :running RETURNING seq"

_START = """
    INSERT INTO attempts (seq, backend, address, project, account, started_at, boot, running, look_after, run)
    VALUES (:seq, :backend, :address, :project, :account, :now, :boot, :running, :look_after, :run)
"""

_DOUBT = """
    UPDATE tasks SET backend = :backend, in_doubt_since = :since, next_attempt_at = NULL, updated_at = :now
    WHERE seq = :seq
"""

_ROUTE = "UPDATE tasks SET backend = :backend, updated_at = :now WHERE seq = :seq"

_UNSETTLED = """
    SELECT id, backend, address, project, account, started_at, boot, running, look_after, looks, outcome
    FROM attempts WHERE seq = :seq AND (outcome IS NULL OR outcome = 'unknown') ORDER BY id
"""

# A restore makes an attempt possible that the ledger does not know of: at first there is none on record for it.
_LAST_RESTORED_OR_ASSUMED = """
    SELECT kind FROM history WHERE seq = :seq AND kind IN ('restored', 'assumed') ORDER BY n DESC LIMIT 1
"""

_RESTART = """
    UPDATE attempts SET started_at = :now, boot = :boot, running = :running, look_after = :look_after WHERE id = :id
"""
_RESTART_LEASE = "UPDATE leases SET until = :until WHERE seq = :seq AND owner = :owner AND attempt_id = :id"

_RETRY = """
    UPDATE tasks SET state = :state, attempts = 0, next_attempt_at = NULL, updated_at = :now WHERE seq = :seq
"""

_CAN_BE_RETRIED = """
    SELECT seq, state, in_doubt_since FROM tasks
    WHERE seq BETWEEN :low AND :high AND (state = 'failed' OR (state = 'pending' AND next_attempt_at IS NOT NULL))
"""

_BLOCKS_TO_RETRY = """
    SELECT DISTINCT block FROM facets WHERE facet = 'state' AND value IN ('failed', 'pending') ORDER BY block
"""


WRONG_CLOCK = timedelta(days=7)
"""How far back an attempt is looked for when only a wrong clock knows when it began."""


class Waiting(NamedTuple):
    """A pending task, as far as sync needs it to decide."""

    seq: int
    event_id: str
    target_repo: str
    created_at: str
    backend: str | None
    attempts: int
    next_attempt_at: str | None
    in_doubt_since: str | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Where:
    """Where an attempt goes or went, as it is written down: backend, its address, the project, the account."""

    backend: str
    address: str
    project: str
    account: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that was written down.

    On the running clock: its request must be over by ``deadline``, and the lease covers it until ``until``.
    """

    id: int
    task: Task
    where: Where
    owner: str
    deadline: float
    until: float


@dataclass(frozen=True, slots=True)
class Times:
    """How long an attempt's request may take, how long the tracker may need after that, how long the lease is: seconds.

    A request that is cut off has had its effect, if any, ``timeout + settle`` seconds after its attempt began.
    """

    timeout: float
    settle: float
    lease: float


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An attempt whose outcome nobody knows. ``cut_off``: no error was seen, its worker died.

    It began at ``since`` by today's clock, or later, and at ``began`` on this boot's running clock, or earlier. It may
    be looked for ``look_in`` seconds from the time it was read (0 or less: now).
    """

    id: int
    where: Where
    since: datetime
    began: float
    looks: int
    cut_off: bool
    look_in: float


def pending_pages(ledger: Ledger) -> Iterator[tuple[int, list[Waiting]]]:
    """Every pending task by rising seq, a block of seqs at a time: (block, its pending tasks)."""
    with ledger.read() as connection:
        blocks = [row[0] for row in connection.execute(_PENDING_BLOCKS)]
    for block in blocks:
        bounds = {"low": block * facets.BLOCK, "high": block * facets.BLOCK + facets.BLOCK - 1}
        with ledger.read() as connection:
            page = [_waiting(row) for row in connection.execute(_PENDING, bounds)]
        yield block, page


def in_doubt(connection: sqlite3.Connection, *, after: int, limit: int) -> list[Waiting]:
    """At most ``limit`` tasks in doubt, by rising seq, from the one behind ``after`` on."""
    return [_waiting(row) for row in connection.execute(_IN_DOUBT, {"after": after, "limit": limit})]


def _waiting(row: tuple[Any, ...]) -> Waiting:
    waiting = Waiting._make(row)
    try:
        rows.times(waiting.created_at, waiting.next_attempt_at, waiting.in_doubt_since)
    except rows.UNREADABLE as error:
        raise rows.damaged(f"task {waiting.seq}", error) from error
    return waiting


def places_in_doubt(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Backend and project of each attempt whose outcome is not known."""
    return set(connection.execute(_PLACES_IN_DOUBT))


def backends_in_doubt(connection: sqlite3.Connection) -> set[str]:
    """The backends at which some task is in doubt."""
    return {row[0] for row in connection.execute(_BACKENDS_IN_DOUBT) if row[0] is not None}


def not_before(waiting: Waiting, now: datetime) -> datetime | None:
    """When the next try of a task is due, if that is later than ``now``."""
    if waiting.next_attempt_at is None:
        return None
    at = from_text(waiting.next_attempt_at)
    return at if at > now else None


def free_the_dead(tx: Transaction, me: str, running: float, is_alive: Callable[[str], bool]) -> set[int]:
    """End the leases of workers that are dead, and those that ran out by the running clock; gives the tasks' seqs."""
    dead = [owner for owner in owners(tx.connection, me) if not is_alive(owner)]
    freed: set[int] = set()
    for owner in (None, *dead):
        freed.update(seq for (seq,) in tx.connection.execute(_FREE, {"owner": owner, "running": running}))
    return freed


def owners(connection: sqlite3.Connection, me: str) -> list[str]:
    """The other workers that hold a lease."""
    return [row[0] for row in connection.execute(_OWNERS, {"me": me})]


def is_leased(connection: sqlite3.Connection, seq: int) -> bool:
    """Whether some worker has task ``seq`` in hand."""
    return connection.execute(_LEASE, {"seq": seq}).fetchone() is not None


def begin(
    tx: Transaction, seq: int, where: Where, *, owner: str, times: Times, running: float, boot: str
) -> Attempt | None:
    """Lease task ``seq`` and write an attempt down; with it the task is in doubt.

    ``None``: the task is no longer due, or in other hands.
    """
    state, next_attempt_at, in_doubt_since = tx.connection.execute(_STANDING, {"seq": seq}).fetchone()
    if state != "pending" or in_doubt_since or (next_attempt_at and next_attempt_at > tx.now):
        return None
    if is_leased(tx.connection, seq):
        return None
    deadline = running + times.timeout
    attempt_id = _start(tx, seq, where, look_after=deadline + times.settle, running=running, boot=boot)
    tx.connection.execute(_DOUBT, {"seq": seq, "backend": where.backend, "since": tx.now, "now": tx.now})
    history.add(tx, seq, "attempt", attempt=attempt_id, backend=where.backend, project=where.project)
    until = running + times.lease
    tx.connection.execute(_TAKE_LEASE, {"seq": seq, "owner": owner, "attempt_id": attempt_id, "until": until})
    return Attempt(attempt_id, queries.task(tx.connection, seq), where, owner, deadline, until)


def restart(tx: Transaction, attempt: Attempt, *, times: Times, running: float, boot: str) -> Attempt | None:
    """Let an attempt whose request was not sent yet begin now; ``None``: its lease is no longer ours."""
    until = running + times.lease
    lease = {"seq": attempt.task.seq, "owner": attempt.owner, "id": attempt.id, "until": until}
    if tx.connection.execute(_RESTART_LEASE, lease).rowcount != 1:
        return None
    deadline = running + times.timeout
    parameters = {"id": attempt.id, "now": tx.now, "boot": boot, "running": running}
    tx.connection.execute(_RESTART, {**parameters, "look_after": deadline + times.settle})
    return replace(attempt, deadline=deadline, until=until)


def _start(tx: Transaction, seq: int, where: Where, *, look_after: float, running: float, boot: str) -> int:
    parameters = {
        "seq": seq,
        "backend": where.backend,
        "address": where.address,
        "project": where.project,
        "account": where.account,
        "now": tx.now,
        "boot": boot,
        "running": running,
        "look_after": look_after,
        "run": tx.run,
    }
    attempt_id: int = tx.connection.execute(_START, parameters).lastrowid  # type: ignore[assignment] # an INSERT has one
    return attempt_id


def lease_to_look(tx: Transaction, seq: int, attempts: Sequence[Unsettled], *, owner: str, until: float) -> bool:
    """Lease task ``seq`` for a look for ``attempts``.

    ``False``: it is in other hands, or its doubt is another one by now: somebody looked or tried meanwhile.
    """
    if not _is_in_doubt(tx, seq) or is_leased(tx.connection, seq):
        return False
    now = [(row[0], row[-2]) for row in tx.connection.execute(_UNSETTLED, {"seq": seq})]
    if now != [(attempt.id, attempt.looks) for attempt in attempts]:
        return False
    tx.connection.execute(_TAKE_LEASE, {"seq": seq, "owner": owner, "attempt_id": None, "until": until})
    return True


def _is_in_doubt(tx: Transaction, seq: int) -> bool:
    state, _, in_doubt_since = tx.connection.execute(_STANDING, {"seq": seq}).fetchone()
    return state == "pending" and in_doubt_since is not None


def renew(tx: Transaction, seqs: Sequence[int], *, owner: str, until: float) -> None:
    """Keep the leases on ``seqs`` until ``until``, while a long listing runs."""
    tx.connection.execute(_RENEW, {"seqs": f"[{','.join(map(str, seqs))}]", "owner": owner, "until": until})


def unsettled(
    connection: sqlite3.Connection, seq: int, *, now: datetime, running: float, boot: str, longest: float
) -> list[Unsettled]:
    """The attempts of task ``seq`` whose outcome is not known, oldest first.

    How long ago one began is measured on the running clock, which no correction of the time can move. After a restart
    it is at least as long as the machine has been up; what is left of a wait, of ``longest`` seconds at most, is
    waited for from then on.
    """
    booted_at = now - timedelta(seconds=running)
    found = []
    for row in connection.execute(_UNSETTLED, {"seq": seq}):
        (attempt_id, backend, address, project, account, started, its_boot, began, look_after, looks, outcome) = row
        same_boot = boot == its_boot and running >= began
        at_the_latest = began if same_boot else 0.0
        elapsed = running - at_the_latest
        since = min(from_text(started), now - timedelta(seconds=elapsed))
        if not same_boot and from_text(started) > booted_at:
            # It began before this boot, so the clock was wrong then, or is now, and nobody knows by how much.
            since = booted_at - WRONG_CLOCK
        where = Where(backend, address, project, account)
        wait = look_after - began if same_boot else min(look_after - began, longest)
        found.append(Unsettled(attempt_id, where, since, at_the_latest, looks, outcome is None, wait - elapsed))
    return found


def is_explained(connection: sqlite3.Connection, seq: int) -> bool:
    """Whether attempts on record are all that there is to the doubt of task ``seq``."""
    if connection.execute(_UNSETTLED, {"seq": seq}).fetchone() is None:
        return False
    last = connection.execute(_LAST_RESTORED_OR_ASSUMED, {"seq": seq}).fetchone()
    return last is None or last[0] == "assumed"


def assume_attempt(tx: Transaction, seq: int, where: Where, *, wait: float, running: float, boot: str) -> None:
    """Write down that an attempt may have been made which the ledger does not know of: task ``seq`` is in doubt.

    It may be looked for in ``wait`` seconds. Nothing is written where there is no such doubt any more, or attempts that
    explain it.
    """
    if not _is_in_doubt(tx, seq) or is_explained(tx.connection, seq):
        return
    attempt_id = _start(tx, seq, where, look_after=running + wait, running=running, boot=boot)
    tx.connection.execute(_ROUTE, {"seq": seq, "backend": where.backend, "now": tx.now})
    history.add(tx, seq, "assumed", attempt=attempt_id, backend=where.backend, project=where.project)


def wait_after_restore(connection: sqlite3.Connection, now: datetime, longest: float) -> float:
    """Seconds until a tracker must be done with what was sent before the ledger was restored; it needs ``longest``."""
    restored_at = facts.read(connection, facts.RESTORED_AT)
    if restored_at is None:
        return 0.0
    return min(longest, max(0.0, longest - (now - from_text(restored_at)).total_seconds()))


# --- by a person -----------------------------------------------------------------------------------------------------


def retry(tx: Transaction, seqs: Iterable[int]) -> int:
    """Make failed tasks pending again and waiting ones due now; gives how many were. Ends no doubt."""
    changed = 0
    for seq in seqs:
        changed += _retry_between(tx, seq, seq)
    return changed


def retry_all(tx: Transaction) -> int:
    """:func:`retry` for every task that is failed or waits for its next try."""
    blocks = [row[0] for row in tx.connection.execute(_BLOCKS_TO_RETRY)]
    return sum(_retry_between(tx, block * facets.BLOCK, block * facets.BLOCK + facets.BLOCK - 1) for block in blocks)


def _retry_between(tx: Transaction, low: int, high: int) -> int:
    found = tx.connection.execute(_CAN_BE_RETRIED, {"low": low, "high": high}).fetchall()
    for seq, state, in_doubt_since in found:
        # A doubt is settled first, and a look needs no claim.
        again: TaskState = "pending" if in_doubt_since else claims.state_to_try_again(tx, seq)
        tx.connection.execute(_RETRY, {"seq": seq, "state": again, "now": tx.now})
        facets.add_state(tx, seq, again)
        history.add(tx, seq, "retry", was=state)
    return len(found)
