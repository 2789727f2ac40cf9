"""The diagrams of a task's states are what the ledger does: every step, tried on a task in every state."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from issue_core import Ledger, ingest
from issue_core.errors import IssueCoreError
from issue_core.ledger import Transaction, claims, linking, outbox, outcomes, queries
from issue_core.ledger.outbox import Attempt, Times, Where
from issue_core.task import STATES, to_text
from tests.docs.pages import ROOT, blocks
from tests.support.specs import a_spec, written

Edges = set[tuple[str, str]]

PENDING = {"due": "pending", "waiting": "pending", "doubt": "pending"}
WHERE = Where("work", "https://tracker.example", "acme/web", "bot")
TIMES = Times(timeout=1, settle=1, lease=9)
ISSUE = {"id": "1", "url": "https://tracker.example/1", "project": "acme/web"}

LONG_AGO, TO_COME = "2020-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"
STANDINGS = (
    ("pending", None, None),
    ("pending", TO_COME, None),
    ("pending", None, LONG_AGO),
    ("failed", None, None),
    ("failed", None, LONG_AGO),
    ("held", None, None),
    ("held", None, LONG_AGO),
    ("synced", None, None),
    ("elsewhere", None, None),
)
"""Every way to stand: the state, not before when, in doubt since when."""


def drawn(number: int) -> Edges:
    """The arrows of a diagram, without those that begin or end outside."""
    diagram = blocks(ROOT / "docs" / "exactly-once.md", "mermaid")[number].text
    return set(re.findall(r"^ *(\w+) --> (\w+): ", diagram, re.MULTILINE))


def collapsed(edges: Edges) -> Edges:
    """The same by states: due, waiting and in doubt are all ``pending``."""
    by_state = {(PENDING.get(before, before), PENDING.get(after, after)) for before, after in edges}
    return {(before, after) for before, after in by_state if before != after}


# --- the steps -------------------------------------------------------------------------------------------------------


def try_later(tx: Transaction, attempt: Attempt, max_attempts: int) -> None:
    next_at = tx.moment + timedelta(hours=1)
    outcomes.try_later(tx, attempt, "try_later", "no", next_at=next_at, max_attempts=max_attempts)


def prove_absent(tx: Transaction, attempt: Attempt, hours: int, max_attempts: int = 9) -> None:
    [open_one] = outbox.unsettled(tx.connection, attempt.task.seq, now=tx.moment, running=99, boot="", longest=1)
    next_at = tx.moment + timedelta(hours=hours) if hours else None
    outcomes.settle_as_absent(tx, 1, [open_one], next_at=next_at, max_attempts=max_attempts)


OUTCOMES: Mapping[str, Callable[[Transaction, Attempt], object]] = {
    "the issue is there": lambda tx, its: outcomes.succeed(tx, its, issue=ISSUE, notes=(), adopted=False),
    "nothing of the request left": lambda tx, its: outcomes.give_back(tx, its, "unreachable", "no"),
    "refused for now": lambda tx, its: try_later(tx, its, 9),
    "refused for the last time": lambda tx, its: try_later(tx, its, 1),
    "refused for good": lambda tx, its: outcomes.refuse(tx, its, "refused", "no"),
    "nobody knows": lambda tx, its: outcomes.leave_in_doubt(tx, its, "what?"),
    "proved absent": lambda tx, its: prove_absent(tx, its, 1),
    "a dead worker's, proved absent": lambda tx, its: prove_absent(tx, its, 0),
    "proved absent for the last time": lambda tx, its: prove_absent(tx, its, 1, max_attempts=1),
}

STEPS: Mapping[str, Callable[[Transaction], object]] = {
    "closed for a day": lambda tx: outcomes.give_up(tx, 1, "project", "closed"),
    "retry": lambda tx: outbox.retry(tx, [1]),
    "link": lambda tx: linking.link(
        tx, 1, url=ISSUE["url"], issue_id="1", route="work", running=0, is_alive=lambda _: False
    ),
    "link --none": lambda tx: linking.rule_out(tx, 1, running=0, is_alive=lambda _: False),
}

CLAIMS: Mapping[str, Callable[[Transaction], object]] = {
    "the ledger is marked": claims.mark,
    "the claim is ours": lambda tx: claims.release(tx, [1]),
    "the claim is ours, and older than a restore": lambda tx: claims.release(tx, [1], in_doubt=True),
    "the claim is another's": lambda tx: claims.cede(tx, 1, "another"),
}


# --- the walk --------------------------------------------------------------------------------------------------------


class Undone(Exception):
    """Ends a transaction of which nothing is to stay."""


def standing(tx: Transaction) -> str:
    """In which of the diagram's states the task is."""
    task = queries.task(tx.connection, 1)
    if task.state != "pending":
        return task.state
    if task.in_doubt_since:
        return "doubt"
    return "waiting" if task.next_attempt_at and task.next_attempt_at > to_text(tx.moment) else "due"


def stand(tx: Transaction, state: str, next_at: str | None, doubt: str | None) -> str:
    """Put the task into this state; gives its name in the diagram."""
    row = {"state": state, "next_at": next_at, "doubt": doubt}
    tx.connection.execute(
        "UPDATE tasks SET state = :state, next_attempt_at = :next_at, in_doubt_since = :doubt WHERE seq = 1", row
    )
    return standing(tx)


def walked(ledger: Ledger, steps: Mapping[str, Callable[[Transaction], object]], *, marked: bool) -> Edges:
    """Where each of these steps leads from each state; each is tried, and undone."""
    seen: Edges = set()
    for each in STANDINGS:
        for step in steps.values():
            with suppress(Undone, IssueCoreError), ledger.write() as tx:
                if marked:
                    claims.mark(tx)
                before = stand(tx, *each)
                step(tx)
                seen.add((before, standing(tx)))
                raise Undone
    return seen


def attempted(ledger: Ledger, *, marked: bool) -> Edges:
    """Where each outcome of an attempt leads."""
    seen: Edges = set()
    for outcome in OUTCOMES.values():
        with suppress(Undone), ledger.write() as tx:
            if marked:
                claims.mark(tx)
            before = stand(tx, "pending", None, None)
            begun = outbox.begin(tx, 1, WHERE, owner="me", times=TIMES, running=0, boot="")
            assert begun
            seen.add((before, standing(tx)))
            outcome(tx, begun)
            seen.add(("doubt", standing(tx)))
            raise Undone
    return seen


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.db")
    ingest(ledger, [written(a_spec())])
    return ledger


def test_the_first_diagram_is_what_a_ledger_does_by_itself(ledger: Ledger) -> None:
    seen = attempted(ledger, marked=False) | walked(ledger, STEPS, marked=False)
    by_time = {("waiting", "due")}

    its_own = {edge for edge in seen if not {"held", "elsewhere"} & set(edge) and edge[0] != edge[1]}
    assert drawn(0) == its_own | by_time


def test_the_second_diagram_is_what_claims_add_to_it(ledger: Ledger) -> None:
    seen = attempted(ledger, marked=True) | walked(ledger, STEPS, marked=True)
    seen |= walked(ledger, CLAIMS, marked=False) | walked(ledger, CLAIMS, marked=True)

    assert collapsed(drawn(1)) == collapsed(seen) - collapsed(drawn(0))
    assert {state for edge in collapsed(drawn(0)) | drawn(1) for state in edge} == set(STATES)
