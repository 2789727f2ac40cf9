"""The one HTTP client: what may have happened decides which error it is, and no secret leaves by a message."""

from __future__ import annotations

import inspect
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import urllib3.exceptions

from issue_core.backends import http
from issue_core.backends.http import USER_AGENT, Client
from issue_core.errors import BackendError, OutcomeUnknown, ProjectClosed, TryLater, Unreachable

TOKEN = "s3cret-token"  # noqa: S105 - a test's

Script = Callable[[socket.socket, bytes], None]
"""What the server does on a connection once it has read a request."""


class Server:
    """A server that answers each request as the next script says, and keeps what it received."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.connections = 0
        self.scripts: list[Script] = []
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def answers(self, *scripts: Script) -> None:
        self.scripts += scripts

    def close(self) -> None:
        self.over.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while request := _whole_request(connection):
                self.received.append(request)
                script = self.scripts.pop(0)
                script(connection, request)
                if script.__name__ == "broken":
                    return


def _whole_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := connection.recv(65536)):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < sum(lengths):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(status: int, body: object = None, **headers: str) -> Script:
    content = json.dumps(body).encode()
    told = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\n{told}Content-Length: {len(content)}\r\n\r\n".encode()
    return lambda connection, _: connection.sendall(head + content)


def breaks_after(data: bytes) -> Script:
    def broken(connection: socket.socket, _: bytes) -> None:
        connection.sendall(data)

    return broken


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = Client(f"{server.url}/api", lambda: {"Authorization": f"Bearer {TOKEN}"}, request_timeout=5.0)
    yield client
    client.close()


def post(client: Client, *, timeout: float = 5.0, before_send: Callable[[], None] = lambda: None) -> http.Reply:
    return client.post("/issues", {"title": "x"}, timeout=timeout, before_send=before_send)


def test_a_request_says_who_we_are_and_what_it_brings(server: Server, client: Client) -> None:
    server.answers(answer(201, {"number": 7}))
    assert post(client).json() == {"number": 7}
    head, _, body = server.received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/issues HTTP/1.1\r\n")
    assert f"User-Agent: {USER_AGENT}".encode() in head
    assert f"Authorization: Bearer {TOKEN}".encode() in head
    assert json.loads(body) == {"title": "x"}


def test_requests_share_a_connection(server: Server, client: Client) -> None:
    server.answers(answer(201), answer(201), answer(200))
    post(client)
    post(client)
    client.get("/issues")
    assert server.connections == 1


def test_where_nothing_listens_nothing_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", dict, request_timeout=5.0)
    with pytest.raises(Unreachable, match="cannot be reached: Connection refused"):
        post(client)
    with pytest.raises(Unreachable):
        client.get("/issues")


def test_where_tls_fails_nothing_left(server: Server) -> None:
    client = Client(server.url.replace("http:", "https:"), dict, request_timeout=2.0)
    with pytest.raises(Unreachable):
        post(client, timeout=2.0)


def test_a_connection_that_is_dropped_after_the_request_leaves_it_in_doubt(server: Server, client: Client) -> None:
    server.answers(breaks_after(b""), breaks_after(b""))
    with pytest.raises(OutcomeUnknown, match="gave no whole answer: the connection broke"):
        post(client)
    with pytest.raises(TryLater):
        client.get("/issues")


@pytest.mark.parametrize(
    "part",
    [
        b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_half_an_answer_is_no_answer(server: Server, client: Client, part: bytes) -> None:
    server.answers(breaks_after(part))
    with pytest.raises(OutcomeUnknown):
        post(client)


def test_an_answer_that_ends_within_its_headers_says_nothing(server: Server, client: Client) -> None:
    """The library takes the end of the connection for the end of the headers; the number is missing all the same."""
    server.answers(breaks_after(b"HTTP/1.1 201 Created\r\nContent-Le"))
    with pytest.raises(OutcomeUnknown):
        post(client).json()


def test_an_answer_that_trickles_in_is_cut_off_when_its_time_is_over(server: Server, client: Client) -> None:
    def trickle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 201 Created\r\n")
        while not server.over.wait(0.05):
            connection.sendall(b"X-More: yes\r\n")

    server.answers(trickle)
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="no whole answer in time"):
        post(client, timeout=0.4)
    assert time.monotonic() - began < 2.0


def test_a_body_that_trickles_in_to_the_connection_s_end_is_cut_off_too(server: Server, client: Client) -> None:
    def trickle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.0 201 Created\r\nConnection: close\r\n\r\n{")
        while not server.over.wait(0.05):
            connection.sendall(b" ")

    server.answers(trickle)
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        post(client, timeout=0.4)
    assert time.monotonic() - began < 2.0


def test_a_body_that_is_too_long_is_not_read_to_its_end(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LARGEST", 1000)
    server.answers(answer(200, "x" * 5000))
    with pytest.raises(TryLater, match="longer than 1000 bytes"):
        client.get("/issues")


def test_what_the_last_check_raises_passes_through_and_nothing_is_sent(server: Server, client: Client) -> None:
    class LeaseLost(Exception):
        pass

    def gone() -> None:
        raise LeaseLost

    server.answers(answer(201))
    with pytest.raises(LeaseLost):
        post(client, before_send=gone)
    assert server.received == []
    post(client)
    assert len(server.received) == 1


def test_the_last_check_comes_when_the_connection_stands(server: Server, client: Client) -> None:
    server.answers(answer(201))
    seen: list[int] = []
    post(client, before_send=lambda: seen.append(len(server.received)))
    assert seen == [0]


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_moved_project_gets_the_same_post_at_its_new_place(server: Server, client: Client, status: int) -> None:
    server.answers(answer(status, location="/api/new/issues"), answer(201), answer(201))
    checks: list[None] = []
    assert post(client, before_send=lambda: checks.append(None)).url == f"{server.url}/api/new/issues"
    assert [request.split(b" ")[:2] for request in server.received] == [
        [b"POST", b"/api/issues"],
        [b"POST", b"/api/new/issues"],
    ]
    assert len(checks) == 2
    post(client)
    assert server.received[2].startswith(b"POST /api/new/issues")


@pytest.mark.parametrize("status", [302, 303])
def test_a_redirect_that_may_have_acted_is_not_followed_by_a_post(server: Server, client: Client, status: int) -> None:
    server.answers(answer(status, location="/api/new"))
    assert post(client).status == status
    assert len(server.received) == 1


def test_no_token_goes_to_another_host(server: Server, client: Client) -> None:
    other = Server()
    server.answers(answer(307, location=f"{other.url}/api"), answer(301, location=f"{other.url}/api"))
    with pytest.raises(ProjectClosed, match="another address"):
        post(client)
    with pytest.raises(ProjectClosed):
        client.get("/issues")
    with pytest.raises(TryLater, match="another host"):
        client.get(f"{other.url}/page/2")
    assert other.received == []
    other.close()


@pytest.mark.parametrize(
    "scheme", ["http://{other}\\\\@{here}/a", "http://u:p@{here}/a", "http://[bad", "http://h:abc/"]
)
def test_an_address_that_can_be_read_in_two_ways_is_no_place_to_go(server: Server, client: Client, scheme: str) -> None:
    other = Server()
    to = scheme.format(other=other.url.removeprefix("http://"), here=server.url.removeprefix("http://"))
    server.answers(answer(301, location=to), answer(307, location=to))
    with pytest.raises(ProjectClosed):
        client.get("/issues")
    with pytest.raises(ProjectClosed):
        post(client)
    assert other.received == []
    other.close()


def test_redirects_in_a_circle_end(server: Server, client: Client) -> None:
    server.answers(*[answer(307, location="/api/issues")] * 20)
    with pytest.raises(ProjectClosed, match="in a circle"):
        post(client)


def test_a_token_that_the_tracker_repeats_is_not_told(server: Server, client: Client) -> None:
    server.answers(answer(401, f"no such token: {TOKEN}"))
    reply = post(client)
    error = http.error_of(reply, reply.text(), create=True)
    assert TOKEN not in f"{reply!r} {error.message}"
    assert "no such token: …" in error.message


def test_a_proxy_of_the_environment_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:pass@"))
    server.answers(answer(200))
    client = Client("http://tracker.invalid/api", dict, request_timeout=5.0)
    assert client.get("/issues").status == 200
    assert server.received[0].startswith(b"GET http://tracker.invalid/api/issues HTTP/1.1")
    assert b"proxy-authorization: Basic dXNlcjpwYXNz" in server.received[0]


def test_a_proxy_is_passed_by_where_the_environment_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.answers(answer(200))
    assert Client(server.url, dict, request_timeout=5.0).get("/issues").status == 200


def test_a_proxy_that_is_not_there_lets_nothing_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:pass@127.0.0.1:1")
    with pytest.raises(Unreachable) as raised:
        post(Client("http://tracker.invalid/api", dict, request_timeout=5.0))
    assert "pass" not in raised.value.message


LIBRARY = [
    each
    for _, each in inspect.getmembers(urllib3.exceptions, inspect.isclass)
    if issubclass(each, urllib3.exceptions.HTTPError)
]


@pytest.mark.parametrize("kind", LIBRARY, ids=lambda kind: str(kind.__name__))
@pytest.mark.parametrize(("left", "means"), [(False, Unreachable), (True, OutcomeUnknown)])
def test_every_error_of_the_library_is_told_apart_by_whether_the_request_left(
    kind: type[Exception], left: bool, means: type[BackendError]
) -> None:
    error = kind.__new__(kind)
    failure = http._failure(
        error, "https://u:p@host/x?token=1", http._Sending(time.monotonic() + 9, lambda: None, left)
    )
    assert type(failure) is means
    assert failure.message.startswith("https://host/x ")
