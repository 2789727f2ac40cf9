"""The outbox: what is due, who works on it, which attempts were made and what became of them.

The order of events makes one issue a task: a lease and an attempt are committed before a request leaves, and with
them the task is *in doubt*. Only a known outcome ends the doubt: the tracker's answer, or a settled look.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from issue_core.ledger import facets, history, queries
from issue_core.task import Task, TaskState, from_text, to_text

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

_STANDING = "SELECT state, next_attempt_at, in_doubt_since FROM tasks WHERE seq = :seq"

_LEASE = "SELECT owner, until FROM leases WHERE seq = :seq"
_OWNERS = "SELECT DISTINCT owner FROM leases WHERE owner <> :me"
_TAKE_LEASE = "INSERT OR REPLACE INTO leases (seq, owner, attempt_id, until) VALUES (:seq, :owner, :attempt_id, :until)"
_END_LEASE = "DELETE FROM leases WHERE seq = :seq AND owner = :owner AND attempt_id IS :attempt_id"
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

_END_ATTEMPT = "UPDATE attempts SET outcome = :outcome, ended_at = :now, error = :error WHERE id = :attempt_id"

_UNSETTLED = """
    SELECT id, backend, address, project, account, started_at, boot, running, look_after, looks, outcome
    FROM attempts WHERE seq = :seq AND (outcome IS NULL OR outcome = 'unknown') ORDER BY id
"""

_RESTART = """
    UPDATE attempts SET started_at = :now, boot = :boot, running = :running, look_after = :look_after WHERE id = :id
"""
_RESTART_LEASE = "UPDATE leases SET until = :until WHERE seq = :seq AND owner = :owner AND attempt_id = :id"

_LOOKED = (
    "UPDATE attempts SET looks = looks + 1, look_after = :look_after, boot = :boot, running = :running WHERE id = :id"
)

_MOVE = """
    UPDATE tasks SET
        state = :state, updated_at = :now, attempts = attempts + :tries, next_attempt_at = :next_attempt_at,
        in_doubt_since = CASE WHEN :doubt_ends THEN NULL ELSE in_doubt_since END, last_error = :error
    WHERE seq = :seq
"""

_LINK = """
    UPDATE tasks SET
        backend = :backend, remote_id = :id, remote_url = :url, remote_project = :project, synced_at = :now
    WHERE seq = :seq
"""

_ATTEMPTS = "SELECT attempts FROM tasks WHERE seq = :seq"

_RETRY = """
    UPDATE tasks SET state = 'pending', attempts = 0, next_attempt_at = NULL, updated_at = :now WHERE seq = :seq
"""

_CAN_BE_RETRIED = """
    SELECT seq, state FROM tasks
    WHERE seq BETWEEN :low AND :high AND (state = 'failed' OR (state = 'pending' AND next_attempt_at IS NOT NULL))
"""

_BLOCKS_TO_RETRY = """
    SELECT DISTINCT block FROM facets WHERE facet = 'state' AND value IN ('failed', 'pending') ORDER BY block
"""


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

    It began at ``since`` by today's clock, or later. It may be looked for ``look_in`` seconds from the time it was
    read (0 or less: now).
    """

    id: int
    where: Where
    since: datetime
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
            page = [Waiting(*row) for row in connection.execute(_PENDING, bounds)]
        yield block, page


def in_doubt(connection: sqlite3.Connection, *, after: int, limit: int) -> list[Waiting]:
    """At most ``limit`` tasks in doubt, by rising seq, from the one behind ``after`` on."""
    return [Waiting(*row) for row in connection.execute(_IN_DOUBT, {"after": after, "limit": limit})]


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


def unsettled(connection: sqlite3.Connection, seq: int, *, now: datetime, running: float, boot: str) -> list[Unsettled]:
    """The attempts of task ``seq`` whose outcome is not known, oldest first.

    How long ago one began is measured on the running clock, which no correction of the time can move. After a restart
    it is at least as long as the machine has been up.
    """
    found = []
    for row in connection.execute(_UNSETTLED, {"seq": seq}):
        (attempt_id, backend, address, project, account, started, its_boot, began, look_after, looks, outcome) = row
        elapsed = running - began if boot == its_boot and running >= began else running
        since = min(from_text(started), now - timedelta(seconds=elapsed))
        where = Where(backend, address, project, account)
        found.append(Unsettled(attempt_id, where, since, looks, outcome is None, look_after - began - elapsed))
    return found


