"""Three real ledgers that share a stream, a bucket and a tracker: whatever happens, each event has one issue."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from issue_core import Ledger, ingest
from issue_core.ledger import claims, facets
from issue_core.ledger.claims import Claimable
from issue_core.task import Transport, to_text
from tests.support import tracker as scripted
from tests.support.clock import MovedClock, Patience, RightClock
from tests.support.tracker import Fault
from tests.sync_engine.rig import SOON, Rig, a_backend, doubled

SPACE = UUID("7d2a4c0e-63b0-4a43-9a3f-0d1f9d1f6a55")
EVENTS = tuple(str(uuid5(SPACE, str(n))) for n in range(2))
FIRST, SECOND = EVENTS
HOSTS = range(3)
DAY = 86_400.0

_DOUBT = """
    UPDATE tasks SET in_doubt_since = :since
    WHERE state IN (SELECT value FROM json_each(:states)) AND in_doubt_since IS NULL
"""


class Message(NamedTuple):
    """What stands in the stream: an event, and one of the contents that came under its ID."""

    event_id: str
    title: str


MESSAGES = (Message(FIRST, "a"), Message(SECOND, "a"), Message(SECOND, "b"))


class Claim(NamedTuple):
    """What stands in the bucket."""

    ledger: str
    digest: bytes


class Asked(NamedTuple):
    """A claim on its way to the bucket: of which host, and which run of its process."""

    host: int
    run: int
    claim: Claim
    event_id: str


class Killed(BaseException):
    """What happens to a worker that is killed: it gets to do nothing more."""


class Host:
    """A ledger, and what ``issue subscribe`` has in memory about it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.run = 0
        self.knows: dict[str, Claim] = {}
        self.hand: Message | None = None
        self.is_settled = False
        self.restored_since: str | None = None

    def take(self, message: Message, transport: Transport) -> None:
        """What every way in does: one commit."""
        fields = {"target_repo": "acme/web", "source_type": "rule", "source_id": "disk"}
        document = {**fields, "title": message.title, "triggering_event_id": message.event_id}
        ingest(self.rig.ledger, [json.dumps(document)], transport=transport)
        if self.restored_since:
            self.put_in_doubt("held")

    def put_in_doubt(self, *states: str) -> None:
        """What a restored ledger does with what it has in these states."""
        with self.rig.ledger.write() as tx:
            tx.connection.execute(_DOUBT, {"since": self.restored_since, "states": json.dumps(states)})

    def mark(self) -> None:
        """What subscribe does before it pulls anything."""
        with self.rig.ledger.write() as tx:
            claims.mark(tx)

    def to_claim(self) -> list[Claimable]:
        """What is held, and what is in hand."""
        held = [task for page in claims.held_pages(self.rig.ledger) for task in page]
        with self.rig.ledger.read() as connection:
            in_hand = claims.claimable(connection, self._seqs_in_hand()) if self.hand else []
        return list(dict.fromkeys([*held, *in_hand]))

    def settle(self) -> None:
        """The second commit, for every claim that is known."""
        ours = self.identity()
        assert ours is not None
        with self.rig.ledger.write() as tx:
            seqs = dict(tx.connection.execute("SELECT event_id, seq FROM tasks"))
            known = [(seqs[event_id], claim.ledger) for event_id, claim in self.knows.items()]
            claims.release(tx, [seq for seq, owner in known if owner == ours.own])
            claims.release(tx, [seq for seq, owner in known if owner in ours.former], in_doubt=True)
            for seq, owner in known:
                if owner not in (ours.own, *ours.former):
                    claims.cede(tx, seq, owner)
        if self.hand:
            self.is_settled = self.hand.event_id in self.knows or self.state(self.hand.event_id) == "elsewhere"

    def crash(self) -> None:
        """Lose what is in memory."""
        self.run += 1
        self.knows = {}
        self.hand = None
        self.is_settled = False
        self.rig.ledger.close()

    def identity(self) -> claims.Identity | None:
        """Under which IDs the ledger claims; none where it is not marked."""
        with self.rig.ledger.read() as connection:
            return claims.identity(connection)

    def state(self, event_id: str) -> str | None:
        """The state of the event's task, if there is one."""
        rows = self.rig.sql("SELECT state FROM tasks WHERE event_id = ?", event_id)
        return rows[0][0] if rows else None

    def _seqs_in_hand(self) -> list[int]:
        assert self.hand is not None
        return [seq for (seq,) in self.rig.sql("SELECT seq FROM tasks WHERE event_id = ?", self.hand.event_id)]


hosts = st.sampled_from(HOSTS)


