"""Waiting: for several things at once, and no longer than until one is told to stop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncIterator, Coroutine, Iterable
    from typing import Any

BETWEEN = 0.2
"""Seconds between two looks at what is not done yet."""

_T = TypeVar("_T")


@asynccontextmanager
async def bridged(stop: threading.Event) -> AsyncIterator[asyncio.Event]:
    """An event of this loop that is set soon after ``stop``, until the block ends."""
    stopping = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            await asyncio.sleep(BETWEEN)
        stopping.set()

    watching = asyncio.create_task(watch())
    try:
        yield stopping
    finally:
        watching.cancel()


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait for so many seconds, or until ``stop`` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, _T], *, grace: float = 0.0) -> _T | None:
    """What ``work`` gives; None if it was not done ``grace`` seconds after ``stop`` was set: it is cancelled then."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and grace:
            await asyncio.wait({task}, timeout=grace)
        return task.result() if task.done() else None
    finally:
        stopped.cancel()
        await _end(task)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """What ``work`` gives, in a loop of its own, until Ctrl-C ends it.

    Raises:
        KeyboardInterrupt: it did.
    """

    async def heard() -> _T:
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        finally:
            await _end(task)

    return asyncio.run(heard())


async def _end(task: asyncio.Future[Any]) -> None:
    while not task.done():
        task.cancel()  # again and again: nats-py swallows one at the wrong moment, and so does wait_for of 3.11
        await asyncio.wait({task}, timeout=BETWEEN)
    if not task.cancelled():
        task.exception()  # heard, or of no use any more


async def together(works: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """What each of ``works`` gives, done at the same time; the first one that fails ends the others."""
    under_way = [asyncio.ensure_future(each) for each in works]
    try:
        return list(await asyncio.gather(*under_way))
    finally:
        for each in under_way:
            each.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