def assume_attempt(tx: Transaction, seq: int, where: Where, *, running: float, boot: str) -> None:
    """Write down that an attempt may have been made which the ledger does not know of: task ``seq`` is in doubt.

    Nothing is written where there is no such doubt any more, or an attempt that explains it.
    """
    if not _is_in_doubt(tx, seq) or tx.connection.execute(_UNSETTLED, {"seq": seq}).fetchone():
        return
    attempt_id = _start(tx, seq, where, look_after=running, running=running, boot=boot)
    tx.connection.execute(_ROUTE, {"seq": seq, "backend": where.backend, "now": tx.now})
    history.add(tx, seq, "assumed", attempt=attempt_id, backend=where.backend, project=where.project)


# --- outcomes: each ends the lease, and is written by its owner alone ------------------------------------------------


def succeed(tx: Transaction, attempt: Attempt, *, issue: dict[str, str], notes: Sequence[str], adopted: bool) -> bool:
    """The issue is there. ``issue`` has ``id``, ``url`` and ``project``.

    ``False``: the lease was no longer ours. The issue is written into the history, for a person may have to close it.
    """
    if not _end(tx, attempt, "found" if adopted else "created", None):
        history.add(tx, attempt.task.seq, "late", attempt=attempt.id, **issue)
        return False
    link(tx, attempt.task.seq, attempt.where.backend, issue=issue, notes=notes, adopted=adopted, attempt=attempt.id)
    return True


def link(
    tx: Transaction,
    seq: int,
    backend: str,
    *,
    issue: dict[str, str],
    notes: Sequence[str],
    adopted: bool,
    attempt: int | None,
) -> None:
    """Task ``seq`` is ``synced`` with ``issue``; its doubt is over."""
    _move(tx, seq, "synced", tries=1, doubt_ends=True)
    tx.connection.execute(_LINK, {**issue, "backend": backend, "seq": seq, "now": tx.now})
    kind = "adopted" if adopted else "synced"
    history.add(tx, seq, kind, attempt=attempt, backend=backend, **issue, notes=list(notes) or None)


def give_back(tx: Transaction, attempt: Attempt, code: str, error: str) -> None:
    """The attempt had no effect and was not the task's fault: it counts for nothing."""
    if _end(tx, attempt, code, error):
        _move(tx, attempt.task.seq, "pending", doubt_ends=True, error=error)
        history.add(tx, attempt.task.seq, "deferred", attempt=attempt.id, code=code, error=error)


def try_later(
    tx: Transaction, attempt: Attempt, code: str, error: str, *, next_at: datetime, max_attempts: int
) -> bool:
    """The attempt failed, without effect. ``True``: that was the last one, the task is ``failed``."""
    if not _end(tx, attempt, code, error):
        return False
    return _count_a_try(tx, attempt.task.seq, attempt.id, code, error, next_at=next_at, max_attempts=max_attempts)


def refuse(tx: Transaction, attempt: Attempt, code: str, error: str) -> None:
    """The tracker refuses the task for good: it is ``failed``."""
    if _end(tx, attempt, code, error):
        fail(tx, attempt.task.seq, code, error, attempt=attempt.id, tries=1, doubt_ends=True)


def leave_in_doubt(tx: Transaction, attempt: Attempt, error: str) -> None:
    """Nobody knows whether the issue was made: the task stays in doubt until a look has settled it."""
    if _end(tx, attempt, "unknown", error):
        _move(tx, attempt.task.seq, "pending", error=error)
        history.add(tx, attempt.task.seq, "doubt", attempt=attempt.id, error=error)


def fail(
    tx: Transaction,
    seq: int,
    code: str,
    error: str,
    *,
    attempt: int | None = None,
    tries: int = 0,
    doubt_ends: bool,
) -> None:
    """Task ``seq`` needs a person."""
    _move(tx, seq, "failed", tries=tries, doubt_ends=doubt_ends, error=error)
    history.add(tx, seq, "failed", attempt=attempt, code=code, error=error)


def give_up(tx: Transaction, seq: int, code: str, error: str) -> bool:
    """Fail a task that waits, for what it waits for will not come; ``False``: it waits no more, or is in doubt."""
    state, _, in_doubt_since = tx.connection.execute(_STANDING, {"seq": seq}).fetchone()
    if state != "pending" or in_doubt_since:
        return False
    fail(tx, seq, code, error, doubt_ends=False)
    return True


