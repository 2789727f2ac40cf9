"""Numbers in the prose of the pages are those of the code: the sentence is made of the constant, and must be there."""

from __future__ import annotations

from datetime import timedelta

import pytest

from issue_core.backends import body, gitea, github, gitlab_draft, jira_draft, local
from issue_core.cli import needs
from issue_core.config import secret, values
from issue_core.config.keys import MOST
from issue_core.config.settings import SyncSettings
from issue_core.ledger import facets, restored
from issue_core.sync_engine import creates, desk
from issue_core.task import HEAD_BYTES, MAX_DOCUMENT
from issue_core.taskspec.model import MAX_DESCRIPTION
from issue_core.transports.http import reading, wire
from issue_core.transports.nats import copying, observing, publishing, subscriber, wanted
from tests.docs.pages import ROOT

WORDS = {3: "three", 5: "five"}
DAY, HOUR, MINUTE = 86400, 3600, 60

EXACTLY, LEDGER, NATS = "exactly-once.md", "ledger.md", "nats-task-ingestion.md"
WRONG, CONFIGURATION = "how-to/when-something-is-wrong.md", "reference/configuration.md"


def kib(n: int) -> str:
    return f"{n // 1024:,} KiB"


def mib(n: int) -> str:
    return f"{n // 1024**2:,} MiB"


def in_words(length: float | timedelta) -> str:
    """A length of time as prose has it: ``an hour``, ``three minutes``, ``30 seconds``."""
    seconds = int(length.total_seconds() if isinstance(length, timedelta) else length)
    for unit, size, article in (("day", DAY, "a"), ("hour", HOUR, "an"), ("minute", MINUTE, "a")):
        if seconds % size == 0:
            n = seconds // size
            return f"{article} {unit}" if n == 1 else f"{WORDS.get(n, n)} {unit}s"
    return f"{seconds} seconds"


SAID = [
    (EXACTLY, f"{WORDS[desk.UNKNOWN_IN_A_ROW].title()} outcomes in a row that nobody knows park the backend"),
    (EXACTLY, f"({in_words(desk.DEFAULT_LIMIT_WAIT)}, if it told none)"),
    (EXACTLY, f"a task older than {in_words(creates.CLOSED_FOR_GOOD)} fails"),
    (EXACTLY, f"doubles it, up to {in_words(SyncSettings().backoff[1])} (`sync.backoff`"),
    (EXACTLY, f"for {in_words(restored.DOUBTFUL)} each new one, too"),
    (LEDGER, f"unknown outcomes in a row; {WORDS[desk.UNKNOWN_IN_A_ROW]} park the backend"),
    (LEDGER, f"of one over the size limit the first {kib(HEAD_BYTES)}"),
    (LEDGER, f"blocks of {facets.BLOCK:,} consecutive `seq`s"),
    (WRONG, f"N in doubt for {in_words(needs.DOUBT)} or longer"),
    (WRONG, f"doubles it, up to {in_words(SyncSettings().backoff[1])} (the second number of"),
    (WRONG, f"older than {in_words(creates.CLOSED_FOR_GOOD)} fails"),
    (CONFIGURATION, f"a whole number, at most {MOST}"),
    (CONFIGURATION, f"from 0 to {'ten' if values.LONGEST_TIME == 10 * 365 * DAY else values.LONGEST_TIME} years"),
    (CONFIGURATION, f"one line of UTF-8, at most {kib(secret.LONGEST)}"),
    (CONFIGURATION, f"It has {in_words(secret.COMMAND_TIMEOUT)}, must end"),
    ("reference/receipts.md", f"the limit ({mib(MAX_DOCUMENT)}, see"),
    ("reference/receipts.md", f"kept as its first {kib(HEAD_BYTES)}"),
    ("reference/exit-codes.md", f"nothing has moved for {in_words(subscriber.PATIENCE)}"),
    ("reference/http.md", f"| `limit` | 1 to {reading.LARGEST_PAGE} | {reading.PAGE} |"),
    ("reference/http.md", f"the request line is longer than {kib(wire.LONGEST_LINE)}"),
    ("reference/http.md", f"the headers are longer than {kib(wire.LONGEST_HEAD)}, or more than {wire.MOST_HEADERS}"),
    ("reference/metrics.md", f"asked for every {in_words(observing.EVERY)}"),
    (NATS, f"**The size** of a message is at most {kib(wanted.MAX_MESSAGE)}"),
    (NATS, f"A description may have {MAX_DESCRIPTION:,} characters"),
    (NATS, f"up to {subscriber.BATCH} messages, `--batch`"),
    (NATS, f"two batches of the largest messages ({mib(2 * subscriber.BATCH * wanted.MAX_MESSAGE)})"),
    (NATS, f"the server told every {in_words(subscriber.KEEP_ALIVE)}"),
    (NATS, f"delivered again after {in_words(wanted.ACK_WAIT)}"),
    (NATS, f"a message that was delivered {WORDS[wanted.MAX_DELIVER]} times and never answered"),
    (NATS, f"taken any for {in_words(publishing.NOBODY_PATIENCE)}, or nothing is answered for {publishing.PATIENCE:g}"),
    (NATS, f"something is left that has not moved for {in_words(subscriber.PATIENCE)}"),
    (NATS, f"at its start and every {in_words(copying.EVERY).removeprefix('a ')}, makes a full copy"),
    ("backends/gitea.md", f"more than {gitea.TITLE_BYTES} bytes of UTF-8"),
    ("backends/github.md", f"at most {github.BODY:,} characters"),
    ("backends/github.md", f"it has at most {MAX_DESCRIPTION:,}"),
    ("backends/gitlab.md", f"({gitlab_draft.DESCRIPTION:,} characters fit"),
    ("backends/gitlab.md", f"At most {gitlab_draft.LABELS} labels are set"),
    ("backends/jira.md", f"so {jira_draft.SUMMARY} of them are shortened"),
    ("backends/jira.md", f"A description holds {jira_draft.DESCRIPTION:,} characters"),
    ("backends/index.md", f"partly ({jira_draft.DESCRIPTION:,} characters)"),
    ("backends/local.md", f"at most {local.SLUG_CHARACTERS}, then the first 8"),
    ("backends/local.md", f"is longer than {local.COMPONENT_BYTES} bytes"),
    ("backends/local.md", f"within the first {kib(body.HEAD_BYTES)} of the file"),
]


@pytest.mark.parametrize(("page", "said"), SAID, ids=lambda each: each[:60])
def test_a_number_on_a_page_is_that_of_the_code(page: str, said: str) -> None:
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())

    assert said in text
