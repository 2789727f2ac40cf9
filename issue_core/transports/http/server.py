"""Connections: each has a thread of its own, there are only so many, and a slow one takes no other's place.

When all places are taken, whoever waits longest for its client gives way: an idle connection, else the one whose
request has been coming for the longest, and a new one last. A request that came whole is always answered.
"""

from __future__ import annotations

import errno
import math
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any, Literal, Protocol

from issue_core.transports.http import wire
from issue_core.transports.http.access_log import Entry
from issue_core.transports.http.answers import Answer, HttpError, own_fault, problem
from issue_core.transports.http.places import Place, Places
from issue_core.transports.metrics import Durations

SMALL = 64 * 1024
"""Bytes of a body that nobody wanted which are read all the same, so that the connection can go on."""

LINGER = 2.0
"""Seconds in which a client that still sends is listened to, so that it gets to read the answer (RFC 9112 §9.6)."""

_BACKLOG = 128
_POLL = 0.1  # seconds after which a stop is noticed
_HANG_UP = 0.01  # seconds that a connection may take to end
_PIECE = 64 * 1024
_TURNED_AWAY = problem(503, "all connections are taken; send it again later", headers={"Retry-After": "5"})


class Application(Protocol):
    """What answers requests: at once, or with None, and ``later`` hears the answer when it is there."""

    durations: Durations

    def answer(
        self, request: wire.Request, body: Callable[[], Iterator[bytes]], later: Callable[[Answer], None] | None = None
    ) -> Answer | None:
        """The answer to one request; ``body`` reads what came with it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a connection is held to: times, the largest body in bytes, TLS, and who hears of each request."""

    times: wire.Times
    max_body: int
    tls: ssl.SSLContext | None
    log: Callable[[Entry], None]
    complain: Callable[[str], None]


