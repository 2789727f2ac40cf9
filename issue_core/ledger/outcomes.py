"""What became of an attempt: each outcome ends the lease, and is written by its owner alone, with its history.

Only what is known ends a doubt: the tracker's answer, a look that was settled, or the word of a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from issue_core.ledger import claims, facets, history
from issue_core.ledger.outbox import Attempt, Unsettled
from issue_core.task import Task, TaskState, to_text

if TYPE_CHECKING:
    from issue_core.ledger import Transaction

_END_LEASE = "DELETE FROM leases WHERE seq = :seq AND owner = :owner AND attempt_id IS :attempt_id"


_END_ATTEMPT = "UPDATE attempts SET outcome = :outcome, ended_at = :now, error = :error WHERE id = :attempt_id"


_LOOKED = """
    UPDATE attempts SET
        looks = looks + 1, look_after = :look_after, started_at = :since, boot = :boot, running = :began
    WHERE id = :id
"""


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


_WAITS = "SELECT 1 FROM tasks WHERE seq = :seq AND state = 'pending' AND in_doubt_since IS NULL"

_ATTEMPTS = "SELECT attempts FROM tasks WHERE seq = :seq"


_ASSUMED = """
    SELECT json_extract(detail, '$.attempt') FROM history WHERE seq = :seq AND kind = 'assumed'
"""


_SETTLE_ALL = """
    UPDATE attempts SET outcome = :outcome, ended_at = :now
    WHERE seq = :seq AND (outcome IS NULL OR outcome = 'unknown')
"""


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
        _move(tx, attempt.task.seq, claims.state_to_try_again(tx, attempt.task.seq), doubt_ends=True, error=error)
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
    if tx.connection.execute(_WAITS, {"seq": seq}).fetchone() is None:
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
    # The wait starts now. When the attempt began stands there by today's clock from now on: another boot has another.
    began = {"since": to_text(attempt.since), "boot": boot, "began": attempt.began}
    parameters = {"id": attempt.id, "look_after": running + wait, **began}
    tx.connection.execute(_LOOKED, parameters)


def settle_as_absent(
    tx: Transaction, seq: int, attempts: Sequence[Unsettled], *, next_at: datetime | None, max_attempts: int
) -> bool:
    """The looks saw no issue: these attempts did not work, the doubt is over. ``True``: the task is ``failed`` now.

    Together they count as one try, or none where no attempt is known to have been made. ``next_at`` is when the task
    may be tried again (``None``: now).
    """
    for attempt in attempts:
        _settle(tx, attempt, "absent", None)
    error = "looked for the issue where the last attempt went: it is not there"
    last = attempts[-1].id
    assumed = {attempt for (attempt,) in tx.connection.execute(_ASSUMED, {"seq": seq})}
    if assumed.issuperset(attempt.id for attempt in attempts):
        _move(tx, seq, "pending", doubt_ends=True)
        history.add(tx, seq, "absent", attempt=last)
        return False
    return _count_a_try(tx, seq, last, "absent", error, next_at=next_at, max_attempts=max_attempts)


# --- by a person -----------------------------------------------------------------------------------------------------


def link_by_hand(tx: Transaction, task: Task, backend: str, *, issue: dict[str, str]) -> None:
    """A person names the issue of ``task``: it is ``synced``, its doubt is over. Counts no try."""
    _settle_all(tx, task.seq, "linked")
    _move(tx, task.seq, "synced", doubt_ends=True)
    tx.connection.execute(_LINK, {**issue, "backend": backend, "seq": task.seq, "now": tx.now})
    history.add(tx, task.seq, "linked", was=task.state, backend=backend, **issue)


def rule_out(tx: Transaction, task: Task) -> None:
    """A person says that no attempt of ``task`` has made an issue: its doubt is over. Counts no try.

    It is ``pending`` and due now; or ``held``, where it was or must be claimed first.
    """
    _settle_all(tx, task.seq, "absent")
    state: TaskState = "held" if task.state == "held" else claims.state_to_try_again(tx, task.seq)
    _move(tx, task.seq, state, doubt_ends=True, error=task.last_error)
    history.add(tx, task.seq, "ruled_out", was=task.state)


# --- what all of these share -----------------------------------------------------------------------------------------


def _end(tx: Transaction, attempt: Attempt, outcome: str, error: str | None) -> bool:
    parameters = {"seq": attempt.task.seq, "owner": attempt.owner, "attempt_id": attempt.id}
    if tx.connection.execute(_END_LEASE, parameters).rowcount != 1:
        return False
    tx.connection.execute(_END_ATTEMPT, {"attempt_id": attempt.id, "outcome": outcome, "error": error, "now": tx.now})
    return True


def _settle(tx: Transaction, attempt: Unsettled, outcome: str, error: str | None) -> None:
    tx.connection.execute(_END_ATTEMPT, {"attempt_id": attempt.id, "outcome": outcome, "error": error, "now": tx.now})


def _settle_all(tx: Transaction, seq: int, outcome: str) -> None:
    # What the tracker said of an attempt stays beside it: a person's word is no answer of the tracker's.
    tx.connection.execute(_SETTLE_ALL, {"seq": seq, "outcome": outcome, "now": tx.now})


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
    _move(tx, seq, claims.state_to_try_again(tx, seq), tries=1, doubt_ends=True, error=error, next_attempt_at=at)
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
