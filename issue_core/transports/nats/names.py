"""The subjects and streams of tasks in NATS, and how a ``target_repo`` becomes one token of a subject."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

TASKS = "act.tasks.>"
"""Every subject of a task: the stream's."""

CREATE = "act.tasks.create"
"""What stands before the token in a subject that asks for a task."""

RESERVED_VERBS = ("update", "close")
"""Verbs in the place of ``create`` that have no meaning yet: left in the stream, untouched."""

DEAD = "act.dlq.>"
"""Every subject of a dead letter."""

EXPIRED = "act.dlq.expired"
"""The subject of what is left of a dead letter that expired before it was copied."""

ADVISORIES = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
"""What the subjects begin with on which the server tells that it gives a message up."""

LEDGERS = "ledgers"
"""What stands before a ledger's ID in the key under which the bucket of claims knows it."""

LONG = "act.dlq.long"
"""The subject of a copy whose own would not fit into a line of the protocol, with what stands before and behind it."""

_LONGEST = 1500

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
CONTENT_TYPE = "Content-Type"
JSON = "application/json"

_BEFORE_LIVING, _BEFORE_DEAD = TASKS.removesuffix(">"), DEAD.removesuffix(">")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# A dot would end the token, * and > would be wildcards; `/` is read more easily as itself.
_ESCAPED = re.compile(rb"[^A-Za-z0-9_/-]")


def token(target_repo: str) -> str:
    """``target_repo`` as one token: every byte but ``A-Z a-z 0-9 _ - /`` of its UTF-8 as ``%`` and two digits."""
    return _ESCAPED.sub(lambda byte: b"%%%02X" % byte[0][0], target_repo.encode()).decode()


def repo_of(token: str) -> str:
    """The ``target_repo`` that :func:`token` made ``token`` of."""
    return unquote(token)


@lru_cache(4096)
def create_subject(target_repo: str) -> str:
    """The subject under which a task for ``target_repo`` is published."""
    return f"{CREATE}.{token(target_repo)}"


def dead_letters(stream: str) -> str:
    """The name of the stream with the dead letters of ``stream``."""
    return f"{stream}_DLQ"


def advisory(stream: str, durable: str) -> str:
    """The subject on which the server tells that this consumer was given a message as often as it may be."""
    return f"{ADVISORIES}.{stream}.{durable}"


def advisories(stream: str) -> str:
    """The subjects on which the server tells so of any consumer of this stream."""
    return f"{ADVISORIES}.{stream}.>"


def dead(subject: str) -> str:
    """The subject of the copy of a dead letter: as it was, but among the dead ones; a very long one is put short."""
    if len(subject.encode()) > _LONGEST:
        return LONG
    return _BEFORE_DEAD + subject.removeprefix(_BEFORE_LIVING)


def living(subject: str) -> str:
    """The subject that :func:`dead` made ``subject`` of."""
    return _BEFORE_LIVING + subject.removeprefix(_BEFORE_DEAD)


def is_header(name: str) -> bool:
    """Whether a header may be called that by whoever sends it with nats-py; other clients take more."""
    return _HEADER.fullmatch(name) is not None


def covers(pattern: str, subject: str) -> bool:
    """Whether every subject that ``subject`` (which may have wildcards itself) stands for is one of ``pattern``'s."""
    wanted, given = pattern.split("."), subject.split(".")
    for n, part in enumerate(wanted):
        if part == ">":
            return len(given) > n
        if n >= len(given) or given[n] == ">" or (given[n] != part and part != "*"):
            return False
    return len(wanted) == len(given)
