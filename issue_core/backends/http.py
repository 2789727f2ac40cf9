"""The one HTTP client of all trackers: one request at a time, its errors told apart by what may have happened.

What decides is whether the first byte of a request had left when it failed. Before that the tracker cannot have acted
(:class:`~issue_core.errors.Unreachable`); after it nobody knows (:class:`~issue_core.errors.OutcomeUnknown`). Nothing
is tried again here, but for a redirect, which says that nothing was done yet.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, LocationParseError, NameResolutionError, NewConnectionError, SSLError

from issue_core.backends.access import (
    COMMON_KEYS,
    named_projects,
    project_for,
    require_known,
    require_url,
    token_of,
)
from issue_core.backends.replies import Reply, error_of, is_limit, tracker_time, wait_of
from issue_core.errors import BackendError, OutcomeUnknown, ProjectClosed, TryLater, Unreachable
from issue_core.version import __version__

__all__ = [
    "COMMON_KEYS",
    "Client",
    "Reply",
    "error_of",
    "is_limit",
    "named_projects",
    "project_for",
    "require_known",
    "require_url",
    "token_of",
    "tracker_time",
    "wait_of",
]

USER_AGENT = f"issue-core/{__version__}"

CONNECT_TIMEOUT = 10.0
"""Seconds to connect, at most; the whole request has its own time."""

LARGEST = 64 * 1024 * 1024
"""Bytes of an answer: a page of 100 issues of 60,000 characters each has less, whatever they are."""

NOT_REACHED = "is the url right, is the tracker well, and does this machine reach it?"
NO_TRACKER = "is the url that of the whole tracker, and not of a project in it?"

REDIRECTS = 5
_MOVED = (301, 307, 308)
"""The redirects that say: nothing was done, send the same to the new place (RFC 9110 §15.4)."""

_FOLLOWED = (301, 302, 303, 307, 308)

_AMBIGUOUS = re.compile(r"[\\\s\x00-\x1f\x7f]")
"""What two readers of an address may take in two ways."""


class _Request(threading.local):
    """The request that this thread is about to send: what to call right before its first byte, and its socket."""

    before_send: Callable[[], None] | None = None
    sock: socket.socket | None = None


_current = _Request()


class _Plain(HTTPConnection):
    """A connection whose socket is known while its request is under way, and that asks before the first byte."""

    def _new_conn(self) -> socket.socket:
        _current.sock = super()._new_conn()
        return _current.sock

    def endheaders(self, *arguments: Any, **named: Any) -> None:
        if self.sock is None:
            self.connect()
        _current.sock = self.sock
        if _current.before_send is not None:
            _current.before_send()
        super().endheaders(*arguments, **named)


class _Secure(_Plain, HTTPSConnection):
    """The same, over TLS."""


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


@dataclass(slots=True)
class _Sending:
    """How far a request came, and the time it has."""

    deadline: float
    before_send: Callable[[], None]
    left: bool = False

    def hook(self) -> None:
        if time.monotonic() >= self.deadline:
            raise Unreachable("there was no time left to send the request once the connection stood")
        self.before_send()
        self.left = True


@dataclass(slots=True)
class Client:
    """One tracker's API under ``base`` (no slash at its end), as one account. Several threads use it at once.

    ``auth`` gives the headers that say who we are; it is asked once, when the first request needs them. ``ca`` is a
    file of certificates to trust in place of the system's. Proxies come from the environment (``HTTPS_PROXY``,
    ``NO_PROXY``). Times are in seconds.
    """

    base: str
    auth: Callable[[], Mapping[str, str]]
    request_timeout: float
    ca: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    _moved: dict[str, str] = field(default_factory=dict)
    _elsewhere: dict[str, Client] = field(default_factory=dict)
    _pools: urllib3.PoolManager | None = None
    _identity: Mapping[str, str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, where: str, params: Mapping[str, str | int] | None = None, *, timeout: float | None = None) -> Reply:
        """Read ``where``: a path under ``base``, or an absolute URL at the same place. Follows redirects there.

        Raises:
            Unreachable: nothing of the request left. TryLater: it did, and no whole answer came.
            ProjectClosed: it was redirected to another host. CredentialsRefused: there are none.
        """
        url = self._url(where) + (f"?{urlencode(params)}" if params else "")
        deadline = time.monotonic() + (self.request_timeout if timeout is None else timeout)
        try:
            for _ in range(REDIRECTS + 1):
                reply = self._once("GET", url, None, _Sending(deadline, lambda: None))
                if reply.status not in _FOLLOWED or "location" not in reply.headers:
                    return reply
                # What is asked for holds at the new place too, where the redirect does not repeat it.
                asked, url = urlsplit(url).query, self._same_place(url, reply)
                if asked and not urlsplit(url).query:
                    url = f"{url}?{asked}"
        except OutcomeUnknown as error:
            raise TryLater(error.message) from None
        raise ProjectClosed(f"{_shown(url)} redirects in a circle")

    def post(self, where: str, payload: object, *, timeout: float, before_send: Callable[[], None]) -> Reply:
        """Send ``payload`` as JSON to ``where`` with POST; see :meth:`send`."""
        return self.send("POST", where, payload, timeout=timeout, before_send=before_send)

    def send(
        self,
        method: str,
        where: str,
        payload: object,
        *,
        timeout: float,
        before_send: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Send ``payload`` as JSON, within ``timeout`` seconds for all of it; any status is an answer.

        ``before_send`` is called right before the first byte leaves; what it raises passes through, and nothing is
        sent. A moved project's redirect is followed with the same method and body, never as a GET, and remembered.

        Raises:
            Unreachable: nothing of the request left. OutcomeUnknown: it did, and no whole answer came.
            ProjectClosed: it was redirected to another host. CredentialsRefused: there are none.
        """
        body = json.dumps(payload).encode()
        deadline = time.monotonic() + timeout
        asked = self._url(where)
        url = self._moved.get(asked, asked)
        for _ in range(REDIRECTS + 1):
            reply = self._once(method, url, body, _Sending(deadline, before_send))
            if reply.status not in _MOVED or "location" not in reply.headers:
                if reply.status in (404, 410):
                    self._moved.pop(asked, None)
                return reply
            url = self._same_place(url, reply)
            self._moved[asked] = url
        self._moved.pop(asked, None)
        raise ProjectClosed(f"{_shown(asked)} redirects in a circle")

    def at(self, base: str) -> Client:
        """The same client for another address of the same tracker, one it had before."""
        if base == self.base:
            return self
        with self._lock:
            if base not in self._elsewhere:
                self._elsewhere[base] = Client(base, self.auth, self.request_timeout, self.ca, self.headers)
            return self._elsewhere[base]

    def close(self) -> None:
        """Let go of every connection."""
        for client in self._elsewhere.values():
            client.close()
        if self._pools is not None:
            self._pools.clear()

    def _url(self, where: str) -> str:
        if not where.startswith(("http://", "https://")):
            return self.base + where
        if not _same_origin(where, self.base):
            raise TryLater(f"{_shown(self.base)} names {_shown(where)} as the next page, which is another host")
        return where

    def _same_place(self, url: str, reply: Reply) -> str:
        to = _joined(url, reply.headers["location"])
        if not _same_origin(to, self.base):
            raise ProjectClosed(
                f"{_shown(url)} has moved to {_shown(to)}, which is another address; nothing was sent there",
                hint="set the backend's url to where it is now",
            )
        return to

    def _once(self, method: str, url: str, body: bytes | None, sending: _Sending) -> Reply:
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json", **self.headers, **self._who()}
        if body is None:
            headers["Accept-Encoding"] = "gzip"
        else:
            headers["Content-Type"] = "application/json"
        timeout = sending.deadline - time.monotonic()
        if timeout <= 0:
            raise Unreachable(f"there was no time left to ask {_shown(url)}")
        limits = urllib3.Timeout(connect=min(CONNECT_TIMEOUT, timeout), read=timeout)
        try:
            with _underway(sending, timeout):
                answer = self._manager(url).urlopen(
                    method, url, body=body, headers=headers, timeout=limits, retries=False, redirect=False,
                    preload_content=False,
                )  # fmt: skip
                content = _read(answer, url)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            raise _failure(error, url, sending) from None
        if time.monotonic() >= sending.deadline:
            # Cut off: an answer that ends with its connection looks whole then.
            raise OutcomeUnknown(f"{_shown(url)} gave no whole answer in time")
        told = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(method, answer.status, told, content, url, secrets=_secrets(headers))

    def _who(self) -> Mapping[str, str]:
        if self._identity is None:
            with self._lock:
                if self._identity is None:
                    self._identity = self.auth()
        return self._identity

    def _manager(self, url: str) -> urllib3.PoolManager:
        with self._lock:
            if self._pools is None:
                self._pools = _pools(url, self.ca)
            return self._pools


