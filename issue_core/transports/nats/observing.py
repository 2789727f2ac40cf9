"""What is to be seen of a subscriber from outside: metrics, whether it lives, whether it can take tasks.

Whoever looks holds nothing up: the answers come from threads of their own, and what the NATS server tells is read every
few seconds by the subscriber's own loop, however often somebody asks.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nats import errors

from issue_core.errors import IssueCoreError, LedgerError, UsageError
from issue_core.ledger import Ledger
from issue_core.ledger.its_file import ItsFile
from issue_core.transports.http.answers import Answer, HttpError, encoded
from issue_core.transports.http.last_look import LastLook
from issue_core.transports.http.readers import Readers
from issue_core.transports.http.routes import LOOPBACK, READY_FOR
from issue_core.transports.http.server import Rules, Server
from issue_core.transports.http.service import PROBE, is_loopback
from issue_core.transports.http.wire import Times
from issue_core.transports.metrics import CONTENT_TYPE, Durations, Metric, Values, samples, text
from issue_core.transports.nats.storing import prove

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from issue_core.config import NatsSettings
    from issue_core.transports.http.wire import Request
    from issue_core.transports.nats.connection import Link

EVERY = 5.0
"""Seconds between two looks at how the consumer stands."""

FRESH = 15.0
"""Seconds after which what was seen last is not shown any more."""

MOST = 16
"""How many connections there may be at a time; the one that waits longest for its client gives way to a new one."""

_TIMEOUT = 2.0  # seconds that the NATS server has to tell how the consumer stands
_TIMES = Times(idle=60.0, head=10.0, body=10.0)
_GRACE = 0.2  # seconds that answers under way have at the end

_CONSUMER = ("stream", "consumer")

CONNECTED = Metric("issue_core_nats_connected", "gauge", (), "1 while the connection to NATS stands, else 0.")
RECONNECTS = Metric(
    "issue_core_nats_reconnects_total", "counter", (), "How often the connection came back, since this process started."
)
LAST_MESSAGE = Metric(
    "issue_core_nats_last_message_timestamp_seconds",
    "gauge",
    (),
    "When this process last acknowledged a message, in Unix time; only once it has.",
)
LAG = Metric("issue_core_nats_lag", "gauge", _CONSUMER, "Messages that wait in the stream, delivered to nobody yet.")
IN_FLIGHT = Metric(
    "issue_core_nats_in_flight", "gauge", _CONSUMER, "Messages delivered and not answered yet, at whatever host."
)
REDELIVERED = Metric(
    "issue_core_nats_redelivered", "gauge", _CONSUMER, "Those of them that were delivered more than once."
)

METRICS = (CONNECTED, RECONNECTS, LAST_MESSAGE, LAG, IN_FLIGHT, REDELIVERED)
"""What a subscriber shows beside :data:`issue_core.transports.metrics.METRICS`, in its order."""


class _Standing(NamedTuple):
    """How the consumer stood, and when that was seen (``time.monotonic``)."""

    lag: int
    in_flight: int
    redelivered: int
    seen_at: float


@dataclass(slots=True)
class Observer:
    """What is known of one subscriber. It is told by the subscriber's loop, and read by any thread."""

    settings: NatsSettings
    holds_up: str = ""
    _link: Link | None = None
    _taken_at: float | None = None
    _standing: _Standing | None = None
    _following: asyncio.Task[None] | None = None

    def meet(self, link: Link) -> None:
        """The connection is there. To be called in its loop, which looks at the consumer from then on."""
        self._link = link
        self._following = asyncio.get_running_loop().create_task(self._follow(link))

    def able(self, holds_up: str) -> None:
        """What keeps the subscriber from taking more; empty where nothing does."""
        self.holds_up = holds_up

    def took(self) -> None:
        """Messages were acknowledged just now."""
        self._taken_at = time.time()

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands at this moment."""
        return self._link is not None and self._link.client.is_connected

    def values(self) -> Iterator[tuple[Metric, Values]]:
        """The samples of :data:`METRICS`; what is not known at this moment has none."""
        yield CONNECTED, {(): int(self.is_connected)}
        yield RECONNECTS, {(): self._link.client.stats["reconnects"] if self._link else 0}
        yield LAST_MESSAGE, {} if self._taken_at is None else {(): self._taken_at}
        labels, standing = (self.settings.stream, self.settings.durable), self._standing
        if not self.is_connected or (standing and time.monotonic() - standing.seen_at > FRESH):
            standing = None
        for n, metric in enumerate((LAG, IN_FLIGHT, REDELIVERED)):
            yield metric, {labels: standing[n]} if standing else {}

    async def _follow(self, link: Link) -> None:
        while not link.closed.is_set():
            self._standing = await self._look(link) if link.client.is_connected else None
            await asyncio.sleep(EVERY)

    async def _look(self, link: Link) -> _Standing | None:
        # Not through the link's own ways: what it notes of a request that is denied is the subscriber's alone.
        subject = f"{link.api}.CONSUMER.INFO.{self.settings.stream}.{self.settings.durable}"
        try:
            info = json.loads((await link.client.request(subject, timeout=_TIMEOUT)).data)
        except (errors.Error, TimeoutError):
            return None
        if "error" in info:
            return None
        return _Standing(info["num_pending"], info["num_ack_pending"], info["num_redelivered"], time.monotonic())


@contextmanager
def observable(
    observer: Observer, ledger: Ledger, address: tuple[str, int], *, batch: int, say: Callable[[str], None]
) -> Iterator[str]:
    """Serve ``/metrics``, ``/healthz`` and ``/readyz`` at ``address`` until the block ends; gives the URL of the first.

    Port 0 is any that is free. ``batch`` is how many messages the ledger's disk must have room for to count as ready;
    ``say`` hears of faults of our own.

    Raises:
        UsageError: ``address`` is none of this machine's.
        IssueCoreError: the port cannot be had.
        LedgerError: the ledger cannot be written.
    """
    with ledger.write():
        pass  # makes or migrates the ledger, or says now why it cannot be written
    probe = Ledger(ledger.path, clock=ledger.clock, busy_timeout=PROBE)
    hosts = {*LOOPBACK, address[0].lower()} if is_loopback(address[0]) else None
    file = ItsFile(ledger)
    file.require()
    application = _Application(observer, Readers(ledger), probe, file, batch, hosts)
    server = _bound(address, application, say)
    threading.Thread(target=server.run, name="observing", daemon=True).start()
    try:
        host, port = map(str, server.server_address[:2])
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
    finally:
        if server.stop(_GRACE):
            application.close()


@dataclass(slots=True)
class _Application:
    """What answers requests. ``hosts`` are the names that a Host header may have, None: any."""

    observer: Observer
    readers: Readers
    probe: Ledger
    file: ItsFile
    batch: int
    hosts: Collection[str] | None
    durations: Durations = field(default_factory=Durations)
    _readiness: LastLook[str] = field(init=False)

    def __post_init__(self) -> None:
        """Nobody has asked yet."""
        self._readiness = LastLook(self._not_ready, seconds=READY_FOR, first="")

    def answer(self, request: Request, *_: object) -> Answer:
        """The answer to one request."""
        handler = _ROUTES.get(request.path)
        try:
            answer = self._answered(request, handler)
        except HttpError as error:
            answer = error.answer()
        answer.route = request.path if handler else "none"
        return answer

    def _answered(self, request: Request, handler: Callable[[_Application], Answer] | None) -> Answer:
        if self.hosts is not None and request.host is not None and request.host not in self.hosts:
            raise HttpError(421, f"this server is not {request.host!r}")  # a page in a browser may have been led here
        if handler is None:
            raise HttpError(404, f"there is nothing at {request.path}; there is: {', '.join(_ROUTES)}")
        if request.method not in ("GET", "HEAD"):
            raise HttpError(405, f"{request.method} is not for {request.path}", headers={"Allow": "GET, HEAD"})
        return handler(self)

    def measured(self) -> Answer:
        """The metrics, as Prometheus reads them."""
        try:
            with self.readers.one() as ledger:
                shown = text(ledger, self.durations)
        except LedgerError as error:
            raise HttpError(503, error.message) from None
        own = (line for metric, values in self.observer.values() for line in samples(metric, values))
        return Answer(200, (shown + "".join(f"{line}\n" for line in own)).encode(), CONTENT_TYPE)

    def alive(self) -> Answer:
        """That this process answers."""
        return Answer(200, encoded({"status": "alive"}))

    def ready(self) -> Answer:
        """Whether the connection stands and the ledger can be written now, and has room."""
        if not self.observer.is_connected:
            raise HttpError(503, "there is no connection to NATS")
        if self.observer.holds_up:
            raise HttpError(503, self.observer.holds_up)
        if wrong := self._readiness.found():
            raise HttpError(503, wrong)
        return Answer(200, encoded({"status": "ready"}))

    def _not_ready(self) -> str:
        try:
            self.file.require()
            prove(self.probe, self.batch)
        except LedgerError as error:
            return f"the ledger cannot be written: {type(error).code}"
        return ""

    def close(self) -> None:
        """Close what is open."""
        self.readers.close()
        self.probe.close()


_ROUTES = {"/metrics": _Application.measured, "/healthz": _Application.alive, "/readyz": _Application.ready}


def _bound(address: tuple[str, int], application: _Application, say: Callable[[str], None]) -> Server:
    host, port = address
    try:
        return Server(address, application, Rules(_TIMES, 0, None, lambda _: None, say), max_connections=MOST)
    except socket.gaierror as error:
        raise UsageError(f"--metrics-host: {host!r} is no address of this machine: {error.strerror}") from None
    except OSError as error:
        raise IssueCoreError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="Another program may have it: name another with --metrics-port, or 0 for any that is free.",
        ) from None
