"""A request is read in one way or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.transports.http.answers import HttpError
from issue_core.transports.http.wire import (
    LONGEST_HEAD,
    LONGEST_LINE,
    MOST_HEADERS,
    Gone,
    Request,
    Stream,
    Times,
    body_of,
    read_head,
)

PATIENT = Times(idle=10, head=10, body=10)
HASTY = Times(idle=0.05, head=0.05, body=0.05)


class Client:
    """The other end of a stream."""

    def __init__(self) -> None:
        self.socket, other = socket.socketpair()
        self.stream = Stream(other)

    def expires(self) -> None:
        """Hang up once the time that the stream has is over, as a server does."""
        ended = threading.Event()
        while not self.stream.is_late(time.monotonic()):
            ended.wait(0.005)
        self.stream.hang_up(socket.SHUT_RDWR)

    def close(self) -> None:
        self.socket.close()
        self.stream.socket.close()


@contextmanager
def watched(client: Client) -> Iterator[None]:
    watcher = threading.Thread(target=client.expires)
    watcher.start()
    yield
    watcher.join()


@pytest.fixture
def client() -> Iterator[Client]:
    one = Client()
    yield one
    one.close()


def head(data: bytes, times: Times = PATIENT) -> Request:
    """The request that ``data`` begins with; the client closes behind it."""
    client = Client()
    try:
        client.socket.sendall(data)
        client.socket.shutdown(socket.SHUT_WR)
        return read_head(client.stream, times, lambda: None)
    finally:
        client.close()


def refused(data: bytes) -> int:
    with pytest.raises(HttpError) as error:
        head(data)
    return error.value.status


def whole(data: bytes, most: int = 1_000_000) -> tuple[Request, bytes, bytes]:
    """The request, its body, and what is left in the stream."""
    client = Client()
    try:
        client.socket.sendall(data)
        client.socket.shutdown(socket.SHUT_WR)
        request = read_head(client.stream, PATIENT, lambda: None)
        body = b"".join(body_of(client.stream, request, PATIENT, most))
        return request, body, bytes(client.stream.buffer)
    finally:
        client.close()


def test_a_request_s_parts_are_told_apart() -> None:
    request = head(
        b"\r\nPOST /issues/?a=b HTTP/1.1\r\nHost: LocalHost:8765\r\nX-A: one\r\nx-a:two \r\nContent-Length: 3\r\n\r\n"
    )
    assert (request.method, request.path, request.query, request.host) == ("POST", "/issues/", "a=b", "localhost")
    assert request.headers["x-a"] == "one, two"
    assert (request.length, request.has_framing, request.keep_alive) == (3, True, True)


def test_the_name_in_an_absolute_target_counts_and_not_the_one_in_the_header() -> None:
    request = head(b"GET http://[::1]:80/a%20b HTTP/1.1\r\nHost: other\r\n\r\n")
    assert (request.host, request.path) == ("::1", "/a b")
    assert head(b"OPTIONS http://x HTTP/1.1\r\nHost: x\r\n\r\n").path == "/"


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Foo, CLOSE", False),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
    ],
)
def test_a_connection_is_kept_as_the_version_and_the_client_say(
    version: str, connection: str | None, kept: bool
) -> None:
    option = f"Connection: {connection}\r\n" if connection else ""
    assert head(f"GET / HTTP/{version}\r\nHost: x\r\n{option}\r\n".encode()).keep_alive is kept


@pytest.mark.parametrize(
    "data",
    [
        b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x@y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n",
        b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(data: bytes) -> None:
    assert refused(data) == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET /" + b"a" * LONGEST_LINE + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"a" * (LONGEST_LINE + 10), 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * LONGEST_HEAD + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * MOST_HEADERS + b"\r\n", 431),
    ],
)
def test_each_limit_has_its_own_status(data: bytes, status: int) -> None:
    assert refused(data) == status


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.sampled_from(["", ";a=b", ' ;a="b c"', ";a"]))
def test_chunks_are_put_together_and_the_next_request_is_left(parts: list[bytes], extension: str) -> None:
    chunks = b"".join(f"{len(part):X}{extension}\r\n".encode() + part + b"\r\n" for part in parts)
    data = (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
        + chunks
        + b"000\r\nTrailer: x\r\n\r\nGET / HTTP/1.1"
    )
    _, body, rest = whole(data)
    assert body == b"".join(parts)
    assert rest == b"GET / HTTP/1.1"


@pytest.mark.parametrize(
    "chunks",
    [b"1\na\r\n0\r\n\r\n", b"1\r\nab\r\n0\r\n\r\n", b"-1\r\na\r\n", b"0x1\r\na\r\n", b"\r\n", b"1" * 16 + b"\r\n",
     b"1;" + b"a" * 2000 + b"\r\na\r\n0\r\n\r\n", b"1 a\r\na\r\n0\r\n\r\n", b"1\r\na\r\n0\r\nno trailer\r\n\r\n",
     b"1;\x00\r\na\r\n0\r\n\r\n"],
)  # fmt: skip
def test_malformed_chunks_are_refused(chunks: bytes) -> None:
    with pytest.raises(HttpError) as error:
        whole(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert error.value.status == 400


@pytest.mark.parametrize("framing", [b"Content-Length: 11\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nb\r\n"])
def test_a_body_over_the_limit_is_refused_before_it_is_read(framing: bytes) -> None:
    with pytest.raises(HttpError) as error:
        whole(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing, most=10)
    assert error.value.status == 413


def test_a_body_that_is_cut_off_is_no_body() -> None:
    for framing in (b"Content-Length: 9\r\n\r\n123", b"Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n"):
        with pytest.raises(Gone):
            whole(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing)


@given(st.data())
def test_it_makes_no_difference_in_which_pieces_a_request_comes(data: st.DataObject) -> None:
    sent = b"\r\nPOST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbodyGET"
    cut = data.draw(st.integers(0, len(sent)))
    client = Client()
    try:
        client.stream.buffer += sent[:cut]
        client.socket.sendall(sent[cut:])
        request = read_head(client.stream, PATIENT, lambda: None)
        assert b"".join(body_of(client.stream, request, PATIENT, 100)) == b"body"
        while len(client.stream.buffer) < 3:
            client.stream.fill()
        assert client.stream.buffer == b"GET"
    finally:
        client.close()


def test_a_slow_head_is_told_so(client: Client) -> None:
    client.socket.sendall(b"GET / HT")
    with watched(client), pytest.raises(HttpError) as error:
        read_head(client.stream, HASTY, lambda: None)
    assert error.value.status == 408


def test_an_idle_connection_ends_without_a_word(client: Client) -> None:
    with watched(client), pytest.raises(Gone):
        read_head(client.stream, HASTY, lambda: None)


def test_a_slow_body_is_told_so(client: Client) -> None:
    client.socket.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
    request = read_head(client.stream, PATIENT, lambda: None)
    pieces = body_of(client.stream, request, HASTY, 100)
    with watched(client), pytest.raises(HttpError) as error:
        list(pieces)
    assert error.value.status == 408


def test_a_client_that_waits_for_it_is_told_to_go_on(client: Client) -> None:
    client.socket.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n")
    request = read_head(client.stream, PATIENT, lambda: None)
    pieces = body_of(client.stream, request, PATIENT, 100)
    assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.socket.sendall(b"body")
    assert b"".join(pieces) == b"body"


def test_a_client_that_takes_nothing_is_given_up(client: Client) -> None:
    with watched(client), pytest.raises(Gone):
        client.stream.send(b"x" * 10_000_000, 0.05)


def test_a_hostile_header_takes_no_longer_than_a_long_one() -> None:
    # Where white space could be matched in two ways, this took seconds, in which no other thread ran.
    began = time.process_time()
    assert refused(b"GET / HTTP/1.1\r\nHost: x\r\nX:" + b" " * (LONGEST_HEAD - 100) + b"\x01\r\n\r\n") == 400
    assert time.process_time() - began < 0.5
