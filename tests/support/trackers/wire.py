"""HTTP as the fake trackers speak it: requests, answers, and all that can go wrong on the way.

A dropped connection is closed without a byte; a client that is gone makes no noise.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import parse_qs

Kind = Literal[
    "drop_before",
    "drop_after",
    "answer_before",
    "answer_after",
    "delay",
    "late",
    "drip",
    "cut",
]
"""``before`` and ``after`` say whether the request has been carried out by then.

``drop``: the connection is closed without a byte; ``answer``: another answer is given; ``delay``: carried out at once,
answered later; ``late``: carried out later; ``drip``: the answer comes a byte at a time; ``cut``: half of it comes.
The last four all carry the request out.
"""

On = Literal["create", "read", "any"]
"""Which requests a fault is for: those that make an issue, all others, or all."""


class Request(NamedTuple):
    """What a client sent: ``path`` as it came, without the query; ``headers`` with lower-case names."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def first(self, name: str, default: str = "") -> str:
        """The first value of a parameter of the query."""
        return self.query.get(name, [default])[0]


class Answer(NamedTuple):
    """What the tracker says. ``body``: bytes as they are, a string as HTML, ``None`` for none, else JSON."""

    status: int
    body: object = None
    headers: Mapping[str, str] = {}


@dataclass(slots=True)
class Fault:
    """Something that goes wrong with the next ``times`` requests of a kind (``None``: with all of them).

    ``path`` narrows it to requests whose path contains it, ``after`` lets so many of them pass first. ``seconds`` is
    how long ``delay``, ``late`` and ``drip`` take. ``status`` stands in place of the true answer's own.
    """

    kind: Kind
    on: On = "create"
    times: int | None = 1
    answer: Answer | None = None
    seconds: float = 0.0
    path: str = ""
    after: int = 0
    status: int | None = None


class Service(Protocol):
    """What answers: it gives an answer (``None``: the connection is dropped), and the fault that says how it is given.

    ``bugs`` collects what goes wrong in the test's own code.
    """

    stopping: threading.Event
    bugs: list[BaseException]

    def handle(self, request: Request) -> tuple[Answer | None, Fault | None]: ...

    def now(self) -> datetime: ...


class Listener(ThreadingHTTPServer):
    """Accepts connections, a thread each, and knows those that are open."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: Service) -> None:
        self.service = service
        self._open: set[socket.socket] = set()
        self._change = threading.Condition()
        super().__init__(("127.0.0.1", 0), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._change:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._change:
            self._open.discard(request)
            self._change.notify_all()

    def end_connections(self) -> None:
        """Close every connection, and wait for their threads to let go of them."""
        with self._change:
            for connection in self._open:
                _hang_up(connection)
            assert self._change.wait_for(lambda: not self._open, timeout=10), "a connection of the tracker hangs"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no error; what else happens is one of the test's own code."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.service.bugs.append(error)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def _any(self) -> None:
        service = self.server.service
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # the client died before it had sent all: there is no request
            return
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer, fault = service.handle(
            Request(self.command, path, parse_qs(query, keep_blank_values=True), headers, body)
        )
        if answer is None:
            self._drop()
        else:
            self._give(_written(answer, service.now()), fault)

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Every method is handled alike."""
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self._any

    def _give(self, answer: bytes, fault: Fault | None) -> None:
        if fault and fault.kind == "cut":
            self.wfile.write(answer[: -(-len(answer) // 2)])
            self._drop()
        elif fault and fault.kind == "drip":
            stopping = self.server.service.stopping
            pause = fault.seconds / len(answer)
            for at in range(len(answer)):
                if stopping.wait(pause):
                    break
                self.wfile.write(answer[at : at + 1])
        else:
            self.wfile.write(answer)

    def _drop(self) -> None:
        self.close_connection = True
        _hang_up(self.connection)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that it has above
        """Nothing is logged: a test reads the tracker's ``requests``."""


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the other side may have been quicker
        connection.shutdown(socket.SHUT_RDWR)


def _written(answer: Answer, now: datetime) -> bytes:
    content, body = _content(answer.body)
    headers = {"Date": format_datetime(now, usegmt=True), "Content-Length": str(len(body)), **content, **answer.headers}
    head = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Unheard Of')}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def _content(body: object) -> tuple[dict[str, str], bytes]:
    match body:
        case None:
            return {}, b""
        case bytes():
            return {"Content-Type": "application/json"}, body
        case str():
            return {"Content-Type": "text/html; charset=utf-8"}, body.encode()
        case _:
            return {"Content-Type": "application/json; charset=utf-8"}, json.dumps(body).encode()
