"""Pulls from the durable consumer, once it is seen to be safe.

nats-py's own fetch takes a consumer that is gone for one that has nothing. A pull waits
for a first message and then brings what is there, so that nothing lies with this host that it did not just ask for.
The server ends each pull with a status, or it brought as many messages as it was to bring.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nats import errors

from issue_core.errors import NatsError, NatsMissing, NatsRefused
from issue_core.transports.nats.jetstream import NOT_ENABLED, NOT_FOR_ACCOUNT
from issue_core.transports.nats.streams import inspect, missing, require_usable
from issue_core.transports.nats.waiting import BETWEEN, unless
from issue_core.transports.nats.wanted import SECOND, consumer, setup_command, tasks

if TYPE_CHECKING:
    from types import TracebackType

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from issue_core.config import NatsSettings
    from issue_core.transports.nats.connection import Link

EXPIRES = 5.0
"""Seconds that one pull waits for a first message."""

HEARTBEAT = 1.0
"""Seconds between two signs of life of a pull that waits."""

SILENCE = 2.5
"""Seconds without one after which the pull is taken for lost: two heartbeats have not come."""

START_PATIENCE = 30.0
"""Seconds that a server which has just started, or a cluster without a leader, has to answer at the start."""

_BAD_REQUEST, _NOT_FOUND, _TIMEOUT, _HEARTBEAT = 400, 404, 408, 100


class Pulled(NamedTuple):
    """What a pull brought. ``trouble`` is why it ended, where that is more than that nothing is there."""

    messages: list[Msg]
    trouble: str = ""


class _Status(NamedTuple):
    code: int
    text: str


async def require_safe(link: Link, settings: NatsSettings) -> None:
    """See that the stream and the consumer are there, and that neither loses messages nor delivers what is no task.

    Raises:
        NatsMissing: one is not there.
        NatsError: the server does not answer.
        ConfigError: one must not be used as it is.
    """
    for wanted in (tasks(settings), consumer(settings)):
        state = await inspect(link, wanted)
        if state.result == "missing":
            raise missing(link, settings, wanted)
        require_usable(state, setup_command(settings))


async def require_safe_at_start(link: Link, settings: NatsSettings) -> bool:
    """:func:`require_safe`, with patience for a server that has just come; True, once it is so. Raises the same."""
    over = time.monotonic() + START_PATIENCE
    while True:
        try:
            await require_safe(link, settings)
        except NatsError as error:
            if is_final(link, error) or time.monotonic() > over:
                raise
            await asyncio.sleep(BETWEEN)
        else:
            return True


def is_final(link: Link, error: NatsError) -> bool:
    """Whether waiting does not help: it is not allowed, not there, or the connection has ended for good."""
    is_so = isinstance(error, NatsRefused | NatsMissing) or error.api_code in (NOT_ENABLED, NOT_FOR_ACCOUNT)
    return is_so or link.closed.is_set()


@dataclass(slots=True)
class Puller:
    """Pulls from one consumer until ``stop`` is set; an asynchronous context manager.

    ``waiting`` is what has come and was not taken yet.
    """

    link: Link
    stream: str
    durable: str
    stop: asyncio.Event
    waiting: deque[Msg] = field(default_factory=deque)
    _prefix: str = ""
    _number: int = 0
    _most: int = 0
    _status: _Status | None = None
    _heard: float = 0.0
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _subscription: Subscription | None = None
    _is_open: bool = False

    async def __aenter__(self) -> Puller:
        """Begin to hear answers."""
        self._prefix = f"{self.link.client.new_inbox()}."
        self._subscription = await self.link.client.subscribe(f"{self._prefix}*", cb=self._on_message)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more; the server forgets a pull that waits when nobody listens to its answers."""
        with suppress(errors.Error, TimeoutError):
            if self._subscription and self.link.client.is_connected:
                await self._subscription.unsubscribe()
                await self.link.client.flush(2)

    @property
    def is_asked(self) -> bool:
        """Whether messages were asked for that have not been pulled yet."""
        return self._is_open

    async def pull(self, most: int) -> Pulled:
        """At most ``most`` messages: as soon as there are any, those that are there; else none after some seconds.

        What :meth:`ask` asked for comes first.

        Raises:
            NatsError: the server will not take such pulls, or the connection has ended for good.
            NatsRefused: this user may not pull.
        """
        trouble = ""
        if self._is_open or not self.waiting:
            trouble = await self.ask(most) or await unless(self.stop, self._end()) or ""
            self._is_open = False
        return Pulled([self.waiting.popleft() for _ in range(min(most, len(self.waiting)))], trouble)

    async def ask(self, most: int) -> str:
        """Ask for messages without waiting for them, unless that was done already; gives the trouble with it, if any.

        Raises:
            NatsError: the connection has ended for good.
        """
        if self._is_open:
            return ""
        self._is_open = True
        self._number += 1
        self._most, self._status = most, None
        self._ended.clear()
        self._heard = time.monotonic()
        self.link.watch.denied = ""
        body = {
            "batch": most,
            "expires": int(EXPIRES * SECOND),
            "no_wait": True,
            "idle_heartbeat": int(HEARTBEAT * SECOND),
        }
        subject = f"{self.link.api}.CONSUMER.MSG.NEXT.{self.stream}.{self.durable}"
        try:
            await self.link.client.publish(subject, json.dumps(body).encode(), reply=self._reply)
        except errors.ConnectionClosedError:
            raise self.link.why(otherwise="the connection is closed") from None
        except errors.Error as error:
            return str(error).removeprefix("nats: ")
        return ""

    @property
    def _reply(self) -> str:
        return f"{self._prefix}{self._number}"

    async def _end(self) -> str:
        """Wait for the end of the pull; gives the trouble with it."""
        while not self._ended.is_set():
            left = self._heard + SILENCE - time.monotonic()
            if left <= 0:
                if self.link.watch.denied:
                    raise self.link.why(otherwise="")
                return "the pull was lost: the server went silent"
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._ended.wait()
        return _trouble(self._status) if self._status else ""

    async def _on_message(self, message: Msg) -> None:
        self._heard = time.monotonic()
        if message.reply:
            with suppress(errors.NotJSMessageError):
                _ = message.metadata  # somebody else may have sent it
                self.waiting.append(message)
            if len(self.waiting) >= self._most:
                self._ended.set()
        elif message.subject == self._reply and message.headers:
            # The ends of older pulls may come late.
            code = int(message.headers.get("Status") or 0)
            if code != _HEARTBEAT:
                self._status = _Status(code, str(message.headers.get("Description", "")).strip())
                self._ended.set()


def _trouble(status: _Status) -> str:
    if status.code in (_NOT_FOUND, _TIMEOUT):
        return ""
    text = status.text.partition("\n")[0] or "nobody answers"
    if status.code == _BAD_REQUEST or "MaxRequest" in text:
        raise NatsError(
            f"the server does not take such pulls: {text} ({status.code}).",
            hint="the consumer may limit them: a smaller --batch, or look at `nats consumer info`",
        )
    return f"{text} ({status.code})"
