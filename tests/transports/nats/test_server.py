"""The servers that the other tests are run against do what a test asks of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats
from nats.js.api import StreamConfig

from tests.support.nats_server import NatsServer, nats_cluster, nats_server, run, urls, user_and_password


async def _publish(url: str) -> int:
    client = await nats.connect(url.split(","))
    try:
        js = client.jetstream()
        await js.add_stream(StreamConfig(name="S", subjects=["s"], num_replicas=3 if "," in url else 1))
        return (await js.publish("s", b"x")).seq
    finally:
        await client.close()


def test_what_was_stored_outlives_a_stop_and_a_kill_on_the_same_port(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        url = server.url
        assert run(_publish(url)) == 1
        server.restart()
        assert (run(_publish(url)), server.url) == (2, url)
        server.kill()
        server.start()
        assert run(_publish(url)) == 3


def test_a_reload_changes_who_may_come_in(tmp_path: Path) -> None:
    with nats_server(tmp_path, more=user_and_password("bob", "one")) as server:
        server.reload(user_and_password("bob", "two"))
        assert run(_publish(server.url.replace("//", "//bob:two@"))) == 1


def test_two_of_three_servers_are_enough(tmp_path: Path) -> None:
    with nats_cluster(tmp_path) as servers:
        assert run(_publish(urls(servers))) == 1
        servers[0].kill()
        assert run(_publish_patiently(servers[1:])) == 2


async def _publish_patiently(servers: list[NatsServer]) -> int:
    client = await nats.connect(urls(servers).split(","))
    try:
        while True:
            try:
                return (await client.jetstream().publish("s", b"x", headers={"Nats-Msg-Id": "2"}, timeout=1)).seq
            except nats.errors.Error:
                await asyncio.sleep(0.1)  # no leader yet
    finally:
        await client.close()