# --- looks -----------------------------------------------------------------------------------------------------------


def end_look(tx: Transaction, seq: int, *, owner: str) -> bool:
    """End the lease of a look; ``False`` when it was no longer ours, and what was seen must not be written."""
    parameters = {"seq": seq, "owner": owner, "attempt_id": None}
    return tx.connection.execute(_END_LEASE, parameters).rowcount == 1


def settle_as_found(tx: Transaction, seq: int, attempts: Sequence[Unsettled], *, issue: dict[str, str]) -> None:
    """A look found the issue that one of ``attempts`` made: it is the task's."""
    for attempt in attempts:
        _settle(tx, attempt, "found", None)
    last = attempts[-1]
    link(tx, seq, last.where.backend, issue=issue, notes=(), adopted=True, attempt=last.id)


def look_again(tx: Transaction, attempt: Unsettled, *, wait: float, running: float, boot: str) -> None:
    """A look saw nothing; one look is not enough here. The next one is due in ``wait`` seconds."""
    # What elapsed before counts no more: the wait starts now, on today's clock.
    parameters = {"id": attempt.id, "look_after": running + wait, "boot": boot, "running": running}
    tx.connection.execute(_LOOKED, parameters)


def settle_as_absent(
    tx: Transaction, seq: int, attempts: Sequence[Unsettled], *, next_at: datetime | None, max_attempts: int
) -> bool:
    """The looks saw no issue: these attempts did not work, the doubt is over. ``True``: the task is ``failed`` now.

    Together they count as one try. ``next_at`` is when the task may be tried again (``None``: now).
    """
    for attempt in attempts:
        _settle(tx, attempt, "absent", None)
    error = "looked for the issue where the last attempt went: it is not there"
    last = attempts[-1].id
    return _count_a_try(tx, seq, last, "absent", error, next_at=next_at, max_attempts=max_attempts)


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
    for seq, state in found:
        tx.connection.execute(_RETRY, {"seq": seq, "now": tx.now})
        facets.add_state(tx, seq, "pending")
        history.add(tx, seq, "retry", was=state)
    return len(found)


# --- what all of these share -----------------------------------------------------------------------------------------


def _end(tx: Transaction, attempt: Attempt, outcome: str, error: str | None) -> bool:
    parameters = {"seq": attempt.task.seq, "owner": attempt.owner, "attempt_id": attempt.id}
    if tx.connection.execute(_END_LEASE, parameters).rowcount != 1:
        return False
    tx.connection.execute(_END_ATTEMPT, {"attempt_id": attempt.id, "outcome": outcome, "error": error, "now": tx.now})
    return True


def _settle(tx: Transaction, attempt: Unsettled, outcome: str, error: str | None) -> None:
    tx.connection.execute(_END_ATTEMPT, {"attempt_id": attempt.id, "outcome": outcome, "error": error, "now": tx.now})


def _count_a_try(
    tx: Transaction,
    seq: int,
    attempt: int,
    code: str,
    error: str,
    *,
    next_at: datetime | None,
    max_attempts: int,
) -> bool:
    tries = tx.connection.execute(_ATTEMPTS, {"seq": seq}).fetchone()[0] + 1
    if tries >= max_attempts:
        fail(tx, seq, code, f"{error} (try {tries} of {max_attempts})", attempt=attempt, tries=1, doubt_ends=True)
        return True
    at = None if next_at is None else to_text(next_at)
    _move(tx, seq, "pending", tries=1, doubt_ends=True, error=error, next_attempt_at=at)
    history.add(tx, seq, "absent" if code == "absent" else "deferred", attempt=attempt, error=error, until=at)
    return False


def _move(
    tx: Transaction,
    seq: int,
    state: TaskState,
    *,
    tries: int = 0,
    doubt_ends: bool = False,
    error: str | None = None,
    next_attempt_at: str | None = None,
) -> None:
    parameters = {
        "seq": seq,
        "state": state,
        "now": tx.now,
        "tries": tries,
        "doubt_ends": doubt_ends,
        "error": error,
        "next_attempt_at": next_attempt_at,
    }
    tx.connection.execute(_MOVE, parameters)
    facets.add_state(tx, seq, state)
