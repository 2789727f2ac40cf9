"""Tasks from NATS into the ledger: a batch is pulled, committed, and answered for only then.

Whatever has an answer from the ledger is acknowledged: what is invalid or a conflict lies among the rejects. What the
ledger cannot take now is kept, and the server told so, until it can: no delivery is used up by a full disk or a lock.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nats import errors

from issue_core.errors import (
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
    LedgerTooNew,
    LedgerUnreachable,
    NatsError,
    NatsMissing,
    NotALedger,
)
from issue_core.ingestion import store_judged
from issue_core.task import MAX_DOCUMENT, Accepted, Document, Place, Receipt, Rejected, to_text
from issue_core.taskspec import judge
from issue_core.transports.nats import names
from issue_core.transports.nats.connection import connected
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.pulling import Puller, is_final, require_safe, require_safe_at_start, unless
from issue_core.transports.nats.wanted import MAX_MESSAGE, SECOND

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from nats.aio.msg import Msg

    from issue_core.config import NatsSettings
    from issue_core.ledger import Ledger
    from issue_core.transports.nats.connection import Link

    Heard = Callable[[Sequence[Receipt]], None]
    Say = Callable[[str], None]

End = Literal["stopped", "empty", "stuck"]
"""How it ended: it was told to, nothing is left, or nothing moves any more."""

BATCH = 256
"""How many messages are pulled at a time, at most."""

KEEP_ALIVE = 10.0
"""Seconds after which the server is told that a message is still being worked on."""

ACK_TIMEOUT = 10.0
"""Seconds that the server has to confirm the acknowledgements of a batch."""

PATIENCE = 180.0
"""Seconds without any progress after which it will not become empty."""

GRACE = 2.0
"""Seconds that a confirmation under way has when it is told to stop."""

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds between two tries at what failed; they double in between."""

SEVERAL = 4
"""How often in a row nothing can be pulled before that is said, and before what is missing is taken for removed."""

_TICK = 0.2  # seconds between two looks at whether to stop, and whether the connection is back
_NOT_BY_WAITING = (LedgerCorrupt, LedgerTooNew, NotALedger)


@dataclass(frozen=True, slots=True)
class Choices:
    """What is chosen for one run. ``strict`` refuses unknown fields; ``max_document`` is in bytes.

    ``until_empty`` ends it when nothing is left, or after ``patience`` seconds in which nothing moved.
    """

    batch: int = BATCH
    strict: bool = False
    max_document: int = MAX_DOCUMENT
    until_empty: bool = False
    patience: float = PATIENCE


async def subscribe(
    settings: NatsSettings,
    ledger: Ledger,
    choices: Choices,
    stop: threading.Event,
    *,
    heard: Heard,
    say: Say,
) -> End:
    """Take tasks until ``stop`` is set. ``heard`` gets the receipts of what was acknowledged, ``say`` what happens.

    While a batch is written to the disk, the next one may come: two of them are in hand at most.

    Raises:
        ConfigError: the stream or the consumer would lose messages, or the settings cannot be.
        NatsError: the stream or the consumer is not there (any more), or the connection has ended for good.
        LedgerError: the ledger cannot be written at the start, or is damaged.
    """
    await asyncio.to_thread(prove, ledger, choices.batch)
    async with _bridged(stop) as stopping, AsyncExitStack() as stack:
        link = await unless(stopping, stack.enter_async_context(connected(settings, patient=True, say=say)))
        if link is None or await unless(stopping, require_safe_at_start(link, settings)) is None:
            return "stopped"
        try:
            puller = await stack.enter_async_context(Puller(link, settings.stream, settings.durable, stopping))
            return await _Subscriber(link, settings, ledger, choices, puller, stopping, heard, say).run()
        except errors.ConnectionClosedError:
            raise link.why(otherwise="the connection is closed") from None


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


def document(message: Msg) -> Document:
    """The message as it came, with where it came from."""
    known = message.metadata
    stream, sequence = known.stream, known.sequence.stream
    meta = {
        "stream": stream,
        "sequence": sequence,
        "subject": message.subject,
        "published_at": to_text(known.timestamp),
    }
    return Document(message.data, Place(stream, sequence), broken=_broken(message), meta=meta)


def _broken(message: Msg) -> str | None:
    """Why the message is no JSON: what it says itself. One that says nothing is taken for JSON."""
    for name, value in (message.headers or {}).items():
        if name.lower() == names.CONTENT_TYPE.lower():
            kind = str(value).partition(";")[0].strip().lower()
            return None if kind in ("", names.JSON) else f"its Content-Type is {kind}, not {names.JSON}"
    return None


