"""What ``issue serve`` is to those who break the rules, and what it stays for those who keep them."""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from issue_core.ledger import queries
from issue_core.transports.http import access_log
from tests.support.cli import Issue, a_spec, ndjson
from tests.support.serving import (
    KEY,
    TIMEOUT,
    Answered,
    Serving,
    all_answers,
    cpu_seconds,
    descriptors,
    memory,
    post,
    serving,
    threads,
    until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MIB = 1024 * 1024
HEAD = f"Host: localhost\r\nX-API-Key: {KEY}\r\n"


def adds_up(issue: Issue) -> dict[str, int]:
    """What was received, by outcome, in a ledger whose books add up."""
    [status] = issue.run("status", "--json").objects
    received: dict[str, int] = status["received"]
    assert set(received) == {"created", "duplicate", "conflict", "invalid"}
    assert received["created"] == status["total"] == sum(status["states"].values())
    with issue.ledger as ledger, ledger.read() as connection:
        tasks = queries.tasks(connection, queries.Filter(), limit=None, newest_first=False)
        sightings = sum(sum(task.sightings.values()) for task in tasks)
        [(kept,)] = connection.execute("SELECT coalesce(sum(count), 0) FROM rejects")
    assert sightings == received["created"] + received["duplicate"]
    assert kept == received["conflict"] + received["invalid"]
    return received


# --- requests that are none -----------------------------------------------------------------------------------------


def _chunked(body: bytes, *sizes: int, extension: str = "", trailers: str = "") -> bytes:
    head = f"POST /issues HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    at, chunks = 0, b""
    for size in (*sizes, len(body)):
        if piece := body[at : at + size]:
            chunks += f"{len(piece):x}{extension}\r\n".encode() + piece + b"\r\n"
        at += size
    return head + chunks + f"0\r\n{trailers}\r\n".encode()


def _get(target: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", HEAD.strip(), *headers, "", ""]).encode()


def _seeds() -> list[bytes]:
    one, other = (json.dumps(a_spec(n)).encode() for n in (1, 2))
    lines = ndjson(a_spec(3), "oops", a_spec(4)).encode()
    event_id = a_spec(1)["triggering_event_id"]
    return [
        post(one),
        post(other, "Content-Type: application/json; charset=utf-8", target="/issues"),
        post(json.dumps([a_spec(n) for n in range(5)]).encode()),
        post(lines, "Content-Type: application/x-ndjson"),
        post(json.dumps(a_spec(1, title="else")).encode()),
        _chunked(one, 1, 7, 100),
        _chunked(lines, 10, extension=";a=b", trailers="X-End: yes\r\n"),
        post(one, "Expect: 100-continue"),
        post(one, "Connection: keep-alive", version="HTTP/1.0"),
        _get("/issues?limit=3"),
        _get(f"/issues/{event_id}"),
        _get("/metrics"),
        _get("/healthz", "Connection: close"),
        _get("/"),
        _get("http://localhost/issues?state=pending"),
        _get("/issues/%7B" + event_id + "%7D"),
        _get("/openapi.json", method="HEAD"),
        _get("/issues", method="OPTIONS"),
        _get("*", method="OPTIONS"),
        _get("/issues", "Content-Length: 3") + b"abc",
        post(one) + _get("/issues") + post(other) + _get("/readyz"),
    ]


SEEDS = _seeds()
NUMBERS = (b"-1", b"0", b"00", b"+5", b"1e3", b"0x10", b"65536", b"268435457", b"9" * 18, b"9" * 19, b"9" * 400, b" ")
ENDS = (b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r\n", b"\r\n\r\n", b"\r\n ", b"\0", b"\x0b", b"\x85", b"\xff", b"\t")
Mutation = Callable[[bytes, random.Random], bytes]


def _span(data: bytes, dice: random.Random) -> tuple[int, int]:
    start = dice.randrange(len(data) + 1)
    return start, min(len(data), start + dice.choice((1, 2, 8, 64)))


def _flips(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8)) if data else 0):
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _deletes(data: bytes, dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    return data[:start] + data[end:]


def _repeats(data: bytes, dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    return data[:end] + data[start:end] * dice.choice((1, 1, 2, 1000)) + data[end:]


def _splices(data: bytes, dice: random.Random) -> bytes:
    other = dice.choice(SEEDS)
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other)) :]


