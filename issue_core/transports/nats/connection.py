"""A connection to NATS: made once or until it is there, kept over every restart of the server, its errors in words."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nats import errors

from issue_core.errors import NatsError, NatsRefused, NatsUnreachable
from issue_core.transports.nats.client import Client
from issue_core.transports.nats.login import Login, login
from issue_core.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from nats.aio.client import Server

    from issue_core.config import NatsSettings

    Say = Callable[[str], None]

_T = TypeVar("_T")

CONNECT_TIMEOUT = 5
"""Seconds that one server has for one try."""

PING_INTERVAL = 20
"""Seconds between two pings; the second that is not answered ends the connection."""

FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
"""Seconds between two tries to come back to one server; it doubles in between, with jitter."""

REFUSALS = 5
"""How often in a row the credentials may be refused before a connection that once was is given up."""

CUTS = 5
"""How often a connection that is cut before it stands is tried again, without counting as a try."""

_CUT = (ConnectionResetError, BrokenPipeError, errors.UnexpectedEOF)

_CLOSE_TIMEOUT = 3.0  # seconds
_DISCARD_TIMEOUT = 0.5  # the same for what never was a connection: one whose TLS failed does not end by itself


@dataclass(frozen=True, slots=True)
class Link:
    """A connection and what it has seen. ``api`` is what stands before the subjects of the JetStream API.

    ``closed`` is set when the connection has ended for good: :meth:`why` says why.
    """

    client: Client
    api: str
    closed: asyncio.Event
    watch: _Watch

    @property
    def server(self) -> str:
        """The server that it is connected to, or was last, as ``host:port``."""
        return _place(self.client)

    async def unless_denied(self, request: Coroutine[Any, Any, _T]) -> _T:
        """What ``request`` gives; the server does not answer what it does not allow, it says so beside.

        Raises:
            NatsRefused: that is what it said.
        """
        self.watch.denied = ""
        self.watch.denial.clear()
        asked, denial = asyncio.ensure_future(request), asyncio.ensure_future(self.watch.denial.wait())
        try:
            await asyncio.wait({asked, denial}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise self.why(otherwise="")
            return asked.result()
        finally:
            for each in (asked, denial):
                each.cancel()

    def why(self, *, otherwise: str) -> NatsError:
        """The error of what did not come: what the server said last about this connection, or else ``otherwise``."""
        if self.watch.denied:
            return NatsRefused(
                f"{self.server} does not allow it: {self.watch.denied}", hint="give this user the right to do so"
            )
        if not self.client.is_connected:
            return _because(self.client.last_error or self.watch.last, self.server)
        return NatsError(otherwise)


@asynccontextmanager
async def connected(settings: NatsSettings, *, patient: bool = False, say: Say | None = None) -> AsyncIterator[Link]:
    """A connection until the block ends; when the server goes in between, it comes back by itself, for ever.

    Each server is tried once; with ``patient``, until one is there (but not with credentials that it refuses). ``say``
    hears in one line that the connection is lost, and that it is back.

    Raises:
        ConfigError: what the settings name is not there or cannot be.
        NatsUnreachable: none of the servers can be reached, or none has the TLS that it must have.
        NatsRefused: the credentials are refused.
    """
    asked = login(settings)
    say = say or (lambda _: None)
    link = await (_until_there(asked, say) if patient else _once(asked, say))
    try:
        yield link
    finally:
        link.watch.is_over = True
        await _close(link.client)


async def _until_there(asked: Login, say: Say) -> Link:
    wait, said = FIRST_WAIT, False
    while True:
        try:
            return await _once(asked, say)
        except NatsUnreachable as error:
            if not said:
                say(f"NATS: {error.message}; trying again until it is there")
            said = True
        await asyncio.sleep(_jittered(wait))
        wait = min(wait * 2, LONGEST_WAIT)


async def _once(asked: Login, say: Say) -> Link:
    for _ in range(CUTS):
        if link := await _try(asked, say):
            return link
    raise _because(errors.UnexpectedEOF(), ", ".join(asked.servers))


async def _try(asked: Login, say: Say) -> Link | None:
    """A connection; None if it was cut before it stood, as it is when refused, at times before that is read."""
    client = Client()
    client.tls_must = asked.tls_must
    watch = _Watch(client, len(asked.servers), say)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT * (len(asked.servers) + 1)):
            await client.connect(**_options(asked, watch))
    except (_NoServerLeft, errors.Error, OSError, TimeoutError) as failed:
        watch.is_over = True
        await _close(client, _DISCARD_TIMEOUT)
        reason = watch.last or failed
        if isinstance(reason, _CUT):
            return None
        raise _because(reason, ", ".join(asked.servers)) from None
    except asyncio.CancelledError:
        watch.is_over = True
        await _close(client, _DISCARD_TIMEOUT)
        raise
    if not client.is_connected:  # nats-py takes an end of the stream in the place of an answer for one
        watch.is_over = True
        await _close(client, _DISCARD_TIMEOUT)
        return None
    watch.was_connected = True
    return Link(client, asked.api, watch.closed, watch)


def _options(asked: Login, watch: _Watch) -> dict[str, Any]:
    return {
        "servers": list(asked.servers),
        "name": f"issue-core/{__version__} {socket.gethostname()}",
        "connect_timeout": CONNECT_TIMEOUT,
        # Without it, a publisher waits for ever for a flush that a lost connection took along.
        "flush_timeout": CONNECT_TIMEOUT,
        "ping_interval": PING_INTERVAL,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": FIRST_WAIT,
        "reconnect_to_server_handler": _next_server,
        "tls": asked.tls,
        "tls_handshake_first": asked.tls_first,
        "inbox_prefix": asked.inbox,
        "error_cb": watch.on_error,
        "disconnected_cb": watch.on_disconnected,
        "reconnected_cb": watch.on_reconnected,
        "closed_cb": watch.on_closed,
        "lame_duck_mode_cb": watch.on_lame_duck,
        **asked.way,
    }


def _next_server(servers: list[Server], _: dict[str, Any]) -> tuple[Server, float]:
    """Which server to try to come back to, and after how many seconds: the one that failed least."""
    server = min(servers, key=lambda each: each.reconnects)
    return server, _jittered(min(FIRST_WAIT * 2 ** min(server.reconnects, 20), LONGEST_WAIT))


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - keeps clients apart, protects nothing


class _NoServerLeft(Exception):
    """Each server was tried. No error of nats-py's kinds: those it would take for one more reason to try again."""


