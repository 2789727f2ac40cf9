"""What a person knows better: that a task's issue exists already, and where; which of several stays; or that there is
none.

Sync comes first. What a living worker has in hand is left to it, for its request may be under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from issue_core.errors import IssueCoreError
from issue_core.ledger import history, outcomes, queries

if TYPE_CHECKING:
    from issue_core.ledger import Transaction
    from issue_core.task import Task

Linked = Literal["linked", "settled", "known"]
"""What came of it: the issue is the task's now; of several that there may be it is the one that stays, and was known
before; or there was nothing to do."""

_LEASE = "SELECT owner, until FROM leases WHERE seq = :seq"
_END_LEASE = "DELETE FROM leases WHERE seq = :seq"

_LAST_PROJECT = "SELECT project FROM attempts WHERE seq = :seq ORDER BY id DESC LIMIT 1"


def link(
    tx: Transaction, seq: int, *, url: str, issue_id: str, route: str, running: float, is_alive: Callable[[str], bool]
) -> Linked:
    """Make the issue at ``url`` that of task ``seq``, which is ``synced`` with it.

    Where the history tells of an issue that may be one too many, ``url`` is the one that stays, which settles that.
    ``route`` is the backend of a task that has none yet. ``running`` is the running clock in seconds, ``is_alive`` says
    whether the owner of a lease lives.

    Raises:
        NotFound: there is no such task.
        IssueCoreError: it has another issue, is another ledger's, or a living worker has it in hand.
    """
    task = queries.task(tx.connection, seq)
    is_known = task.remote is not None and task.remote.url == url
    may_be_several = history.has_doubles(tx.connection, seq)
    if may_be_several and (is_known or task.state == "elsewhere"):
        history.add(tx, seq, "settled", url=url)
        return "settled"
    if is_known:
        return "known"
    if task.remote is not None and not may_be_several:
        raise IssueCoreError(
            f"task {seq} has its issue already: {task.remote.url}", hint=f"issue show {seq} tells how it came to it."
        )
    _refuse_anothers(task)
    if task.state == "held":
        raise IssueCoreError(
            f"task {seq} is held: it is not known yet whether another ledger makes its issue",
            hint="issue sync settles that; then link it.",
        )
    _take(tx, seq, running, is_alive)
    project = tx.connection.execute(_LAST_PROJECT, {"seq": seq}).fetchone()
    issue = {"id": issue_id, "url": url, "project": project[0] if project else task.target_repo}
    outcomes.link_by_hand(tx, task, task.backend or route, issue=issue)
    return "linked"


def rule_out(tx: Transaction, seq: int, *, running: float, is_alive: Callable[[str], bool]) -> None:
    """End the doubt of task ``seq``: there is no issue. It is due now.

    ``running`` is the running clock in seconds, ``is_alive`` says whether the owner of a lease lives.

    Raises:
        NotFound: there is no such task.
        IssueCoreError: it is in no doubt, is another ledger's, or a living worker has it in hand.
    """
    task = queries.task(tx.connection, seq)
    if task.in_doubt_since is None:
        known = f": it has its issue, {task.remote.url}" if task.remote else ""
        raise IssueCoreError(f"task {seq} is in no doubt{known}", hint="issue list --in-doubt shows those that are.")
    _refuse_anothers(task)
    _take(tx, seq, running, is_alive)
    outcomes.rule_out(tx, task)


def _refuse_anothers(task: Task) -> None:
    if task.state == "elsewhere":
        raise IssueCoreError(f"task {task.seq} is another ledger's, which makes its issue", hint="Link it there.")


def _take(tx: Transaction, seq: int, running: float, is_alive: Callable[[str], bool]) -> None:
    """End a lease on task ``seq`` whose owner is dead, or that ran out; refuse to touch a living worker's."""
    lease = tx.connection.execute(_LEASE, {"seq": seq}).fetchone()
    if lease is None:
        return
    owner, until = lease
    if until >= running and is_alive(owner):
        raise IssueCoreError(f"task {seq}: a sync has this task in hand right now", hint="Try again in a moment.")
    tx.connection.execute(_END_LEASE, {"seq": seq})
