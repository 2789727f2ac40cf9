"""Ctrl-C ends what waits, also when the client library does not hear it the first time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from issue_core.transports.nats.waiting import run
from tests.support.nats_server import TIMEOUT


@pytest.fixture(autouse=True)
def usual_interrupts() -> Iterator[None]:
    """SIGINT as a program of its own has it, whatever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def swallows(n: int) -> None:
    """Wait for long; the first ``n`` times that it is cancelled, go on as if it was not."""
    asyncio.get_running_loop().call_soon(press_ctrl_c)
    for _ in range(n):
        try:
            await asyncio.sleep(TIMEOUT)
        except asyncio.CancelledError:
            continue
        raise AssertionError("nobody cancelled it")
    await asyncio.sleep(TIMEOUT)
    raise AssertionError("it was not cancelled again")


@pytest.mark.parametrize("n", [0, 1, 3])
def test_an_interrupt_is_repeated_until_it_is_heard(n: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(swallows(n))


def test_an_interrupt_stands_though_the_work_is_done_by_then() -> None:
    async def ends_at_once() -> int:
        press_ctrl_c()
        await asyncio.sleep(0)
        return 1

    with pytest.raises(KeyboardInterrupt):
        run(ends_at_once())


def test_without_one_it_gives_what_the_work_gives_and_raises_what_it_raises() -> None:
    async def gives(what: int) -> int:
        return 6 // what

    assert run(gives(2)) == 3
    with pytest.raises(ZeroDivisionError):
        run(gives(0))
