"""Where messages go: into the ledger and, where several hosts share the consumer, into the bucket of claims.

What neither can take now is tried again until they can.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from issue_core.errors import (
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
    LedgerMoved,
    LedgerTooNew,
    LedgerUnreachable,
    NatsError,
    NatsMissing,
    NatsRefused,
    NotALedger,
)
from issue_core.ingestion import store_judged
from issue_core.ledger import claims
from issue_core.ledger.its_file import ItsFile
from issue_core.task import MAX_DOCUMENT
from issue_core.transports.nats.holding import GRACE, join, settle, settle_held
from issue_core.transports.nats.messages import judged
from issue_core.transports.nats.waiting import pause, unless
from issue_core.transports.nats.wanted import MAX_MESSAGE

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from issue_core.config import NatsSettings
    from issue_core.ledger import Ledger
    from issue_core.task import Accepted, Receipt, Rejected
    from issue_core.transports.nats.claims import Bucket
    from issue_core.transports.nats.connection import Link

    Say = Callable[[str], None]

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds between two tries at what failed; they double in between."""

ROOM = 1024 * 1024
"""Bytes that the ledger must be able to grow by, at the start and after a failure: a whole batch of usual messages."""

SETTLE_EVERY = 60.0
"""Seconds between two looks at what is held."""

LOOK_EVERY = 1.0
"""Seconds between two looks at whether there is a bucket by now."""

SEVERAL = 4
"""How often in a row the bucket fails before that is said: a cluster that has lost a leader needs some seconds."""

_T = TypeVar("_T")

_NOT_BY_WAITING = (LedgerCorrupt, LedgerMoved, LedgerTooNew, NotALedger)


@dataclass(frozen=True, slots=True)
class Rules:
    """How documents are judged: ``strict`` refuses unknown fields; ``max_document`` is in bytes."""

    strict: bool = False
    max_document: int = MAX_DOCUMENT


@dataclass(slots=True)
class Trouble:
    """What fails for a while: said once, when it has failed ``after`` times in a row, and once when it is over."""

    say: Say
    over: str
    after: int = 1
    failures: int = 0

    def met(self, text: str) -> None:
        """It fails, for what ``text`` says."""
        self.failures += 1
        if self.failures == self.after:
            self.say(text)

    def ended(self) -> None:
        """It works."""
        if self.failures >= self.after:
            self.say(self.over)
        self.failures = 0