def judged(messages: Iterable[Msg], choices: Choices) -> list[Accepted | Rejected]:
    """Each message judged. A subject that is not that of the target_repo is a warning: the body decides."""
    found: list[Accepted | Rejected] = []
    for message in messages:
        item = judge(document(message), strict=choices.strict, max_document=choices.max_document)
        if isinstance(item, Accepted) and message.subject != names.create_subject(item.spec.target_repo):
            warning = f"it came under {message.subject}, which is not the subject of its target_repo"
            item = item._replace(warnings=(*item.warnings, warning))
        found.append(item)
    return found


@asynccontextmanager
async def _bridged(stop: threading.Event) -> AsyncIterator[asyncio.Event]:
    """An event of this loop that is set soon after ``stop``, until the block ends."""
    stopping = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            await asyncio.sleep(_TICK)
        stopping.set()

    watching = asyncio.create_task(watch())
    try:
        yield stopping
    finally:
        watching.cancel()


@dataclass(slots=True)
class _Subscriber:
    link: Link
    settings: NatsSettings
    ledger: Ledger
    choices: Choices
    puller: Puller
    stop: asyncio.Event
    heard: Heard
    say: Say
    in_hand: list[Msg] = field(default_factory=list)
    is_stuck: bool = False
    _moved_at: float = field(default_factory=time.monotonic)
    _counters: tuple[int, ...] = ()
    _ledger_failed: bool = False
    _failures: int = 0
    _careful_until: float = 0.0

    async def run(self) -> End:
        keeping = asyncio.create_task(self._keep_alive())
        wait = FIRST_WAIT
        try:
            await self._look_back()
            while self._goes_on():
                if await self._ready_to_pull():
                    if self.choices.until_empty and await self._is_empty():
                        return "empty"
                    if await self._pull():
                        wait = FIRST_WAIT
                        continue
                await self._pause(wait)
                wait = min(wait * 2, LONGEST_WAIT)
            await self._finish()
            return "stuck" if self.is_stuck else "stopped"
        finally:
            keeping.cancel()

    async def _ready_to_pull(self) -> bool:
        """Whether the connection stands and the ledger can be written: only then is anything asked for."""
        while not self.link.client.is_connected:
            if self.link.closed.is_set():
                raise self.link.why(otherwise="the connection is closed")
            if not await self._pause(_TICK):
                return False
        return await self._can_write()

    async def _can_write(self) -> bool:
        try:
            await asyncio.to_thread(prove, self.ledger, self.choices.batch)
        except _NOT_BY_WAITING:
            raise
        except LedgerError as error:
            await self._ledger_fails(error)
            return False
        self._ledger_works()
        return True

    async def _pull(self) -> bool:
        """Pull once, and handle what came; whether it went well."""
        pulled = await self.puller.pull(1 if self._is_careful else self.choices.batch)
        if pulled.messages:
            self._moved_at = time.monotonic()
            self.in_hand = pulled.messages
            await self._handle(pulled.messages)
            self.in_hand = []
        elif pulled.trouble and self.link.client.is_connected:
            await self._see_to(pulled.trouble)
            return False
        if self._failures >= SEVERAL:
            self.say("NATS: messages can be pulled again")
        self._failures = 0
        return True

    async def _look_back(self) -> None:
        """Take one message at a time at first, where some were delivered twice already and never answered.

        One of them may be what ended us before. Whatever was taken together with it loses a delivery each time, too,
        and would be given up with it. By the end of this time all of them have come again.
        """
        info = await self._info()
        if info and info["num_redelivered"] and info["num_ack_pending"]:
            self._careful_until = time.monotonic() + 2 * info["config"]["ack_wait"] / SECOND

    @property
    def _is_careful(self) -> bool:
        return time.monotonic() < self._careful_until

    async def _info(self) -> dict[str, Any] | None:
        """What the server tells of the consumer; None if it does not at this moment: the pull says what is wrong."""
        try:
            verb = f"CONSUMER.INFO.{self.settings.stream}.{self.settings.durable}"
            return await unless(self.stop, ask(self.link, verb))
        except NatsError:
            return None

    async def _finish(self) -> None:
        """Handle what was asked for while the last batch was written, and has come."""
        if self.link.client.is_connected:
            with suppress(errors.Error, TimeoutError):
                await self.link.client.flush(int(GRACE))
        while self.puller.waiting:
            await self._pull()

    async def _see_to(self, trouble: str) -> None:
        """See whether the consumer is still there; if the server cannot tell at this moment, it is asked again."""
        self._failures += 1
        if self._failures == 1:
            return  # most often, the server is about to go, and would not answer
        try:
            await unless(self.stop, require_safe(self.link, self.settings))
        except NatsError as error:
            # In a cluster that has just come back, one may not know of what the others have.
            if is_final(self.link, error) and not (isinstance(error, NatsMissing) and self._failures < SEVERAL):
                raise
            trouble = error.message
        if self._failures == SEVERAL:
            self.say(f"NATS: nothing can be pulled: {trouble}; trying again until it can")

    async def _handle(self, messages: list[Msg]) -> None:
        """Commit and acknowledge; what was delivered before alone, lest one that ends us takes others with it."""
        fresh = [each for each in messages if each.metadata.num_delivered == 1]
        again = [each for each in messages if each.metadata.num_delivered > 1]
        # In any order: behind one that ends us every time, the others would never have their turn.
        random.shuffle(again)
        is_more_wanted = len(fresh) == self.choices.batch and not self._is_careful and not self.stop.is_set()
        if is_more_wanted and self.link.client.is_connected and await self._can_write():
            await self.puller.ask(self.choices.batch)  # it comes while these are written to the disk
        for group in [fresh] * bool(fresh) + [[each] for each in again]:
            receipts = await self._commit(group)
            if receipts is None:
                return
            await self._acknowledge(group)
            self._moved_at = time.monotonic()
            self.heard(receipts)

    async def _commit(self, messages: Sequence[Msg]) -> list[Receipt] | None:
        """The receipts, once all is on the disk; None if it was told to stop before the ledger took it."""
        items = await asyncio.to_thread(judged, messages, self.choices)
        wait = FIRST_WAIT
        while True:
            try:
                receipts = await asyncio.to_thread(store_judged, self.ledger, items, transport="nats")
            except _NOT_BY_WAITING:
                raise
            except LedgerError as error:
                await self._ledger_fails(error)
            else:
                self._ledger_works()
                return receipts
            if not await self._pause(wait):
                return None
            wait = min(wait * 2, LONGEST_WAIT)

    async def _acknowledge(self, messages: Sequence[Msg]) -> None:
        """Acknowledge all, and wait until the server has the last one: it has the others by then.

        Where no confirmation comes, they may be delivered again, and are duplicates then.
        """
        self.link.watch.denied = ""
        with suppress(errors.Error, TimeoutError):
            for each in messages[:-1]:
                await each.ack()
            await unless(self.stop, messages[-1].ack_sync(timeout=ACK_TIMEOUT), grace=GRACE)
        if self.link.watch.denied:
            raise self.link.why(otherwise="")

    async def _keep_alive(self) -> None:
        """Tell the server again and again that what is in hand is being worked on."""
        while True:
            await asyncio.sleep(KEEP_ALIVE)
            with suppress(errors.Error, TimeoutError):
                for each in (*self.in_hand, *self.puller.waiting):
                    if not each.is_acked:
                        await each.in_progress()

    async def _is_empty(self) -> bool:
        """Whether nothing waits and nothing is in flight, with any host; notes whether anything has moved."""
        info = await self._info()
        if info is None:
            return False
        pending, in_flight = info["num_pending"], info["num_ack_pending"]
        counters = (pending, in_flight, info["delivered"]["consumer_seq"], info["ack_floor"]["stream_seq"])
        if counters != self._counters:
            self._counters, self._moved_at = counters, time.monotonic()
        return not pending and not in_flight

    def _goes_on(self) -> bool:
        """Whether it was not told to stop, and something has moved lately if it is to come to an end."""
        if self.choices.until_empty and time.monotonic() - self._moved_at > self.choices.patience:
            self.is_stuck = True
            self.stop.set()
        return not self.stop.is_set()

    async def _pause(self, seconds: float) -> bool:
        """Wait; whether to go on after that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        return self._goes_on()

    async def _ledger_fails(self, error: LedgerError) -> None:
        if not self._ledger_failed:
            self.say(f"{error.message}; nothing is taken from NATS until it can be written, and nothing is lost")
        self._ledger_failed = True
        with suppress(LedgerError):
            await asyncio.to_thread(self.ledger.close)  # what is wrong may be the connection

    def _ledger_works(self) -> None:
        if self._ledger_failed:
            self.say(f"ledger {self.ledger.path}: it can be written again")
        self._ledger_failed = False
