"""A ledger of a million tasks is read in the memory that one of a hundred thousand takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench import data, scale
from issue_core.ledger import Ledger, facets
from tests.support.cli import ISSUE

pytestmark = pytest.mark.long

FEWER, MILLION = 100_000, 1_000_000
MOST = 80.0  # MiB
NOISE = 4.0  # MiB that two runs of one command may differ by

COUNTS_LINES = """
import resource, subprocess, sys
with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE) as process:
    lines = sum(part.count(b"\\n") for part in iter(lambda: process.stdout.read(65536), b""))
kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(process.returncode, lines, kib)
"""

FAIL = "UPDATE tasks SET state = 'failed', backend = 'work', last_error = '403 Forbidden' WHERE seq % 1000 = 0"
NOTE_FAILED = "INSERT OR IGNORE INTO facets SELECT 'state', 'failed', seq / :block FROM tasks WHERE seq % 1000 = 0"
DOUBT = "UPDATE tasks SET backend = 'work', in_doubt_since = :now WHERE seq % 1000 = 1"


class Ended(NamedTuple):
    """How a command ended: its exit code, the lines it wrote to standard output, its peak memory in MiB."""

    code: int
    lines: int
    peak: float


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two ledgers, by their number of tasks. In each, every thousandth task is failed, and another one in doubt."""
    folder = tmp_path_factory.mktemp("ledgers")
    made = {n: scale.ledger(folder / str(n) / "ledger.db", _documents(n)) for n in (FEWER, MILLION)}
    for path in made.values():
        with Ledger(path) as ledger, ledger.write() as tx:
            tx.connection.execute(FAIL)
            tx.connection.execute(NOTE_FAILED, {"block": facets.BLOCK})
            tx.connection.execute(DOUBT, {"now": tx.now})
    return made


def _documents(n: int) -> Iterator[bytes]:
    """TaskSpecs; every thousandth asks as an instruction, and has a source and a label of its own."""
    for i, line in enumerate(data.taskspecs(n)):
        yield line if i % 1000 else json.dumps(json.loads(line) | RARE).encode()


RARE = {"source_type": "instruction", "source_id": "somebody", "labels": ["rare"]}


def ended(ledger: Path, *words: str) -> Ended:
    """Run the command with this ledger."""
    environment = os.environ | {"ISSUE_CORE_LEDGER": str(ledger), "ISSUE_CORE_CONFIG": ""}
    argv = [sys.executable, "-c", COUNTS_LINES, ISSUE, *words]
    told = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    code, lines, kib = map(int, told.stdout.split())
    assert "Traceback" not in told.stderr
    return Ended(code, lines, kib / 1024)


def the_million_in_bounds(ledgers: dict[int, Path], *words: str) -> Ended:
    """Run the command with both ledgers; gives how it ended with the larger one, which took no more memory."""
    fewer, million = (ended(ledgers[n], *words) for n in (FEWER, MILLION))
    print(f"{' '.join(words)}: {fewer.peak:.1f} MiB with {FEWER:,} tasks, {million.peak:.1f} with {MILLION:,}")
    assert fewer.code == million.code
    assert million.peak < min(MOST, fewer.peak + NOISE)
    return million


@pytest.mark.parametrize("words", ["status", "status --json", "list", "list --json", "rejects list"])
def test_an_overview_takes_no_more_memory(ledgers: dict[int, Path], words: str) -> None:
    assert the_million_in_bounds(ledgers, *words.split()).code == 0


@pytest.mark.parametrize(
    ("option", "share"),
    [
        ("--state pending", 999_000),
        ("--state failed", 1_000),
        ("--state held", 0),
        ("--repo acme/infra-7", 50_000),
        ("--repo acme/none", 0),
        ("--priority high", None),
        ("--label OPS", 999_000),
        ("--label rare", 1_000),
        ("--label none", 0),
        ("--source backup-missed", 999_000),
        ("--source somebody", 1_000),
        ("--source-type rule", 999_000),
        ("--source-type instruction", 1_000),
        ("--since 2000-01-01", 1_000_000),
        ("--since 2100-01-01", 0),
        ("--until 2100-01-01", 1_000_000),
        ("--until 2000-01-01", 0),
        ("--in-doubt", 1_000),
        ("--repo acme/infra-1 --label rare --state failed", 0),
    ],
)
def test_a_filter_finds_all_of_them_in_no_more_memory(ledgers: dict[int, Path], option: str, share: int | None) -> None:
    listed = the_million_in_bounds(ledgers, "list", "--limit", "0", *option.split())

    assert listed.code == 0
    if share is not None:
        assert listed.lines == share + (share > 0)  # the names of the columns are a line, too
    else:
        assert 330_000 < listed.lines < 337_000  # of three priorities, by chance


@pytest.mark.parametrize("length", [4, 6, 12, 36])
def test_a_task_is_shown_by_a_prefix_in_no_more_memory(ledgers: dict[int, Path], length: int) -> None:
    first, *_ = data.taskspecs(1)
    prefix = json.loads(first)["triggering_event_id"][:length]
    fewer, million = (ended(ledgers[n], "show", prefix) for n in (FEWER, MILLION))

    assert million.code == (2 if length == 4 else 0)  # four characters are too few to tell some fifteen tasks apart
    assert million.peak < min(MOST, fewer.peak + NOISE)


@pytest.mark.parametrize(
    "words", ["export", "export --format csv", "export --format taskspec", "list --limit 0 --json"]
)
def test_every_task_is_written_in_no_more_memory(ledgers: dict[int, Path], words: str) -> None:
    written = the_million_in_bounds(ledgers, *words.split())

    assert written.code == 0
    # A description has three line ends, which a field of CSV keeps.
    assert written.lines == (MILLION * 4 + 1 if "csv" in words else MILLION)
