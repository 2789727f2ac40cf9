"""Dead letters: messages that were delivered as often as they may be, and never answered.

The server leaves a pointer to each, in an advisory that the stream of the dead letters keeps; full copies are made of
them before the originals expire. What is left of one that did expire is a record that it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from issue_core.errors import NotFound
from issue_core.task import Accepted, Document, to_text
from issue_core.taskspec import judge
from issue_core.transports.nats import names
from issue_core.transports.nats.stored import AT_A_TIME, Stored, bounds, descending, get
from issue_core.transports.nats.waiting import together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from issue_core.config import NatsSettings
    from issue_core.transports.nats.connection import Link

State = Literal["whole", "pointer", "expired"]
_About = tuple[str | None, int | None]

MAX_DELIVERIES = "max_deliveries"
"""The reason of all that the server gives up: nobody answered in as many deliveries as there are."""

ABOUT = "Act-Dlq-"
"""What the headers begin with that say what a dead letter is, and where it came from."""

ORIGINAL = "Act-Orig-"
"""What is put before the names of the headers that a message had itself."""

EXPIRED = "expired"

COUNTED = 4096
"""Among how many of the newest it is looked for pointers whose copy is there, too, when dead letters are counted."""

CLOCKS = 60.0
"""Seconds by which two servers' clocks may differ."""


class Pointer(NamedTuple):
    """An advisory of the server: under ``seq`` among the dead letters, about ``stream_seq`` in the stream.

    ``stream_seq`` is 0 where the advisory does not say it.
    """

    seq: int
    stream: str
    stream_seq: int
    consumer: str
    deliveries: int
    time: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, under ``seq`` in its stream; what is not known of it is None.

    ``state``: ``whole`` is there with its body; of a ``pointer``'s the original is still in its stream, with the body
    that is given here; ``expired`` has none any more. ``died_at`` is in RFC 3339. ``headers`` are those that it had.
    """

    seq: int
    state: State
    died_at: str
    reason: str | None
    deliveries: int | None
    consumer: str | None
    stream: str | None
    stream_seq: int | None
    subject: str | None
    headers: Mapping[str, str]
    body: bytes | None

    @property
    def target_repo(self) -> str | None:
        """The repo that the subject names."""
        before, subject = f"{names.CREATE}.", self.subject or ""
        return names.repo_of(subject.removeprefix(before)) if subject.startswith(before) else None

    @property
    def event_id(self) -> str | None:
        """The event ID, if the body has one that can be read."""
        if self.body is None:
            return None
        judged = judge(Document(self.body))
        return judged.spec.event_id if isinstance(judged, Accepted) else judged.event_id

    @property
    def size(self) -> int | None:
        """How long the body is, in bytes."""
        return None if self.body is None else len(self.body)

    @property
    def text(self) -> str:
        r"""The body as text; what is no UTF-8 is shown as ``\xff``."""
        return (self.body or b"").decode("utf-8", "backslashreplace")

    def to_json(self) -> dict[str, Any]:
        """As one JSON object, without headers and body."""
        return {
            "seq": self.seq,
            "state": self.state,
            "died_at": self.died_at,
            "reason": self.reason,
            "deliveries": self.deliveries,
            "consumer": self.consumer,
            "stream": self.stream,
            "stream_seq": self.stream_seq,
            "subject": self.subject,
            "target_repo": self.target_repo,
            "event_id": self.event_id,
            "size": self.size,
        }


async def find(link: Link, settings: NatsSettings, seq: int) -> DeadLetter:
    """The dead letter with this number.

    Raises:
        NotFound: there is none.
        NatsError: the server does not answer.
    """
    dlq = names.dead_letters(settings.stream)
    if message := await get(link, dlq, seq):
        return await read(link, message)
    raise NotFound(
        f"there is no dead letter {seq} in {dlq}; it may have been replayed, dropped or copied.",
        hint="`issue dlq list` shows those that are there: a full copy has another number than what pointed to it.",
    )


async def newest(link: Link, settings: NatsSettings, limit: int | None) -> AsyncIterator[DeadLetter]:
    """The dead letters, the newest first, ``limit`` of them at most; few are in memory at the same time.

    Raises:
        NatsError: the stream is not there, or the server does not answer.
    """
    dlq, left = names.dead_letters(settings.stream), limit
    there = await bounds(link, dlq, names.advisories(settings.stream))
    at_a_time = min(AT_A_TIME, limit or AT_A_TIME)
    seen: set[_About] = set()
    async for page in descending(link, dlq, there.first, there.last, at_a_time=at_a_time):
        wanted = _each_once(page, seen) if there.matching else page
        for letter in await together(read(link, each) for each in wanted[:left]):
            yield letter
        if left is not None:
            left -= len(wanted)
            if left <= 0:
                return


async def count(link: Link, settings: NatsSettings) -> int:
    """How many there are: a message once, even if pointers to it are there beside its copy.

    Raises:
        NatsError: the stream is not there, or the server does not answer.
    """
    dlq = names.dead_letters(settings.stream)
    there = await bounds(link, dlq, names.advisories(settings.stream))
    if not there.matching:
        return there.messages
    # Pointers are among the newest, since each subscriber makes copies of them.
    n, seen = there.messages, set[_About]()
    async for page in descending(link, dlq, max(there.first, there.last - COUNTED), there.last):
        n -= len(page) - len(_each_once(page, seen))
    return n


def _each_once(page: list[Stored], seen: set[_About]) -> list[Stored]:
    """The messages without pointers to what is among them, or was ``seen`` before; what is among them is by then."""
    seen.update(_about(each) for each in page if not _is_pointer(each))
    found: list[Stored] = []
    for each in page:
        if not _is_pointer(each) or _about(each) not in seen:
            found.append(each)
            seen.add(_about(each))
    return found


def _about(message: Stored) -> _About:
    """Which message it is about: the stream and the number that it has, or had, there."""
    if pointer := pointer_of(message):
        return pointer.stream, pointer.stream_seq
    return message.headers.get(f"{ABOUT}Stream"), _number(message.headers.get(f"{ABOUT}Stream-Seq"))


async def read(link: Link, message: Stored) -> DeadLetter:
    """What a message among the dead letters is; for a pointer, the original is looked at. Raises NatsError."""
    if not (pointer := pointer_of(message)):
        return _letter(message, "expired" if message.headers.get(f"{ABOUT}State") == EXPIRED else "whole")
    original = await original_of(link, pointer)
    headers = about(pointer, original) | (kept(original.headers) if original else {})
    known = message._replace(headers=headers, body=original.body if original else b"")
    return _letter(known, "pointer" if original else "expired")


def _letter(message: Stored, state: State) -> DeadLetter:
    def known(name: str) -> str | None:
        return message.headers.get(f"{ABOUT}{name}")

    return DeadLetter(
        seq=message.seq,
        state=state,
        died_at=_time(known("Time")) or _time(message.time) or message.time,
        reason=known("Reason"),
        deliveries=_number(known("Deliveries")),
        consumer=known("Consumer"),
        stream=known("Stream"),
        stream_seq=_number(known("Stream-Seq")),
        subject=None if state == "expired" else known("Subject") or names.living(message.subject),
        headers=_own(message.headers),
        body=None if state == "expired" else message.body,
    )


def _own(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that a message had before it died. One that somebody else put there has them as they are."""
    if any(name.startswith(ABOUT) for name in headers):
        return {name.removeprefix(ORIGINAL): headers[name] for name in headers if name.startswith(ORIGINAL)}
    return dict(headers)


