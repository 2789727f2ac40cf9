"""Stands between clients and a NATS server, and loses acknowledgements: a client is understood just enough for that.

What a client sends is passed on operation by operation, so that a connection that is cut has said whole ones.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support.nats_server import TIMEOUT, NatsServer

ACKS = b"$JS.ACK."
"""What begins the subject of every answer to a delivery."""

_LONGEST_LINE = 2**20
_GONE = (OSError, asyncio.IncompleteReadError)


class Moods(NamedTuple):
    """What goes wrong, as the probability for one message that a client sends.

    ``lost``: an acknowledgement is dropped that nobody waits for; ``lost_asked``: one that the client waits to see
    confirmed. ``cuts``: the connection ends behind it. ``slow``: the seconds that it may take, at most.
    """

    lost: float = 0.0
    lost_asked: float = 0.0
    cuts: float = 0.0
    slow: float = 0.0


@dataclass(slots=True, eq=False)
class NatsProxy:
    """A port that leads to one server, up or not. ``dropped`` and ``cut`` count what went wrong."""

    server: NatsServer
    dice: random.Random
    moods: Moods
    port: int = 0
    dropped: int = 0
    cut: int = 0
    _ready: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.port}"

    def run(self) -> None:
        """Serve until :meth:`end`, in a thread of its own."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def wait_until_ready(self) -> None:
        """Wait until it listens."""
        assert self._ready.wait(TIMEOUT)

    def end(self) -> None:
        """End every connection, and take no more."""
        self._loop.call_soon_threadsafe(self._over.set)

    async def _serve(self) -> None:
        listener = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=_LONGEST_LINE)
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        async with listener:
            await self._over.wait()
            for each in self._open:
                each.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        try:
            await self._between(client, to_client)
        except asyncio.CancelledError:
            pass  # told to end: the listener's own callback wants to hear of nothing else
        finally:
            self._open.discard(task)

    async def _between(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self.server.port)
        except OSError:
            to_client.transport.abort()
            return
        both = [asyncio.create_task(self._say(client, to_server)), asyncio.create_task(_pass(server, to_client))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            to_server.transport.abort()
            to_client.transport.abort()

    async def _say(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        """What the client says, but for what is lost; until it hangs up, or the connection is cut."""
        with suppress(*_GONE):
            while True:
                line = await client.readuntil(b"\r\n")
                words = line.split()
                is_message = words[0].upper() in (b"PUB", b"HPUB")
                body = await client.readexactly(int(words[-1]) + 2) if is_message else b""
                if is_message and self.moods.slow:
                    await asyncio.sleep(self.dice.uniform(0, self.moods.slow))
                if is_message and self._is_lost(words):
                    self.dropped += 1
                    continue
                server.write(line + body)
                await server.drain()
                if is_message and self.dice.random() < self.moods.cuts:
                    self.cut += 1
                    return

    def _is_lost(self, words: list[bytes]) -> bool:
        # PUB subject [reply] size, HPUB subject [reply] size size
        is_asked = len(words) == (4 if words[0].upper() == b"PUB" else 5)
        chance = self.moods.lost_asked if is_asked else self.moods.lost
        return words[1].startswith(ACKS) and self.dice.random() < chance


async def _pass(server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
    with suppress(*_GONE):
        while data := await server.read(2**16):
            client.write(data)
            await client.drain()


@contextmanager
def nats_proxy(server: NatsServer, seed: str, moods: Moods) -> Iterator[NatsProxy]:
    """A proxy before ``server`` until the block ends."""
    proxy = NatsProxy(server, random.Random(f"{seed} {server.name}"), moods)
    thread = threading.Thread(target=proxy.run, name="proxy")
    thread.start()
    try:
        proxy.wait_until_ready()
        yield proxy
    finally:
        proxy.end()
        thread.join(TIMEOUT)
