"""What the streams, the consumer and the bucket must be like: each setting, whether it can be changed, what it costs.

Settings are as the JetStream API has them: durations in nanoseconds, absent where they are at the server's default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from issue_core.transports.nats import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issue_core.config import NatsSettings

Kind = Literal["stream", "consumer", "bucket"]

SECOND = 10**9
DAY = 86400 * SECOND

TASKS_AGE, DEAD_LETTERS_AGE = 7 * DAY, 90 * DAY
"""How long a message lies in the two streams, in nanoseconds."""

LEAST_TTL = (TASKS_AGE + DEAD_LETTERS_AGE) // SECOND
"""Seconds that a claim must be kept at least: as long as its message may come again."""

MAX_DELIVER = 5
"""How often a message is delivered before it is a dead letter."""

ACK_WAIT = 30.0
"""Seconds that a host has to answer for a message before another one gets it."""

MAX_MESSAGE = 64 * 1024
"""Bytes that a message may have, its headers counted."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name and the value it must have; None is to be absent.

    ``is_fixed``: the server cannot change it in what exists. ``loses`` says what another value loses, if it does.
    ``is_least``: more is as good, or none at all, which is how it is made.
    """

    name: str
    value: Any
    is_fixed: bool = False
    loses: str = ""
    is_least: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """One stream, consumer or bucket as it must be. ``stream`` is the name of the stream that it is, or reads.

    ``subjects`` must be covered by those it has. ``extra`` are settings that matter only when it is made.
    """

    kind: Kind
    name: str
    stream: str
    settings: tuple[Setting, ...]
    subjects: tuple[str, ...]
    extra: Mapping[str, Any]


def setup_command(settings: NatsSettings) -> str:
    """The command that makes what these settings name."""
    options = {"--stream": "stream", "--durable": "durable", "--filter": "filter"}
    given = {option: getattr(settings, name) for option, name in options.items()}
    defaults = {option: settings._field_defaults[name] for option, name in options.items()}
    return " ".join(["issue nats setup", *(f"{o} '{v}'" for o, v in given.items() if v != defaults[o])])


def all_wanted(
    settings: NatsSettings, *, replicas: int | None, claims: bool, claims_ttl: float | None = None
) -> tuple[Wanted, ...]:
    """All that the tasks need. ``replicas`` None: one where it is made, else as many as there are.

    ``claims``: the bucket, too; its entries expire after ``claims_ttl`` seconds where that is given.
    """
    parts = (tasks(settings, replicas), dead_letters(settings, replicas), consumer(settings))
    return (*parts, bucket(settings, replicas, claims_ttl)) if claims else parts


def tasks(settings: NatsSettings, replicas: int | None = None) -> Wanted:
    """The stream of the tasks."""
    own = (
        Setting("max_age", TASKS_AGE),
        Setting("max_msg_size", MAX_MESSAGE),
        Setting("duplicate_window", 120 * SECOND),
    )
    return _stream(settings.stream, (names.TASKS,), (*own, *_replicas(replicas)))


def dead_letters(settings: NatsSettings, replicas: int | None = None) -> Wanted:
    """The stream of the dead letters, which also takes what the server says about one that no client could handle."""
    own = (
        Setting("max_age", DEAD_LETTERS_AGE),
        Setting("max_msg_size", 2 * MAX_MESSAGE),
        Setting("duplicate_window", 7 * DAY),
    )
    subjects = (names.DEAD, names.advisory(settings.stream, settings.durable))
    return _stream(names.dead_letters(settings.stream), subjects, (*own, *_replicas(replicas)))


def _stream(name: str, subjects: tuple[str, ...], own: tuple[Setting, ...]) -> Wanted:
    common = (
        Setting("retention", "limits", is_fixed=True, loses="a message is gone once some consumer has it"),
        Setting("storage", "file", is_fixed=True, loses="messages are gone when the server restarts"),
        Setting("discard", "old"),
        Setting("no_ack", None, loses="publishers are never told that a message is stored"),
        Setting("max_msgs_per_subject", -1, loses="a task pushes out another one for the same repo"),
    )
    return Wanted("stream", name, name, (*common, *own), subjects, {})


def _replicas(replicas: int | None) -> tuple[Setting, ...]:
    return () if replicas is None else (Setting("num_replicas", replicas),)


def consumer(settings: NatsSettings) -> Wanted:
    """The durable consumer that the hosts share."""
    own = (
        Setting("deliver_subject", None, is_fixed=True, loses="it pushes, and nobody can pull from it"),
        Setting("deliver_policy", "all", is_fixed=True, loses="what came before it is never delivered"),
        Setting("ack_policy", "explicit", is_fixed=True, loses="messages count as handled before they are"),
        Setting("replay_policy", "instant", is_fixed=True),
        Setting("ack_wait", int(ACK_WAIT * SECOND)),
        Setting("max_deliver", MAX_DELIVER),
        Setting("headers_only", None, loses="messages come without their bodies"),
        Setting("priority_policy", None, loses="some of the hosts get nothing"),
    )
    return Wanted("consumer", settings.durable, settings.stream, own, (settings.filter,), {})


def _ttl(ttl: float | None) -> Setting:
    if ttl is not None:
        return Setting("max_age", int(ttl * SECOND))
    return Setting(
        "max_age", LEAST_TTL * SECOND, loses="who has forgotten a claim makes the issue again", is_least=True
    )


def bucket(settings: NatsSettings, replicas: int | None = None, ttl: float | None = None) -> Wanted:
    """The key-value bucket with the claims, which is a stream in the form that clients expect of one."""
    own = (
        Setting("storage", "file", is_fixed=True, loses="claims are gone when the server restarts"),
        Setting("discard", "new", loses="when it is full, old claims are thrown away"),
        Setting("allow_direct", None),
        _ttl(ttl),
        *_replicas(replicas),
    )
    extra = {
        "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "retention": "limits",
        "duplicate_window": 120 * SECOND,
    }
    name = settings.bucket
    return Wanted("bucket", name, f"KV_{name}", own, (f"$KV.{name}.>",), extra)
