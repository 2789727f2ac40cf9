"""Subscribers for tests: streams made and filled, what the server and the ledger have, a subscriber in a thread."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from issue_core.config import NatsSettings
from issue_core.errors import IssueCoreError
from issue_core.ledger import Ledger, queries
from issue_core.task import Receipt
from issue_core.transports.nats import names
from issue_core.transports.nats.connection import Link
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.subscriber import Choices, End, subscribe
from tests.support.cli import ISSUE, TIMEOUT, Issue, Ran
from tests.support.nats_server import NatsServer, make_streams
from tests.transports.nats.conftest import with_link

CONSUMER = "ACT_TASKS.issue-core-ingest"


def make(server: NatsServer, *, ack_wait: float = 30.0, claims: bool = False) -> None:
    """Make the streams and the consumer; with ``claims`` the bucket, too."""
    make_streams(server.url, ack_wait=ack_wait, claims=claims)


def put(server: NatsServer, *documents: Any, subject: str | None = None, headers: dict[str, str] | None = None) -> None:
    """Publish documents; a spec under its own subject unless another is named, bytes as they are."""

    async def published(link: Link) -> None:
        for each in documents:
            body = each if isinstance(each, bytes) else json.dumps(each).encode()
            default = names.create_subject(each["target_repo"] if isinstance(each, dict) else "x")
            await link.client.jetstream().publish(subject or default, body, headers=headers)

    with_link(server, published)


def info(server: NatsServer) -> dict[str, Any]:
    """How the consumer stands."""
    return with_link(server, lambda link: ask(link, f"CONSUMER.INFO.{CONSUMER}"))


def is_done(server: NatsServer) -> bool:
    found = info(server)
    return not found["num_pending"] and not found["num_ack_pending"]


def take_without_an_answer(server: NatsServer, n: int) -> None:
    """What a client that dies does."""

    async def taken(link: Link) -> None:
        subscription = await link.client.jetstream().pull_subscribe_bind("issue-core-ingest", "ACT_TASKS")
        left = n
        while left:
            left -= len(await subscription.fetch(left, timeout=5))

    with_link(server, taken)


def offered(server: NatsServer, seconds: float) -> int:
    """How many messages another client is given within this time: what is in hand is not, while it is kept alive."""

    async def taken(link: Link) -> int:
        subscription = await link.client.jetstream().pull_subscribe_bind("issue-core-ingest", "ACT_TASKS")
        try:
            return len(await subscription.fetch(1, timeout=seconds))
        except TimeoutError:
            return 0

    return with_link(server, taken)


def command(issue: Issue, server: NatsServer, *words: str) -> Ran:
    return issue.call("subscribe", "--nats-url", server.url, *words)


def tasks(issue: Issue) -> list[dict[str, Any]]:
    with issue.ledger as ledger, ledger.read() as connection:
        return [
            queries.task(connection, seq).to_json()
            for (seq,) in connection.execute("SELECT seq FROM tasks ORDER BY seq")
        ]


@dataclass
class Running:
    """A subscriber in a thread: what it said, and the receipts by the groups in which they were acknowledged."""

    stop: threading.Event = field(default_factory=threading.Event)
    groups: list[list[Receipt]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    end: End | IssueCoreError | None = None
    thread: threading.Thread | None = None

    @property
    def receipts(self) -> list[Receipt]:
        """All receipts so far."""
        return [each for group in self.groups for each in group]

    @property
    def created(self) -> int:
        """How many tasks were new."""
        return sum(each.outcome == "created" for each in self.receipts)

    def run(self, settings: NatsSettings, path: Path, choices: Choices) -> None:
        """Subscribe until it ends; ``end`` is how."""
        with Ledger(path, busy_timeout=0.1) as ledger:
            taking = subscribe(
                settings, ledger, choices, self.stop, heard=lambda r: self.groups.append(list(r)), say=self.said.append
            )
            try:
                self.end = asyncio.run(taking)
            except IssueCoreError as error:
                self.end = error

    def wait(self) -> End | IssueCoreError | None:
        """Wait until it has ended; gives how."""
        assert self.thread
        self.thread.join(TIMEOUT)
        return self.end


@contextmanager
def subscribing(
    issue: Issue, server: NatsServer, *, settings: NatsSettings | None = None, **choices: Any
) -> Iterator[Running]:
    running = Running()
    running.thread = threading.Thread(
        target=running.run, args=(settings or NatsSettings(url=server.url), issue.path, Choices(**choices))
    )
    running.thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        running.wait()


def is_waiting(server: NatsServer) -> bool:
    """Whether a pull waits at the server: the ledger was proved, and nothing is there."""
    return bool(info(server)["num_waiting"])


@contextmanager
def process(issue: Issue, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        [ISSUE, "subscribe", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=issue.environment,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate(timeout=TIMEOUT)


def ended(process: subprocess.Popen[bytes], number: int) -> tuple[int, str, float]:
    """Send a signal: the exit code, standard error, and the seconds until it had ended."""
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT)
    return process.returncode, errors.decode(), time.monotonic() - began
