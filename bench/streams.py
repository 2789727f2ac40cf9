"""A NATS server on loopback for the benchmarks, and its streams, made anew before each run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import ISSUE
from issue_core.config import NatsSettings
from issue_core.transports.nats.connection import connected
from issue_core.transports.nats.jetstream import find
from issue_core.transports.nats.streams import set_up
from issue_core.transports.nats.wanted import Wanted
from tests.support.nats_server import nats_server, run

ENVIRONMENT = {"ISSUE_CORE_CONFIG": ""}
"""What keeps the settings of whoever runs the benchmarks out of them."""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a server that has the streams and the consumer, until the block ends."""
    folder.mkdir()
    with nats_server(folder) as started:
        issue("nats", "setup", url=started.url)
        yield started.url


def issue(*words: str, url: str) -> None:
    """Run the command line against the server at ``url``."""
    env = os.environ | ENVIRONMENT | {"NATS_URL": url}
    subprocess.run([ISSUE, *words], env=env, capture_output=True, check=True)


def renew(url: str, *parts: Wanted) -> None:
    """Remove what is there of ``parts``, and make them again: a stream is empty then, a consumer at its beginning."""
    run(_renew(url, parts))


async def _renew(url: str, parts: tuple[Wanted, ...]) -> None:
    async with connected(NatsSettings(url=url)) as link:
        for each in parts:
            what = f"CONSUMER.DELETE.{each.stream}.{each.name}"
            await find(link, what if each.kind == "consumer" else f"STREAM.DELETE.{each.stream}")
            await set_up(link, each, apply=False)
