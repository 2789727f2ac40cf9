"""A process that ingests and is killed at any point has kept every promise that it made."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pytest

from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, queries, rejects
from tests.support.cli import ISSUE
from tests.support.specs import a_spec, an_event_id, written

COMMANDS = {
    "ingest": (sys.executable, "-m", "tests.crash.ingest_worker"),
    "issue ingest": (ISSUE, "ingest", "--json"),
}
"""The programs that are killed: they read NDJSON, and print a receipt a line. ``ISSUE_CORE_LEDGER`` says where."""

ROOT = Path(__file__).parents[2]

KILLS = 3
"""How often a ledger's writer is killed before its input is read to the end."""

AT_ONCE = 2

TASKS = 120


def _input() -> list[bytes]:
    """New tasks, and now and then one that came before, one that conflicts, and one that is no TaskSpec."""
    lines = []
    for n in range(TASKS):
        spec = a_spec(triggering_event_id=an_event_id(n), description="x" * (n * 37 % 3000), labels=["a", f"l{n % 5}"])
        lines.append(written(spec))
        if n % 7 == 3:
            lines.append(written(spec))
        if n % 11 == 5:
            lines.append(written(spec | {"title": "other"}))
        if n % 13 == 4:
            lines.append(b'{"n": %d' % (n % 3))
    return lines


INPUT = _input()
EVENT_IDS = [an_event_id(n) for n in range(TASKS)]


@dataclass
class House:
    """A ledger, and all that its writers promised before they died."""

    folder: Path
    command: tuple[str, ...]
    dice: random.Random
    promised: dict[str, int] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    receipts: int = 0

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.folder / "ledger.db"

    def is_killed(self) -> None:
        """Start a writer, and kill it after some of its receipts, or in the middle of its start."""
        environment = os.environ | {"ISSUE_CORE_LEDGER": str(self.path), "ISSUE_CORE_CONFIG": ""}
        with (self.folder / "in.ndjson").open("rb") as given, (self.folder / "errors").open("wb") as errors:
            process = subprocess.Popen(
                self.command, stdin=given, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=environment
            )
        assert process.stdout is not None
        with process.stdout as output:
            lines = self._some_lines(process, output)
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.dice.choice([0, self.dice.uniform(0, 0.002), self.dice.uniform(0, 0.02)]))
            process.kill()
            lines += output.readlines()
        process.wait()
        assert (self.folder / "errors").read_bytes() == b""
        for line in lines:
            if line.endswith(b"\n"):  # else death came in the middle of it
                self._note(json.loads(line))

    def _some_lines(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> list[bytes]:
        if self.dice.random() < 0.25:
            self._wait_for_the_first_file(process)
            return []
        return list(islice(output, self.dice.randrange(1, len(INPUT) + 1)))

    def _wait_for_the_first_file(self, process: subprocess.Popen[bytes]) -> None:
        wanted = (
            self.path.with_name("ledger.db.lock") if not self.path.exists() else self.path.with_name("ledger.db-wal")
        )
        while not wanted.exists() and process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.001)

    def _note(self, receipt: dict[str, Any]) -> None:
        self.receipts += 1
        if receipt["outcome"] in ("created", "duplicate"):
            assert self.promised.setdefault(receipt["event_id"], receipt["seq"]) == receipt["seq"]
        else:
            self.refused.add(receipt["reject_id"])

    def keeps_its_promises(self) -> None:
        """Everything that a receipt told is in the ledger, which is sound and adds up."""
        with Ledger(self.path) as ledger, ledger.read() as connection:
            tasks = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=False))
            found = {task.event_id: task.seq for task in tasks}
            assert self.promised.items() <= found.items()
            kept = rejects.page(connection, state="open", limit=1000)
            assert self.refused <= {reject.id for reject in kept}
            counts = queries.counts(connection)
            assert counts.total == counts.received["created"] == sum(counts.states.values()) == len(tasks)
            assert sum(counts.received.values()) >= self.receipts
            assert sum(reject.count for reject in kept) == counts.received["conflict"] + counts.received["invalid"]
            assert sum(n for task in tasks for n in task.sightings.values()) == (
                counts.received["created"] + counts.received["duplicate"]
            )
            if self.path.exists():
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def reads_its_input_to_the_end(self) -> None:
        """The same input again, with nobody to kill it, ends with every task there once."""
        with Ledger(self.path) as ledger:
            ingest(ledger, INPUT)
            with ledger.read() as connection:
                tasks = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=False))
                kept = rejects.page(connection, state="open", limit=1000)
        assert sorted(task.event_id for task in tasks) == sorted(EVENT_IDS)
        assert [task.seq for task in tasks] == list(range(1, TASKS + 1))
        assert len(kept) == len({line for line in INPUT if b'"other"' in line or line.startswith(b'{"n"')})
        self.keeps_its_promises()


def live_and_die(house: House) -> int:
    """The life of one house; gives the number of receipts that its writers got out."""
    house.folder.mkdir()
    (house.folder / "in.ndjson").write_bytes(b"".join(line + b"\n" for line in INPUT))
    for _ in range(KILLS):
        house.is_killed()
        house.keeps_its_promises()
    house.reads_its_input_to_the_end()
    return house.receipts


def _kill(folder: Path, command: str, kills: int, seed: int) -> None:
    houses = [
        House(folder / str(n), COMMANDS[command], random.Random(f"{seed} {n}")) for n in range(-(-kills // KILLS))
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        receipts = list(pool.map(live_and_die, houses))
    assert sum(receipts) > 10 * kills  # most of them died in the middle of their work


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_killed_process_promised_is_kept_and_nothing_is_there_twice(tmp_path: Path, command: str) -> None:
    _kill(tmp_path, command, 30, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_five_hundred_kills_break_no_promise(tmp_path: Path, command: str) -> None:
    seed = random.randrange(10**9)
    print(f"seed={seed}")
    _kill(tmp_path, command, 500, seed=seed)