def _pools(url: str, ca: Path | None) -> urllib3.PoolManager:
    parts = urlsplit(url)
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    direct = not proxy or proxy_bypass(parts.netloc)
    settings: dict[str, Any] = {"maxsize": 32, "block": False}
    if parts.scheme == "https" or not direct:
        settings["ssl_context"] = _trust(ca)
    pools = urllib3.PoolManager(**settings) if direct else _through(proxy or "", settings)
    pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return pools


def _trust(ca: Path | None) -> ssl.SSLContext:
    """Verified TLS. To read the system's certificates takes some 35 ms, so it is done where there is TLS alone."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise Unreachable(f"The file of certificates {ca} cannot be used: {error.strerror or error}") from None


def _through(proxy: str, settings: dict[str, Any]) -> urllib3.ProxyManager:
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        auth = urllib3.util.parse_url(url).auth
        headers = urllib3.make_headers(proxy_basic_auth=auth) if auth else None
        return urllib3.ProxyManager(url, proxy_headers=headers, **settings)
    except (HTTPError, ValueError):
        raise Unreachable(
            "The proxy that the environment names cannot be used: only http:// and https:// can"
        ) from None


@contextmanager
def _underway(sending: _Sending, timeout: float) -> Iterator[None]:
    """Let this thread's next request call the hook, and cut it off when its time is over, whatever trickles in."""
    _current.before_send, _current.sock = sending.hook, None
    mine = _current.__dict__
    watch = threading.Timer(timeout, lambda: _cut_off(mine.get("sock")))
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()
        _current.before_send = _current.sock = None


