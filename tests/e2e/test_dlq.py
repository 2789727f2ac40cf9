"""What ends every client that takes it is a dead letter, whole; its batch-mates are tasks; a replay mends it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from issue_core.config import NatsSettings
from issue_core.errors import NatsError
from issue_core.transports.nats import names
from issue_core.transports.nats.connection import Link, connected
from issue_core.transports.nats.copying import keep_copies
from issue_core.transports.nats.stored import bounds
from tests.support.cli import TIMEOUT, Issue, Ran, a_spec
from tests.support.nats_server import (
    NatsServer,
    deliveries,
    make_streams,
    nats_cluster,
    nats_server,
    patiently,
    publish,
    run,
    until,
    urls,
)

POISON = a_spec(0, description="poison ☠ \x1b[31m")

MORTAL_SUBSCRIBER = """
import os, signal, sys
from issue_core.transports.nats import messages

def document(message, of=messages.document):
    if b"poison" in message.data:
        os.kill(os.getpid(), signal.SIGKILL)
    return of(message)

messages.document = document
from issue_core.cli import main
sys.exit(main())
"""
"""The real command, with a fault that a message can bring out."""

MORTAL_CLIENT = """
import asyncio, os, signal, sys, nats

async def take():
    client = await nats.connect(sys.argv[1])
    pull = await client.jetstream().pull_subscribe_bind("issue-core-ingest", "ACT_TASKS")
    await pull.fetch(1, timeout=30)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(take())
"""
"""Somebody else's client, which ends before it answers."""