@dataclass(slots=True)
class Store:
    """The ledger and the bucket together, for one task at a time. ``batch`` messages must have room.

    ``wait`` waits for some seconds, and gives whether to go on after that. ``able`` hears what keeps it from taking
    more, each time that this is looked at; empty where nothing does.
    """

    link: Link
    settings: NatsSettings
    ledger: Ledger
    rules: Rules
    batch: int
    stop: asyncio.Event
    say: Say
    wait: Callable[[float], Coroutine[Any, Any, bool]]
    able: Callable[[str], None]
    bucket: Bucket | None = None
    _file: ItsFile = field(init=False)
    _ledger: Trouble = field(init=False)
    _claims: Trouble = field(init=False)
    _looked_at: float = 0.0

    def __post_init__(self) -> None:
        """Nothing has failed yet."""
        self._file = ItsFile(self.ledger)
        self._ledger = Trouble(self.say, f"ledger {self.ledger.path}: it can be written again")
        self._claims = Trouble(self.say, "NATS: tasks can be claimed again", SEVERAL)

    async def is_ready(self) -> bool:
        """Whether the ledger and the bucket can be written now.

        Raises:
            ConfigError: claims would be lost in the bucket as it is.
            NatsRefused: this user may not write to the bucket, or not see whether there is one.
            LedgerError: the ledger is damaged, or no ledger.
        """
        try:
            await asyncio.to_thread(self._prove)
        except _NOT_BY_WAITING:
            raise
        except LedgerError as error:
            await self._ledger_fails(error)
            return False
        self._ledger.ended()
        is_ready = await self._tried(self._prove_bucket()) is not None
        if is_ready:
            self.able("")
        return is_ready

    async def take(self, messages: Sequence[Msg]) -> list[Receipt] | None:
        """The receipts, once all is on the disk, and it is settled whose the tasks are.

        None if it was told to stop before; what is stored by then is settled later. Raises what :meth:`is_ready` does.
        """
        items = await asyncio.to_thread(self._judged, messages)
        if items is None:
            return None
        wait = FIRST_WAIT
        receipts: list[Receipt] | None = None
        while True:
            try:
                if receipts is None:
                    receipts = await asyncio.to_thread(self._store, items)
                settled = await self._tried(self._settled(receipts))
            except _NOT_BY_WAITING:
                raise
            except LedgerError as error:
                await self._ledger_fails(error)
            else:
                self._ledger.ended()
                if settled is not None:
                    return settled
            if not await self.wait(wait):
                return None
            wait = min(wait * 2, LONGEST_WAIT)

    async def settle_again_and_again(self, moved: Callable[[], None]) -> None:
        """Settle what is held, at the start and every minute, until told to stop; ``moved`` hears that some was.

        What fails is tried again soon; whoever pulls meets the same, and says so.
        """
        with self.ledger.beside() as ledger:
            while not self.stop.is_set():
                seconds = LOOK_EVERY
                if self.bucket and self.link.client.is_connected:
                    try:
                        if await settle_held(self.bucket, ledger, self.stop):
                            moved()
                        seconds = SETTLE_EVERY
                    except (NatsError, LedgerError):
                        seconds = LONGEST_WAIT
                await pause(self.stop, seconds)

    def _prove(self) -> None:
        self._file.require()
        if self._ledger.failures:
            # A quota or a limit for files shows only when something is written.
            self.ledger.prove(ROOM)
        prove(self.ledger, self.batch)

    def _judged(self, messages: Sequence[Msg]) -> list[Accepted | Rejected] | None:
        """Each message judged; None if it was told to stop, and that takes long."""
        items: list[Accepted | Rejected] = []
        over = float("inf")
        for each in messages:
            if self.stop.is_set():
                over = min(over, time.monotonic() + GRACE)
            if time.monotonic() > over:
                return None
            items.append(judged(each, strict=self.rules.strict, max_document=self.rules.max_document))
        return items

    def _store(self, items: list[Accepted | Rejected]) -> list[Receipt]:
        self._file.require()
        return store_judged(self.ledger, items, transport="nats")

    def _is_marked(self) -> bool:
        with self.ledger.read() as connection:
            return claims.is_marked(connection)

    def count_held(self) -> int:
        """How many tasks wait for their claim."""
        with self.ledger.read() as connection:
            return claims.count_held(connection)

    async def _prove_bucket(self) -> bool:
        now = time.monotonic()
        if self.bucket is None and now - self._looked_at > LOOK_EVERY:
            self._looked_at = now
            self.bucket = await join(self.link, self.settings, self.ledger, self.stop)
            if self.bucket:
                self.say(f"NATS: tasks are claimed in the bucket {self.bucket.name}, as ledger {self.bucket.us.own}")
        if self.bucket:
            try:
                await unless(self.stop, self.bucket.prove())
            except NatsMissing:
                # Another one may come in its place, and must be looked at as this one was.
                self.bucket, self._looked_at = None, 0.0
                raise
        return True

    async def _settled(self, receipts: Sequence[Receipt]) -> list[Receipt] | None:
        if self.bucket is None:
            if not await asyncio.to_thread(self._is_marked):
                return list(receipts)
            # Somebody else has marked the ledger in this moment.
            self._looked_at = 0.0
            await self._prove_bucket()
        if self.bucket is None:
            return None
        tasks = await asyncio.to_thread(self._claimable, receipts)
        settled = await settle(self.bucket, self.ledger, tasks, self.stop)
        if settled is None:
            return None
        return [each._replace(state=settled[each.seq]) if each.seq in settled else each for each in receipts]

    def _claimable(self, receipts: Sequence[Receipt]) -> list[claims.Claimable]:
        with self.ledger.read() as connection:
            return claims.claimable(connection, sorted({each.seq for each in receipts if each.seq is not None}))

    async def _tried(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """What ``work`` with the bucket gives; None if it cannot be done now."""
        try:
            done = await work
        except NatsRefused:
            raise
        except NatsError as error:
            if self.link.closed.is_set():
                raise self.link.why(otherwise="the connection is closed") from None
            self.able(error.message)
            if self.link.client.is_connected:
                self._claims.met(
                    f"NATS: {error.message} Nothing is taken until tasks can be claimed, and nothing is lost"
                )
            return None
        self._claims.ended()
        return done

    async def _ledger_fails(self, error: LedgerError) -> None:
        self.able(error.message)
        self._ledger.met(f"{error.message}; nothing is taken from NATS until it can be written, and nothing is lost")
        with suppress(LedgerError):
            await asyncio.to_thread(self.ledger.close)  # what is wrong may be the connection


def prove(ledger: Ledger, batch: int) -> None:
    """See that the ledger can be written, and has room for ``batch`` messages.

    Raises:
        LedgerError: it cannot, or has not.
    """
    with ledger.write():
        pass
    try:
        room = os.statvfs(ledger.path.parent)
    except OSError as error:
        raise LedgerUnreachable(f"ledger {ledger.path}: {error.strerror}", hint="Check the path.") from None
    needed = 2 * batch * MAX_MESSAGE  # in the log and in the ledger itself
    if room.f_bavail * room.f_frsize < needed:
        raise LedgerFull(
            f"ledger {ledger.path}: less than {needed // 2**20 or 1} MiB are left on its disk",
            hint="Make room; the messages stay in the stream until then.",
        )