class Hosts(RuleBasedStateMachine):
    """Three hosts and what may happen to them. The first one has its ledger from before there were claims."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.patches = pytest.MonkeyPatch()
        self.clock = MovedClock()
        self.hosts = [Host(self._rig(n)) for n in HOSTS]
        self.tracker = self.hosts[0].rig.tracker
        for host in self.hosts[1:]:
            host.mark()
        self.unread = set(MESSAGES)
        self.bucket: dict[str, Claim] = {}
        self.wire: list[Asked] = []
        self.backup: tuple[int, str] | None = None
        self.was_restored = False

    def _rig(self, n: int) -> Rig:
        folder = self.folder / str(n)
        folder.mkdir()
        rig = Rig(folder, self.patches)
        rig.clock, rig.patience = self.clock, Patience(self.clock)
        rig.ledger = Ledger(folder / "ledger.db", clock=self.clock)
        rig.ledger.prove()
        rig.tracker = scripted.Tracker(self.folder / "tracker.db")
        rig.configure(backends=[a_backend(max_in_flight=1, options={"path": str(rig.tracker.path)})])
        self.patches.setattr(scripted, "clock", RightClock(self.clock))
        self.patches.setattr(scripted, "clients_clock", self.clock)
        return rig

    # --- ways in, the bucket, acknowledgements -----------------------------------------------------------------------

    @rule(n=hosts, message=st.sampled_from(MESSAGES))
    def pull(self, n: int, message: Message) -> None:
        host = self.hosts[n]
        if host.hand is None and (message in self.unread or host.restored_since):
            host.mark()
            host.take(message, "nats")
            host.hand = message

    @rule(n=hosts, message=st.sampled_from(MESSAGES))
    def post(self, n: int, message: Message) -> None:
        self.hosts[n].take(message, "rest")

    @rule(n=hosts)
    def ask(self, n: int) -> None:
        host = self.hosts[n]
        if ours := host.identity():
            for task in host.to_claim():
                asked = Asked(n, host.run, Claim(ours.own, task.digest), task.event_id)
                if asked not in self.wire:
                    self.wire.append(asked)

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), fate=st.sampled_from(("answered", "unanswered", "lost")))
    def arrive(self, data: st.DataObject, fate: Literal["answered", "unanswered", "lost"]) -> None:
        asked = self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))
        if fate != "lost":
            self._arrived(asked, is_answered=fate == "answered")

    def _arrived(self, asked: Asked, *, is_answered: bool) -> None:
        claim = self.bucket.setdefault(asked.event_id, asked.claim)
        host = self.hosts[asked.host]
        if is_answered and host.run == asked.run:
            host.knows[asked.event_id] = claim

    @rule(n=hosts)
    def settle(self, n: int) -> None:
        if self.hosts[n].knows:
            self.hosts[n].settle()

    @rule(n=hosts, is_lost=st.booleans())
    def ack(self, n: int, *, is_lost: bool) -> None:
        host = self.hosts[n]
        if host.hand and host.is_settled:
            if not is_lost:
                self.unread.discard(host.hand)
            host.hand, host.is_settled = None, False

    @rule(n=hosts)
    def crash(self, n: int) -> None:
        self.hosts[n].crash()

    # --- sync --------------------------------------------------------------------------------------------------------

    @rule(n=hosts, fault=st.sampled_from((None, "unknown_before", "unknown_after", "unreachable", "try_later")))
    def sync(self, n: int, fault: Any) -> None:
        # What was attempted before the claims is not promised anything: see docs/many-hosts.md.
        if self.hosts[n].identity():
            self.tracker.lift()
            if fault:
                self.tracker.will(Fault(fault, seconds=SOON - 1))
            self.hosts[n].rig.sync()

    @rule(n=hosts, is_made=st.booleans())
    def sync_and_be_killed(self, n: int, *, is_made: bool) -> None:
        def die(*_: object) -> None:
            raise Killed

        if self.hosts[n].identity():
            self._sync_with("on_answer" if is_made else "on_create", n, die)
            self.hosts[n].crash()

    @rule(n=hosts, other=hosts, message=st.sampled_from(MESSAGES), is_made=st.booleans())
    def sync_while_another_takes_it_too(self, n: int, other: int, message: Message, *, is_made: bool) -> None:
        def step(*_: object) -> None:
            self.patches.setattr(scripted, "on_create", None)
            self.patches.setattr(scripted, "on_answer", None)
            self._turn(other, message)

        if self.hosts[n].identity() and n != other:
            self._sync_with("on_answer" if is_made else "on_create", n, step)

    def _sync_with(self, hook: str, n: int, what: Callable[..., None]) -> None:
        self.tracker.lift()
        self.patches.setattr(scripted, hook, what)
        try:
            self.hosts[n].rig.sync()
        except Killed:
            pass
        finally:
            self.patches.setattr(scripted, "on_create", None)
            self.patches.setattr(scripted, "on_answer", None)

    @rule(n=hosts)
    def retry(self, n: int) -> None:
        self.hosts[n].rig.retry()

    @rule(seconds=st.sampled_from((8.0, SOON, 3 * DAY)))
    def wait(self, seconds: float) -> None:
        self.clock.move(seconds)

    # --- a backup, and the restoring of it ---------------------------------------------------------------------------

    @precondition(lambda self: self.backup is None)
    @rule(n=hosts)
    def back_up(self, n: int) -> None:
        host = self.hosts[n]
        if host.identity():
            with closing(sqlite3.connect(host.rig.ledger.path)) as db, closing(sqlite3.connect(self._copy)) as copy:
                db.backup(copy)
            self.backup = (n, to_text(self.clock.now()))

    @precondition(lambda self: self.backup is not None and not self.was_restored)
    @rule()
    def restore(self) -> None:
        """A new ID, and all in doubt since the backup; from then on its host reads the stream again from the start."""
        assert self.backup is not None
        n, since = self.backup
        host = self.hosts[n]
        host.crash()
        self.clock.move(SOON)  # what the lost ledger had sent has arrived
        shutil.copyfile(self._copy, host.rig.ledger.path)
        for suffix in ("-wal", "-shm"):
            host.rig.ledger.path.with_name(f"ledger.db{suffix}").unlink(missing_ok=True)
        with host.rig.ledger.write() as tx:
            former = claims.identity(tx.connection)
            assert former is not None
            meta = {"ledger_id": str(uuid5(SPACE, former.own)), "former_ledger_ids": json.dumps([former.own])}
            tx.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
        host.restored_since = since
        host.put_in_doubt("held", "pending")
        self.was_restored = True

    @property
    def _copy(self) -> Path:
        return self.folder / "backup.db"

    # --- what must be true -------------------------------------------------------------------------------------------

    @invariant()
    def no_event_has_two_issues(self) -> None:
        assert doubled(self.tracker) == {}

    @invariant()
    def no_two_ledgers_may_make_one_issue(self) -> None:
        for event_id in EVENTS:
            makers = [host for host in self.hosts if host.state(event_id) in ("pending", "synced", "failed")]
            assert len([host for host in makers if host.identity()]) <= 1

    @invariant()
    def what_is_acknowledged_is_the_task_of_the_ledger_that_claimed_it(self) -> None:
        for event_id in {message.event_id for message in set(MESSAGES) - self.unread}:
            owners = [host for host in self.hosts if self._owns(host, event_id)]
            assert len(owners) == 1
            # Until it has read the stream again, a restored ledger may lack what it took after the backup.
            assert owners[0].restored_since or owners[0].state(event_id) not in (None, "elsewhere")

    def _owns(self, host: Host, event_id: str) -> bool:
        ours = host.identity()
        return ours is not None and self.bucket[event_id].ledger in (ours.own, *ours.former)

    @invariant()
    def the_books_balance(self) -> None:
        for host in self.hosts:
            recount = Counter(host.rig.sql("SELECT state, coalesce(backend, ''), target_repo FROM tasks"))
            tallies = {row[:3]: row[3] for row in host.rig.sql("SELECT state, backend, target_repo, n FROM tallies")}
            assert {key: n for key, n in tallies.items() if n} == recount
            blocks = set(host.rig.sql("SELECT value, block FROM facets WHERE facet = 'state'"))
            rows = host.rig.sql("SELECT seq, state FROM tasks")
            assert {(state, seq // facets.BLOCK) for seq, state in rows} <= blocks

    # --- the end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self._come_to_the_end()
        finally:
            self.patches.undo()
            for host in self.hosts:
                host.rig.close()
            shutil.rmtree(self.folder)

    def _come_to_the_end(self) -> None:
        """Once nothing is in the way any more, each event that anybody took has one issue, and nothing waits."""
        self.tracker.lift()
        for host in self.hosts:
            host.crash()
            host.mark()
        for message in MESSAGES:
            for n in HOSTS:
                self._turn(n, message)
        for _ in range(8):
            self.clock.move(1000)
            for host in self.hosts:
                host.rig.retry()
                host.rig.sync()
        self.no_event_has_two_issues()
        assert self.unread == set()
        assert sorted(issue.event_id for issue in self.tracker.issues()) == sorted(EVENTS)
        for event_id in EVENTS:
            states = [host.state(event_id) for host in self.hosts]
            assert states.count("synced") == 1
            assert set(states) <= {"synced", "elsewhere", None}

    def _turn(self, n: int, message: Message) -> None:
        """All that a host does for a message, with nothing in the way."""
        host = self.hosts[n]
        self.pull(n, message)
        self.ask(n)
        for asked in [asked for asked in self.wire if asked.host == n]:
            self.wire.remove(asked)
            self._arrived(asked, is_answered=True)
        if host.knows:
            host.settle()
        self.ack(n, is_lost=False)


UNHURRIED = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def test_each_event_has_one_issue_whichever_hosts_take_it() -> None:
    run_state_machine_as_test(Hosts, settings=settings(UNHURRIED, max_examples=15, stateful_step_count=25))


@pytest.mark.long
def test_each_event_has_one_issue_whichever_hosts_take_it_for_long() -> None:
    run_state_machine_as_test(Hosts, settings=settings(UNHURRIED, max_examples=100, stateful_step_count=40))