class _Watch:
    """What nats-py calls back: counts tries, keeps the last reasons, and says when the server goes and comes."""

    def __init__(self, client: Client, servers: int, say: Say) -> None:
        self.closed = asyncio.Event()
        self.was_connected = False
        self.is_over = False
        self.denied = ""
        self.denial = asyncio.Event()
        self.last: Exception | None = None
        self._client = client
        self._servers = servers
        self._say = say
        self._failures = 0
        self._cuts = 0
        self._refusals = 0
        self._closing: asyncio.Task[None] | None = None

    async def on_error(self, error: Exception) -> None:
        """Anything went wrong."""
        text = str(error)
        if "permissions violation" in text.lower():
            self.denied = text.removeprefix("nats: ")
            self.denial.set()
            return
        self.last = error
        self._failures += 0 if self._is_cut(error) else 1
        is_try = not isinstance(error, errors.FlushTimeoutError)
        if is_try and self.was_connected and not self._client.is_connected:
            _abort(self._client)
        if not self.was_connected and not self.is_over and self._failures >= self._servers:
            raise _NoServerLeft
        self._refusals += 1 if _is_refusal(error) else 0
        if self.was_connected and self._refusals >= REFUSALS and not self._closing:
            self._closing = asyncio.create_task(self._client.close())

    def _is_cut(self, error: Exception) -> bool:
        """Whether the connection was cut, and it may be worth another try at once.

        A server that refuses credentials says so and hangs up; at times that is noticed before what it said is read.
        """
        if not isinstance(error, _CUT):
            return False
        self._cuts += 1
        return self._cuts <= CUTS

    async def on_disconnected(self) -> None:
        """The connection is gone; nats-py tries to come back unless it was closed."""
        if self.was_connected and not self.is_over and not self._client.is_closed:
            self._say(f"NATS: the connection to {_place(self._client)} is lost; trying to come back")

    async def on_reconnected(self) -> None:
        """It is back."""
        self._failures = self._refusals = self._cuts = 0
        self._say(f"NATS: connected again, to {_place(self._client)}")

    async def on_lame_duck(self) -> None:
        """The server will go soon; the connection may be used until then."""
        self._say(f"NATS: {_place(self._client)} is about to stop")

    async def on_closed(self) -> None:
        """It has ended for good."""
        self.closed.set()


async def _close(client: Client, timeout: float = _CLOSE_TIMEOUT) -> None:
    """Close it, whatever state it is in; what is to be sent still is. Not ``drain``, which can hang."""
    with suppress(errors.Error, OSError, TimeoutError):
        async with asyncio.timeout(timeout):
            await client.close()
    _abort(client)


def _abort(client: Client) -> None:
    """Let go of the socket of a try that failed: nats-py forgets it, open as it is."""
    for name in ("_io_writer", "_bare_io_writer"):
        if writer := getattr(client._transport, name, None):
            writer.transport.abort()


def _place(client: Client) -> str:
    url = client.connected_url or getattr(client._current_server, "uri", None)
    return f"{url.hostname}:{url.port}" if url else "the server"


def _is_refusal(error: Exception | None) -> bool:
    text = str(error).lower()
    return isinstance(error, errors.AuthorizationError) or "authorization" in text or "authentication" in text


def _because(error: BaseException | None, where: str) -> NatsError:
    """The error in words: what happened at ``where``, and what to do."""
    match error:
        case errors.SecureConnWantedError():
            return NatsUnreachable(
                f"{where}: the server has no TLS, and nothing was said to it",
                hint="tls://, a CA or a certificate ask for TLS; set it up there, or write nats:// if it need not be",
            )
        case ssl.SSLCertVerificationError():
            return NatsUnreachable(
                f"{where}: its certificate is not trusted: {error.verify_message}",
                hint="name the certificates to trust with nats.ca or NATS_CA",
            )
        case ssl.SSLError():
            reason = error.reason or str(error)
            return NatsUnreachable(f"{where}: TLS failed: {reason}", hint="the server may want a client's certificate")
        case errors.Error() if _is_refusal(error):
            return NatsRefused(
                f"{where} refuses the credentials ({str(error).removeprefix('nats: ')})",
                hint="`issue config show` says which are in force and where they come from; they may have expired",
            )
    return NatsUnreachable(
        f"{where} cannot be reached: {_plainly(error)}",
        hint="check the address (--nats-url, NATS_URL, nats.url) and that the server is up",
    )


def _plainly(error: BaseException | None) -> str:
    match error:
        case ConnectionRefusedError():
            return "nothing listens there"
        case socket.gaierror():
            return "its name is not known"
        case TimeoutError():
            return f"no answer within {CONNECT_TIMEOUT} seconds"
        case errors.UnexpectedEOF() | ConnectionError() | asyncio.IncompleteReadError():
            return "the connection was cut"
        case OSError():
            return error.strerror or str(error)
        case errors.Error() if "INFO" in str(error):
            return "what listens there is no NATS server, or one that begins with TLS"
    return str(error or "the connection is closed").removeprefix("nats: ")
