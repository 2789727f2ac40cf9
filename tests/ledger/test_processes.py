"""Several processes on one ledger: none sees an error, and everything is counted once."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from issue_core.backends.body import event_id_in
from issue_core.errors import LedgerBusy
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, history, queries, rejects
from tests.support.cli import Issue
from tests.support.specs import a_spec, an_event_id, written

ROOT = Path(__file__).parents[2]
PROCESSES = 6
LEDGER_FILES = {"ledger.db", "ledger.db.lock", "ledger.db-shm", "ledger.db-wal", "ledger.db.workers"}

# Reads orders from its standard input, a JSON line each, and answers each with a line. An error ends it.
WORKER = """
import json, sys
from issue_core import Ledger, ingest
from issue_core.ledger import queries

def ingests(path, batches):
    receipts = []
    with Ledger(path) as ledger:
        for batch in batches:
            receipts += [receipt.to_json() for receipt in ingest(ledger, batch)]
    return receipts

def reads(path, times):
    totals = []
    for _ in range(times):
        with Ledger(path) as ledger, ledger.read() as connection:
            counts = queries.counts(connection)
            listed = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=True))
            assert counts.total == counts.received["created"] == len(listed) == sum(counts.states.values())
            totals.append(counts.total)
    return totals

print("ready", flush=True)
for line in sys.stdin:
    what, *arguments = json.loads(line)
    print(json.dumps(globals()[what](*arguments)), flush=True)
