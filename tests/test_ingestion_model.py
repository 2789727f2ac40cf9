"""Whatever is ingested, replayed and dropped in whatever order: the ledger holds what a plain dictionary would."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from issue_core.errors import UsageError
from issue_core.ingestion import ingest, rehearse, replay
from issue_core.ledger import Ledger, queries, rejects
from issue_core.ledger.rehearsal import Rehearsal
from issue_core.task import OUTCOMES, TRANSPORTS, Receipt, Transport
from tests.support.specs import a_spec, an_event_id, written


def _pool() -> list[bytes]:
    """Documents that meet each other: few event IDs, several contents of each, several spellings of those."""
    pool = [b"{", b"[]", written(a_spec(title="", triggering_event_id=an_event_id(1)))]
    for number in (1, 2, 3):
        for title, source_id in (("one", "a"), ("two", "a"), ("two", "b")):
            spec = a_spec(triggering_event_id=an_event_id(number), title=title, source_id=source_id)
            pool += [written(spec), b" " + written(spec), written(spec | {"x": number})]
    return pool


POOL = _pool()
batches = st.lists(st.sampled_from(POOL), max_size=6)
transports = st.sampled_from(TRANSPORTS)


@dataclass
class Kept:
    """A reject, as the dictionary knows it."""

    raw: bytes
    kind: str
    transport: Transport
    count: int = 1
    state: str = "open"
    replayed_as: str | None = None


@dataclass
class Dictionary:
    """The whole of ingest in its plainest form, for the documents of the pool."""

    tasks: dict[str, Any] = field(default_factory=dict)
    sightings: dict[str, Counter[str]] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)
    received: Counter[tuple[str, str]] = field(default_factory=Counter)

    def ingest(self, raw: bytes, transport: Transport, strict: bool) -> tuple[str, str | None]:
        outcome, event_id = self._store(raw, transport, strict)
        self.received[transport, outcome] += 1
        if outcome in ("conflict", "invalid"):
            self._keep(raw, outcome, transport)
        elif event_id is not None:
            self.sightings.setdefault(event_id, Counter())[transport] += 1
        return outcome, event_id

    def _store(self, raw: bytes, transport: Transport, strict: bool) -> tuple[str, str | None]:
        spec = self.spec(raw)
        if spec is None or (strict and "x" in spec):
            return "invalid", None
        event_id = spec.pop("triggering_event_id")
        if event_id not in self.tasks:
            self.tasks[event_id] = spec
            return "created", event_id
        return ("duplicate" if self.tasks[event_id] == spec else "conflict"), event_id

    def _keep(self, raw: bytes, kind: str, transport: Transport) -> None:
        for kept in self.kept:
            if kept.raw == raw:
                kept.kind = kind
                kept.count += 1
                kept.transport = transport
                return
        self.kept.append(Kept(raw, kind, transport))

    @staticmethod
    def spec(raw: bytes) -> dict[str, Any] | None:
        """The TaskSpec that ``raw`` is, if it is one."""
        if raw in POOL[:3]:
            return None
        spec: dict[str, Any] = json.loads(raw)
        return spec


def as_new(raw: bytes) -> bytes:
    """The same document under an event ID of its own."""
    spec = json.loads(raw)
    spec["triggering_event_id"] = str(uuid5(UUID(spec["triggering_event_id"]), spec["source_id"]))
    return json.dumps(spec).encode()


class IngestMachine(RuleBasedStateMachine):
    """Does the same to a ledger and to the dictionary, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(Path(self.folder.name, "ledger.db"))
        self.plain = Dictionary()

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    @rule(batch=batches, transport=transports, strict=st.booleans())
    def ingests_a_batch(self, batch: list[bytes], transport: Transport, strict: bool) -> None:
        receipts = ingest(self.ledger, batch, transport=transport, strict=strict)
        expected = [self.plain.ingest(raw, transport, strict) for raw in batch]
        assert [receipt.outcome for receipt in receipts] == [outcome for outcome, _ in expected]
        assert all(
            receipt.event_id == event_id
            for receipt, (outcome, event_id) in zip(receipts, expected, strict=True)
            if outcome != "invalid"
        )

    @rule(data=st.data(), new=st.booleans())
    def replays_a_reject(self, data: st.DataObject, new: bool) -> None:
        if not self.plain.kept:
            return
        n = data.draw(st.integers(0, len(self.plain.kept) - 1))
        kept = self.plain.kept[n]
        if kept.state != "open" or (kept.kind == "conflict" and not new):
            try:
                replay(self.ledger, n + 1, as_new=new)
            except UsageError:
                return
            raise AssertionError("replayed what cannot be replayed")
        receipt = replay(self.ledger, n + 1, as_new=new)
        if self.plain.spec(kept.raw) is None:
            assert (receipt.outcome, receipt.reject_id) == ("invalid", n + 1)
            return
        outcome, event_id = self.plain.ingest(as_new(kept.raw) if new else kept.raw, kept.transport, strict=False)
        assert (receipt.outcome, receipt.event_id) == (outcome, event_id)
        if outcome != "conflict":
            kept.state, kept.replayed_as = "replayed", event_id

    @rule(data=st.data())
    def drops_a_reject(self, data: st.DataObject) -> None:
        if not self.plain.kept:
            return
        n = data.draw(st.integers(0, len(self.plain.kept) - 1))
        with self.ledger.write() as tx:
            rejects.close(tx, n + 1, "dropped")
        if self.plain.kept[n].state == "open":
            self.plain.kept[n].state = "dropped"

    @rule()
    def closes_the_ledger_and_opens_it_again(self) -> None:
        self.ledger.close()

    @invariant()
    def the_tasks_are_the_same(self) -> None:
        with self.ledger.read() as connection:
            found = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=False))
        assert [task.event_id for task in found] == list(self.plain.tasks)
        assert [task.seq for task in found] == list(range(1, len(found) + 1))
        for task in found:
            spec = self.plain.tasks[task.event_id]
            assert (task.title, task.source_id) == (spec["title"], spec["source_id"])
            assert task.extra == ({"x": spec["x"]} if "x" in spec else {})
            assert task.sightings == self.plain.sightings[task.event_id]

    @invariant()
    def the_rejects_are_the_same(self) -> None:
        with self.ledger.read() as connection:
            found = [rejects.get(connection, n + 1) for n in range(len(self.plain.kept))]
            n_open = rejects.count_open(connection)
            listed = rejects.page(connection, state=None, limit=1000)
        assert [Kept(r.raw, r.kind, r.transport, r.count, r.state, r.replayed_as) for r in found] == self.plain.kept
        assert n_open == sum(kept.state == "open" for kept in self.plain.kept)
        assert [reject.id for reject in reversed(listed)] == [reject.id for reject in found]

    @invariant()
    def the_counters_add_up(self) -> None:
        with self.ledger.read() as connection:
            counts = queries.counts(connection)
            by_both = {(row[0], row[1]): row[2] for row in connection.execute("SELECT * FROM received")}
        assert by_both == self.plain.received
        assert counts.received == {name: sum(n for (_, o), n in by_both.items() if o == name) for name in OUTCOMES}
        assert counts.total == counts.received["created"] == len(self.plain.tasks) == sum(counts.states.values())
        assert sum(sum(seen.values()) for seen in self.plain.sightings.values()) == (
            counts.received["created"] + counts.received["duplicate"]
        )


