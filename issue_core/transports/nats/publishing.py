"""Publishes TaskSpecs: each one judged first, sent under its event ID, and waited for until the stream has it.

What is sent twice under one message ID within the stream's window is stored once, so whatever brought no answer is
sent again.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nats import errors

from issue_core.errors import NatsError
from issue_core.task import FieldProblem, Place, Rejected
from issue_core.taskspec import judge
from issue_core.transports.nats import names
from issue_core.transports.nats.jetstream import MESSAGE_TOO_LARGE, WRONG_STREAM
from issue_core.transports.nats.stored import size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from issue_core.task import Accepted, Document
    from issue_core.transports.nats.connection import Link

WINDOW = 512
"""How many messages are on their way at the same time."""

ANSWER_TIMEOUT = 5.0
"""Seconds after which a message that brought no answer is sent again."""

PATIENCE = 30.0
"""Seconds without a single answer after which it is given up."""

NOBODY_PATIENCE = 10.0
"""The same where the server says that no stream takes it, and none took anything before.

A cluster that has lost a leader says so for some seconds too.
"""

_TICK = 0.25  # seconds between two looks at what is overdue
_RETRY = 0.5  # seconds until what the server could not take is sent again
_ROOM = 1024  # bytes that the headers take at most
_BUSY = 503  # the code of answers that say: not now

Outcome = Literal["published", "duplicate", "invalid"]


class Published(NamedTuple):
    """What became of one document. ``duplicate``: the stream had one with this event ID, within its window."""

    outcome: Outcome
    event_id: str | None
    stream: str | None = None
    seq: int | None = None
    warnings: tuple[str, ...] = ()
    errors: tuple[FieldProblem, ...] = ()
    place: Place = Place()

    def to_json(self) -> dict[str, Any]:
        """As one JSON object."""
        return {
            "outcome": self.outcome,
            "event_id": self.event_id,
            "stream": self.stream,
            "seq": self.seq,
            "warnings": list(self.warnings),
            "errors": [each._asdict() for each in self.errors],
        } | self.place.to_json()


@dataclass(slots=True)
class _Message:
    """One message that waits for its answer; ``n`` is the place of its result, ``due`` when it is sent again."""

    n: int
    judged: Accepted
    subject: str
    headers: dict[str, str]
    due: float
    tries: int = 1


@dataclass(slots=True)
class Publisher:
    """Publishes over one connection, to ``stream``; an asynchronous context manager, for one task at a time.

    ``strict`` refuses fields that a TaskSpec does not have; ``max_document`` is in bytes. ``stored`` counts what the
    stream is known to have.
    """

    link: Link
    stream: str
    max_document: int
    strict: bool = False
    stored: int = 0
    _prefix: str = ""
    _subscription: Subscription | None = None
    _waiting: dict[str, _Message] = field(default_factory=dict)
    _results: list[Published | None] = field(default_factory=list)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)
    _last_answer: float = 0.0
    _nobody: bool = False
    _reason: str = ""
    _failed: NatsError | None = None
    _sent: int = 0

    async def __aenter__(self) -> Publisher:
        """Begin to hear answers."""
        self._prefix = f"{self.link.client.new_inbox()}."
        self._subscription = await self.link.client.subscribe(f"{self._prefix}*", cb=self._on_answer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hear no more of them."""
        if self._subscription and self.link.client.is_connected:
            await self._subscription.unsubscribe()

    async def publish(self, documents: Sequence[Document]) -> list[Published]:
        """Publish each document that is a TaskSpec; what became of them, in the order given.

        Returns when the stream has answered for all of them.

        Raises:
            NatsError: the server takes none of it, or does not answer. ``stored`` says how many were in by then; all
                of them can be published again.
        """
        self._results = [None] * len(documents)
        self._waiting.clear()
        self.link.watch.denied = ""
        self._last_answer = time.monotonic()
        for n, document in enumerate(documents):
            judged = judge(document, strict=self.strict, max_document=self.max_document)
            if isinstance(judged, Rejected):
                self._results[n] = Published("invalid", judged.event_id, errors=judged.errors, place=document.place)
                continue
            while len(self._waiting) >= WINDOW or not self.link.client.is_connected:
                await self._wait()
            await self._send_new(n, judged)
        while self._waiting:
            await self._wait()
        return [each for each in self._results if each is not None]

    async def _send_new(self, n: int, judged: Accepted) -> None:
        spec = judged.spec
        headers = {
            names.MESSAGE_ID: spec.event_id,
            names.EXPECTED_STREAM: self.stream,
            names.CONTENT_TYPE: names.JSON,
        }
        message = _Message(n, judged, names.create_subject(spec.target_repo), headers, 0.0)
        limit = self.link.client.max_payload
        if len(judged.document.raw) > limit - _ROOM and _size(message) > limit:
            self._refuse(message, f"is {_size(message)} bytes with its headers, and the server takes {limit}")
            return
        self._sent += 1
        token = str(self._sent)
        self._waiting[token] = message
        await self._send(token, message)

    async def _send(self, token: str, message: _Message) -> None:
        message.due = time.monotonic() + ANSWER_TIMEOUT
        try:
            await self.link.client.publish(
                message.subject, message.judged.document.raw, reply=self._prefix + token, headers=message.headers
            )
        except errors.ConnectionClosedError:
            raise self.link.why(otherwise="the connection is closed") from None
        except errors.OutboundBufferLimitError:
            message.due = time.monotonic() + _RETRY  # the connection is away, and the buffer is full

    async def _wait(self) -> None:
        """Wait for answers, and see to what is overdue.

        Raises:
            NatsError: none has come for so long that none will, or the server refuses.
        """
        if (task := asyncio.current_task()) and task.cancelling():
            raise asyncio.CancelledError  # nats-py swallows one that finds it in a flush
        self._answered.clear()
        try:
            async with asyncio.timeout(_TICK):
                await self._answered.wait()
        except TimeoutError:
            await self._see_to_overdue()
        if self._failed:
            raise self._failed

    async def _see_to_overdue(self) -> None:
        now = time.monotonic()
        silence = now - self._last_answer
        if self.link.watch.denied or self.link.closed.is_set() or silence > PATIENCE:
            what = self._reason or f"it did not answer for {silence:.0f} seconds"
            raise self.link.why(otherwise=f"{self.link.server}: {what}.")
        if self._nobody and not self.stored and silence > NOBODY_PATIENCE:
            raise NatsError(
                f"no stream at {self.link.server} takes tasks.", hint="`issue nats setup` makes the streams"
            )
        if self.link.client.is_connected:
            for token, message in [each for each in self._waiting.items() if each[1].due <= now]:
                message.tries += 1
                await self._send(token, message)

    async def _on_answer(self, answer: Msg) -> None:
        token = answer.subject[len(self._prefix) :]
        if not (message := self._waiting.get(token)):
            return  # the answer to what was sent twice, and is known already
        if answer.data:
            self._take(token, message, json.loads(answer.data))
        else:
            self._nobody = True
            self._later(message, "no stream takes it")
        self._answered.set()

    def _take(self, token: str, message: _Message, answer: Mapping[str, Any]) -> None:
        error: Mapping[str, Any] = answer.get("error") or {}
        code = error.get("err_code")
        if not error:
            del self._waiting[token]
            self._note(message, answer)
        elif code == MESSAGE_TOO_LARGE:
            del self._waiting[token]
            self._refuse(message, f"is too large for the stream: {_size(message)} bytes with its headers")
        elif error.get("code") == _BUSY:
            self._later(message, str(error.get("description")))
        elif code == WRONG_STREAM:
            self._failed = NatsError(
                f"{message.subject} goes to another stream than {self.stream}.",
                hint="name that one with --stream or nats.stream",
            )
        else:
            self._failed = NatsError(f"{self.stream} refuses: {error.get('description')} ({code})", api_code=code)

    def _note(self, message: _Message, answer: Mapping[str, Any]) -> None:
        self._last_answer = time.monotonic()
        self._nobody = False
        self.stored += 1
        # Of what was sent more than once, the first may have been ours.
        is_duplicate = answer.get("duplicate") and message.tries == 1
        judged = message.judged
        self._results[message.n] = Published(
            "duplicate" if is_duplicate else "published",
            judged.spec.event_id,
            answer["stream"],
            answer["seq"],
            judged.warnings,
            place=judged.document.place,
        )

    def _later(self, message: _Message, reason: str) -> None:
        self._reason = reason
        message.due = time.monotonic() + _RETRY

    def _refuse(self, message: _Message, problem: str) -> None:
        self._last_answer = time.monotonic()
        judged = message.judged
        self._results[message.n] = Published(
            "invalid",
            judged.spec.event_id,
            errors=(FieldProblem("document", problem),),
            place=judged.document.place,
        )


def _size(message: _Message) -> int:
    return size(message.judged.document.raw, message.headers)
