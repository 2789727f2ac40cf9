"""Messages that lie in a stream: read byte for byte by their sequence numbers, stored, removed."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any, NamedTuple

from issue_core.errors import NatsError, NatsMissing
from issue_core.transports.nats.jetstream import MESSAGE_TOO_LARGE, NO_MESSAGE, TIMEOUT, answer_to, ask
from issue_core.transports.nats.waiting import together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from issue_core.transports.nats.connection import Link

AT_A_TIME = 128
"""How many messages are asked for at the same time, and so are in memory at most."""

_LONGEST_SUBJECT = 3900  # bytes; a line has 4096 (max_control_line), and the reply stands in it, too
_HEADERS_TOO_LARGE = 10097  # of their own, they may have 64 KiB, whatever the stream allows


class Stored(NamedTuple):
    """One message. ``time`` is when the stream got it, in RFC 3339; a header that comes twice has its values joined."""

    seq: int
    subject: str
    headers: Mapping[str, str]
    body: bytes
    time: str


class Bounds(NamedTuple):
    """The sequence numbers of a stream's first and last message, how many it has, and how many of those asked for."""

    first: int
    last: int
    messages: int
    matching: int


async def bounds(link: Link, stream: str, subjects: str) -> Bounds:
    """What the stream has, and how much of it under ``subjects``. Raises what :func:`jetstream.ask` raises."""
    state = (await ask(link, f"STREAM.INFO.{stream}", {"subjects_filter": subjects}))["state"]
    matching: Mapping[str, int] = state.get("subjects") or {}
    return Bounds(state["first_seq"] or 1, state["last_seq"], state["messages"], sum(matching.values()))


async def get(link: Link, stream: str, seq: int) -> Stored | None:
    """The message with this number, if it is there. Raises what :func:`jetstream.ask` raises."""
    return await _get(link, stream, {"seq": seq})


async def get_next(link: Link, stream: str, seq: int, subjects: str = ">") -> Stored | None:
    """The first message from this number on, under ``subjects``. Raises what :func:`jetstream.ask` raises."""
    return await _get(link, stream, {"seq": seq, "next_by_subj": subjects})


async def get_last(link: Link, stream: str, subject: str) -> Stored | None:
    """The last message under this subject, if there is one. Raises what :func:`jetstream.ask` raises."""
    return await _get(link, stream, {"last_by_subj": subject})


async def _get(link: Link, stream: str, body: Mapping[str, Any]) -> Stored | None:
    try:
        found = (await ask(link, f"STREAM.MSG.GET.{stream}", body))["message"]
    except NatsError as error:
        if error.api_code == NO_MESSAGE:
            return None
        raise
    headers, data = (b64decode(found.get(name) or "") for name in ("hdrs", "data"))
    return Stored(found["seq"], found["subject"], _headers(headers), data, found["time"])


def _headers(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = (part.decode("utf-8", "backslashreplace").strip() for part in line.partition(b":"))
        if colon:
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def ascending(link: Link, stream: str, first: int, last: int) -> AsyncIterator[list[Stored]]:
    """The messages from ``first`` to ``last``, some at a time. Raises what :func:`jetstream.ask` raises."""
    seq = first
    while seq <= last:
        end = min(seq + AT_A_TIME, last + 1)
        if found := await _between(link, stream, seq, end):
            yield found
            seq = end
        else:
            following = await get_next(link, stream, end)
            seq = following.seq if following else last + 1


async def descending(
    link: Link, stream: str, first: int, last: int, *, at_a_time: int = AT_A_TIME
) -> AsyncIterator[list[Stored]]:
    """The same, the last one first."""
    end = last + 1
    while end > first:
        start = max(first, end - at_a_time)
        if found := await _between(link, stream, start, end):
            yield found[::-1]
            end = start
        else:
            end = await _end_of_gap(link, stream, first, start)


async def _between(link: Link, stream: str, start: int, end: int) -> list[Stored]:
    found = await together(get(link, stream, seq) for seq in range(start, end))
    return [each for each in found if each]


async def _end_of_gap(link: Link, stream: str, first: int, end: int) -> int:
    """One more than the last number below ``end`` that is there; ``first`` where none is.

    The server has no request for it, but one for the next message: halving finds where that is beyond ``end``.
    """
    below, beyond = first, end
    last = first - 1
    while below < beyond:
        middle = (below + beyond) // 2
        following = await get_next(link, stream, middle)
        if following and following.seq < end:
            last = following.seq
            below = following.seq + 1
        else:
            beyond = middle
    return last + 1


class Ack(NamedTuple):
    """Where a message lies. ``is_duplicate``: it did already, under the same message ID."""

    stream: str
    seq: int
    is_duplicate: bool


async def store(link: Link, subject: str, body: bytes, headers: Mapping[str, str]) -> Ack:
    """Store a message, and wait until the stream has it.

    Raises:
        NatsMissing: no stream takes the subject.
        NatsError: the stream refuses, with ``api_code``; or no answer came, and it may be there all the same.
        NatsRefused: this user may not publish there.
    """
    if size(body, headers) > link.client.max_payload:  # the server would hang up
        raise NatsError(
            f"{size(body, headers)} bytes are more than {link.server} takes at a time.", api_code=MESSAGE_TOO_LARGE
        )
    if len(subject.encode()) > _LONGEST_SUBJECT:  # the same: the line would be longer than its max_control_line
        raise NatsError(f"the subject has {len(subject.encode()):,} bytes, more than fit.", api_code=MESSAGE_TOO_LARGE)
    nobody = NatsMissing(
        f"no stream at {link.server} takes {subject}, or its cluster has no leader at this moment.",
        hint="`issue nats setup` makes the streams",
    )
    request = link.unless_denied(link.client.request(subject, body, timeout=TIMEOUT, headers=dict(headers)))
    answer = await answer_to(link, request, subject, nobody=nobody)
    if error := answer.get("error"):
        code = error.get("err_code")
        raise NatsError(f"{subject}: the stream refuses: {error.get('description')} ({code})", api_code=code)
    return Ack(answer["stream"], answer["seq"], bool(answer.get("duplicate")))


def is_too_large(error: NatsError) -> bool:
    """Whether :func:`store` failed because the message or its headers are too large."""
    return error.api_code in (MESSAGE_TOO_LARGE, _HEADERS_TOO_LARGE)


def size(body: bytes, headers: Mapping[str, str]) -> int:
    """The bytes that the server counts: the body, and the headers as they are written."""
    lines = sum(len(name.encode()) + len(value.encode()) + len(": \r\n") for name, value in headers.items())
    return len(body) + (len("NATS/1.0\r\n\r\n") + lines if headers else 0)


async def remove(link: Link, stream: str, seq: int) -> bool:
    """Remove a message; whether it was there. Raises what :func:`jetstream.ask` raises."""
    try:
        # Writing over it would cost a hundred times as long, with the stream held up meanwhile.
        await ask(link, f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True})
    except NatsError as error:
        if error.api_code is None or await get(link, stream, seq):
            raise
        return False
    return True
