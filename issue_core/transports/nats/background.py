"""Reads what blocks, such as a pipe, beside an event loop that must not wait for it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _End:
    """Nothing comes any more; ``error`` is what ended it, if it did not end by itself."""

    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Desk(Generic[_T]):
    """What the thread lays items on, one at a time: ``room`` is there when the last one was taken."""

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[_T | _End] = field(default_factory=asyncio.Queue)
    room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1))
    left: threading.Event = field(default_factory=threading.Event)

    def lay(self, item: _T | _End) -> None:
        """Lay it there; does nothing when the loop has ended and nobody can take it."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.queue.put_nowait, item)


async def in_background(items: Iterable[_T]) -> AsyncIterator[_T]:
    """Each of ``items``, one read ahead by a thread of its own. What reading raises is raised here.

    The thread is a daemon, unlike asyncio's own: one that waits for a pipe must not keep an interrupted program alive.
    """
    desk: _Desk[_T] = _Desk(asyncio.get_running_loop())
    threading.Thread(target=_read, args=(items, desk), daemon=True, name="reader").start()
    try:
        while not isinstance(item := await desk.queue.get(), _End):
            desk.room.release()
            yield item
            del item
    finally:
        desk.left.set()
        desk.room.release()
    if item.error is not None:
        raise item.error


def _read(items: Iterable[_T], desk: _Desk[_T]) -> None:
    try:
        for item in items:
            desk.room.acquire()
            if desk.left.is_set():
                return
            desk.lay(item)
            del item
    except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
        desk.lay(_End(error))
    else:
        desk.lay(_End())
