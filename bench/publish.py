"""``issue publish`` against a bare loop that publishes as many lines, unread, and waits for the server's answers."""

from __future__ import annotations

from pathlib import Path

from bench import data, streams
from bench.measure import ISSUE, PYTHON, Command, medians, report
from issue_core.config import NatsSettings
from issue_core.transports.nats.wanted import consumer, tasks

DOCUMENTS = 100_000

BARE = """
import asyncio, sys
import nats
async def main():
    client = await nats.connect(sys.argv[1])
    stream = client.jetstream()
    with open(sys.argv[2], "rb") as lines:
        answers = [await stream.publish_async("act.tasks.create.acme/infra", line) for line in lines]
    for answer in answers:
        assert (await answer).stream == "ACT_TASKS"
    await client.close()
asyncio.run(main())
"""


def run(folder: Path) -> bool:
    """Print the ratio; gives whether the promise was kept."""
    lines = data.write(folder / "publish.ndjson", DOCUMENTS)
    settings = NatsSettings()
    with streams.server(folder / "publish") as url:

        def empty() -> None:
            streams.renew(url, tasks(settings), consumer(settings))

        bare = Command([PYTHON, "-c", BARE, url, str(lines)], {}, before=empty)
        ours = Command([ISSUE, "publish", str(lines)], streams.ENVIRONMENT | {"NATS_URL": url}, before=empty)
        bare_s, ours_s = medians([bare, ours], runs=3)
    ratio = bare_s / ours_s
    return report(
        f"issue publish of {DOCUMENTS:,} : bare publish_async",
        ratio,
        promise=">= 0.5",
        kept=ratio >= 0.5,
        beside=f"({DOCUMENTS / ours_s:,.0f} tasks/s; bare loop {DOCUMENTS / bare_s:,.0f})",
    )
