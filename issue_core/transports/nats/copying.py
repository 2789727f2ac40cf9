"""Full copies of dead letters, made while the originals are there: the stream of the tasks forgets them after days.

Any number of hosts may do it at the same time, and be killed at any point: each copy has a message ID that the server
keeps apart for seven days, and a pointer is only removed when its copy is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from issue_core.errors import ConfigError, NatsError, NatsRefused
from issue_core.transports.nats import names
from issue_core.transports.nats.connection import connected
from issue_core.transports.nats.dead_letters import Pointer, about, kept, original_of, pointer_of
from issue_core.transports.nats.stored import Stored, bounds, get_next, is_too_large, remove, store
from issue_core.transports.nats.waiting import pause, together, unless

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from issue_core.config import NatsSettings
    from issue_core.transports.nats.connection import Link

    Say = Callable[[str], None]

EVERY = 60.0
"""Seconds between two passes."""

EVERY_REFUSED = 3600.0
"""The same where this user may not do it: the server logs each try."""

GRACE = 2.0
"""Seconds that a pass has when it is told to stop: a subscriber that soon has nothing to do is to make one, too."""

AT_A_TIME = 16
"""How many copies are under way at the same time."""


class Kept(NamedTuple):
    """What stands for a pointer now, under ``seq``: a copy, or a record that its original ``is_expired``."""

    seq: int
    is_expired: bool


class Passed(NamedTuple):
    """What one pass did: how many copies and records of expired ones it made, how many it could not.

    It has seen all pointers up to ``last``.
    """

    copies: int
    expired: int
    too_large: int
    last: int


async def keep_copies(link: Link, settings: NatsSettings) -> int:
    """Make a full copy of each message that a pointer is there for, and remove the pointer; gives how many.

    For an original that has expired, what is known of it is kept.

    Raises:
        NatsError: a stream is not there, the server does not answer, or this user may not. What was done stays so.
    """
    return (await _pass(link, settings, after=0)).copies


async def keep_copying(
    settings: NatsSettings, stopping: asyncio.Event, say: Say, *, every: float = EVERY, at_the_end: bool = False
) -> None:
    """Do so now and every minute until ``stopping`` is set. What fails is said once, and tried again.

    ``at_the_end``: once more then, for the server only tells of some when it is asked for more messages.

    Has a connection of its own for each pass: the server tells what it does not allow to the connection as a whole,
    where somebody else would take it for the answer to what they asked.
    """
    trouble = _Trouble(say)
    after = 0
    is_last = False
    while True:
        wait = every
        try:
            passed = await unless(stopping, _over_own_connection(settings, after), grace=GRACE)
        except (NatsError, ConfigError) as error:
            trouble.met(error)
            wait = max(every, EVERY_REFUSED) if isinstance(error, NatsRefused) else every
        else:
            if passed:
                trouble.ended()
                after = passed.last
                for text in _words(passed):
                    say(text)
        if is_last:
            return
        await pause(stopping, wait)
        if stopping.is_set() and not at_the_end:
            return
        is_last = stopping.is_set()


@dataclass(slots=True)
class _Trouble:
    """Says what fails once, and once that it is over; what may be gone by the next time, not before that."""

    say: Say
    said: str = ""
    failures: int = 0

    def met(self, error: NatsError | ConfigError) -> None:
        self.failures += 1
        stays = isinstance(error, NatsRefused | ConfigError) or error.api_code is not None
        if error.message != self.said and (stays or self.failures > 1):
            self.say(f"NATS: dead letters are not copied: {error.message}; trying again until they can be")
            self.said = error.message

    def ended(self) -> None:
        if self.said:
            self.say("NATS: dead letters are copied again")
        self.said, self.failures = "", 0


async def _over_own_connection(settings: NatsSettings, after: int) -> Passed:
    async with connected(settings) as link:
        return await _pass(link, settings, after)


def _words(passed: Passed) -> Iterator[str]:
    if passed.copies:
        yield f"NATS: dead letters: {passed.copies:,} more, kept whole; `issue dlq list` shows them"
    if passed.expired:
        yield f"NATS: dead letters: {passed.expired:,} more that expired before they were copied"
    if passed.too_large:
        yield (
            f"NATS: dead letters: {passed.too_large:,} are too large to be copied, and will expire; "
            "`issue nats setup` shows the limits"
        )


async def _pass(link: Link, settings: NatsSettings, after: int) -> Passed:
    """One pass, over the pointers that come after the number ``after``: those before it could not be copied."""
    dlq, advisories = names.dead_letters(settings.stream), names.advisories(settings.stream)
    there = await bounds(link, dlq, advisories)
    seq = after if after <= there.last else 0  # the stream was made again
    copies = expired = too_large = 0
    while there.matching and (pointers := await _pointers(link, dlq, seq + 1, there.last, advisories)):
        for each in await together(keep_whole(link, settings, pointer) for pointer in pointers):
            copies += each is not None and not each.is_expired
            expired += each is not None and each.is_expired
            too_large += each is None
        seq = pointers[-1].seq
    return Passed(copies, expired, too_large, there.last)


async def _pointers(link: Link, dlq: str, seq: int, last: int, advisories: str) -> list[Pointer]:
    """The next pointers from ``seq`` to ``last``, some of them."""
    found: list[Pointer] = []
    while len(found) < AT_A_TIME and seq <= last and (message := await get_next(link, dlq, seq, advisories)):
        if message.seq > last or not (pointer := pointer_of(message)):
            break
        found.append(pointer)
        seq = message.seq + 1
    return found


async def keep_whole(link: Link, settings: NatsSettings, pointer: Pointer) -> Kept | None:
    """Store a copy in the place of a pointer, or a record that its original has expired; where it lies.

    None where the copy is too large: the pointer stays. What it gives may have been replayed or dropped by now.

    Raises:
        NatsError: the server does not answer, or refuses.
    """
    dlq = names.dead_letters(settings.stream)
    original = await original_of(link, pointer)
    if original:
        seq = await _store_copy(link, dlq, pointer, original)
    else:
        headers = {names.MESSAGE_ID: f"dlq:{pointer.stream}:{pointer.stream_seq}:expired:{pointer.seq}"}
        seq = (await store(link, names.EXPIRED, b"", headers | about(pointer, None))).seq
    if seq is None:
        return None
    await remove(link, dlq, pointer.seq)
    return Kept(seq, original is None)


async def _store_copy(link: Link, dlq: str, pointer: Pointer, original: Stored) -> int | None:
    """Where the copy lies; None where it is too large, even without the headers that the original had."""
    # With the time: a stream that is removed and made again numbers its messages from 1 again.
    message_id = f"dlq:{pointer.stream}:{pointer.stream_seq}:{original.time}"
    headers = {names.MESSAGE_ID: message_id, names.EXPECTED_STREAM: dlq, **about(pointer, original)}
    for own in (kept(original.headers), {}):
        try:
            return (await store(link, names.dead(original.subject), original.body, headers | own)).seq
        except NatsError as error:
            if not is_too_large(error):
                raise
    return None
