"""Ten thousand malformed requests: each is answered or hung up on, and none leaves a trace."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.support.cli import Issue, a_spec, ndjson
from tests.support.serving import (
    HEAD,
    TIMEOUT,
    Answered,
    Serving,
    adds_up,
    all_answers,
    descriptors,
    get,
    memory,
    post,
    serving,
    threads,
    to_the_end,
    until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


MIB = 1024 * 1024


def _chunked(body: bytes, *sizes: int, extension: str = "", trailers: str = "") -> bytes:
    head = f"POST /issues HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    at, chunks = 0, b""
    for size in (*sizes, len(body)):
        if piece := body[at : at + size]:
            chunks += f"{len(piece):x}{extension}\r\n".encode() + piece + b"\r\n"
        at += size
    return head + chunks + f"0\r\n{trailers}\r\n".encode()


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
        get("/issues?limit=3"),
        get(f"/issues/{event_id}"),
        get("/metrics"),
        get("/healthz", "Connection: close"),
        get("/"),
        get("http://localhost/issues?state=pending"),
        get("/issues/%7B" + event_id + "%7D"),
        get("/openapi.json", method="HEAD"),
        get("/issues", method="OPTIONS"),
        get("*", method="OPTIONS"),
        get("/issues", "Content-Length: 3") + b"abc",
        post(one) + get("/issues") + post(other) + get("/readyz"),
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
        data = to_the_end(connection) if end == "says so" else b""
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