def _repeats_a_header(data: bytes, dice: random.Random) -> bytes:
    lines = data.split(b"\r\n")
    line = dice.choice(lines)
    lines.insert(dice.randrange(1, len(lines) + 1), dice.choice((line, line.swapcase(), b" " + line, line + b" ")))
    return b"\r\n".join(lines)


def _adds_a_header(data: bytes, dice: random.Random) -> bytes:
    first, _, rest = data.partition(b"\r\n")
    header = dice.choice(
        (b"Content-Length: 7", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Host: evil",
         b"Connection: close", b"Connection: keep-alive, close", b"Expect: 100-continue", b"Content-Length : 3",
         b"Content-Type: application/x-ndjson", b"X: " + b"y" * dice.choice((10, 9_000, 40_000)))
    )  # fmt: skip
    return first + b"\r\n" + header + b"\r\n" + rest


def _lies_in_a_number(data: bytes, dice: random.Random) -> bytes:
    digits = [at for at, byte in enumerate(data) if 0x30 <= byte <= 0x39]
    if not digits:
        return data
    at = dice.choice(digits)
    return data[:at] + dice.choice(NUMBERS) + data[at + 1 :]


def _lies_in_a_length(data: bytes, dice: random.Random) -> bytes:
    before, name, rest = data.partition(b"Content-Length: ")
    if not name:
        return _lies_in_a_number(data, dice)
    length, _, rest = rest.partition(b"\r\n")
    wrong = dice.choice(
        (*NUMBERS, b"%d" % max(0, int(length if length.isdigit() else b"0") + dice.choice((-9, -1, 1, 9))))
    )
    return before + name + wrong + b"\r\n" + rest