def _is_pointer(message: Stored) -> bool:
    return message.subject.startswith(f"{names.ADVISORIES}.")


def pointer_of(message: Stored) -> Pointer | None:
    """The pointer that a message among the dead letters is, if it is one."""
    if not _is_pointer(message):
        return None
    try:
        told = json.loads(message.body)
    except (ValueError, RecursionError):
        told = None
    told = told if isinstance(told, dict) else {}
    stream, _, consumer = message.subject.removeprefix(f"{names.ADVISORIES}.").partition(".")
    numbers = [_number(str(told.get(name))) or 0 for name in ("stream_seq", "deliveries")]
    return Pointer(message.seq, stream, numbers[0], consumer, numbers[1], _time(told.get("timestamp")) or message.time)


async def original_of(link: Link, pointer: Pointer) -> Stored | None:
    """The message that nobody answered for; None if it has expired. Raises NatsError.

    A stream that was removed and made again gives the same numbers to others: what came after the pointer is not it.
    """
    if not pointer.stream_seq or not (found := await get(link, pointer.stream, pointer.stream_seq)):
        return None
    return None if _moment(found.time) > _moment(pointer.time) + CLOCKS else found


def about(pointer: Pointer, original: Stored | None) -> dict[str, str]:
    """The headers that say what a dead letter is, and where it came from."""
    known = {
        "Reason": MAX_DELIVERIES,
        "Stream": pointer.stream,
        "Stream-Seq": str(pointer.stream_seq),
        "Deliveries": str(pointer.deliveries),
        "Consumer": pointer.consumer,
        "Time": pointer.time,
    }
    known |= {"Subject": original.subject, "Published": original.time} if original else {"State": EXPIRED}
    return {f"{ABOUT}{name}": value for name, value in known.items()}


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """A message's own headers, under names that mean nothing to the server."""
    return {f"{ORIGINAL}{name}": value for name, value in headers.items() if names.is_header(name)}


def restored(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of them that a message is published again with: not what tells the server or us what to do with it."""
    return {name: value for name, value in headers.items() if not name.lower().startswith(("nats-", "act-"))}


def _number(text: str | None) -> int | None:
    # At most what a sequence number can be; int() would take other digits, and signs.
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def _time(text: object) -> str | None:
    """A time as people write it, in the ledger's way; None where it is none."""
    try:
        return to_text(datetime.fromisoformat(text)) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
