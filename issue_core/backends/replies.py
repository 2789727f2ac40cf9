"""A tracker's answer: what it says, what its status means unless a tracker has its own rule, how long to wait."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from issue_core.clock import Clock
from issue_core.errors import (
    BackendError,
    CredentialsRefused,
    Limited,
    OutcomeUnknown,
    ProjectClosed,
    Refused,
    TryLater,
)

clock = Clock()
"""The clock by which an answer without a ``Date`` header is read."""

EPOCH = 10**9
"""A number of seconds from here on is a time since 1970, below it is a time from now."""

REFUSALS = frozenset({400, 405, 406, 409, 411, 412, 413, 414, 415, 417, 422, 428, 431})
"""The statuses that say that nothing was done. Others in the 400s may come from a gateway that gave up half-way."""

_LINK = re.compile(r'<([^<>]*)>[^,<]*?;\s*rel="?([^",;]+)"?')
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\s]+")


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """What a tracker answered. The names of ``headers`` are in lower case; ``url`` is the place that answered."""

    method: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Reply({self.method} {self.url}: {self.status})"

    @property
    def host(self) -> str:
        """Who answered."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            OutcomeUnknown: it is none, in the answer to a request that may have done something.
            TryLater: it is none, in the answer to a GET.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise self.nonsense("something that is no JSON") from None

    def nonsense(self, what: str) -> BackendError:
        """The error for an answer that makes no sense: ``what`` came in it."""
        kind = TryLater if self.method == "GET" else OutcomeUnknown
        return kind(f"{self.host} answered {self.status} with {what}")

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Take the answer, where what is read from it is not there or of another kind, for one that makes no sense.

        Raises what :meth:`nonsense` gives.
        """
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError):
            raise self.nonsense("something that it should not hold") from None

    def text(self, most: int = 300) -> str:
        """The body's beginning on one line, for people."""
        return self.clean(self.body[: 64 * 1024].decode(errors="replace"), most)

    def clean(self, words: str, most: int = 300) -> str:
        """``words`` of the tracker on one line, without control characters, and without what must not be told."""
        for secret in self.secrets:
            words = words.replace(secret, "…")
        words = _UNSEEN.sub(" ", words).strip()
        return words if len(words) <= most else f"{words[: most - 1]}…"

    @property
    def date(self) -> datetime | None:
        """When it was answered, by the tracker's clock (RFC 9110 §6.6.1)."""
        return _http_date(self.headers.get("date", ""))

    @property
    def links(self) -> Mapping[str, str]:
        """The ``Link`` header (RFC 8288): relation → absolute URL."""
        found = _LINK.findall(self.headers.get("link", ""))
        try:
            return {relation: urljoin(self.url, target) for target, relation in found}
        except ValueError:
            raise self.nonsense("a malformed link") from None


def error_of(reply: Reply, words: str, *, create: bool) -> BackendError:
    """What an answer other than the expected one means.

    ``words`` are the tracker's own; ``create``: the request may have made an issue.
    """
    status = reply.status
    said = reply.clean(words)
    message = f"{reply.host} answered {status}: {said}" if said else f"{reply.host} answered {status}"
    if is_limit(reply):
        return Limited(message, retry_after=wait_of(reply))
    if status == 401:
        return CredentialsRefused(message, hint="look at the backend's token: it may have expired or be another's")
    if status in (403, 404, 410, 423):
        return ProjectClosed(message)
    if create:
        return Refused(message) if status in REFUSALS else OutcomeUnknown(message)
    return TryLater(message, retry_after=wait_of(reply))


def is_limit(reply: Reply) -> bool:
    """Whether the answer says that a rate limit is used up: 429, or a 403 that tells how long to wait (GitHub's)."""
    if reply.status == 429:
        return True
    used_up = reply.headers.get("x-ratelimit-remaining", "").strip() == "0"
    return reply.status == 403 and (used_up or "retry-after" in reply.headers)


def wait_of(reply: Reply) -> float | None:
    """The seconds that the tracker tells us to wait; None: it does not say.

    ``Retry-After`` is in seconds or a date (RFC 9110 §10.2.3). ``X-RateLimit-Reset`` and ``RateLimit-Reset`` are a
    time since 1970 (GitHub, GitLab), an ISO 8601 time (Jira) or seconds from now, and count only where nothing remains.
    """
    now = reply.date or clock.now()
    told = reply.headers.get("retry-after", "").strip()
    if told and (wait := _seconds_until(told, now)) is not None:
        return wait
    for name in ("x-ratelimit", "ratelimit"):
        if reply.headers.get(f"{name}-remaining", "").strip() == "0":
            wait = _seconds_until(reply.headers.get(f"{name}-reset", "").strip(), now)
            if wait is not None:
                return wait
    return None


def tracker_time(since: datetime, reply: Reply, clock_now: datetime) -> datetime:
    """``since``, a time of our clock, as the tracker's clock had it, by the ``Date`` of an answer that came now."""
    return since if reply.date is None else since + (reply.date - clock_now)


def _seconds_until(told: str, now: datetime) -> float | None:
    try:
        number = float(told)
    except ValueError:
        at = _http_date(told) or _iso(told)
        return None if at is None else max(0.0, (at - now).total_seconds())
    if not 0 <= number < 10**11:
        return None
    return max(0.0, number - now.timestamp()) if number >= EPOCH else number


def _http_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _iso(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
