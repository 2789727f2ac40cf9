"""Requests that two readers could read in two ways are refused, and nothing behind them is heard."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.cli import Issue, a_spec
from tests.support.serving import (
    KEY,
    TIMEOUT,
    Answered,
    Serving,
    all_answers,
    get,
    in_chunks,
    post,
    serving,
    to_the_end,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


MIB = 1024 * 1024


BODY = json.dumps(a_spec(1)).encode()
SECOND = get("/healthz", "Connection: close")


def _raw(*lines: str, body: bytes = BODY, first: str = "POST /issues HTTP/1.1", end: str = "\r\n") -> bytes:
    return end.join([first, "Host: localhost", f"X-API-Key: {KEY}", *lines, "", ""]).encode("latin-1") + body


N = len(BODY)
HIDDEN = b"GET /issues HTTP/1.1\r\nHost: localhost\r\n\r\n"

SMUGGLED = {
    "two lengths": (400, _raw(f"Content-Length: {N}", "Content-Length: 5")),
    "the same length twice": (400, _raw(f"Content-Length: {N}", f"Content-Length: {N}")),
    "a list of lengths": (400, _raw(f"Content-Length: {N}, {N}")),
    "a signed length": (400, _raw(f"Content-Length: +{N}")),
    "a negative length": (400, _raw("Content-Length: -1")),
    "a length in hex": (400, _raw(f"Content-Length: 0x{N:x}")),
    "a length with a blank in it": (400, _raw("Content-Length: 1 0")),
    "a length in other digits": (400, _raw("Content-Length: \xb2")),
    "an empty length": (400, _raw("Content-Length:")),
    "a length and chunks": (400, in_chunks(b"0\r\n\r\n", "Content-Length: 5")),
    "chunks and a length": (400, _raw(f"Content-Length: {N}", "Transfer-Encoding: chunked")),
    "an unknown coding": (501, in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding: gzip, chunked")),
    "chunked is not the last coding": (501, in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding: chunked, identity")),
    "chunked twice": (501, in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding: chunked, chunked")),
    "two codings": (400, in_chunks(b"0\r\n\r\n", "Transfer-Encoding: identity")),
    "a coding behind a control character": (400, in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding: \x0bchunked")),
    "a quoted coding": (501, in_chunks(b"0\r\n\r\n", coding='Transfer-Encoding: "chunked"')),
    "an empty coding": (501, in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding:")),
    "chunks in HTTP/1.0": (400, _raw("Transfer-Encoding: chunked", first="POST /issues HTTP/1.0")),
    "a blank before a colon": (400, _raw("Content-Length : 5")),
    "a tab before a colon": (400, _raw("Transfer-Encoding\t: chunked")),
    "a blank before a header": (400, _raw(" Content-Length: 5")),
    "a folded header": (400, _raw("X: a", "\tb", "Content-Length: 5")),
    "a first header that is folded": (400, _raw(first="POST /issues HTTP/1.1\r\n X: y")),
    "bare line feeds": (400, _raw(f"Content-Length: {N}", end="\n")),
    "a bare line feed in a header": (400, _raw("X: a\nContent-Length: 5")),
    "a bare carriage return in a header": (400, _raw("X: a\rContent-Length: 5")),
    "a NUL in a header": (400, _raw("X: a\0b")),
    "a NUL in a name": (400, _raw("Content-Length\0: 5")),
    "a header without a name": (400, _raw(": 5")),
    "a header without a colon": (400, _raw("Content-Length")),
    "two hosts": (400, _raw("Host: evil.example")),
    "a host that is none": (400, _raw(first="GET http://a@localhost/issues HTTP/1.1", body=b"")),
    "blanks in the first line": (400, _raw(first="POST  /issues HTTP/1.1")),
    "a blank behind the first line": (400, _raw(first="POST /issues HTTP/1.1 ")),
    "a tab in the first line": (400, _raw(first="POST\t/issues HTTP/1.1")),
    "no version": (400, _raw(first="GET /issues")),
    "HTTP/2's preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "a version of many digits": (400, _raw(first="GET /issues HTTP/1.11")),
    "a version in small letters": (400, _raw(first="GET /issues http/1.1")),
    "a path that is not ASCII": (400, _raw(first="GET /iss\xfces HTTP/1.1")),
    "a chunk with a sign": (400, in_chunks(b"+5\r\nhello\r\n0\r\n\r\n")),
    "a negative chunk": (400, in_chunks(b"-1\r\n\r\n0\r\n\r\n")),
    "a chunk in 0x": (400, in_chunks(b"0x5\r\nhello\r\n0\r\n\r\n")),
    "a chunk's length behind a blank": (400, in_chunks(b" 5\r\nhello\r\n0\r\n\r\n")),
    "a chunk with digits between underscores": (400, in_chunks(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n")),
    "a chunk of very many bytes": (400, in_chunks(b"f" * 17 + b"\r\nx")),
    "a chunk of too many bytes": (413, in_chunks(b"f" * 15 + b"\r\nx")),
    "a chunk that is longer than it says": (400, in_chunks(b"5\r\nhello!\r\n0\r\n\r\n")),
    "a chunk without its end": (400, in_chunks(b"5\r\nhello0\r\n\r\n")),
    "a chunk that ends in a line feed": (400, in_chunks(b"5\r\nhello\n0\r\n\r\n")),
    "a chunk's length that ends in a line feed": (400, in_chunks(b"5\nhello\r\n0\r\n\r\n")),
    "a chunk's extension with a line feed": (400, in_chunks(b"2;\nxx\r\n4c\r\n0\r\n\r\n" + HIDDEN)),
    "a chunk's extension with a carriage return": (400, in_chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    "an endless extension": (400, in_chunks(b"5;" + b"a" * 70_000 + b"\r\nhello\r\n0\r\n\r\n")),
    "a trailer that is none": (400, in_chunks(b"0\r\nContent-Length : 5\r\n\r\n")),
    "a last chunk that ends in a line feed": (400, in_chunks(b"0\r\n\n" + HIDDEN)),
}  # fmt: skip
"""Raw requests, each with the status that is the last thing heard on its connection."""

HARMLESS = {
    "an empty line before": (201, b"\r\n\r\n" + post(BODY)),
    "a length with zeros before it": (201, _raw(f"Content-Length: 000{N}")),
    "white space around a length": (201, _raw(f"Content-Length: \t {N} \t ")),
    "a name in any case": (201, _raw(f"cOnTeNt-LeNgTh: {N}")),
    "chunked in any case": (201, in_chunks(b"%x\r\n%s\r\n0\r\n\r\n" % (N, BODY), coding="transfer-encoding: CHUNKED")),
    "chunks with zeros, extensions and trailers": (
        201, in_chunks(b'000%X;a=b;c="d"\r\n%s\r\n000;e\r\nX: y\r\nContent-Length: 3\r\n\r\n' % (N, BODY))),
    "an absolute target with our name": (201, post(BODY, target="http://localhost/issues")),
    "an absolute target with another's name": (421, post(BODY, target="http://evil.example/issues")),
    "another's name in Host alone": (201, post(BODY, target="HTTP://LOCALHOST:8765/issues").replace(
        b"Host: localhost", b"Host: evil.example")),
    "a GET that has a request for a body": (200, _raw(f"Content-Length: {len(HIDDEN)}", body=HIDDEN,
                                                      first="GET /issues HTTP/1.1")),
    "a HEAD that has a request for a body": (200, _raw(f"Content-Length: {len(HIDDEN)}", body=HIDDEN,
                                                       first="HEAD /issues HTTP/1.1")),
    "a request for a body where nobody wants one": (415, _raw(f"Content-Length: {len(HIDDEN)}", body=HIDDEN).replace(
        b"\r\nX-API", b"\r\nContent-Type: text/plain\r\nX-API")),
}  # fmt: skip
"""Raw requests that look odd and can be read in one way only, each with its status."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One server for those whose requests must not be understood."""
    issue = Issue(tmp_path_factory.mktemp("serve"))
    with serving(issue) as running:
        yield running
        assert running.stop() == 0
        assert not [line for line in running.log if "Traceback" in line]


def _heard(server: Serving, *requests: bytes) -> list[Answered]:
    with socket.create_connection(server.address, timeout=TIMEOUT) as connection:
        with suppress(ConnectionError):
            for request in requests:
                connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        return all_answers(to_the_end(connection), may_be_head=requests[0].startswith(b"HEAD"))


@pytest.mark.parametrize("what", SMUGGLED)
def test_what_could_be_two_requests_is_answered_once_and_then_nothing_is_heard(shared: Serving, what: str) -> None:
    status, request = SMUGGLED[what]
    [answer] = _heard(shared, request, SECOND)
    assert answer.status == status
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("what", HARMLESS)
def test_what_can_be_read_in_one_way_is_answered_and_so_is_the_next(shared: Serving, what: str) -> None:
    status, request = HARMLESS[what]
    first, second = _heard(shared, request, SECOND)
    assert first.status in (status, {201: 200}.get(status))  # whoever comes first creates the task
    assert (second.status, second.json()) == (200, {"status": "alive"})
