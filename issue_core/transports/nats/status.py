"""How it stands in the streams: what waits, what is under way, what nobody could handle, what came to nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from issue_core.transports.nats import dead_letters, names
from issue_core.transports.nats.jetstream import ask, find
from issue_core.transports.nats.streams import missing
from issue_core.transports.nats.wanted import Wanted, tasks
from issue_core.transports.nats.wanted import consumer as consumer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issue_core.config import NatsSettings
    from issue_core.transports.nats.connection import Link


@dataclass(frozen=True, slots=True)
class Status:
    """The counters of one stream and its consumer.

    ``lag`` is what was never delivered yet, ``in_flight`` what was and waits for an answer, ``redelivered`` how much of
    that was delivered more than once. ``expired_unread`` is how many may have expired before they were answered: no
    more than that, as other subjects count in it; it is 0 again when the consumer has gone past them.
    ``dead_letters`` are those kept whole and those that only the server has told of yet, each once. ``reserved`` counts
    messages by the verbs that have no meaning yet. ``claims`` is None where there is no bucket.
    """

    server: str
    stream: str
    consumer: str
    messages: int
    bytes: int
    first_seq: int
    last_seq: int
    replicas: int
    lag: int
    in_flight: int
    redelivered: int
    waiting_pulls: int
    expired_unread: int
    dead_letters: int
    reserved: Mapping[str, int]
    claims: int | None

    def to_json(self) -> dict[str, Any]:
        """The counters as one JSON object."""
        return asdict(self)


async def read_status(link: Link, settings: NatsSettings) -> Status:
    """The counters now.

    Raises:
        NatsError: a stream or the consumer is not there, or the server does not answer.
    """
    stream = await _there(link, settings, f"STREAM.INFO.{settings.stream}", tasks(settings))
    verb = f"CONSUMER.INFO.{settings.stream}.{settings.durable}"
    consumer = await _there(link, settings, verb, consumer_of(settings))
    dead = await dead_letters.count(link, settings)
    state = stream["state"]
    return Status(
        server=link.server,
        stream=settings.stream,
        consumer=settings.durable,
        messages=state["messages"],
        bytes=state["bytes"],
        first_seq=state["first_seq"],
        last_seq=state["last_seq"],
        replicas=stream["config"].get("num_replicas", 1),
        lag=consumer["num_pending"],
        in_flight=consumer["num_ack_pending"],
        redelivered=consumer["num_redelivered"],
        waiting_pulls=consumer.get("num_waiting", 0),
        expired_unread=_expired_unread(state, consumer),
        dead_letters=dead,
        reserved={verb: await _count(link, settings.stream, f"act.tasks.{verb}.>") for verb in names.RESERVED_VERBS},
        claims=await _claims(link, settings.bucket),
    )


async def _there(link: Link, settings: NatsSettings, verb: str, wanted: Wanted) -> dict[str, Any]:
    found = await find(link, verb)
    if found is None:
        raise missing(link, settings, wanted)
    return found


async def _claims(link: Link, bucket: str) -> int | None:
    """How many tasks are claimed; the bucket also has an entry for each ledger."""
    if (found := await find(link, f"STREAM.INFO.KV_{bucket}")) is None:
        return None
    return int(found["state"]["messages"]) - await _count(link, f"KV_{bucket}", f"$KV.{bucket}.{names.LEDGERS}.>")


def _expired_unread(stream: Mapping[str, Any], consumer: Mapping[str, Any]) -> int:
    """How many messages before the stream's first one were never answered, at most; no event tells of it."""
    return max(0, int(stream["first_seq"]) - 1 - int(consumer["ack_floor"]["stream_seq"]))


async def _count(link: Link, stream: str, subjects: str) -> int:
    """How many messages the stream has under ``subjects``; the server lists them by pages of subjects."""
    total = offset = 0
    while True:
        answer = await ask(link, f"STREAM.INFO.{stream}", {"subjects_filter": subjects, "offset": offset})
        counts: Mapping[str, int] = answer["state"].get("subjects") or {}
        total += sum(counts.values())
        offset += len(counts)
        if not counts or offset >= answer.get("total", 0):
            return total