def _puts_an_end(data: bytes, dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    return data[:start] + dice.choice(ENDS) + data[dice.choice((start, end)) :]


def _ends_lines_otherwise(data: bytes, dice: random.Random) -> bytes:
    return data.replace(b"\r\n", dice.choice((b"\n", b"\r", b"\n\r")), dice.choice((-1, 1, 2)))


def _cuts(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _leaves_as_it_is(data: bytes, _: random.Random) -> bytes:
    return data


MUTATIONS: Sequence[Mutation] = (
    _flips, _deletes, _repeats, _splices, _repeats_a_header, _adds_a_header, _lies_in_a_number, _lies_in_a_length,
    _puts_an_end, _ends_lines_otherwise, _cuts, _leaves_as_it_is,
)  # fmt: skip


KNOWN = a_spec(1)["triggering_event_id"].encode()


def _mutated(dice: random.Random) -> bytes:
    data = dice.choice(SEEDS)
    if dice.random() < 0.5:
        data = data.replace(KNOWN, b"%08x" % dice.getrandbits(32) + KNOWN[8:])
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        data = dice.choice(MUTATIONS)(data, dice)
    return data


def _to_the_end(connection: socket.socket) -> bytes:
    seen = bytearray()
    with suppress(ConnectionResetError):  # its end came while something was still on the way
        while data := connection.recv(65536):
            seen += data
    return bytes(seen)


def _torment(address: tuple[str, int], requests: list[bytes], dice: random.Random) -> list[Answered]:
    """Send the requests on one connection, end it in one way or another, and read strictly what came back."""
    end = dice.choice(("says so", "says so", "says so", "says so", "goes", "resets"))
    with socket.create_connection(address, timeout=TIMEOUT) as connection:
        if end == "resets":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(OSError):  # it had heard enough
            for request in requests:
                connection.sendall(request)
            if end == "says so":
                connection.shutdown(socket.SHUT_WR)
        data = _to_the_end(connection) if end == "says so" else b""
    return all_answers(data, may_be_head=b"HEAD " in b"".join(requests))


def _fuzz(address: tuple[str, int], requests: int, seed: str) -> Counter[int]:
    """How often each status came."""
    dice = random.Random(seed)
    statuses: Counter[int] = Counter()
    while requests > 0:
        some = [_mutated(dice) for _ in range(min(requests, dice.randrange(1, 4)))]
        requests -= len(some)
        try:
            answers = _torment(address, some, dice)
        except (AssertionError, OSError) as error:
            raise AssertionError(f"after {some!r}") from error
        statuses.update(answer.status for answer in answers)
    return statuses


FUZZERS = 6


def _fuzzed(server: Serving, requests: int, seed: str) -> Counter[int]:
    with ThreadPoolExecutor(FUZZERS) as pool:
        parts = pool.map(
            lambda n: _fuzz(server.address, requests // FUZZERS, f"{seed} {n}"),
            range(FUZZERS),
        )
        return sum(parts, Counter[int]())


READING = 12
"""Descriptors that a server has more once it has read the ledger for four at the same time."""


def test_ten_thousand_malformed_requests_are_answered_or_hung_up_on_and_leave_no_trace(issue: Issue) -> None:
    seed = os.environ.get("ISSUE_CORE_FUZZ_SEED", "1")
    print(f"ISSUE_CORE_FUZZ_SEED={seed}")
    with serving(issue) as server:
        pid = server.process.pid
        server.ask("POST", "/issues", a_spec(1))
        until(lambda: server.ask("GET", "/issues").status == 200)
        idle = threads(pid), descriptors(pid)

        def settled() -> bool:
            return threads(pid) <= idle[0] and descriptors(pid) <= idle[1] + READING

        statuses = _fuzzed(server, 5_000, f"{seed} a")
        until(settled, "threads or descriptors are left")
        half = memory(pid)
        statuses += _fuzzed(server, 5_000, f"{seed} b")
        until(settled, "threads or descriptors are left")
        grown = memory(pid) - half
        assert server.ask("POST", "/issues", a_spec(1)).status == 200
        assert server.stop() == 0
    print(sorted(statuses.items()), f"second half: {grown / MIB:+.1f} MiB")
    assert {status for status in statuses if status >= 500} <= {501, 505}
    assert {200, 201, 400, 404, 409, 422, 413, 501, 505} <= set(statuses)
    assert not [line for line in server.log if "Traceback" in line or "fault" in line]
    assert grown < 12 * MIB
    assert all(adds_up(issue).values())


# --- requests that two readers could read in two ways ----------------------------------------------------------------

BODY = json.dumps(a_spec(1)).encode()
SECOND = _get("/healthz", "Connection: close")


def _raw(*lines: str, body: bytes = BODY, first: str = "POST /issues HTTP/1.1", end: str = "\r\n") -> bytes:
    return end.join([first, "Host: localhost", f"X-API-Key: {KEY}", *lines, "", ""]).encode("latin-1") + body


def _in_chunks(chunks: bytes, *lines: str, coding: str = "Transfer-Encoding: chunked") -> bytes:
    return _raw(coding, *lines, body=chunks)


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
    "a length and chunks": (400, _in_chunks(b"0\r\n\r\n", "Content-Length: 5")),
    "chunks and a length": (400, _raw(f"Content-Length: {N}", "Transfer-Encoding: chunked")),
    "an unknown coding": (501, _in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding: gzip, chunked")),
    "chunked is not the last coding": (501, _in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding: chunked, identity")),
    "chunked twice": (501, _in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding: chunked, chunked")),
    "two codings": (400, _in_chunks(b"0\r\n\r\n", "Transfer-Encoding: identity")),
    "a coding behind a control character": (400, _in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding: \x0bchunked")),
    "a quoted coding": (501, _in_chunks(b"0\r\n\r\n", coding='Transfer-Encoding: "chunked"')),
    "an empty coding": (501, _in_chunks(b"0\r\n\r\n", coding="Transfer-Encoding:")),
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
    "a chunk with a sign": (400, _in_chunks(b"+5\r\nhello\r\n0\r\n\r\n")),
    "a negative chunk": (400, _in_chunks(b"-1\r\n\r\n0\r\n\r\n")),
    "a chunk in 0x": (400, _in_chunks(b"0x5\r\nhello\r\n0\r\n\r\n")),
    "a chunk's length behind a blank": (400, _in_chunks(b" 5\r\nhello\r\n0\r\n\r\n")),
    "a chunk with digits between underscores": (400, _in_chunks(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n")),
    "a chunk of very many bytes": (400, _in_chunks(b"f" * 17 + b"\r\nx")),
    "a chunk of too many bytes": (413, _in_chunks(b"f" * 15 + b"\r\nx")),
    "a chunk that is longer than it says": (400, _in_chunks(b"5\r\nhello!\r\n0\r\n\r\n")),
    "a chunk without its end": (400, _in_chunks(b"5\r\nhello0\r\n\r\n")),
    "a chunk that ends in a line feed": (400, _in_chunks(b"5\r\nhello\n0\r\n\r\n")),
    "a chunk's length that ends in a line feed": (400, _in_chunks(b"5\nhello\r\n0\r\n\r\n")),
    "a chunk's extension with a line feed": (400, _in_chunks(b"2;\nxx\r\n4c\r\n0\r\n\r\n" + HIDDEN)),
    "a chunk's extension with a carriage return": (400, _in_chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    "an endless extension": (400, _in_chunks(b"5;" + b"a" * 70_000 + b"\r\nhello\r\n0\r\n\r\n")),
    "a trailer that is none": (400, _in_chunks(b"0\r\nContent-Length : 5\r\n\r\n")),
    "a last chunk that ends in a line feed": (400, _in_chunks(b"0\r\n\n" + HIDDEN)),
}  # fmt: skip
"""Raw requests, each with the status that is the last thing heard on its connection."""

HARMLESS = {
    "an empty line before": (201, b"\r\n\r\n" + post(BODY)),
    "a length with zeros before it": (201, _raw(f"Content-Length: 000{N}")),
    "white space around a length": (201, _raw(f"Content-Length: \t {N} \t ")),
    "a name in any case": (201, _raw(f"cOnTeNt-LeNgTh: {N}")),
    "chunked in any case": (201, _in_chunks(b"%x\r\n%s\r\n0\r\n\r\n" % (N, BODY), coding="transfer-encoding: CHUNKED")),
    "chunks with zeros, extensions and trailers": (
        201, _in_chunks(b'000%X;a=b;c="d"\r\n%s\r\n000;e\r\nX: y\r\nContent-Length: 3\r\n\r\n' % (N, BODY))),
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
        return all_answers(_to_the_end(connection), may_be_head=requests[0].startswith(b"HEAD"))


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


# --- slow clients ---------------------------------------------------------------------------------------------------


@dataclass
class Slow:
    """One slow client: what it sends at once, then the bytes that drip, and whether it reads what is said to it."""

    at_once: bytes
    drip: bytes
    reads: bool = True


KINDS = (
    Slow(b"", b""),
    Slow(b"GET /issues HTTP/1.1\r\n" + HEAD.encode() + b"X: ", b"y"),
    Slow(post(b"x" * MIB)[:-MIB], b" "),
    Slow(_in_chunks(b""), b"1\r\n \r\n"),
    Slow(_get("/openapi.json") * 100, b"", reads=False),
)
SILENT, ENDLESS_HEAD, SLOW_BODY, SLOW_CHUNKS, DEAF = range(len(KINDS))


@dataclass
class Crowd:
    """Slow clients of all kinds, ``size`` of them; who is hung up on comes again, ``again`` of them at a time."""

    address: tuple[str, int]
    size: int
    again: int
    stopped: threading.Event = field(default_factory=threading.Event)
    here: dict[socket.socket, Slow] = field(default_factory=dict)
    came: int = 0

    def arrive(self, most: int) -> None:
        """Up to ``most`` of those who are not here come."""
        for _ in range(min(most, self.size - len(self.here))):
            kind = KINDS[self.came % len(KINDS)]
            connection = socket.socket()
            if not kind.reads:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(TIMEOUT)
            connection.connect(self.address)
            connection.setblocking(False)
            with suppress(OSError):
                connection.send(kind.at_once)
            self.here[connection] = kind
            self.came += 1

    def drip(self) -> None:
        """Each one sends its next byte, and finds out whether it was hung up on."""
        for connection, kind in list(self.here.items()):
            try:
                connection.send(kind.drip)
                gone = kind.reads and b"" in (connection.recv(65536), connection.recv(65536))
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            if gone:
                del self.here[connection]
                connection.close()

    def run(self) -> None:
        """Be slow until told to stop."""
        while not self.stopped.wait(0.2):
            self.drip()
            self.arrive(self.again)

    def leave(self) -> None:
        """All go."""
        for connection in self.here:
            connection.close()
        self.here.clear()


@contextmanager
def crowded(server: Serving, size: int, again: int) -> Iterator[Crowd]:
    """Slow clients at a server, until the block ends and it has seen the last of them."""
    before = threads(server.process.pid)
    crowd = Crowd(server.address, size, again)
    crowd.arrive(size)
    runner = threading.Thread(target=crowd.run)
    runner.start()
    try:
        yield crowd
    finally:
        crowd.stopped.set()
        runner.join()
        crowd.leave()
    until(lambda: threads(server.process.pid) <= before, "threads of slow clients are left")


def _took(server: Serving, requests: int) -> list[float]:
    """Seconds of each of so many requests, every one on a connection of its own, and answered."""
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        answer = server.ask("POST", "/issues", a_spec(1))
        times.append(time.perf_counter() - began)
        assert answer.status in (200, 201)
    return times


SLOW = 200


@pytest.mark.parametrize(("places", "bound"), [(256, 3.0), (50, 4.0)])
def test_two_hundred_slow_clients_make_nobody_else_slow(issue: Issue, places: int, bound: float) -> None:
    with serving(issue, "--log-format", "none", config=f"[serve]\nmax_connections = {places}\n") as server:
        _took(server, 20)
        alone, among = [], []
        for _ in range(4):
            alone.append(statistics.median(_took(server, 60)))
            with crowded(server, SLOW, again=5) as crowd:
                until(lambda: threads(server.process.pid) > min(places, SLOW))
                among.append(statistics.median(_took(server, 60)))
                assert len(crowd.here) > SLOW // 2 or places < SLOW
        assert server.stop() == 0
    # What else runs on the machine makes both of them more, and neither less.
    ratio = min(among) / min(alone)
    print(f"{places} places: {min(alone) * 1e3:.2f} ms alone; among {SLOW} slow clients {ratio:.2f} times that")
    assert ratio < bound
    assert not [line for line in server.log if "Traceback" in line]


def test_slow_clients_are_told_so_or_hung_up_on_in_time_and_none_is_left(issue: Issue) -> None:
    config = "[serve]\nhead_timeout = 1\nbody_timeout = 1\nidle_timeout = 1\n"
    with serving(issue, config=config) as server:
        assert server.ask("GET", "/healthz").status == 200
        before = threads(server.process.pid)
        crowd = Crowd(server.address, 100, again=0)
        began = time.monotonic()
        crowd.arrive(100)
        heard: dict[socket.socket, bytes] = dict.fromkeys(crowd.here, b"")
        left = {one: kind for one, kind in crowd.here.items() if kind.reads}
        while left:
            assert time.monotonic() - began < TIMEOUT
            left = {one: kind for one, kind in left.items() if not _hears_the_end(one, kind, heard)}
            threading.Event().wait(0.05)
        # To those who read nothing its end of the connection cannot be seen.
        until(lambda: threads(server.process.pid) <= before, "threads of slow clients are left")
        took = time.monotonic() - began
        statuses: dict[int, set[tuple[int, ...]]] = {number: set() for number in range(len(KINDS))}
        for connection, kind in crowd.here.items():
            if kind.reads:
                told = tuple(answer.status for answer in all_answers(heard[connection]))
                statuses[KINDS.index(kind)].add(told)
        crowd.leave()
        assert server.stop() == 0
    assert statuses == {SILENT: {()}, ENDLESS_HEAD: {(408,)}, SLOW_BODY: {(408,)}, SLOW_CHUNKS: {(408,)}, DEAF: set()}
    assert 1 <= took < 10
    assert not [line for line in server.log if "Traceback" in line]


def _hears_the_end(connection: socket.socket, kind: Slow, heard: dict[socket.socket, bytes]) -> bool:
    """Drip, and note what the server says; whether it has closed."""
    try:
        if not heard[connection]:  # whoever is told that it is too slow stops
            connection.send(kind.drip)
        data = connection.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True
    heard[connection] += data
    return not data


# --- too little of something ----------------------------------------------------------------------------------------


def test_without_descriptors_new_clients_are_still_answered_and_nothing_spins(issue: Issue) -> None:
    with serving(issue) as server:
        pid = server.process.pid
        assert server.ask("POST", "/issues", a_spec(1)).status == 201
        assert server.ask("GET", "/issues").status == 200
        room = descriptors(pid) + 20
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, room))
        with ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(socket.create_connection(server.address, timeout=TIMEOUT))
            for number in range(2, 12):
                assert server.ask("POST", "/issues", a_spec(number)).status == 201
                assert server.ask("GET", "/issues?limit=1").status == 200
            before = cpu_seconds(pid)
            threading.Event().wait(1)
            spent = cpu_seconds(pid) - before
        assert server.ask("GET", "/healthz").status == 200
        assert server.stop() == 0
    assert spent < 0.5
    assert not [line for line in server.log if "Traceback" in line]
    assert adds_up(issue)["created"] == 11


def _large(number: int) -> dict[str, object]:
    return a_spec(number, description="x" * 50_000)


def _fills_up(server: Serving) -> tuple[dict[str, int], Answered]:
    """Post until there is no room: the receipts by event ID, and the answer that says so."""
    promised: dict[str, int] = {}
    for number in range(10_000):
        answer = server.ask("POST", "/issues", _large(number))
        if answer.status != 201:
            return promised, answer
        promised[answer.json()["event_id"]] = answer.json()["seq"]
    raise AssertionError("there was room for everything")


def _says_that_it_is_full(server: Serving, promised: dict[str, int], refusal: Answered) -> None:
    assert (refusal.status, refusal.headers["content-type"]) == (503, "application/problem+json")
    assert int(refusal.headers["retry-after"]) > 0
    event_id, seq = promised.popitem()
    promised[event_id] = seq
    assert server.ask("GET", f"/issues/{event_id}").json()["seq"] == seq
    refused = _large(len(promised))["triggering_event_id"]
    assert server.ask("GET", f"/issues/{refused}").status == 404
    batch = server.ask("POST", "/issues", [_large(number) for number in range(20_000, 20_020)])
    assert (batch.status, int(batch.headers["retry-after"]) > 0) == (503, True)
    assert server.ask("GET", "/healthz").status == 200


def _holds(issue: Issue, promised: dict[str, int]) -> None:
    with issue.ledger as ledger, ledger.read() as connection:
        found = dict(connection.execute("SELECT event_id, seq FROM tasks"))
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert promised.items() <= found.items()
    adds_up(issue)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, on which a ledger counts as ready, but not for long."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=22m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("NOT TESTED: only root can mount a small disk; the file size limit below stands in for it")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_on_a_full_disk_what_is_posted_is_refused_and_the_rest_goes_on(small_disk: Path) -> None:
    issue = Issue(small_disk)
    with serving(issue) as server:
        assert server.ask("GET", "/readyz").status == 200
        filling = small_disk / "filling"
        filling.write_bytes(b"x" * (17 * MIB))
        promised, refusal = _fills_up(server)
        _says_that_it_is_full(server, promised, refusal)
        until(lambda: server.ask("GET", "/readyz").status == 503)
        filling.unlink()
        assert server.ask("POST", "/issues", _large(len(promised))).status == 201
        assert server.stop() == 0
    assert not [line for line in server.log if "Traceback" in line]
    _holds(issue, promised)


def test_where_no_file_may_grow_what_is_posted_is_refused_and_the_rest_goes_on(issue: Issue) -> None:
    with serving(issue) as server:
        pid = server.process.pid
        assert server.ask("GET", "/readyz").status == 200
        free = resource.prlimit(pid, resource.RLIMIT_FSIZE, (3 * MIB, resource.RLIM_INFINITY))
        promised, refusal = _fills_up(server)
        _says_that_it_is_full(server, promised, refusal)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, free)
        assert server.ask("POST", "/issues", _large(len(promised))).status == 201
        assert server.stop() == 0
    assert not [line for line in server.log if "Traceback" in line]
    _holds(issue, promised)


def test_who_has_just_come_gives_way_to_nobody_while_others_dawdle(issue: Issue) -> None:
    with serving(issue, config="[serve]\nmax_connections = 4\n") as server, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(server.raw()).send(b"GET /issues HTTP/1.1\r\nX: ")
        threading.Event().wait(1.2)
        new, newer = (stack.enter_context(server.raw()) for _ in range(2))
        assert server.ask("GET", "/healthz").status == 200
        for raw in (new, newer):
            raw.send(_get("/healthz"))
            assert raw.answer().status == 200


def test_no_line_of_the_access_log_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MOMENT", 0.0)
    written: list[str] = []
    writer = access_log.Writer(access_log.as_text, lambda lines: written.extend(lines.split("\n")))
    entry = access_log.Entry("127.0.0.1", "GET", "/issues", 200, 2, 0.001, {})

    def note(_: int) -> None:
        for _ in range(5_000):
            writer(entry)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(note, range(4)))
        until(lambda: len(written) == 20_000, "lines are left, and nobody comes for them", seconds=10)
    finally:
        sys.setswitchinterval(before)
        writer.close()
