"""No message is given up over a disk that is full for long, or a ledger that is locked, however often it is restarted.

A supervisor starts the command again whenever it has ended, and something kills it now and then meanwhile.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from issue_core.transports.nats.storing import ROOM
from issue_core.transports.nats.wanted import MAX_DELIVER
from tests.support.cli import Issue, a_spec
from tests.support.nats_server import (
    NOTHING_LEFT,
    NatsServer,
    deliveries,
    make_streams,
    nats_server,
    publish,
    standing,
    until,
)
from tests.support.runs import kill_seed
from tests.support.supervised import Supervised, supervised

ACK_WAIT = 1.0
BATCH = 8
LONG_ENOUGH = 1.5 * MAX_DELIVER * ACK_WAIT
"""Seconds in which whatever was delivered and not answered each time would have become a dead letter."""

CONFIG = "[serve]\nbusy_timeout = 0.1\n"


@contextmanager
def _supervised(issue: Issue, server: NatsServer, batch: int, **options: Any) -> Iterator[Supervised]:
    (issue.folder / "config.toml").write_text(CONFIG)
    words = ("subscribe", "--nats-url", server.url, "--batch", str(batch))
    running = supervised(issue, *words, log=server.folder / "log", **options)
    try:
        yield running
    finally:
        running.kill()


def _mortal(running: Supervised) -> Callable[[], None]:
    """Starts it when it has ended, and kills it when it has lived for a random time of some seconds."""
    dice = random.Random(kill_seed())

    def look() -> None:
        running.look()
        if time.monotonic() - running.began > dice.uniform(0, 40):  # asked fifty times a second
            running.kill()

    return look


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("NOT TESTED: only root can mount a small disk; the file size limit below stands in for it")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _fill(disk: Path) -> None:
    """Take whatever room there is."""
    with (disk / "filling").open("ab", buffering=0) as filling:
        for size in (2**20, 4096):
            try:
                while True:
                    filling.write(b"x" * size)
            except OSError:
                pass


def _for(seconds: float, *each_time: Callable[[], object]) -> None:
    over, never = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < over:
        for work in each_time:
            work()
        never.wait(0.02)


def _specs(messages: int) -> Iterator[dict[str, Any]]:
    return (a_spec(n, description="x" * (n * 37 % 1500)) for n in range(messages))


def _stored(issue: Issue) -> int:
    with issue.ledger as ledger, ledger.read() as connection:
        n: int = connection.execute("SELECT count(*) FROM tasks").fetchone()[0]
        return n


def _come_to(running: Supervised, tasks: int) -> None:
    def is_there() -> bool:
        running.look()
        return _stored(running.issue) >= tasks

    until(is_there, lambda: running.said[-3000:])


def _all_are_there(running: Supervised, server: NatsServer, messages: int) -> None:
    """It takes what is left, now that it can, and nothing was given up."""
    _come_to(running, messages)
    until(lambda: standing(server.url) == NOTHING_LEFT, lambda: standing(server.url))
    with running.issue.ledger as ledger, ledger.read() as connection:
        found = [event_id for (event_id,) in connection.execute("SELECT event_id FROM tasks ORDER BY event_id")]
        assert connection.execute("SELECT count(*) FROM rejects").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert found == sorted(spec["triggering_event_id"] for spec in _specs(messages))
    assert "Traceback" not in running.said


def _not_stored(running: Supervised, server: NatsServer) -> int:
    """How many messages were given to it so far and not stored, each as often as it was."""
    return deliveries(server.url) - _stored(running.issue)


def _the_disk_is_full(
    folder: Path, size: str, messages: int, *, seconds: float, ack_wait: float, rounds: int = 1, batch: int = BATCH
) -> None:
    with nats_server(folder) as server, _small_disk(folder, size) as disk:
        make_streams(server.url, ack_wait=ack_wait)
        publish(server.url, _specs(messages))
        with _supervised(Issue(disk), server, batch) as running:
            mortal = _mortal(running)
            for n in range(rounds):
                _come_to(running, messages * (n + 1) // (rounds + 2))
                before = _not_stored(running, server)
                _fill(disk)
                _for(seconds / rounds, lambda: _fill(disk), mortal)
                running.kill()
                (disk / "filling").unlink()
                assert _not_stored(running, server) - before <= 2 * batch
                assert _stored(running.issue) < messages, "the disk was full too late"
            assert running.starts > running.kills + 1 > 1, "it never ended by itself"
            _all_are_there(running, server, messages)


def test_no_message_is_given_up_while_the_disk_is_full_and_a_supervisor_restarts(tmp_path: Path) -> None:
    _the_disk_is_full(tmp_path, "12m", 1_000, seconds=LONG_ENOUGH, ack_wait=ACK_WAIT)


@pytest.mark.long
def test_no_message_is_given_up_while_the_disk_is_full_for_five_minutes(tmp_path: Path) -> None:
    _the_disk_is_full(tmp_path, "80m", 10_000, seconds=300, ack_wait=30, batch=256)


@pytest.mark.long
def test_no_message_is_given_up_over_a_disk_that_is_full_again_and_again(tmp_path: Path) -> None:
    _the_disk_is_full(tmp_path, "64m", 4_000, seconds=10 * LONG_ENOUGH, ack_wait=ACK_WAIT, rounds=10)


def _is_locked(folder: Path, messages: int, *, seconds: float) -> None:
    with nats_server(folder) as server:
        make_streams(server.url, ack_wait=ACK_WAIT)
        publish(server.url, _specs(messages))
        with _supervised(Issue(folder), server, BATCH) as running:
            _come_to(running, messages // 3)
            before = _not_stored(running, server)
            with running.issue.ledger as ledger, ledger.write():
                _for(seconds, _mortal(running))
                assert _not_stored(running, server) - before <= 2 * BATCH
            assert running.starts > running.kills + 1 > 1, "it never ended by itself"
            _all_are_there(running, server, messages)


@pytest.mark.long
def test_no_message_is_given_up_while_another_process_holds_the_ledgers_lock(tmp_path: Path) -> None:
    _is_locked(tmp_path, 1_000, seconds=LONG_ENOUGH)


@pytest.mark.long
def test_no_message_is_given_up_over_a_lock_that_is_held_for_a_minute(tmp_path: Path) -> None:
    _is_locked(tmp_path, 3_000, seconds=60)


@pytest.mark.long
def test_no_message_is_given_up_where_no_file_may_grow(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * ROOM, 3 * ROOM))

    with nats_server(tmp_path) as server:
        make_streams(server.url, ack_wait=ACK_WAIT)
        publish(server.url, _specs(3_000))
        with _supervised(Issue(tmp_path), server, BATCH, preexec_fn=limited) as running:
            _for(LONG_ENOUGH, _mortal(running))
            assert 0 < _stored(running.issue) < 3_000
            running.kill()
            running.options.clear()
            _all_are_there(running, server, 3_000)
