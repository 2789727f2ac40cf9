"""However often the command and the server are killed, every message is one task, and none is left or given up."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from issue_core.config import NatsSettings
from issue_core.transports.nats import names
from issue_core.transports.nats.connection import Link, connected
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.streams import set_up
from issue_core.transports.nats.wanted import SECOND, Setting, all_wanted
from tests.support.cli import TIMEOUT, Issue, a_spec, ndjson
from tests.support.nats_server import NatsServer, nats_server, run, until

COMMAND = (
    "import sys\nfrom issue_core.cli.app import _Commands\n"
    "_Commands.modules['subscribe'] = 'issue_core.cli.subscribe'\n"
    "from issue_core.cli import main\nsys.exit(main())\n"
)
"""The real command, whether or not it is in the table of commands."""

ACK_WAIT = 2.0
"""Seconds after which what a killed command had in hand comes again: short, so that the end comes soon."""


async def _make(server: NatsServer, messages: int) -> None:
    settings = NatsSettings(url=server.url)
    async with connected(settings) as link:
        for wanted in all_wanted(settings, replicas=None, claims=False):
            await set_up(link, replace(wanted, settings=tuple(map(_sooner, wanted.settings))), apply=False)
        for start in range(0, messages, 500):
            await asyncio.gather(*(_publish(link, n) for n in range(start, min(start + 500, messages))))


def _sooner(setting: Setting) -> Setting:
    return replace(setting, value=int(ACK_WAIT * SECOND)) if setting.name == "ack_wait" else setting


async def _publish(link: Link, n: int) -> None:
    spec = a_spec(n, description="x" * (n * 37 % 1500))
    body = ndjson(spec).encode()
    await link.client.jetstream().publish(names.create_subject(spec["target_repo"]), body, timeout=TIMEOUT)


@contextmanager
def _subscribing(issue: Issue, server: NatsServer, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    with (issue.folder / "errors").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "subscribe", "--nats-url", server.url, *words],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=issue.environment,
            cwd=Path(__file__).parents[2],
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT)


def _stored(issue: Issue) -> int:
    with issue.ledger as ledger, ledger.read() as connection:
        n: int = connection.execute("SELECT count(*) FROM tasks").fetchone()[0]
        return n


def _every_message_is_one_task(folder: Path, messages: int, kills: int, server_kills: int, seed: int) -> None:
    issue, dice = Issue(folder), random.Random(seed)
    with nats_server(folder) as server:
        run(_make(server, messages), timeout=TIMEOUT)
        ends = sorted(dice.sample(range(1, messages - messages // 10), kills))
        of_server = set(dice.sample(range(kills), server_kills))
        for n, end in enumerate(ends):
            with _subscribing(issue, server, "--batch", "64") as process:
                until(lambda end=end: _stored(issue) >= end or process.poll() is not None)
                threading.Event().wait(dice.uniform(0, 0.01))
                if n in of_server:
                    server.kill()
                    server.start()
                    before = _stored(issue)
                    until(lambda before=before: _stored(issue) > before or before == messages)
                assert process.poll() is None, (folder / "errors").read_text()
        with _subscribing(issue, server, "--until-empty") as process:
            assert process.wait(3 * TIMEOUT) == 0, (folder / "errors").read_text()
        _nothing_is_left(issue, messages, run(_counters(server)))


async def _counters(server: NatsServer) -> dict[str, Any]:
    async with connected(NatsSettings(url=server.url)) as link:
        consumer = await ask(link, "CONSUMER.INFO.ACT_TASKS.issue-core-ingest")
        dead = await ask(link, "STREAM.INFO.ACT_TASKS_DLQ")
        return {
            "pending": consumer["num_pending"],
            "in_flight": consumer["num_ack_pending"],
            "dead": dead["state"]["messages"],
        }


def _nothing_is_left(issue: Issue, messages: int, counters: dict[str, Any]) -> None:
    assert counters == {"pending": 0, "in_flight": 0, "dead": 0}
    with issue.ledger as ledger, ledger.read() as connection:
        found = {event_id for (event_id,) in connection.execute("SELECT event_id FROM tasks")}
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (messages,)
        assert connection.execute("SELECT count(*) FROM rejects").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert found == {a_spec(n)["triggering_event_id"] for n in range(messages)}
    assert "Traceback" not in (issue.folder / "errors").read_text()


def test_what_kills_find_in_hand_is_stored_once_all_the_same(tmp_path: Path) -> None:
    _every_message_is_one_task(tmp_path, 2_000, kills=5, server_kills=1, seed=1)


@pytest.mark.long
def test_twenty_kills_of_the_command_and_three_of_the_server_lose_and_double_nothing(tmp_path: Path) -> None:
    seed = random.randrange(10**9)
    print(f"seed={seed}")
    _every_message_is_one_task(tmp_path, 20_000, kills=20, server_kills=3, seed=seed)
