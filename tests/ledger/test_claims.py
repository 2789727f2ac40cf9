"""A marked ledger holds its tasks until their claim is known; what was attempted is never given away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from issue_core import ingest
from issue_core.ledger import Ledger, claims, facets, history, outbox, outcomes, queries
from issue_core.ledger.outbox import Attempt, Times, Where
from issue_core.task import Receipt
from tests.support.cli import a_spec

WHERE = Where("work", "https://tracker.example", "acme/web", "robot")
OTHER = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that nobody has marked."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        yield ledger


def take(ledger: Ledger, *numbers: int) -> list[Receipt]:
    return ingest(ledger, [json.dumps(a_spec(n)) for n in numbers])


def mark(ledger: Ledger) -> None:
    with ledger.write() as tx:
        claims.mark(tx)


def attempt(ledger: Ledger, seq: int) -> Attempt:
    with ledger.write() as tx:
        times = Times(timeout=30, settle=30, lease=120)
        begun = outbox.begin(tx, seq, WHERE, owner="worker", times=times, running=1.0, boot="boot")
    assert begun
    return begun


def states(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return [state for (state,) in connection.execute("SELECT state FROM tasks ORDER BY seq")]


def kinds(ledger: Ledger, seq: int) -> list[str]:
    with ledger.read() as connection:
        return [entry.kind for entry in history.of_task(connection, seq)]


def held(ledger: Ledger) -> list[int]:
    return [task.seq for page in claims.held_pages(ledger) for task in page]


def the_books_balance(ledger: Ledger) -> bool:
    """Whether the tallies are what counting the tasks gives."""
    with ledger.read() as connection:
        tallies = connection.execute("SELECT state, sum(n) FROM tallies GROUP BY state HAVING sum(n) > 0").fetchall()
        counted = connection.execute("SELECT state, count(*) FROM tasks GROUP BY state").fetchall()
    return dict(tallies) == dict(counted)


def test_a_new_ledger_holds_nothing_and_has_no_id(ledger: Ledger) -> None:
    assert take(ledger, 1)[0].state == "pending"
    with ledger.read() as connection:
        assert claims.identity(connection) is None
        assert claims.count_held(connection) == 0
    assert held(ledger) == []


def test_a_marked_ledger_holds_each_new_task_for_good(ledger: Ledger) -> None:
    mark(ledger)
    assert take(ledger, 1)[0].state == "held"
    with Ledger(ledger.path) as again:
        assert [each.state for each in take(again, 2, 1)] == ["held", "held"]
        assert held(again) == [1, 2]
        with again.read() as connection:
            assert claims.count_held(connection) == 2
    assert the_books_balance(ledger)


def test_marking_it_again_changes_neither_its_id_nor_its_tasks(ledger: Ledger) -> None:
    mark(ledger)
    with ledger.read() as connection:
        first = claims.identity(connection)
    take(ledger, 1)
    with ledger.write() as tx:
        claims.release(tx, [1])
    with Ledger(ledger.path, claims=True) as again:
        mark(again)
        with again.read() as connection:
            assert claims.identity(connection) == first
        assert states(again) == ["pending"]


def give_back(ledger: Ledger, attempt: Attempt) -> None:
    """The tracker could not be reached."""
    with ledger.write() as tx:
        outcomes.give_back(tx, attempt, "unreachable", "nothing listens there")


def test_what_is_in_no_doubt_is_held_when_the_ledger_is_marked(ledger: Ledger) -> None:
    take(ledger, 1, 2, 3)
    attempt(ledger, 2)
    give_back(ledger, attempt(ledger, 3))
    mark(ledger)
    assert states(ledger) == ["held", "pending", "held"]
    assert kinds(ledger, 1) == ["created", "held"]
    assert the_books_balance(ledger)


def test_a_large_ledger_is_marked_as_a_whole(ledger: Ledger) -> None:
    take(ledger, *range(3 * facets.BLOCK))
    mark(ledger)
    assert held(ledger) == list(range(1, 3 * facets.BLOCK + 1))


def test_the_first_write_of_a_ledger_that_must_claim_marks_it(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as before:
        take(before, 1)
    with Ledger(tmp_path / "ledger.db", claims=True) as ledger:
        assert states(ledger) == ["pending"]
        assert take(ledger, 2)[0].state == "held"
        assert states(ledger) == ["held", "held"]


def test_a_mark_that_is_rolled_back_is_none(ledger: Ledger) -> None:
    with suppress(ZeroDivisionError), ledger.write() as tx:
        claims.mark(tx)
        raise ZeroDivisionError
    assert take(ledger, 1)[0].state == "pending"


def test_sync_cannot_begin_with_what_is_held(ledger: Ledger) -> None:
    mark(ledger)
    take(ledger, 1)
    with ledger.write() as tx:
        times = Times(timeout=30, settle=30, lease=120)
        assert outbox.begin(tx, 1, WHERE, owner="worker", times=times, running=1.0, boot="boot") is None


def test_what_is_ours_is_pending_and_due(ledger: Ledger) -> None:
    mark(ledger)
    take(ledger, 1, 2)
    with ledger.write() as tx:
        assert claims.release(tx, [1, 2]) == [1, 2]
        assert claims.release(tx, [1, 2]) == []
    assert states(ledger) == ["pending", "pending"]
    assert kinds(ledger, 1) == ["created", "claimed"]
    assert [each.seq for _, page in outbox.pending_pages(ledger) for each in page] == [1, 2]
    assert the_books_balance(ledger)


def test_what_a_former_id_of_ours_has_claimed_is_in_doubt(ledger: Ledger) -> None:
    mark(ledger)
    take(ledger, 1)
    with ledger.write() as tx:
        assert claims.release(tx, [1], in_doubt=True) == [1]
    with ledger.read() as connection:
        task = queries.task(connection, 1)
    assert (task.state, task.in_doubt_since is not None) == ("pending", True)


def test_what_another_ledger_has_is_elsewhere_for_good(ledger: Ledger) -> None:
    mark(ledger)
    take(ledger, 1)
    with ledger.write() as tx:
        assert claims.cede(tx, 1, OTHER)
        assert not claims.cede(tx, 1, OTHER)
        assert claims.release(tx, [1]) == []
        assert claims.claimable(tx.connection, [1]) == []
    assert states(ledger) == ["elsewhere"]
    assert take(ledger, 1)[0].outcome == "duplicate"
    assert kinds(ledger, 1) == ["created", "elsewhere"]
    assert the_books_balance(ledger)


def test_what_was_tried_in_vain_before_the_mark_is_held_before_it_is_tried_again(ledger: Ledger) -> None:
    take(ledger, 1, 2, 3)
    begun = [attempt(ledger, seq) for seq in (1, 2, 3)]
    with ledger.write() as tx:
        outcomes.refuse(tx, begun[2], "refused", "no")
    mark(ledger)
    give_back(ledger, begun[0])
    with ledger.write() as tx:
        outcomes.try_later(tx, begun[1], "busy", "later", next_at=tx.moment, max_attempts=9)
        assert outbox.retry_all(tx) == 1
    assert states(ledger) == ["held", "held", "held"]
    with ledger.write() as tx:
        claims.release(tx, [1, 2, 3])
    give_back(ledger, attempt(ledger, 1))
    assert states(ledger) == ["pending", "pending", "pending"]


def test_what_was_tried_in_vain_may_be_given_away(ledger: Ledger) -> None:
    mark(ledger)
    take(ledger, 1)
    with ledger.write() as tx:
        claims.release(tx, [1])
    give_back(ledger, attempt(ledger, 1))
    with ledger.write() as tx:
        assert claims.cede(tx, 1, OTHER)
    assert states(ledger) == ["elsewhere"]


def test_what_is_in_doubt_here_is_never_given_away_and_is_told_of_once(ledger: Ledger) -> None:
    take(ledger, 1)
    attempt(ledger, 1)
    mark(ledger)
    with ledger.write() as tx:
        assert not claims.cede(tx, 1, OTHER)
        assert not claims.cede(tx, 1, OTHER)
        assert history.doubles(tx.connection) == (1, 1)
    assert states(ledger) == ["pending"]
    assert kinds(ledger, 1) == ["created", "attempt", "contested"]


def test_a_block_that_holds_nothing_any_more_is_read_no_more(ledger: Ledger) -> None:
    mark(ledger)
    take(ledger, 1)
    with ledger.write() as tx:
        claims.release(tx, [1])
    assert held(ledger) == []
    with ledger.read() as connection:
        rows = connection.execute("SELECT count(*) FROM facets WHERE facet = 'state' AND value = 'held'").fetchone()
    assert rows == (0,)
