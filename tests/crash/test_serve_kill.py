"""A server that is killed, or told to stop, in the middle of its work has kept every promise that it made."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Issue, a_spec, ndjson
from tests.support.serving import TIMEOUT, Answered, Raw, Serving, post, serving, until

CLIENTS = 8
NDJSON = "application/x-ndjson"


@dataclass
class Client:
    """Sends one request after another on one connection, and notes what was promised to it."""

    number: int
    promised: dict[str, int] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    receipts: int = 0
    half: bytes = b""
    numbers: Iterator[int] = field(default_factory=count)

    def run(self, address: tuple[str, int]) -> None:
        """Post until the connection ends; ``half`` is what came of an answer then."""
        with suppress(ConnectionError), socket.create_connection(address, timeout=TIMEOUT) as connection:
            raw = Raw(connection)
            for number in self.numbers:
                raw.send(self._request(number))
                answer = raw.answer_unless_cut()
                self.half = raw.buffer
                if answer is None:
                    return
                for receipt in _receipts(answer):
                    self._note(receipt)

    def _spec(self, number: int) -> dict[str, Any]:
        """A task of this client's own; now and then one that came before, one that conflicts, one that is none."""
        if number % 10 == 7:
            return self._spec(number - 5)
        spec = a_spec(self.number * 1_000_000 + number, description="x" * (number * 37 % 2000))
        if number % 10 == 8:
            return a_spec(self.number * 1_000_000 + number - 3, title="else")
        return spec if number % 10 != 9 else {"number": number % 3}

    def _request(self, number: int) -> bytes:
        """Half of the clients send single tasks, the others arrays or lines."""
        specs = [self._spec(20 * number + n) for n in range(20)]
        if self.number % 4 == 2:
            return post(json.dumps(specs[5:10]).encode())
        if self.number % 4 == 3:
            return post(ndjson(*specs).encode(), f"Content-Type: {NDJSON}")
        return post(json.dumps(self._spec(number)).encode())

    def _note(self, receipt: dict[str, Any]) -> None:
        self.receipts += 1
        if receipt["outcome"] in ("created", "duplicate"):
            assert self.promised.setdefault(receipt["event_id"], receipt["seq"]) == receipt["seq"]
        else:
            self.refused.add(receipt["reject_id"])


def _receipts(answer: Answered) -> list[dict[str, Any]]:
    assert answer.status in (200, 201, 409, 422), answer
    if answer.headers["content-type"] == NDJSON:
        return answer.lines()
    found = answer.json()
    return found if isinstance(found, list) else [found]


@contextmanager
def _under_load(server: Serving, clients: list[Client], receipts: int) -> Iterator[None]:
    """While the block runs all clients post, and have got so many receipts more."""
    target = sum(client.receipts for client in clients) + receipts
    running = [threading.Thread(target=client.run, args=(server.address,)) for client in clients]
    for thread in running:
        thread.start()
    try:
        until(lambda: sum(c.receipts for c in clients) >= target or not all(thread.is_alive() for thread in running))
        assert all(thread.is_alive() for thread in running), server.log
        yield
    finally:
        server.process.kill()
        for thread in running:
            thread.join()


def keeps_its_promises(issue: Issue, clients: list[Client]) -> None:
    """Everything that a receipt told is in the ledger, which is sound and adds up."""
    with issue.ledger as ledger, ledger.read() as connection:
        found = dict(connection.execute("SELECT event_id, seq FROM tasks"))
        kept = dict(connection.execute("SELECT id, count FROM rejects"))
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for client in clients:
        assert client.promised.items() <= found.items()
        assert client.refused <= set(kept)
    [status] = issue.run("status", "--json").objects
    received = status["received"]
    assert received["created"] == status["total"] == sum(status["states"].values()) == len(found)
    assert received["conflict"] + received["invalid"] == sum(kept.values())
    assert sum(received.values()) >= sum(client.receipts for client in clients)


def _is_killed_again_and_again(folder: Path, kills: int, seed: int) -> None:
    issue, dice, clients = Issue(folder), random.Random(seed), [Client(number) for number in range(CLIENTS)]
    for _ in range(kills):
        with serving(issue, "--log-format", "none") as server:
            with _under_load(server, clients, dice.randrange(1, 1_500)):
                threading.Event().wait(dice.uniform(0, 0.02))
                server.process.kill()
            assert server.process.wait(TIMEOUT) == -signal.SIGKILL
            assert not [line for line in server.log if "Traceback" in line]
        keeps_its_promises(issue, clients)
    assert all(client.promised and client.refused for client in clients)


def test_what_a_killed_server_promised_is_kept(tmp_path: Path) -> None:
    _is_killed_again_and_again(tmp_path, 20, seed=1)


@pytest.mark.long
def test_two_hundred_kills_of_a_server_break_no_promise(tmp_path: Path) -> None:
    seed = random.randrange(10**9)
    print(f"seed={seed}")
    _is_killed_again_and_again(tmp_path, 200, seed)


def test_a_server_that_is_told_to_stop_under_load_answers_whole_or_not_at_all(tmp_path: Path) -> None:
    issue, clients = Issue(tmp_path), [Client(number) for number in range(CLIENTS)]
    for _ in range(3):
        with serving(issue) as server:
            with _under_load(server, clients, 500):
                began = time.monotonic()
                assert server.stop() == 0
                assert time.monotonic() - began < 10
            assert not [line for line in server.log if "Traceback" in line or "not answered" in line]
        assert [client.half for client in clients] == [b""] * CLIENTS
        keeps_its_promises(issue, clients)