"""


class Worker:
    """A process of its own that does what it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def is_ready(self) -> None:
        assert self._line() == "ready"

    def tell(self, what: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([what, *arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        return json.loads(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return line.strip()


@contextmanager
def workers(number: int) -> Iterator[list[Worker]]:
    """So many processes, all started and waiting."""
    started = [Worker() for _ in range(number)]
    try:
        for worker in started:
            worker.is_ready()
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.communicate()


def test_a_ledger_that_is_made_while_it_is_looked_at_is_not_taken_for_a_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    others: list[Path] = []

    class Interrupted(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA user_version" and not others:
                others.append(path)
                # Its first start comes between two looks of ours, or it has to wait for the end of ours.
                with suppress(LedgerBusy), Ledger(path, busy_timeout=0.05) as other:
                    ingest(other, [written(a_spec())])
            return super().execute(sql, *parameters)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=Interrupted, **named))
    path.touch()
    with Ledger(path) as ledger:
        (receipt,) = ingest(ledger, [written(a_spec())])
    assert (receipt.outcome, others) == ("created", [path])


def test_what_a_first_start_stores_is_kept_when_other_processes_come_and_go(tmp_path: Path) -> None:
    """Whoever closes a ledger last takes its log away. The one who finished another's first start is still there."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as cut_off:
        cut_off.execute("PRAGMA journal_mode = WAL")
    with workers(1) as (other,), Ledger(path) as ledger:
        for n in range(3):
            ingest(ledger, [written(a_spec())])
            other.tell("ingests", str(path), [[written(a_spec()).decode()]])
            assert other.answer()[0]["seq"] == 2 * n + 2
    _assert_total(path, 6, received=6)


def test_six_first_starts_at_once_make_one_ledger(tmp_path: Path) -> None:
    with workers(PROCESSES) as started:
        for attempt in range(10):
            path = tmp_path / str(attempt) / "data" / "ledger.db"
            shared = written(a_spec()).decode()
            for n, worker in enumerate(started):
                worker.tell("ingests", str(path), [[shared, written(a_spec(title=f"task {n}")).decode()]])
            outcomes = [[receipt["outcome"] for receipt in worker.answer()] for worker in started]
            assert Counter(map(tuple, outcomes)) == {("created", "created"): 1, ("duplicate", "created"): 5}
            _assert_total(path, 7, received=12)


def test_six_first_starts_of_new_processes_make_one_ledger(tmp_path: Path) -> None:
    """As above, but the whole start of each process lies in the race."""
    path = tmp_path / "ledger.db"
    order = json.dumps(["ingests", str(path), [[written(a_spec()).decode()]]]) + "\n"
    command = [sys.executable, "-c", WORKER]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) for _ in range(PROCESSES)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(order)
        process.stdin.flush()
    ended = [process.communicate() for process in started]
    assert [errors for _, errors in ended] == [""] * PROCESSES
    receipts = [json.loads(answers.splitlines()[1])[0] for answers, _ in ended]
    assert Counter(receipt["outcome"] for receipt in receipts) == {"created": 1, "duplicate": 5}
    assert {receipt["seq"] for receipt in receipts} == {1}
    _assert_total(path, 1, received=6)


def test_six_writers_of_overlapping_input_and_a_reader_count_each_task_once(tmp_path: Path) -> None:
    path, tasks, size = tmp_path / "ledger.db", 240, 5
    specs = [written(a_spec(triggering_event_id=an_event_id(n))).decode() for n in range(tasks)]
    others = [written(a_spec(triggering_event_id=an_event_id(n), title="other")).decode() for n in range(0, tasks, 40)]
    with workers(PROCESSES + 1) as (reader, *writers):
        for n, writer in enumerate(writers):
            own = specs[n * 40 :] + specs[: n * 40]  # each begins elsewhere; all of them meet all
            batches = [own[at : at + size] for at in range(0, tasks, size)]
            writer.tell("ingests", str(path), [*batches, [*others, "{"]])
        reader.tell("reads", str(path), 25)
        receipts = [receipt for writer in writers for receipt in writer.answer()]
        totals = reader.answer()
    outcomes = Counter(receipt["outcome"] for receipt in receipts)
    assert outcomes == {"created": tasks, "duplicate": 5 * tasks, "conflict": 6 * 6, "invalid": 6}
    assert totals == sorted(totals)
    _assert_total(path, tasks, received=6 * (tasks + 7))
    with Ledger(path) as ledger, ledger.read() as connection:
        found = list(queries.tasks(connection, queries.Filter(), limit=None, newest_first=False))
        assert [task.seq for task in found] == list(range(1, tasks + 1))
        assert all(task.sightings == {"cli": 6} for task in found)
        seqs = {task.event_id: task.seq for task in found}
        assert all(receipt["seq"] == seqs[receipt["event_id"]] for receipt in receipts if receipt["seq"])
        assert [reject.count for reject in rejects.page(connection, state="open", limit=100)] == [6] * 7
        conflicted = seqs[an_event_id(0)]
        assert [entry.kind for entry in history.of_task(connection, conflicted)] == ["created", "conflict"]


def test_commands_that_ingest_sync_and_list_at_once_are_in_nobodys_way(tmp_path: Path) -> None:
    issue, tasks = Issue(tmp_path), 60
    nothing_yet = f"no task in the ledger {issue.path}\n".encode()
    lines = [written(a_spec(triggering_event_id=an_event_id(n))) for n in range(tasks)]
    ingesting = []
    for n in range(PROCESSES):
        (tmp_path / f"{n}.ndjson").write_bytes(b"\n".join(lines[n * 10 :] + lines[: n * 10]))
        ingesting.append(issue.start("ingest", "--json", str(tmp_path / f"{n}.ndjson")))
    busy: list[subprocess.Popen[bytes]] = []
    while any(process.poll() is None for process in ingesting):
        busy = [issue.start("sync"), issue.start("sync"), issue.start("list", "--json")]
        for _, errors, code in map(_ended, busy):
            assert (errors, code) in ((b"", 0), (nothing_yet, 0))
    assert busy
    ended = [_ended(process) for process in ingesting]
    assert [(errors, code) for _, errors, code in ended] == [(b"", 0)] * PROCESSES
    receipts = [json.loads(line) for answers, _, _ in ended for line in answers.splitlines()]
    assert Counter(receipt["outcome"] for receipt in receipts) == {"created": tasks, "duplicate": 5 * tasks}
    assert issue.run("sync").code == 0
    _assert_in_balance(issue, tasks, received=PROCESSES * tasks)


def _ended(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes, int]:
    answers, errors = process.communicate(timeout=60)
    return answers, errors, process.returncode


def _assert_in_balance(issue: Issue, tasks: int, *, received: int) -> None:
    (status,) = issue.run("status", "--json").objects
    assert status["states"] == dict.fromkeys(status["states"], 0) | {"synced": tasks}
    assert status["total"] == status["received"]["created"] == tasks
    assert sum(status["received"].values()) == received
    files = [event_id_in(file.read_bytes()) for file in (issue.folder / "issues").rglob("*.md")]
    assert sorted(map(str, files)) == sorted(map(an_event_id, range(tasks)))
    assert {file.name for file in issue.folder.glob("ledger.db*")} <= LEDGER_FILES
    assert list((issue.folder / "ledger.db.workers").iterdir()) == []


def _assert_total(path: Path, total: int, *, received: int) -> None:
    with Ledger(path) as ledger, ledger.read() as connection:
        counts = queries.counts(connection)
        assert counts.total == total
        assert sum(counts.received.values()) == received
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert {file.name for file in path.parent.iterdir()} <= LEDGER_FILES
