"""However often the command and the server are killed, every message is one task, and none is left or given up."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import TIMEOUT, Issue, a_spec
from tests.support.nats_server import (
    NOTHING_LEFT,
    NatsServer,
    make_streams,
    nats_cluster,
    nats_server,
    publish,
    standing,
    until,
    urls,
)
from tests.support.runs import kill_seed

ACK_WAIT = 2.0
"""Seconds after which what a killed command had in hand comes again: short, so that the end comes soon."""


def _message(n: int) -> dict[str, Any]:
    return a_spec(n, description="x" * (n * 37 % 1500))


@contextmanager
def _subscribing(issue: Issue, url: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    with (issue.folder / "errors").open("ab") as errors:
        process = issue.start("subscribe", "--nats-url", url, *words, stdin=None, stdout=errors, stderr=errors)
    try:
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT)


def _stored(issue: Issue) -> int:
    with issue.ledger as ledger, ledger.read() as connection:
        n: int = connection.execute("SELECT count(*) FROM tasks").fetchone()[0]
        return n


def _every_message_is_one_task(
    issue: Issue, servers: Sequence[NatsServer], messages: int, kills: int, server_kills: int
) -> None:
    """Kill the command so often, and in the middle of so many of its lives one of the servers before it."""
    seed, url = kill_seed(), urls(servers)
    dice = random.Random(seed)
    make_streams(url, ack_wait=ACK_WAIT, replicas=len(servers))
    publish(url, map(_message, range(messages)))
    ends = sorted(dice.sample(range(1, messages - messages // 10), kills))
    with_a_server = set(dice.sample(ends, server_kills))
    for end in ends:
        with _subscribing(issue, url, "--batch", "64") as process:
            _come_to(issue, end, process)
            threading.Event().wait(dice.uniform(0, 0.01))
            if end in with_a_server:
                _kill_and_start(dice.choice(servers), issue, messages, is_alone=len(servers) == 1)
            assert process.poll() is None, (issue.folder / "errors").read_text()
    with _subscribing(issue, url, "--until-empty") as process:
        assert process.wait(3 * TIMEOUT) == 0, (issue.folder / "errors").read_text()
    assert standing(url) == NOTHING_LEFT
    _each_is_there(issue, messages)


def _come_to(issue: Issue, end: int, process: subprocess.Popen[bytes]) -> None:
    until(lambda: _stored(issue) >= end or process.poll() is not None)


def _kill_and_start(server: NatsServer, issue: Issue, messages: int, *, is_alone: bool) -> None:
    """Kill it, and see that work goes on: once it is back, or without it where it has others beside it."""
    server.kill()
    if is_alone:
        server.start()
    before = _stored(issue)
    until(lambda: before < _stored(issue) or before == messages)
    if not is_alone:
        server.start()


def _each_is_there(issue: Issue, messages: int) -> None:
    with issue.ledger as ledger, ledger.read() as connection:
        found = [event_id for (event_id,) in connection.execute("SELECT event_id FROM tasks ORDER BY event_id")]
        assert connection.execute("SELECT count(*) FROM rejects").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert found == sorted(a_spec(n)["triggering_event_id"] for n in range(messages))
    assert "Traceback" not in (issue.folder / "errors").read_text()


def test_what_kills_find_in_hand_is_stored_once_all_the_same(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        _every_message_is_one_task(Issue(tmp_path), [server], 2_000, kills=5, server_kills=1)


def test_so_it_is_where_one_of_three_servers_is_killed_with_the_command(tmp_path: Path) -> None:
    with nats_cluster(tmp_path) as servers:
        _every_message_is_one_task(Issue(tmp_path), servers, 1_000, kills=1, server_kills=1)


@pytest.mark.long
def test_twenty_kills_of_the_command_and_three_of_the_server_lose_and_double_nothing(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        _every_message_is_one_task(Issue(tmp_path), [server], 20_000, kills=20, server_kills=3)


@pytest.mark.long
def test_twenty_kills_of_the_command_and_of_one_of_three_servers_lose_and_double_nothing(tmp_path: Path) -> None:
    with nats_cluster(tmp_path) as servers:
        _every_message_is_one_task(Issue(tmp_path), servers, 20_000, kills=20, server_kills=20)
