"""However much waits in the stream, what the command holds of it in memory stays the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from uuid import UUID

import pytest

from issue_core.config import NatsSettings
from issue_core.transports.nats.connection import connected
from tests.support.cli import ISSUE, TIMEOUT, Issue
from tests.support.nats_server import NatsServer, make_as_they_are, nats_server, run

WAITING = 1_000_000
EARLY, LATE = 20_000, 120_000
"""How many tasks are taken by the first look at the memory, and by the second."""

GROWTH = 8.0
"""MiB that may come in between: caches that fill by and by. The messages themselves, kept, would be some 100."""

UNANSWERED = 5_000
"""So many are published before one answer is waited for: the server takes twice as many ahead of its disk."""


@pytest.mark.long
def test_memory_stays_flat_while_a_million_messages_wait(tmp_path: Path) -> None:
    issue = Issue(tmp_path)
    words = [ISSUE, "subscribe", "--json"]
    with nats_server(tmp_path) as server:
        run(_publish(server, WAITING), timeout=20 * TIMEOUT)
        environment = issue.environment | {"NATS_URL": server.url}
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout
            receipts = iter(process.stdout)
            try:
                early = max(_memory(process, islice(receipts, EARLY)))
                late = max(_memory(process, islice(receipts, LATE - EARLY)))
                process.terminate()
                process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()
    assert process.returncode == 0
    print(f"{early:.1f} MiB until {EARLY:,} were taken, {late:.1f} MiB until {LATE:,}")
    assert late - early <= GROWTH


async def _publish(server: NatsServer, messages: int) -> None:
    settings = NatsSettings(url=server.url)
    async with connected(settings) as link:
        await make_as_they_are(link, settings)
        for n in range(messages):
            subject, body = f"act.tasks.create.acme/r{n % 20}", _body(n)
            if (n + 1) % UNANSWERED:
                await link.client.publish(subject, body)
            else:
                answer = await link.client.jetstream().publish(subject, body, timeout=TIMEOUT)
                assert answer.seq == n + 1


def _body(n: int) -> bytes:
    event_id = UUID(int=n, version=4)
    return (
        f'{{"title": "Task {n}", "target_repo": "acme/r{n % 20}", "source_type": "rule", "source_id": "memory", '
        f'"triggering_event_id": "{event_id}"}}'
    ).encode()


def _memory(process: subprocess.Popen[bytes], receipts: Iterator[bytes]) -> Iterator[float]:
    """The process's resident memory in MiB, at every thousandth receipt that it writes."""
    for n, receipt in enumerate(receipts, 1):
        assert b'"created"' in receipt
        if n % 1_000 == 0:
            found = subprocess.run(["ps", "-o", "rss=", "-p", str(process.pid)], capture_output=True, check=True)
            yield int(found.stdout) / 1024
