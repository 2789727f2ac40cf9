"""Tasks from NATS into the ledger: a batch is pulled, committed, and answered for only then.

Whatever has an answer from the ledger is acknowledged: what is invalid or a conflict lies among the rejects. What the
ledger cannot take now is kept, and the server told so, until it can: no delivery is used up by a full disk or a lock.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nats import errors

from issue_core.errors import NatsError, NatsMissing
from issue_core.task import MAX_DOCUMENT, Receipt
from issue_core.transports.nats.connection import connected
from issue_core.transports.nats.copying import keep_copying
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.pulling import Puller, is_final, require_safe, require_safe_at_start
from issue_core.transports.nats.storing import FIRST_WAIT, LONGEST_WAIT, ROOM, SEVERAL, Rules, Store, Trouble, prove
from issue_core.transports.nats.waiting import BETWEEN, bridged, pause, unless
from issue_core.transports.nats.wanted import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
    met: Callable[[Link], None] = lambda _: None,
    able: Callable[[str], None] = lambda _: None,
) -> End:
    """Take tasks until ``stop`` is set. ``heard`` gets the receipts of what was acknowledged, ``say`` what happens.

    ``met`` gets the connection once it stands, in the loop that keeps it; ``able`` what keeps it from taking more, or
    nothing, each time that this is looked at.

    While a batch is written to the disk, the next one may come: two of them are in hand at most.

    Raises:
        ConfigError: the stream, the consumer or the bucket would lose what is in it, or the settings cannot be.
        NatsError: the stream or the consumer is not there (any more), or the connection has ended for good.
        LedgerError: the ledger cannot be written at the start, or is damaged.
    """
    await asyncio.to_thread(ledger.prove, ROOM)
    await asyncio.to_thread(prove, ledger, choices.batch)
    async with bridged(stop) as stopping, AsyncExitStack() as stack:
        connecting = stack.enter_async_context(connected(settings, patient=True, say=say))
        try:
            async with asyncio.timeout(choices.patience if choices.until_empty else None):
                link = await unless(stopping, connecting)
        except TimeoutError:
            return "stuck"
        if link is None:
            return "stopped"
        met(link)
        if await unless(stopping, require_safe_at_start(link, settings)) is None:
            return "stopped"
        try:
            puller = await stack.enter_async_context(Puller(link, settings.stream, settings.durable, stopping))
            return await _Subscriber(link, settings, ledger, choices, puller, stopping, heard, say, able).run()
        except errors.ConnectionClosedError:
            raise link.why(otherwise="the connection is closed") from None


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
    able: Callable[[str], None]
    store: Store = field(init=False)
    in_hand: list[Msg] = field(default_factory=list)
    is_stuck: bool = False
    _pulls: Trouble = field(init=False)
    _beside: list[asyncio.Task[None]] = field(default_factory=list)
    _moved_at: float = field(default_factory=time.monotonic)
    _counters: tuple[int, ...] = ()
    _careful_until: float = 0.0
    _reconnects: int = 0
    _over: float = float("inf")

    def __post_init__(self) -> None:
        """It stores where the settings say."""
        rules = Rules(self.choices.strict, self.choices.max_document)
        self.store = Store(
            self.link,
            self.settings,
            self.ledger,
            rules,
            self.choices.batch,
            self.stop,
            self.say,
            self._pause,
            self.able,
        )
        self._pulls = Trouble(self.say, "NATS: messages can be pulled again", SEVERAL)

    async def run(self) -> End:
        """Pull until it is told to stop, or the end is reached that was chosen."""
        keeping = asyncio.create_task(self._keep_alive())
        copying = keep_copying(self.settings, self.stop, self.say, at_the_end=self.choices.until_empty)
        self._beside = [
            asyncio.create_task(self.store.settle_again_and_again(self._moves)),
            asyncio.create_task(copying),
        ]
        try:
            await self._look_back()
            if await self._pull_until_empty():
                return "empty"
            await self._finish()
            return "stuck" if self.is_stuck else "stopped"
        finally:
            keeping.cancel()
            self.stop.set()
            await asyncio.gather(*self._beside, return_exceptions=True)

    async def _pull_until_empty(self) -> bool:
        """Whether nothing is left, where that is the end; ``False`` when it is told to stop."""
        wait = FIRST_WAIT
        while self._goes_on():
            # What is asked for already was asked for after the same looks.
            is_asked = self.puller.is_asked
            if is_asked or await self._is_ready():
                if self.link.client.stats["reconnects"] != self._reconnects:
                    await self._look_back()
                if self.choices.until_empty and not is_asked and await self._is_empty():
                    return True
                if await self._pull():
                    wait = FIRST_WAIT
                    continue
            await self._pause(wait)
            wait = min(wait * 2, LONGEST_WAIT)
        return False

    async def _is_ready(self) -> bool:
        """Whether the connection stands, and what comes can be stored: only then is anything asked for."""
        while not self.link.client.is_connected:
            if self.link.closed.is_set():
                raise self.link.why(otherwise="the connection is closed")
            if not await self._pause(BETWEEN):
                return False
        return await self.store.is_ready()

    async def _pull(self) -> bool:
        """Pull once, and handle what came; whether it went well."""
        pulled = await self.puller.pull(1 if self._is_careful else self.choices.batch)
        if pulled.messages:
            self._moves()
            self.in_hand = pulled.messages
            await self._handle(pulled.messages)
            self.in_hand = []
        elif pulled.trouble and self.link.client.is_connected:
            await self._see_to(pulled.trouble)
            return False
        self._pulls.ended()
        return True

    async def _see_to(self, trouble: str) -> None:
        """See whether the consumer is still there; if the server cannot tell at this moment, it is asked again."""
        failures = self._pulls.failures + 1
        if failures > 1:  # most often, the server is about to go, and would not answer
            try:
                await unless(self.stop, require_safe(self.link, self.settings))
            except NatsError as error:
                # In a cluster that has just come back, one may not know of what the others have.
                if is_final(self.link, error) and not (isinstance(error, NatsMissing) and failures < SEVERAL):
                    raise
                trouble = error.message
        self._pulls.met(f"NATS: nothing can be pulled: {trouble}; trying again until it can")

    async def _look_back(self) -> None:
        """Take one message at a time at first, where some were delivered twice already and never answered.

        One of them may be what ended us before, or the connection. Whatever was taken together with it loses a delivery
        each time, too, and would be given up with it. By the end of this time all of them have come again.
        """
        self._reconnects = self.link.client.stats["reconnects"]
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

    async def _handle(self, messages: list[Msg]) -> None:
        """Store and acknowledge, group by group."""
        groups = list(_groups(messages))
        is_full = len(groups[0]) == self.choices.batch and not self._is_careful and not self.stop.is_set()
        if is_full and self.link.client.is_connected and await self.store.is_ready():
            await self.puller.ask(self.choices.batch)  # it comes while these are written to the disk
        for group in groups:
            if self._is_over():
                return
            receipts = await self.store.take(group)
            if receipts is None:
                return
            await self._acknowledge(group)
            self._moves()
            self.heard(receipts)

    async def _acknowledge(self, messages: Sequence[Msg]) -> None:
        """Acknowledge all, and wait until the server has the last one: it has the others by then.

        Where no confirmation comes, they may be delivered again, and are duplicates then.
        """
        self.link.watch.denied = ""
        with suppress(errors.Error, TimeoutError):
            for each in messages[:-1]:
                await each.ack()
            if not self.link.client.is_connected:
                await messages[-1].ack()  # sent when it is back, and nobody can confirm it now
                return
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
        """Whether nothing waits or is in flight with any host, nor is held here; notes whether anything has moved."""
        info = await self._info()
        if info is None:
            return False
        held = self.store.count_held()
        pending, in_flight = info["num_pending"], info["num_ack_pending"]
        counters = (pending, in_flight, info["delivered"]["consumer_seq"], info["ack_floor"]["stream_seq"], held)
        if counters != self._counters:
            self._counters = counters
            self._moves()
        return not (pending or in_flight or held)

    def _is_over(self) -> bool:
        """Whether it was told to stop, and what is in hand has had its time."""
        if self.stop.is_set():
            self._over = min(self._over, time.monotonic() + GRACE)
        return time.monotonic() > self._over

    def _moves(self) -> None:
        """Something has got on."""
        self._moved_at = time.monotonic()

    def _goes_on(self) -> bool:
        """Whether it was not told to stop, and something has moved lately if it is to come to an end."""
        for each in self._beside:
            if each.done():
                each.result()  # raises what has ended it
        if self.choices.until_empty and time.monotonic() - self._moved_at > self.choices.patience:
            self.is_stuck = True
            self.stop.set()
        return not self.stop.is_set()

    async def _pause(self, seconds: float) -> bool:
        """Wait; whether to go on after that."""
        await pause(self.stop, seconds)
        return self._goes_on()


def _groups(messages: Sequence[Msg]) -> Iterator[list[Msg]]:
    """What is stored together: what was delivered before alone, lest one that ends us takes others with it."""
    fresh = [each for each in messages if each.metadata.num_delivered == 1]
    again = [each for each in messages if each.metadata.num_delivered > 1]
    # In any order: behind one that ends us every time, the others would never have their turn.
    random.shuffle(again)
    if fresh:
        yield fresh
    yield from ([each] for each in again)
