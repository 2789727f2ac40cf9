"""``issue ingest`` that is killed around any commit, fed by a pipe or a file, two at a time on one growing ledger."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from issue_core.ledger import Ledger, queries, rejects
from tests.support.cli import TIMEOUT, Issue
from tests.support.runs import kill_seed
from tests.support.specs import a_spec, an_event_id, written
from tests.support.sync_worker import DIES_AT

MORTAL = (sys.executable, "-m", "tests.crash.mortal_issue", "ingest", "--json")
ROOT = Path(__file__).parents[2]

AT_ONCE = 2
DOCUMENTS = 10
"""How many documents a command gets: a few that are new, a few that came before, perhaps one that is no TaskSpec."""

NEW = 4
STARTED = 0.15
"""Seconds after which a command may have begun its work."""


@dataclass(slots=True)
class House:
    """A ledger, what was given to its writers, and what they promised before they died."""

    issue: Issue
    dice: random.Random
    events: int = 0
    given: set[bytes] = field(default_factory=set)
    promised: dict[str, int] = field(default_factory=dict)
    receipts: int = 0

    def documents(self) -> list[bytes]:
        """What the next writer gets. The other one at work gets some of it, too."""
        chosen = [*range(self.events, self.events + NEW)]
        self.events += NEW // 2
        chosen += [self.dice.randrange(self.events + NEW) for _ in range(DOCUMENTS - NEW - 1)]
        specs = [a_spec(triggering_event_id=an_event_id(n), description="x" * (n * 37 % 3000)) for n in chosen]
        documents = [*map(written, specs), b'{"n": %d}' % self.dice.randrange(20)]
        self.dice.shuffle(documents)
        self.given.update(documents)
        return documents

    def note(self, line: bytes) -> None:
        """Remember what a receipt says, if it got out whole."""
        if not line.endswith(b"\n"):
            return
        self.receipts += 1
        receipt: dict[str, Any] = json.loads(line)
        if receipt["outcome"] != "invalid":
            assert receipt["outcome"] in ("created", "duplicate")
            assert self.promised.setdefault(receipt["event_id"], receipt["seq"]) == receipt["seq"]


@dataclass(frozen=True, slots=True)
class Fate:
    """How one writer is fed and when it dies: around its n-th commit, or after so many seconds."""

    documents: list[bytes]
    file: Path | None
    dies_at: str | None
    lives: float


def a_fate(house: House, number: int) -> Fate:
    """The fate of writer ``number``."""
    documents = house.documents()
    file = None
    if house.dice.random() < 0.5:
        file = house.issue.folder / f"{number}.ndjson"
        file.write_bytes(b"\n".join(documents))
    if house.dice.random() < 0.2:
        return Fate(documents, file, None, house.dice.uniform(0, 2 * STARTED))
    # A pipe's documents are committed one by one, a file's all at once: before and after each commit is a point.
    return Fate(documents, file, f"sql {house.dice.randint(1, 2 if file else 2 * DOCUMENTS)}", TIMEOUT)


def meet(house: House, fate: Fate) -> bool:
    """Start a writer and let it die; ``False``: it was done before."""
    environment = house.issue.environment | ({DIES_AT: fate.dies_at} if fate.dies_at else {})
    words = [*MORTAL, *([str(fate.file)] if fate.file else [])]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment
    ) as process:
        timer = threading.Timer(fate.lives, process.kill)
        timer.start()
        lines = read_all(process) if fate.file else talk(process, fate.documents)
        with suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr] # a pipe
        assert process.stderr is not None
        errors = process.stderr.read()
        code = process.wait()
        timer.cancel()
        timer.join()
    for line in lines:
        house.note(line)
    assert errors == b""
    assert code in (0, 3, -signal.SIGKILL)
    return code == -signal.SIGKILL


def read_all(process: subprocess.Popen[bytes]) -> list[bytes]:
    """Every line that the writer got out."""
    assert process.stdout is not None
    return process.stdout.readlines()


def talk(process: subprocess.Popen[bytes], documents: list[bytes]) -> list[bytes]:
    """Hand the documents in one by one, each when the one before has its receipt; gives the receipts."""
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[bytes] = []
    for document in documents:
        try:
            process.stdin.write(document + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            break
        line = process.stdout.readline()
        if not line:
            break
        lines.append(line)
    return lines


def kill_writers(house: House, kills: int) -> None:
    """Kill so many writers, two at a time, and look now and then whether all is well."""
    killed = number = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while killed < kills:
            fates = [a_fate(house, number + n) for n in range(AT_ONCE)]
            number += AT_ONCE
            killed += sum(pool.map(lambda fate: meet(house, fate), fates))
            all_is_well(house)


def all_is_well(house: House) -> None:
    """Every promise is kept, the counters add up, and SQLite finds no fault."""
    with Ledger(house.issue.path) as ledger, ledger.read() as connection:
        found = {
            task.event_id: task for task in queries.tasks(connection, queries.Filter(), limit=None, newest_first=False)
        }
        counts = queries.counts(connection)
        kept = rejects.page(connection, state=None, limit=1000)
        integrity = connection.execute("PRAGMA integrity_check").fetchone()
    assert integrity == ("ok",)
    assert {event_id: found[event_id].seq for event_id in house.promised} == house.promised
    assert counts.total == counts.received["created"] == sum(counts.states.values()) == len(found)
    sightings = sum(sum(task.sightings.values()) for task in found.values())
    assert sightings == counts.received["created"] + counts.received["duplicate"]
    assert sum(reject.count for reject in kept) == counts.received["invalid"]
    assert sum(counts.received.values()) >= house.receipts


def all_is_there_once(house: House) -> None:
    """The same input again, with nobody to kill its reader: each task is there once, each reject too."""
    given = sorted(house.given)
    ran = house.issue.run("ingest", "--json", input=b"\n".join(given))
    assert (ran.code, ran.stderr) == (3, "")
    assert len(ran.objects) == len(given)
    for receipt in ran.objects:
        house.note(json.dumps(receipt).encode() + b"\n")
    all_is_well(house)
    with Ledger(house.issue.path) as ledger, ledger.read() as connection:
        asked_for = {json.loads(document).get("triggering_event_id") for document in given} - {None}
        assert queries.counts(connection).total == len(asked_for) == len(house.promised)
        assert len(rejects.page(connection, state="open", limit=1000)) == len(given) - len(asked_for)


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house whose dice can be had again, more or less: ``KILL_SEED=… pytest …``."""
    return House(Issue(tmp_path), random.Random(kill_seed()))


def test_what_killed_commands_promised_is_kept_and_nothing_is_there_twice(house: House) -> None:
    kill_writers(house, 60)
    all_is_there_once(house)


@pytest.mark.long
def test_a_thousand_killed_commands_break_no_promise(house: House) -> None:
    kill_writers(house, 1000)
    all_is_there_once(house)


def test_a_first_start_that_is_killed_is_in_nobodys_way(house: House) -> None:
    spec = written(a_spec())
    for attempt in range(15):
        folder = house.issue.folder / str(attempt)
        folder.mkdir()
        issue = Issue(folder)
        process = issue.start("ingest", "--json")
        with suppress(BrokenPipeError), process:
            timer = threading.Timer(house.dice.uniform(0, STARTED if attempt % 3 else 3 * STARTED), process.kill)
            timer.start()
            answer, errors = process.communicate(spec)
            timer.join()
        assert errors == b""
        (again,) = issue.run("ingest", "--json", input=spec).objects
        assert again["outcome"] in (("duplicate",) if answer.endswith(b"\n") else ("created", "duplicate"))
        (status,) = issue.run("status", "--json").objects
        assert status["total"] == status["received"]["created"] == 1
