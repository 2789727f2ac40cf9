"""Many threads on one ledger: each gets its own receipts, and they share commits."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from issue_core.errors import LedgerBusy, LedgerCorrupt
from issue_core.group_commit import GroupCommit, Outcome
from issue_core.ledger import Ledger, Transaction
from issue_core.task import Document, Receipt
from tests.support.cli import a_spec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def group(path: Path) -> Iterator[GroupCommit]:
    with Ledger(path, busy_timeout=0.05) as ledger:
        one = GroupCommit(ledger, transport="rest")
        yield one
        one.close()


def document(number: int, **changes: object) -> Document:
    return Document(json.dumps(a_spec(number, **changes)).encode())


class Counting(Ledger):
    """A ledger that counts its commits."""

    commits = 0

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with super().write() as tx:
            yield tx
        self.commits += 1


class HeldUp:
    """A ledger whose write lock somebody else has, until told to let go."""

    def __init__(self, path: Path) -> None:
        self._ledger = Ledger(path)
        self._writing = self._ledger.write()

    def __enter__(self) -> None:
        self._writing.__enter__()

    def __exit__(self, *_: object) -> None:
        self._writing.__exit__(None, None, None)
        self._ledger.close()


def test_each_of_many_threads_gets_the_receipts_of_its_own_documents(group: GroupCommit) -> None:
    def work(thread: int) -> list[Receipt]:
        receipts = []
        for n in range(20):
            number = thread * 20 + n
            receipts += group.ingest([document(number), document(number), document(number, title="else")])
        return receipts

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    for thread, receipts in enumerate(answers):
        wanted = [a_spec(thread * 20 + n)["triggering_event_id"] for n in range(20) for _ in range(3)]
        assert [receipt.event_id for receipt in receipts] == wanted
        assert [receipt.outcome for receipt in receipts] == ["created", "duplicate", "conflict"] * 20


def test_calls_that_come_while_one_commits_share_the_next_commit(path: Path) -> None:
    ledger = Counting(path)
    with ledger:
        group = GroupCommit(ledger, transport="rest")
        group.ingest([document(0)])
        outcomes: list[Outcome] = []
        all_there = threading.Semaphore(0)

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            all_there.release()

        with HeldUp(path):
            first = threading.Thread(target=group.submit, args=([document(1)], done))
            first.start()
            until_busy(group)
            for number in range(2, 12):
                group.submit([document(number)], done)
        for _ in range(11):
            assert all_there.acquire(timeout=60)
        first.join()
        group.close()
    assert ledger.commits == 3
    assert all(isinstance(outcome, list) and outcome[0].outcome == "created" for outcome in outcomes)


def until_busy(group: GroupCommit) -> None:
    waiting = threading.Event()
    while not group._busy:
        waiting.wait(0.001)


def test_where_the_ledger_is_busy_everybody_is_told_and_nothing_is_stored(group: GroupCommit, path: Path) -> None:
    group.ingest([document(0)])
    with HeldUp(path), ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(group.ingest, [document(number)]) for number in range(1, 5)]
        for call in calls:
            with pytest.raises(LedgerBusy):
                call.result()
    assert [receipt.outcome for receipt in group.ingest([document(1)])] == ["created"]


def test_what_is_wrong_about_one_call_is_no_other_s_trouble(path: Path) -> None:
    with Ledger(path) as ledger:
        group = GroupCommit(ledger, transport="rest")
        group.ingest([document(0)])
        with ledger.write() as tx:
            tx.connection.execute("UPDATE tasks SET labels = 'no json' WHERE seq = 1")
        outcomes: dict[int, Outcome] = {}
        all_there = threading.Semaphore(0)

        def done(number: int, outcome: Outcome) -> None:
            outcomes[number] = outcome
            all_there.release()

        with HeldUp(path):
            first = threading.Thread(target=group.submit, args=([document(9)], lambda outcome: done(9, outcome)))
            first.start()
            until_busy(group)
            # The damaged row has to be read for this one: it looks like a conflict.
            group.submit([document(0, title="else")], lambda outcome: done(0, outcome))
            group.submit([document(2)], lambda outcome: done(2, outcome))
        for _ in range(3):
            assert all_there.acquire(timeout=60)
        first.join()
        group.close()
    assert isinstance(outcomes[0], LedgerCorrupt)
    assert [outcome[0].outcome for outcome in (outcomes[2], outcomes[9]) if isinstance(outcome, list)] == [
        "created"
    ] * 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_fails_costs_nobody_else_an_answer(path: Path) -> None:
    with Ledger(path) as ledger:
        group = GroupCommit(ledger, transport="rest")
        group.ingest([document(0)])
        told = threading.Semaphore(0)

        def fails(_: Outcome) -> None:
            raise ValueError("a fault of the listener's")

        with HeldUp(path):
            first = threading.Thread(target=group.ingest, args=([document(1)],))
            first.start()
            until_busy(group)
            group.submit([document(2)], fails)
            group.submit([document(3)], lambda _: told.release())
        assert told.acquire(timeout=60)
        first.join()
        assert [receipt.outcome for receipt in group.ingest([document(2)])] == ["duplicate"]
        group.close()