TestIngest = IngestMachine.TestCase
TestIngest.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


# --- the dry run ----------------------------------------------------------------------------------------------------


def _without_what_only_a_ledger_can_say(receipt: Receipt, known: set[str]) -> Receipt:
    """``seq`` and ``state`` of what the dry run alone has met, and the reject's ID, are not known to it."""
    receipt = receipt._replace(reject_id=None)
    return receipt if receipt.event_id in known else receipt._replace(seq=None, state=None)


@settings(max_examples=60, deadline=None)
@given(
    before=batches,
    batch_after_batch=st.lists(batches, max_size=3),
    strict=st.booleans(),
    old_digests=st.booleans(),
)
def test_a_dry_run_says_what_ingest_then_answers_and_writes_nothing(
    before: list[bytes], batch_after_batch: list[list[bytes]], strict: bool, old_digests: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "ledger.db")) as ledger:
        known = {receipt.event_id for receipt in ingest(ledger, before) if receipt.outcome == "created"}
        if old_digests and before:
            with ledger.write() as tx:
                tx.connection.execute("UPDATE tasks SET digest = x'00'")
        ledger.close()
        files = _files(folder)
        rehearsal = Rehearsal(ledger)
        said = [list(rehearse(rehearsal, batch, strict=strict)) for batch in batch_after_batch]
        rehearsal.close()
        ledger.close()
        assert _files(folder) == files
        answered = [ingest(ledger, batch, strict=strict) for batch in batch_after_batch]
        ids = {event_id for event_id in known if event_id is not None}
        assert said == [[_without_what_only_a_ledger_can_say(r, ids) for r in receipts] for receipts in answered]


def _files(folder: str) -> dict[str, bytes]:
    """The bytes of every file; SQLite's empty WAL and its index, which hold no data, apart."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if not path.name.endswith(("-wal", "-shm"))}


def test_a_dry_run_on_no_ledger_makes_none() -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "new", "ledger.db")) as ledger:
        rehearsal = Rehearsal(ledger)
        outcomes = [receipt.outcome for receipt in rehearse(rehearsal, POOL)]
        rehearsal.close()
        assert set(outcomes) == {"created", "duplicate", "conflict", "invalid"}
        assert list(Path(folder).iterdir()) == []
