"""What each receipt says, and what is in the ledger afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from issue_core.errors import NotFound, UsageError
from issue_core.ingestion import SECOND_TASK, ingest, ingest_each, replay
from issue_core.ledger import Ledger, history, queries, rejects, tasks
from issue_core.task import (
    OUTCOMES,
    TRANSPORTS,
    Document,
    FieldProblem,
    HistoryEntry,
    Oversize,
    Place,
    Receipt,
    Task,
    Transport,
)
from tests.support.clock import MovedClock
from tests.support.specs import a_spec, an_event_id, written

EVENT_ID = an_event_id(1)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: MovedClock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock=clock, run="run-1") as opened:
        yield opened


def outcomes(receipts: list[Receipt]) -> list[str]:
    return [receipt.outcome for receipt in receipts]


def one(ledger: Ledger, document: Document | bytes | str, **options: Any) -> Receipt:
    (receipt,) = ingest(ledger, [document], **options)
    return receipt


def the_task(ledger: Ledger, event_id: str = EVENT_ID) -> Task:
    with ledger.read() as connection:
        return queries.task(connection, queries.find(connection, event_id))


def the_reject(ledger: Ledger, reject_id: int | None) -> rejects.Reject:
    assert reject_id is not None
    with ledger.read() as connection:
        return rejects.get(connection, reject_id)


def the_history(ledger: Ledger, seq: int | None) -> list[HistoryEntry]:
    assert seq is not None
    with ledger.read() as connection:
        return history.of_task(connection, seq)


def the_counts(ledger: Ledger) -> queries.Counts:
    with ledger.read() as connection:
        return queries.counts(connection)


# --- created --------------------------------------------------------------------------------------------------------


def test_a_new_event_id_makes_a_task_that_holds_all_that_was_asked_for(ledger: Ledger) -> None:
    spec = a_spec(
        title=" Renew the certificate ",
        description="# Why\n",
        labels=["tls", "Ops", "TLS"],
        priority="high",
        due_in_days=3,
        activity_definition_id="a-7",
        triggering_event_id=EVENT_ID.upper(),
        team={"name": "web", "n": 2**80, "f": 2.5},
    )
    document = Document(written(spec), Place("in.ndjson", 4), meta={"stream": "ACT_TASKS", "sequence": 9})
    receipt = one(ledger, document, transport="nats")
    warnings = ('unknown field "team" kept',)
    assert receipt == Receipt("created", EVENT_ID, 1, "pending", warnings, place=Place("in.ndjson", 4))
    ingested = {
        "triggering_event_id": EVENT_ID,
        "source_type": "rule",
        "source_id": "disk-watch",
        "activity_definition_id": "a-7",
        "target_repo": "acme/web",
        "transport": "nats",
        "received_at": "2026-03-01T09:00:00.000Z",
        "stream": "ACT_TASKS",
        "sequence": 9,
    }
    assert the_task(ledger).to_json() == {
        "seq": 1,
        "event_id": EVENT_ID,
        "state": "pending",
        "title": "Renew the certificate",
        "description": "# Why\n",
        "target_repo": "acme/web",
        "priority": "high",
        "labels": ["tls", "Ops"],
        "due_in_days": 3,
        "source_type": "rule",
        "source_id": "disk-watch",
        "activity_definition_id": "a-7",
        "due_date": "2026-03-04",
        "extra": {"team": {"name": "web", "n": 2**80, "f": 2.5}},
        "created_at": "2026-03-01T09:00:00.000Z",
        "updated_at": "2026-03-01T09:00:00.000Z",
        "sightings": {"nats": 1},
        "backend": None,
        "attempts": 0,
        "next_attempt_at": None,
        "in_doubt_since": None,
        "last_error": None,
        "remote": None,
        "sync_metadata": {"ingestion": ingested},
    }
    entry = {"at": "2026-03-01T09:00:00.000Z", "kind": "created", "transport": "nats", "run": "run-1"}
    assert [entry.to_json() for entry in the_history(ledger, 1)] == [entry]


def test_receipts_are_in_the_order_of_the_documents_and_seqs_rise(ledger: Ledger) -> None:
    documents = [written(a_spec()), b"{", written(a_spec()), b"}", written(a_spec())]
    receipts = ingest(ledger, documents)
    assert outcomes(receipts) == ["created", "invalid", "created", "invalid", "created"]
    assert [receipt.seq for receipt in receipts] == [1, None, 2, None, 3]
    assert [receipt.seq for receipt in ingest(ledger, [written(a_spec())])] == [4]


def test_a_receipt_is_given_when_its_task_is_committed(ledger: Ledger) -> None:
    one(ledger, written(a_spec(triggering_event_id=EVENT_ID)))
    with Ledger(ledger.path) as somebody_else:
        assert the_task(somebody_else).seq == 1


def test_documents_are_taken_as_bytes_as_text_and_with_their_place(ledger: Ledger) -> None:
    raw = written(a_spec(title="«é»"))
    receipts = ingest(ledger, [raw, raw.decode(), Document(raw, Place("-", 3, 1))])
    assert outcomes(receipts) == ["created", "duplicate", "duplicate"]
    assert [receipt.place for receipt in receipts] == [Place(), Place(), Place("-", 3, 1)]


def test_text_that_is_no_unicode_is_refused_not_raised(ledger: Ledger) -> None:
    receipt = one(ledger, '{"title": "\ud800"}')
    assert receipt.outcome == "invalid"
    assert the_reject(ledger, receipt.reject_id).raw == b'{"title": "\xed\xa0\x80"}'


@pytest.mark.parametrize("document", [written(a_spec()), written(a_spec()).decode(), Document(written(a_spec()))])
def test_one_document_in_the_place_of_many_is_a_mistake_that_is_told(ledger: Ledger, document: Any) -> None:
    with pytest.raises(TypeError, match="give a list"):
        ingest(ledger, document)
    assert not ledger.path.exists()


def test_no_documents_are_no_work(ledger: Ledger) -> None:
    assert ingest(ledger, []) == []
    assert not ledger.path.exists()


def test_the_due_date_is_counted_from_the_utc_date_of_the_first_acceptance(tmp_path: Path) -> None:
    clock = MovedClock()
    clock.jump((datetime(2027, 12, 31, 23, 59, 59, 999_600, tzinfo=UTC) - clock.now()).total_seconds())
    due = {days: a_spec(due_in_days=days) for days in (0, 1, 60, 3650)}
    with Ledger(tmp_path / "ledger.db", clock=clock) as ledger:
        ingest(ledger, map(written, due.values()))
        clock.jump(0.0004)
        assert outcomes(ingest(ledger, map(written, due.values()))) == ["duplicate"] * 4
        late = a_spec(due_in_days=0)
        one(ledger, written(late))
        found = {days: the_task(ledger, spec["triggering_event_id"]).due_date for days, spec in due.items()}
        assert found == {0: "2027-12-31", 1: "2028-01-01", 60: "2028-02-29", 3650: "2037-12-28"}
        assert the_task(ledger, late["triggering_event_id"]).due_date == "2028-01-01"


# --- duplicate ------------------------------------------------------------------------------------------------------


def test_a_duplicate_changes_nothing_but_its_count(ledger: Ledger, clock: MovedClock) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID, labels=["a", "b"])
    one(ledger, written(spec), transport="new")
    before = the_task(ledger)
    clock.move(60)
    again = spec | {"labels": ["B", "A", "a"], "priority": "medium", "triggering_event_id": EVENT_ID.upper()}
    for transport in ("rest", "new", "rest"):
        receipt = one(ledger, written(again), transport=transport)
        assert receipt == Receipt("duplicate", EVENT_ID, 1, "pending")
    after = the_task(ledger)
    assert after.sightings == {"new": 2, "rest": 2}
    assert after.to_json() == before.to_json() | {"sightings": {"new": 2, "rest": 2}}
    assert [entry.kind for entry in the_history(ledger, 1)] == ["created"]


def test_a_duplicate_tells_the_state_of_the_task_and_the_warnings_of_this_document(ledger: Ledger) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID, x=1)
    one(ledger, written(spec))
    with ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET state = 'failed'")
    receipt = one(ledger, written(spec))
    assert receipt == Receipt("duplicate", EVENT_ID, 1, "failed", ('unknown field "x" kept',))


def test_within_one_batch_the_first_document_of_an_event_is_created_and_counts(ledger: Ledger) -> None:
    first = a_spec(triggering_event_id=EVENT_ID, title="first")
    documents = [first, first | {"title": "second"}, first, a_spec(), first | {"title": " first "}]
    receipts = ingest(ledger, map(written, documents))
    assert outcomes(receipts) == ["created", "conflict", "duplicate", "created", "duplicate"]
    assert [receipt.seq for receipt in receipts] == [1, 1, 1, 2, 1]
    assert the_task(ledger).title == "first"
    assert the_task(ledger).sightings == {"cli": 3}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_first_sighting_counts_whatever_brought_it(ledger: Ledger, transport: Transport) -> None:
    spec = written(a_spec(triggering_event_id=EVENT_ID))
    ingest(ledger, [spec, spec, spec], transport=transport)
    assert the_task(ledger).sightings == {transport: 3}


def test_what_an_earlier_release_stored_with_another_digest_is_a_duplicate_still(ledger: Ledger) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID, labels=["a"], x={"y": [1]})
    one(ledger, written(spec))
    with ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET digest = x'00'")
    assert outcomes(ingest(ledger, [written(spec), written(spec)])) == ["duplicate", "duplicate"]
    with ledger.read() as connection:
        (digest,) = connection.execute("SELECT digest FROM tasks").fetchone()
    assert len(digest) == 32
    assert one(ledger, written(spec | {"x": {"y": [2]}})).outcome == "conflict"


def test_other_content_is_a_conflict_also_where_the_digest_is_of_an_earlier_release(ledger: Ledger) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID)
    one(ledger, written(spec))
    with ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET digest = x'00'")
    assert one(ledger, written(spec | {"title": "other"})).outcome == "conflict"
    with ledger.read() as connection:
        assert connection.execute("SELECT digest FROM tasks").fetchone() == (b"\0",)


# --- conflict -------------------------------------------------------------------------------------------------------


def test_a_conflict_is_kept_verbatim_with_the_fields_that_differ(ledger: Ledger, clock: MovedClock) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID, priority="low", x=1)
    one(ledger, written(spec))
    clock.move(60)
    other = b" " + written(spec | {"priority": "high", "description": "new", "x": 1.0}) + b"\n"
    receipt = one(ledger, Document(other, Place("in.ndjson", 2)), transport="rest")
    differs = "differs from what this event ID stands for already"
    errors = tuple(FieldProblem(field, differs) for field in ("description", "priority", "x"))
    assert receipt == Receipt("conflict", EVENT_ID, 1, "pending", (), 1, errors, Place("in.ndjson", 2))
    assert receipt.to_json()["errors"][0] == {"field": "description", "problem": differs}
    assert the_reject(ledger, 1) == rejects.Reject(
        id=1,
        kind="conflict",
        state="open",
        count=1,
        event_id=EVENT_ID,
        errors=errors,
        place=Place("in.ndjson", 2),
        transport="rest",
        first_at="2026-03-01T09:01:00.000Z",
        last_at="2026-03-01T09:01:00.000Z",
        closed_at=None,
        replayed_as=None,
        length=len(other),
        sha256=hashlib.sha256(other).hexdigest(),
        raw=other,
    )
    task = the_task(ledger)
    assert (task.priority, task.description, task.sightings) == ("low", "", {"cli": 1})
    entry = the_history(ledger, 1)[1]
    assert (entry.kind, entry.detail["reject_id"]) == ("conflict", 1)
    assert entry.detail["fields"] == ["description", "priority", "x"]


def test_the_same_conflict_again_raises_a_count_and_tells_no_second_history(ledger: Ledger, clock: MovedClock) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID)
    other = written(spec | {"priority": "high"})
    assert outcomes(ingest(ledger, [written(spec), other, other])) == ["created", "conflict", "conflict"]
    clock.move(60)
    assert one(ledger, other, transport="rest").reject_id == 1
    reject = the_reject(ledger, 1)
    assert (reject.count, reject.transport) == (3, "rest")
    assert (reject.first_at, reject.last_at) == ("2026-03-01T09:00:00.000Z", "2026-03-01T09:01:00.000Z")
    assert [entry.kind for entry in the_history(ledger, 1)] == ["created", "conflict"]


@pytest.mark.parametrize(
    ("changes", "looks_like_two"),
    [
        ({"source_id": "other"}, True),
        ({"title": "other"}, True),
        ({"target_repo": "acme/other"}, True),
        ({"description": "other"}, False),
        ({"labels": ["other"], "due_in_days": 1}, False),
    ],
)
def test_a_conflict_that_looks_like_a_second_task_says_so(
    ledger: Ledger, changes: dict[str, Any], looks_like_two: bool
) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID)
    one(ledger, written(spec))
    errors = one(ledger, written(spec | changes)).errors
    assert (FieldProblem("triggering_event_id", SECOND_TASK) in errors) is looks_like_two


# --- invalid --------------------------------------------------------------------------------------------------------


def test_an_invalid_document_is_kept_verbatim_with_every_reason(ledger: Ledger) -> None:
    raw = written(a_spec(title="", priority="High", triggering_event_id=EVENT_ID))
    receipt = one(ledger, Document(raw, Place(None, None, 7)), transport="nats")
    assert receipt == Receipt("invalid", EVENT_ID, None, None, (), 1, receipt.errors, Place(None, None, 7))
    assert [error.field for error in receipt.errors] == ["title", "priority"]
    assert receipt.to_json() == {
        "outcome": "invalid",
        "event_id": EVENT_ID,
        "seq": None,
        "state": None,
        "warnings": [],
        "reject_id": 1,
        "errors": [{"field": error.field, "problem": error.problem} for error in receipt.errors],
        "index": 7,
    }
    reject = the_reject(ledger, 1)
    assert (reject.kind, reject.raw, reject.errors, reject.whole) == ("invalid", raw, receipt.errors, True)
    assert the_counts(ledger).total == 0


def test_the_same_bytes_are_never_stored_twice(ledger: Ledger) -> None:
    receipts = ingest(ledger, [b"{", b"{ ", b"{", "{"])
    assert [receipt.reject_id for receipt in receipts] == [1, 2, 1, 1]
    assert (the_reject(ledger, 1).count, the_reject(ledger, 2).count) == (3, 1)


def test_of_what_is_over_the_limit_the_head_the_length_and_the_hash_are_kept(ledger: Ledger) -> None:
    sha256 = "ab" * 32
    document = Document(b"{" * 65_536, Place("big.json", 1), Oversize(2_000_000, sha256, 1_048_576))
    receipts = ingest(ledger, [document, document._replace(raw=b"the hash decides")])
    assert [receipt.reject_id for receipt in receipts] == [1, 1]
    reject = the_reject(ledger, 1)
    assert (reject.length, reject.sha256, reject.raw) == (2_000_000, sha256, b"{" * 65_536)
    assert (reject.whole, reject.count) == (False, 2)


def test_a_document_over_the_limit_is_refused_however_it_was_handed_in(ledger: Ledger) -> None:
    fits = written(a_spec(description="x" * 50_000)).ljust(100_000)
    receipts = ingest(ledger, [fits, fits + b" ", (fits + b" ").decode(), Document(fits + b" ")], max_document=100_000)
    assert outcomes(receipts) == ["created", "invalid", "invalid", "invalid"]
    assert receipts[1].errors[0].problem.startswith("is 100,001 bytes long; 100,000 are allowed")
    reject = the_reject(ledger, receipts[1].reject_id)
    assert (reject.count, reject.length, len(reject.raw), reject.whole) == (3, 100_001, 65_536, False)
    assert reject.sha256 == hashlib.sha256(fits + b" ").hexdigest()


def test_what_the_reader_knows_of_a_document_over_the_limit_is_kept_whatever_the_limit(ledger: Ledger) -> None:
    """The head that was read may itself be longer than a small limit; the length and the hash are of the whole."""
    document = Document(b"{" * 65_536, oversize=Oversize(2_000_000, "ab" * 32, 10_000))
    (receipt,) = ingest(ledger, [document], max_document=10_000)
    reject = the_reject(ledger, receipt.reject_id)
    assert (reject.length, reject.sha256) == (2_000_000, "ab" * 32)


def test_the_name_of_a_file_may_be_no_unicode(ledger: Ledger) -> None:
    place = Place("caf\udce9.json", 1)
    receipt = one(ledger, Document(b"{", place))
    assert the_reject(ledger, receipt.reject_id).place == place


def test_a_name_that_is_no_text_is_refused_not_raised(ledger: Ledger) -> None:
    """One such document must not take the rest of its batch along."""
    poison = [written(a_spec(**{"\ud800": 1})), written(a_spec(x="a\n")), written(a_spec(source_id="a\n"))]
    receipts = ingest(ledger, [written(a_spec()), *poison], strict=True)
    assert outcomes(receipts) == ["created", "invalid", "invalid", "invalid"]


def test_strict_refuses_unknown_fields_and_takes_all_else(ledger: Ledger) -> None:
    documents = [written(a_spec(x=1)), written(a_spec())]
    assert outcomes(ingest(ledger, documents, strict=True)) == ["invalid", "created"]
    assert outcomes(ingest(ledger, documents)) == ["created", "duplicate"]


# --- counters -------------------------------------------------------------------------------------------------------


def test_receipts_are_counted_by_transport_and_outcome_and_add_up(ledger: Ledger) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID)
    batch = [written(spec), written(spec), written(spec | {"title": "other"}), b"{"]
    ingest(ledger, batch)
    ingest(ledger, batch[2:], transport="nats")
    counts = the_counts(ledger)
    assert counts.received == {"created": 1, "duplicate": 1, "conflict": 2, "invalid": 2}
    assert counts.received.keys() == set(OUTCOMES)
    assert counts.total == counts.received["created"] == sum(counts.states.values())
    with ledger.read() as connection:
        by_transport = connection.execute("SELECT transport, sum(n) FROM received GROUP BY 1 ORDER BY 1").fetchall()
    assert by_transport == [("cli", 4), ("nats", 2)]


# --- replay ---------------------------------------------------------------------------------------------------------


def test_what_was_refused_by_stricter_rules_is_stored_when_it_is_replayed(ledger: Ledger, clock: MovedClock) -> None:
    raw = written(a_spec(triggering_event_id=EVENT_ID, x=1))
    refused = one(ledger, Document(raw, Place("in.ndjson", 5)), transport="nats", strict=True)
    assert refused.reject_id is not None
    clock.move(60)
    receipt = replay(ledger, refused.reject_id)
    assert (receipt.outcome, receipt.event_id, receipt.place) == ("created", EVENT_ID, Place("in.ndjson", 5))
    assert the_task(ledger).sightings == {"nats": 1}
    reject = the_reject(ledger, refused.reject_id)
    assert (reject.state, reject.replayed_as, reject.closed_at) == ("replayed", EVENT_ID, "2026-03-01T09:01:00.000Z")
    with pytest.raises(UsageError, match=r"was replayed at 2026-03-01T09:01:00\.000Z"):
        replay(ledger, refused.reject_id)


def test_what_is_refused_again_stays_open(ledger: Ledger) -> None:
    one(ledger, b"{")
    receipt = replay(ledger, 1)
    assert (receipt.outcome, receipt.reject_id) == ("invalid", 1)
    assert receipt.errors
    assert the_reject(ledger, 1).state == "open"


def test_a_conflict_is_replayed_as_a_second_task_only(ledger: Ledger) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID)
    other = spec | {"title": "second «task»", "source_id": "é", "n": 10**25, "f": 1.50}
    ingest(ledger, [written(spec), written(other)])
    with pytest.raises(UsageError, match="belongs to a task") as caught:
        replay(ledger, 1)
    assert "--as-new" in str(caught.value.hint)
    receipt = replay(ledger, 1, as_new=True)
    new_id = str(uuid5(UUID(EVENT_ID), "é"))
    assert (receipt.outcome, receipt.event_id, receipt.seq) == ("created", new_id, 2)
    task = the_task(ledger, new_id)
    assert (task.title, task.extra) == ("second «task»", {"n": 10**25, "f": 1.5})
    assert (the_reject(ledger, 1).state, the_reject(ledger, 1).replayed_as) == ("replayed", new_id)


def test_a_conflict_whose_second_task_is_there_already_is_closed_as_that_one(ledger: Ledger) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID)
    second = spec | {"source_id": "second"}
    derived = second | {"triggering_event_id": str(uuid5(UUID(EVENT_ID), "second"))}
    ingest(ledger, [written(spec), written(derived), written(second)])
    assert replay(ledger, 1, as_new=True).outcome == "duplicate"
    assert the_reject(ledger, 1).replayed_as == derived["triggering_event_id"]


def test_a_second_task_that_conflicts_in_its_turn_leaves_the_reject_open(ledger: Ledger) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID)
    derived = a_spec(triggering_event_id=str(uuid5(UUID(EVENT_ID), "disk-watch")), title="there already")
    ingest(ledger, [written(spec), written(derived), written(spec | {"title": "other"})])
    receipt = replay(ledger, 1, as_new=True)
    assert (receipt.outcome, receipt.seq) == ("conflict", 2)
    assert the_reject(ledger, 1).state == "open"
    assert the_reject(ledger, receipt.reject_id).event_id == derived["triggering_event_id"]


def test_what_was_dropped_or_cut_off_is_not_replayed(ledger: Ledger) -> None:
    ingest(ledger, [b"{", Document(b"x" * 100, oversize=Oversize(2_000_000, "ab" * 32, 1_048_576))])
    with ledger.write() as tx:
        rejects.close(tx, 1, "dropped")
    with pytest.raises(UsageError, match="was dropped at 2026"):
        replay(ledger, 1)
    with pytest.raises(UsageError, match="only its first 100 bytes were kept") as caught:
        replay(ledger, 2)
    assert caught.value.hint
    for unknown in (3, 0, -1, 2**63, 10**30):
        with pytest.raises(NotFound, match="no reject"):
            replay(ledger, unknown)


# --- replaces -------------------------------------------------------------------------------------------------------


def test_input_that_sets_a_reject_right_closes_it(ledger: Ledger) -> None:
    one(ledger, b"{")
    mended = [b"{ ", written(a_spec(triggering_event_id=EVENT_ID)), written(a_spec())]
    ingest(ledger, mended, replaces=1)
    assert (the_reject(ledger, 1).state, the_reject(ledger, 1).replayed_as) == ("replayed", EVENT_ID)
    assert the_reject(ledger, 2).state == "open"


def test_a_reject_is_set_right_once_also_over_several_batches(ledger: Ledger) -> None:
    one(ledger, b"{")
    batches = [([Document(b"{ ")], True), ([Document(written(a_spec(triggering_event_id=EVENT_ID)))], True)]
    batches.append(([Document(written(a_spec()))], False))
    assert [outcomes(receipts) for receipts in ingest_each(ledger, batches, transport="cli", replaces=1)] == [
        ["invalid"],
        ["created"],
        ["created"],
    ]
    assert the_reject(ledger, 1).replayed_as == EVENT_ID


def test_input_that_is_refused_in_its_turn_closes_nothing(ledger: Ledger) -> None:
    one(ledger, b"{")
    assert outcomes(ingest(ledger, [b"{", b"["], replaces=1)) == ["invalid", "invalid"]
    assert (the_reject(ledger, 1).state, the_reject(ledger, 1).count) == ("open", 2)


def test_what_a_person_dropped_stays_dropped(ledger: Ledger) -> None:
    one(ledger, b"{")
    with ledger.write() as tx:
        rejects.close(tx, 1, "dropped")
    with pytest.raises(UsageError, match="reject 1 was dropped at 2026"):
        ingest(ledger, [b"{", written(a_spec())], replaces=1)
    assert the_counts(ledger).total == 0
    one(ledger, b"{")
    assert (the_reject(ledger, 1).state, the_reject(ledger, 1).count) == ("dropped", 2)


def test_where_there_is_no_such_reject_nothing_is_stored(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="no reject 7"):
        ingest(ledger, [written(a_spec())], replaces=7)
    assert the_counts(ledger).total == 0
    assert the_counts(ledger).received == dict.fromkeys(OUTCOMES, 0)


# --- batch after batch ----------------------------------------------------------------------------------------------


def test_batches_are_answered_in_order_and_only_once_they_are_on_the_disk(ledger: Ledger) -> None:
    specs = [written(a_spec()) for _ in range(40)]
    batches = [([Document(raw) for raw in specs[n : n + 4]], n % 3 > 0) for n in range(0, 40, 4)]
    seen = 0
    with Ledger(ledger.path) as somebody_else:
        for receipts in ingest_each(ledger, batches, transport="cli"):
            assert [receipt.seq for receipt in receipts] == list(range(seen + 1, seen + 5))
            seen += 4
            assert the_counts(somebody_else).total >= seen
    assert outcomes(ingest(ledger, specs)) == ["duplicate"] * 40


def test_a_batch_that_waits_for_more_input_is_answered_at_once(ledger: Ledger) -> None:
    asked: list[int] = []

    def slowly() -> Iterator[tuple[list[Document], bool]]:
        for n in range(3):
            asked.append(n)
            yield [Document(written(a_spec()))], False

    answers = ingest_each(ledger, slowly(), transport="cli")
    for n in range(3):
        next(answers)
        assert asked == list(range(n + 1))


def test_what_was_answered_behind_is_stored_though_nobody_asks_on(ledger: Ledger) -> None:
    batches = iter([([Document(written(a_spec()))], True), ([Document(written(a_spec()))], True)])
    answers = ingest_each(ledger, batches, transport="cli")
    (first,) = next(answers)
    assert first.seq == 1
    answers.close()  # type: ignore[attr-defined] # a generator has it
    ledger.close()
    assert the_counts(ledger).total == 1


def test_the_ledger_stamps_what_it_writes_with_its_clock_and_its_run(ledger: Ledger) -> None:
    one(ledger, written(a_spec()))
    with ledger.read() as connection:
        row = connection.execute("SELECT created_at, run FROM tasks").fetchone()
    assert row == ("2026-03-01T09:00:00.000Z", "run-1")


def test_a_task_that_is_stored_is_judged_the_same_by_the_rules_of_today(ledger: Ledger) -> None:
    spec = a_spec(triggering_event_id=EVENT_ID, x={"a": [1.0, "é"]}, labels=["B", "a"], due_in_days=0)
    one(ledger, written(spec))
    document = json.dumps(spec | {"title": "  " + spec["title"]})
    with ledger.write() as tx:
        tasks.renew_digest(tx, 1, b"")
    assert one(ledger, document).outcome == "duplicate"
