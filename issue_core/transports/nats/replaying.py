"""Dead letters that a person has decided about: published again once the cause is mended, or dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from issue_core.errors import NatsError, NatsMissing
from issue_core.transports.nats import names
from issue_core.transports.nats.copying import keep_copies, keep_whole
from issue_core.transports.nats.dead_letters import ABOUT, pointer_of, read, restored
from issue_core.transports.nats.jetstream import WRONG_STREAM, ask
from issue_core.transports.nats.stored import Ack, ascending, bounds, get, is_too_large, remove, store
from issue_core.transports.nats.waiting import together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from issue_core.config import NatsSettings
    from issue_core.transports.nats.connection import Link
    from issue_core.transports.nats.dead_letters import DeadLetter
    from issue_core.transports.nats.stored import Stored

AT_A_TIME = 32
"""How many are published at the same time."""

REPLAY_OF = "Act-Replay-Of"
"""The header that names the dead letter which a message was: the stream that it lay in, and its number there."""

Outcome = Literal["replayed", "gone", "refused"]


class Replayed(NamedTuple):
    """What became of the dead letter ``seq``: where it lies as a new message, or why it cannot be published again.

    ``gone``: somebody else replayed or dropped it in the meantime.
    """

    seq: int
    outcome: Outcome
    stream: str | None = None
    stream_seq: int | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As one JSON object."""
        return self._asdict()


async def replay(link: Link, settings: NatsSettings, seq: int) -> Replayed:
    """Publish a dead letter again under its own subject, and remove it once the stream has it. Of a pointer, a copy.

    Whoever does it again, or at the same time, publishes it under the same message ID: within the stream's window it
    is there once, and after that a second one is a duplicate in the ledger.

    Raises:
        NatsError: the server refuses, or does not answer; it can be done again.
    """
    message = await get(link, names.dead_letters(settings.stream), seq)
    return await _replay(link, settings, message) if message else Replayed(seq, "gone")


async def _replay(link: Link, settings: NatsSettings, message: Stored) -> Replayed:
    dlq, seq = names.dead_letters(settings.stream), message.seq
    if pointer := pointer_of(message):
        kept = await keep_whole(link, settings, pointer)
        if kept is None:
            return Replayed(seq, "refused", problem=f"a copy is too large for {dlq}")
        copy = await get(link, dlq, kept.seq)
        if copy is None:
            return Replayed(seq, "gone")
        message = copy
    letter = await read(link, message)
    published = _problem(letter) or await _publish(link, settings, message, letter)
    if isinstance(published, str):
        return Replayed(seq, "refused", problem=published)
    await remove(link, dlq, message.seq)
    return Replayed(seq, "replayed", published.stream, published.seq)


def _problem(letter: DeadLetter) -> str | None:
    if letter.state == "expired":
        return "the message expired before it was copied"
    # Whoever may write there could name any subject, the server's own among them.
    subject = letter.subject or ""
    if not names.covers(names.TASKS, subject) or not all(subject.split(".")) or subject.split() != [subject]:
        return f"the subject {subject} is not one of {names.TASKS}"
    return None


async def _publish(link: Link, settings: NatsSettings, message: Stored, letter: DeadLetter) -> Ack | str:
    """Where it lies now, or why it does not; too large, it goes without the headers that say where it came from."""
    origin = f"{names.dead_letters(settings.stream)}:{message.seq}"
    least = {names.MESSAGE_ID: f"replay:{origin}", **restored(letter.headers)}
    about = {name: value for name, value in message.headers.items() if name.startswith(ABOUT)}
    for headers in (about | {names.EXPECTED_STREAM: settings.stream, REPLAY_OF: origin} | least, least):
        try:
            return await store(link, letter.subject or "", message.body, headers)
        except NatsMissing as error:
            return error.message
        except NatsError as error:
            if error.api_code == WRONG_STREAM:
                return f"{letter.subject} goes to another stream than {settings.stream}"
            if not is_too_large(error):
                raise
    return f"too large for {settings.stream} with a message ID of its own"


async def replay_all(link: Link, settings: NatsSettings) -> AsyncIterator[Replayed]:
    """Replay each one that is there now, the oldest first. Raises what :func:`replay` raises."""
    await keep_copies(link, settings)
    dlq = names.dead_letters(settings.stream)
    there = await bounds(link, dlq, names.advisories(settings.stream))
    async for page in ascending(link, dlq, there.first, there.last):
        for start in range(0, len(page), AT_A_TIME):
            for each in await together(_replay(link, settings, one) for one in page[start : start + AT_A_TIME]):
                yield each


async def drop(link: Link, settings: NatsSettings, seq: int) -> bool:
    """Remove one; whether it was there. Raises NatsError."""
    return await remove(link, names.dead_letters(settings.stream), seq)


async def drop_all(link: Link, settings: NatsSettings) -> int:
    """Remove each one that is there now, in one step; how many were. Raises NatsError."""
    dlq = names.dead_letters(settings.stream)
    there = await bounds(link, dlq, names.advisories(settings.stream))
    answer = await ask(link, f"STREAM.PURGE.{dlq}", {"seq": there.last + 1})
    return int(answer["purged"])
