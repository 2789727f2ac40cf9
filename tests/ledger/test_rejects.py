"""Rejects: kept once, listed newest first, closed once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from issue_core.errors import NotFound
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, rejects
from issue_core.task import Document, FieldProblem, Place
from tests.support.clock import MovedClock


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock=MovedClock()) as opened:
        ingest(opened, [Document(b"{%d" % n, Place("in.ndjson", n)) for n in range(5)])
        yield opened


def ids(ledger: Ledger, state: rejects.RejectState | None, limit: int = 100) -> list[int]:
    with ledger.read() as connection:
        return [reject.id for reject in rejects.page(connection, state=state, limit=limit)]


def close(ledger: Ledger, reject_id: int, event_id: str | None = None) -> None:
    with ledger.write() as tx:
        rejects.close(tx, reject_id, "replayed" if event_id else "dropped", event_id)


def get(ledger: Ledger, reject_id: int) -> rejects.Reject:
    with ledger.read() as connection:
        return rejects.get(connection, reject_id)


def test_the_newest_rejects_come_first_and_can_be_told_apart_by_state(ledger: Ledger) -> None:
    close(ledger, 2)
    close(ledger, 4, "some-event")
    assert ids(ledger, None) == [5, 4, 3, 2, 1]
    assert ids(ledger, "open") == [5, 3, 1]
    assert ids(ledger, "open", limit=2) == [5, 3]
    assert ids(ledger, "dropped") == [2]
    assert ids(ledger, "replayed") == [4]
    with ledger.read() as connection:
        assert rejects.open_ids(connection) == [1, 3, 5]
        assert rejects.count_open(connection) == 3


def test_the_first_thing_that_a_person_does_with_a_reject_counts(ledger: Ledger) -> None:
    assert isinstance(ledger.clock, MovedClock)
    close(ledger, 1)
    ledger.clock.move(60)
    close(ledger, 1, "some-event")
    reject = get(ledger, 1)
    assert (reject.state, reject.replayed_as, reject.closed_at) == ("dropped", None, "2026-03-01T09:00:00.000Z")


def test_a_list_brings_no_bytes_along_and_a_single_reject_does(ledger: Ledger) -> None:
    with ledger.read() as connection:
        (newest,) = rejects.page(connection, state=None, limit=1)
    assert newest.raw == b""
    assert get(ledger, 5).raw == b"{4"


def test_a_reject_in_json_shows_bytes_that_are_no_text(ledger: Ledger) -> None:
    with ledger.write() as tx:
        errors = (FieldProblem("document", "«no»"), FieldProblem("x", "half \udce9 is shown, too"))
        document = Document(b"caf\xe9 {", Place("caf\udce9", 3, 1))
        reject_id, is_new = rejects.keep(tx, document, "invalid", errors, "rest", None)
    assert is_new
    reject = get(ledger, reject_id)
    assert reject.errors == errors
    assert reject.place == document.place
    shown = reject.to_json()
    assert reject.text == "caf\\xe9 {"
    assert (shown["file"], shown["line"], shown["index"]) == ("caf\udce9", 3, 1)
    assert shown["errors"][0] == {"field": "document", "problem": "«no»"}
    assert "raw" not in shown


@pytest.mark.parametrize("reject_id", [0, 6, -1, 2**63 - 1, 2**63, -(2**63) - 1, 10**40])
def test_what_is_not_there_is_not_found(ledger: Ledger, reject_id: int) -> None:
    with pytest.raises(NotFound, match=f"no reject {reject_id} in the ledger") as caught:
        get(ledger, reject_id)
    assert caught.value.hint


def test_the_same_bytes_refused_for_another_reason_are_the_same_reject(ledger: Ledger) -> None:
    with ledger.write() as tx:
        kept = [
            rejects.keep(tx, Document(b"{new"), kind, (), "cli", None) for kind in ("invalid", "conflict", "invalid")
        ]
        assert kept == [(6, True), (6, False), (6, False)]
        assert (rejects.get(tx.connection, 6).kind, rejects.get(tx.connection, 6).count) == ("invalid", 3)