def _cut_off(sock: socket.socket | None) -> None:
    if sock is not None:
        with suppress(OSError):
            # Past the TLS layer, which another thread is reading through.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _read(answer: urllib3.BaseHTTPResponse, url: str) -> bytes:
    """The whole body, if it is no longer than an answer may be."""
    parts, size = [], 0
    while part := answer.read(256 * 1024):
        size += len(part)
        if size > LARGEST:
            answer.close()
            raise HTTPError(f"the answer of {_shown(url)} is longer than {LARGEST} bytes")
        parts.append(part)
    answer.release_conn()
    return b"".join(parts)


def _failure(error: Exception, url: str, sending: _Sending) -> BackendError:
    where = _shown(url)
    if not sending.left:
        return Unreachable(f"{where} cannot be reached: {_reason(error)}", hint=NOT_REACHED)
    if time.monotonic() >= sending.deadline:
        return OutcomeUnknown(f"{where} gave no whole answer in time")
    return OutcomeUnknown(f"{where} gave no whole answer: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """What went wrong below, in words that hold no credentials and no addresses of memory."""
    match error:
        case NameResolutionError():
            return "its name is not known"
        case LocationParseError():
            return "its address is malformed"
        case SSLError():
            inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
            return f"TLS: {getattr(inner, 'verify_message', '') or getattr(inner, 'reason', '') or 'failed'}"
        case NewConnectionError() if error.__cause__ is not None:
            return _reason(error.__cause__)
        case OSError(strerror=str(words)) if words:
            return words
        case HTTPError() if error.__class__ is HTTPError:
            return str(error)
    return _WORDS.get(type(error).__name__, type(error).__name__)


_WORDS = {
    "ConnectTimeoutError": "connecting took too long",
    "ReadTimeoutError": "it took too long",
    "ProtocolError": "the connection broke",
    "ProxyError": "the proxy does not let us through",
    "IncompleteRead": "the connection broke",
    "DecodeError": "its compression is broken",
}


def _same_origin(one: str, other: str) -> bool:
    """Whether both have the same scheme, host and port, as the library reads them that connects."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    """Where a request to ``url`` would go; nowhere, if it is malformed or could be read in two ways."""
    if _AMBIGUOUS.search(url):
        return None, url, None
    try:
        parts = urllib3.util.parse_url(url)
    except LocationParseError:
        return None, url, None
    if parts.auth is not None:
        return None, url, None
    return parts.scheme, (parts.host or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme or "")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def _shown(url: str) -> str:
    """The address without what may be a secret: no credentials, no query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a malformed address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


_SECRET_HEADERS = ("authorization", "private-token", "x-redmine-api-key")


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What in these headers must not be repeated to anybody, should the tracker echo it."""
    told = [value.split() for name, value in headers.items() if name.lower() in _SECRET_HEADERS]
    secrets = [words[-1] for words in told]
    for words in told:
        if words[0].lower() == "basic":
            # User and password, RFC 7617; only the second is a secret.
            secrets.append(b64decode(words[-1]).decode(errors="replace").partition(":")[2])
    return tuple(filter(None, secrets))