class Server(ThreadingHTTPServer):
    """The standard library's server, bounded.

    Raises:
        OSError: the address cannot be had.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = _BACKLOG

    def __init__(
        self, address: tuple[str, int], application: Application, rules: Rules, *, max_connections: int
    ) -> None:
        self.application = application
        self.rules = rules
        self.places = Places(max_connections)
        self._look_at = 0.0
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__(found[0][4][:2], Handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        """Bind, without the look into the DNS that the standard library takes for a name that nobody needs."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. Where the process has no descriptor left, one that waits for its client gives way."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                time.sleep(_HANG_UP if self.places.make_room() else _POLL)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a place and a thread, or say that there is none."""
        place = self.places.take(request)
        if place is None:
            self._turn_away(request)
            return
        thread = threading.Thread(target=self._serve, args=(place, client_address), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self.places.leave(place, self._turn_away)

    def _turn_away(self, connection: socket.socket) -> None:
        if self.rules.tls is None:
            connection.setblocking(False)
            with suppress(OSError):  # it might have to wait, and nobody waits for it
                connection.send(_whole(_TURNED_AWAY, http_1_1=True, keep_alive=False))
        self.shutdown_request(connection)

    def _serve(self, place: Place, client_address: Any) -> None:
        try:
            with suppress(wire.Gone):  # clients come and go
                Handler(place, client_address, self)
        finally:
            self.places.leave(place, self.shutdown_request)

    def run(self) -> None:
        """Take connections until :meth:`stop` is called from another thread."""
        self.serve_forever(poll_interval=_POLL)

    def service_actions(self) -> None:
        """Between connections, and every :data:`_POLL` seconds: see who is late."""
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + _POLL
            self.places.hang_up_on_the_late()

    def stop(self, grace: float) -> bool:
        """Take no more connections, and answer what has come, for at most ``grace`` seconds; whether all was."""
        self.shutdown()
        self.server_close()
        return self.places.close(grace)


class Handler(BaseHTTPRequestHandler):
    """One connection: requests in, answers out, one after another."""

    server: Server
    place: Place

    def __init__(self, place: Place, client_address: Any, server: Server) -> None:
        self.place = place
        super().__init__(place.stream.socket, client_address, server)

    def setup(self) -> None:
        """Make the connection ready: TLS first, and no waiting for packets to fill (Nagle)."""
        rules, stream = self.server.rules, self.place.stream
        with suppress(OSError):  # on macOS, where the client has gone already
            stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        if rules.tls is not None:
            stream.deadline = time.monotonic() + rules.times.head
            try:
                stream.socket = rules.tls.wrap_socket(stream.socket, server_side=True, do_handshake_on_connect=False)
                stream.socket.do_handshake()
            except (OSError, ValueError):
                raise wire.Gone from None
        self.stream = stream
        self.client = str(self.client_address[0])
        self._answer_before: threading.Lock | None = None
        self._ended = False
        self.server.places.idles(self.place)

    def finish(self) -> None:
        """Before the connection is closed: its last answer may still be under way in another thread."""
        self._wait_for_the_answer_before()

    def handle_one_request(self) -> None:
        """Read one request and answer it; ``close_connection`` says whether another one may come."""
        self.close_connection = True
        places, place, unread = self.server.places, self.place, _Unread()
        request, answer = self._next_request(unread)
        self._wait_for_the_answer_before()
        began = time.perf_counter()
        if request is not None:
            if unread.state == "whole":
                places.works(place)
            answer = self._answered(request, unread, began)
            if answer is None:
                self.close_connection = False
                return
            self._read_small(request, unread)
        assert answer is not None  # noqa: S101 - where there is no request, there is an error
        keep_alive = request is not None and request.keep_alive and unread.state == "whole" and not places.closing
        self.stream.deadline = math.inf
        place.state, place.since = "sending", time.monotonic()
        self._send(request, answer, keep_alive=keep_alive)
        self._tell(request, answer, time.perf_counter() - began)
        self.close_connection = not keep_alive
        if unread.state != "whole":
            self._linger()
        elif keep_alive:
            places.idles(place)

    def _next_request(self, unread: _Unread) -> tuple[wire.Request | None, Answer | None]:
        """The next request; or the answer to what was none."""
        try:
            request = wire.read_head(self.place.stream, self.server.rules.times, self._receives)
        except HttpError as error:
            unread.state = "broken"
            return None, error.answer()
        unread.state = "whole" if request.length == 0 else "unread"
        return request, None

    def _may_answer_later(self, request: wire.Request) -> bool:
        """Whether another thread may send the answer: not while TLS, which is one thread's at a time, is spoken, nor
        where the client wants the connection to end with it."""
        return self.server.rules.tls is None and request.keep_alive

    def _later(self, request: wire.Request, began: float, sent: threading.Lock) -> Callable[[Answer], None]:
        """What sends the answer when it is there, from a thread that must not wait; ``sent`` is released then.

        So this thread need not be woken only to send it, and reads on meanwhile.
        """
        sent.acquire()

        def send(answer: Answer) -> None:
            keep_alive = not self.server.places.closing
            self._ended = not keep_alive
            data = _whole(answer, http_1_1=request.http_1_1, keep_alive=keep_alive)
            try:
                left = data[self.stream.socket.send(data, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                left = data
            except OSError:
                self.stream.hang_up(socket.SHUT_RDWR)
                left = b""
            if left:
                # The client has not read what came before: a thread waits for that, and only that one.
                threading.Thread(target=self._send_rest, args=(left, sent), daemon=True).start()
            else:
                self.server.places.idles(self.place)
                sent.release()
            self._tell(request, answer, time.perf_counter() - began)

        return send

    def _send_rest(self, left: bytes, sent: threading.Lock) -> None:
        self.place.state, self.place.since = "sending", time.monotonic()
        times = self.server.rules.times
        try:
            self.stream.send(left, times.body)
        except wire.Gone:
            self.stream.hang_up(socket.SHUT_RDWR)
        finally:
            self.stream.deadline = time.monotonic() + times.idle
            self.server.places.idles(self.place)
            sent.release()

    def _wait_for_the_answer_before(self) -> None:
        """Answers go out in the order of the requests, and nothing is closed before they did."""
        if self._answer_before is not None:
            with self._answer_before:
                self._answer_before = None

    def _receives(self) -> None:
        # Until the answer before is sent, the connection is at that, and gives way to nobody.
        self._wait_for_the_answer_before()
        if self._ended:
            raise wire.Gone  # RFC 9112 §9.6: after an answer that says close, nothing more is done
        self.place.state, self.place.since = "receiving", time.monotonic()

    def _answered(self, request: wire.Request, unread: _Unread, began: float) -> Answer | None:
        """The answer; None when another thread sends it."""

        def body() -> Iterator[bytes]:
            unread.state = "broken"
            # Whoever is asked for a body has shown a key: it gives way after those who have not, and as long as it
            # comes, after those who dawdle.
            self.place.state = "body"
            for piece in wire.body_of(self.stream, request, self.server.rules.times, self.server.rules.max_body):
                self.place.since = time.monotonic()
                yield piece
            unread.state = "whole"
            self.server.places.works(self.place)

        sent = threading.Lock()
        later = self._later(request, began, sent) if self._may_answer_later(request) else None
        try:
            answer = self.server.application.answer(request, body, later)
        except wire.Gone:
            raise
        except Exception:  # noqa: BLE001 - the end of a thread: the client gets an answer, and the log the trace
            self.server.rules.complain(f"a fault of issue-core's own, please report it:\n{traceback.format_exc()}")
            answer = own_fault()
        if answer is None:
            self._answer_before = sent
        return answer

    def _read_small(self, request: wire.Request, unread: _Unread) -> None:
        """Read a small body that nobody wanted: the next request comes behind it."""
        if unread.state == "unread" and request.length and request.length <= SMALL and not request.expects_continue:
            try:
                for _ in wire.body_of(self.stream, request, self.server.rules.times, SMALL):
                    pass
            except HttpError:
                return
            unread.state = "whole"

    def _send(self, request: wire.Request | None, answer: Answer, *, keep_alive: bool) -> None:
        seconds = self.server.rules.times.body
        head = answer.head(http_1_1=request is None or request.http_1_1, keep_alive=keep_alive)
        is_head = request is not None and request.method == "HEAD"
        if isinstance(answer.body, bytes):
            self.stream.send(head if is_head else head + answer.body, seconds)
            return
        with answer.body as file:
            self.stream.send(head, seconds)
            if not is_head:
                self._send_file(file, seconds)

    def _send_file(self, file: IO[bytes], seconds: float) -> None:
        file.seek(0)
        while piece := file.read(_PIECE):
            self.stream.send(piece, seconds)

    def _tell(self, request: wire.Request | None, answer: Answer, seconds: float) -> None:
        method = request.method if request else "-"
        self.server.application.durations.observe(_known(method), answer.route, answer.status, seconds)
        target = request.target if request else "-"
        self.server.rules.log(Entry(self.client, method, target, answer.status, answer.size(), seconds, answer.told))

    def _linger(self) -> None:
        """Let a client that still sends read the answer: closing at once would take it away from it."""
        self.stream.hang_up(socket.SHUT_WR)
        self.stream.deadline = time.monotonic() + LINGER
        with suppress(TimeoutError):
            while True:
                self.stream.buffer.clear()
                self.stream.fill()


@dataclass(slots=True)
class _Unread:
    """What is left of a request on the connection: all of its body, some of it (nobody knows), or nothing."""

    state: Literal["unread", "broken", "whole"] = "unread"


def _whole(answer: Answer, *, http_1_1: bool, keep_alive: bool) -> bytes:
    """A short answer, as it is sent."""
    assert isinstance(answer.body, bytes)  # noqa: S101 - a file is sent piece by piece
    return answer.head(http_1_1=http_1_1, keep_alive=keep_alive) + answer.body


def _known(method: str) -> str:
    """The method for the metrics: a client cannot make series as it likes."""
    return method if method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