COPYING = """
import asyncio, sys
from issue_core.config import NatsSettings
from issue_core.transports.nats.copying import keep_copying
asyncio.run(keep_copying(NatsSettings(url=sys.argv[1]), asyncio.Event(), print, every=0.2))
"""
"""What a subscriber does beside its work."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        make_streams(server.url, ack_wait=1.0)
        yield server


def dlq(issue: Issue, url: str, *words: str) -> Ran:
    first, *rest = words
    return issue.run("dlq", first, "--nats-url", url, *rest)


def copy(url: str) -> None:
    async def copied() -> None:
        async with connected(NatsSettings(url=url)) as link:
            await keep_copies(link, NatsSettings())

    run(copied())


def dies(script: str, *words: str, issue: Issue) -> None:
    """Run it; its message ends it."""
    ran = subprocess.run(
        [sys.executable, "-c", script, *words], env=issue.environment, capture_output=True, timeout=TIMEOUT, check=False
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()


def subscribe(issue: Issue, url: str) -> None:
    ran = issue.run("subscribe", "--until-empty", "--nats-url", url)
    assert ran.code == 0, ran.stderr


def tasks(issue: Issue) -> set[str]:
    """The event IDs of the tasks; each has one only."""
    found = [each["event_id"] for each in issue.run("list", "--limit", "0", "--json").objects]
    assert len(found) == len(set(found))
    return set(found)


def ids(*numbers: int) -> set[str]:
    return {a_spec(n)["triggering_event_id"] for n in numbers}


def the_dead_letter(issue: Issue, url: str) -> dict[str, Any]:
    """The only one: the poison, with its body."""
    [letter] = dlq(issue, url, "list", "--json").objects
    assert letter["event_id"] == POISON["triggering_event_id"]
    assert (letter["reason"], letter["deliveries"], letter["target_repo"]) == ("max_deliveries", 5, "acme/web")
    assert json.loads(dlq(issue, url, "show", str(letter["seq"]), "--raw").stdout) == POISON
    assert "\x1b" not in dlq(issue, url, "show", str(letter["seq"])).stdout
    [status] = issue.run("nats", "status", "--nats-url", url, "--json").objects
    assert status["dead_letters"] == 1
    found: dict[str, Any] = letter
    return found


def is_mended(issue: Issue, url: str, mates: set[str]) -> None:
    """A replay makes one task of the poison, and leaves no dead letter."""
    assert dlq(issue, url, "replay", "--all").stdout == "1 replayed, 0 refused\n"
    subscribe(issue, url)
    assert tasks(issue) == mates | ids(0)
    assert dlq(issue, url, "list").stdout == ""
    assert dlq(issue, url, "replay", "--all").stdout == "0 replayed, 0 refused\n"


def test_what_every_client_died_over_is_a_dead_letter_once_and_a_task_after_its_replay(
    issue: Issue, server: NatsServer
) -> None:
    publish(server.url, [POISON])
    for _ in range(5):
        dies(MORTAL_CLIENT, server.url, issue=issue)
    publish(server.url, [a_spec(n) for n in range(1, 21)])
    subscribe(issue, server.url)
    mates = ids(*range(1, 21))
    assert tasks(issue) == mates
    the_dead_letter(issue, server.url)
    copy(server.url)
    copy(server.url)
    assert the_dead_letter(issue, server.url)["state"] == "whole"
    is_mended(issue, server.url, mates)


def test_what_ends_our_own_subscriber_every_time_takes_none_of_its_batch_with_it(
    issue: Issue, server: NatsServer
) -> None:
    publish(server.url, [*(a_spec(n) for n in range(1, 6)), POISON, *(a_spec(n) for n in range(6, 21))])
    for _ in range(5):
        dies(MORTAL_SUBSCRIBER, "subscribe", "--nats-url", server.url, issue=issue)
    ended = subprocess.run(
        [sys.executable, "-c", MORTAL_SUBSCRIBER, "subscribe", "--until-empty", "--nats-url", server.url],
        env=issue.environment,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    mates = ids(*range(1, 21))
    assert tasks(issue) == mates
    the_dead_letter(issue, server.url)
    copy(server.url)
    assert the_dead_letter(issue, server.url)["state"] == "whole"
    is_mended(issue, server.url, mates)


def test_a_subscriber_makes_a_copy_at_its_start_that_outlives_the_message(issue: Issue, server: NatsServer) -> None:
    publish(server.url, [POISON])
    for _ in range(5):
        dies(MORTAL_CLIENT, server.url, issue=issue)
    for _ in range(2):  # the server tells of it when the first one pulls
        subscribe(issue, server.url)
    assert the_dead_letter(issue, server.url)["state"] == "whole"
    patiently(server.url, "STREAM.PURGE.ACT_TASKS")
    the_dead_letter(issue, server.url)
    is_mended(issue, server.url, set())


def test_what_the_server_cannot_take_half_way_is_said_with_how_far_it_came(issue: Issue, server: NatsServer) -> None:
    publish_dead(server.url, 3_000)
    with issue.start("dlq", "replay", "--all", "--nats-url", server.url) as process:
        until(lambda: patiently(server.url, "STREAM.INFO.ACT_TASKS")["state"]["messages"] > 100)
        server.kill()
        _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "replayed before that; the rest is as it was, and it can be done again" in errors.decode()
    server.start()
    assert dlq(issue, server.url, "replay", "--all").code == 0
    subscribe(issue, server.url)
    assert tasks(issue) == ids(*range(3_000))


def publish_dead(url: str, n: int) -> None:
    """Lay whole dead letters there."""

    async def laid(link: Link) -> None:
        js = link.client.jetstream()
        for start in range(0, n, 500):
            bodies = [json.dumps(a_spec(k)).encode() for k in range(start, min(start + 500, n))]
            await asyncio.gather(*(js.publish("act.dlq.create.acme/web", each, timeout=TIMEOUT) for each in bodies))

    async def body() -> None:
        async with connected(NatsSettings(url=url)) as link:
            await laid(link)

    run(body())


def test_hosts_that_copy_while_a_server_of_the_cluster_is_killed_make_one_copy_of_each(
    issue: Issue, tmp_path: Path
) -> None:
    with nats_cluster(tmp_path) as servers, ExitStack() as stack:
        url = urls(servers)
        make_streams(url, ack_wait=1.0, replicas=3)
        publish(url, [a_spec(n) for n in range(300)])
        for _ in range(2):
            host = subprocess.Popen([sys.executable, "-c", COPYING, url], stdout=subprocess.DEVNULL)
            stack.callback(host.wait, TIMEOUT)
            stack.callback(host.kill)
        run(_point(url, 300))
        leader = patiently(url, "STREAM.INFO.ACT_TASKS_DLQ")["cluster"]["leader"]
        [killed] = [each for each in servers if each.name == leader]
        until(lambda: _counts(url)[1] > 50)
        killed.kill()
        until(lambda: _counts(url) == (0, 300), lambda: _counts(url))
        killed.start()
        assert dlq(issue, url, "replay", "--all").stdout == "300 replayed, 0 refused\n"
        before = deliveries(url)
        subscribe(issue, url)
        assert tasks(issue) == ids(*range(300))
        assert deliveries(url) - before >= 600


async def _point(url: str, n: int) -> None:
    async with connected(NatsSettings(url=url)) as link:
        js, subject = link.client.jetstream(), names.advisory("ACT_TASKS", "issue-core-ingest")
        told = [json.dumps({"stream_seq": k, "deliveries": 5}).encode() for k in range(1, n + 1)]
        await asyncio.gather(*(js.publish(subject, each, timeout=TIMEOUT) for each in told))


def _counts(url: str) -> tuple[int, int]:
    """How many pointers there are, and how many copies; a cluster without a leader cannot tell for some seconds."""

    async def asked() -> tuple[int, int]:
        async with connected(NatsSettings(url=url)) as link:
            while True:
                with suppress(NatsError):
                    there = await bounds(link, "ACT_TASKS_DLQ", names.DEAD)
                    return there.messages - there.matching, there.matching
                await asyncio.sleep(0.1)

    return run(asked())
