"""One server for the tests of a module that need no more than that, and the command line with a ledger of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from issue_core.config import NatsSettings
from issue_core.transports.nats.connection import Link, connected
from issue_core.transports.nats.jetstream import ask
from tests.support.cli import Issue
from tests.support.nats_server import NatsServer, nats_server, run

_T = TypeVar("_T")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that runs for the whole module."""
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def server(shared: NatsServer) -> Iterator[NatsServer]:
    """A server with nothing in it."""
    yield shared
    if shared.process is None:
        shared.start()
    with_link(shared, _remove_all)


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    """The command line with a ledger of its own."""
    return Issue(tmp_path)


def with_link(server: NatsServer, work: Callable[[Link], Awaitable[_T]]) -> _T:
    """What ``work`` gives, over a connection of its own."""

    async def body() -> _T:
        async with connected(NatsSettings(url=server.url)) as link:
            return await work(link)

    return run(body())


async def _remove_all(link: Link) -> None:
    while names := (await ask(link, "STREAM.NAMES"))["streams"]:
        await asyncio.gather(*(ask(link, f"STREAM.DELETE.{name}") for name in names))
