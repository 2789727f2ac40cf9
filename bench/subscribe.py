"""``issue subscribe`` against a bare loop that fetches, acknowledges and stores nothing; and where its time goes."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from bench import data, streams
from bench.measure import ISSUE, PYTHON, Command, medians, report
from issue_core.config import NatsSettings
from issue_core.ledger import Ledger
from issue_core.transports.nats import subscriber
from issue_core.transports.nats.pulling import Puller
from issue_core.transports.nats.storing import Store
from issue_core.transports.nats.wanted import bucket, consumer

MESSAGES = 20_000
SIZE = 1024
"""Bytes of a body."""

BARE = """
import asyncio, sys
import nats
async def main(left):
    client = await nats.connect(sys.argv[1])
    subscription = await client.jetstream().pull_subscribe_bind("issue-core-ingest", "ACT_TASKS")
    while left:
        messages = await subscription.fetch(256)
        for message in messages:
            await message.ack()
        left -= len(messages)
    await client.flush()
    await client.close()
asyncio.run(main(int(sys.argv[2])))
"""


PARTS: tuple[tuple[str, Any, str], ...] = (
    ("waiting for messages", Puller, "pull"),
    ("judging", Store, "_judged"),
    ("writing to the ledger", Store, "_store"),
    ("claiming", Store, "_settled"),
    ("acknowledging", subscriber._Subscriber, "_acknowledge"),
)
"""What a batch goes through, one after the other. While it is judged and written, the next one is read, too."""


def run(folder: Path) -> bool:
    """Print the ratios, without claims (the promise) and with them, and where the time goes."""
    lines = data.write(folder / "subscribe.ndjson", MESSAGES, size=SIZE)
    kept = True
    with streams.server(folder / "subscribe") as url:
        streams.issue("publish", str(lines), url=url)
        for claims in (False, True):
            again = functools.partial(_again, url, folder / "subscriber.db", claims=claims)
            kept &= _compared(url, folder / "subscriber.db", again, claims=claims)
            again()
            print(f"     where it goes: {_where_it_goes(url, folder / 'subscriber.db')}", flush=True)
    return kept


def _again(url: str, ledger: Path, *, claims: bool) -> None:
    """Everything waits again, nothing of it is claimed, and the ledger is empty."""
    settings = NatsSettings()
    streams.renew(url, consumer(settings), *([bucket(settings)] if claims else []))
    for each in ledger.parent.glob(f"{ledger.name}*"):
        each.unlink()
    with Ledger(ledger) as made:
        made.prove()


def _compared(url: str, ledger: Path, again: Callable[[], None], *, claims: bool) -> bool:
    env = streams.ENVIRONMENT | {"NATS_URL": url, "ISSUE_CORE_LEDGER": str(ledger)}
    bare = Command([PYTHON, "-c", BARE, url, str(MESSAGES)], {}, before=again)
    ours = Command([ISSUE, "subscribe", "--until-empty"], env, before=again)
    bare_s, ours_s = medians([bare, ours], runs=7)
    ratio = bare_s / ours_s
    return report(
        f"issue subscribe{', with claims' if claims else ''} : bare fetch and ack",
        ratio,
        promise="-" if claims else ">= 0.5 (aim 0.8)",
        kept=claims or ratio >= 0.5,
        beside=f"({MESSAGES / ours_s:,.0f} tasks/s; bare loop {MESSAGES / bare_s:,.0f} messages/s)",
    )


def _where_it_goes(url: str, ledger: Path) -> str:
    """Each part's share of a run without its start-up."""
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        store = stack.enter_context(Ledger(ledger))
        for part, owner, name in PARTS:
            stack.enter_context(mock.patch.object(owner, name, _timed(getattr(owner, name), spent, part)))
        choices, stop = subscriber.Choices(until_empty=True), threading.Event()
        began = time.perf_counter()
        asyncio.run(
            subscriber.subscribe(NatsSettings(url=url), store, choices, stop, heard=lambda _: None, say=lambda _: None)
        )
        whole = time.perf_counter() - began
    spent["other"] = whole - sum(spent.values())
    return ", ".join(f"{seconds / whole:.0%} {part}" for part, seconds in spent.items())


def _timed(function: Callable[..., Any], spent: dict[str, float], part: str) -> Callable[..., Any]:
    """The function, its seconds added to those of the part."""

    @functools.wraps(function)
    def timed(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        result = function(*given, **named)
        if asyncio.iscoroutine(result):
            return _awaited(result, began)
        spent[part] += time.perf_counter() - began
        return result

    async def _awaited(work: Awaitable[Any], began: float) -> Any:
        try:
            return await work
        finally:
            spent[part] += time.perf_counter() - began

    return timed
