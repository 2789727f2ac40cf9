"""`issue backup` and `issue restore` as an operator runs them: beside a bulk ingest, from cron, and after a loss."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from issue_core import ingest
from issue_core.backends.body import event_id_in
from issue_core.task import from_text, to_text
from tests.support.cli import Issue, Ran, a_spec, force_state, ndjson
from tests.support.serving import serving
from tests.support.specs import specs, written
from tests.support.trackers import TRACKERS, fake
from tests.support.trackers.server import TOKEN_VARIABLE, TrackerServer

QUICK = """
default_backend = "work"

[sync]
request_timeout = 1
lease = 4
backoff = [0.01, 0.05]
"""
PACE = {"max_in_flight": 4, "min_interval": 0, "per_minute": 0, "per_hour": 0, "settle": 0.2, "looks": 1}

MANY = 20_000


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the copy is to be."""
    return tmp_path / "backups" / "copy.db"


@pytest.fixture(autouse=True)
def backups(copy: Path) -> None:
    """The folder is there."""
    copy.parent.mkdir()


def lose(issue: Issue) -> None:
    for file in issue.folder.glob("ledger.db*"):
        if file.is_file():
            file.unlink()
        else:
            shutil.rmtree(file)


def states(issue: Issue, *words: str) -> dict[str, int]:
    (status,) = issue.run("status", "--json", *words).objects
    return {state: n for state, n in status["states"].items() if n}


def sql(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


# --- a copy ----------------------------------------------------------------------------------------------------------


def test_a_backup_during_a_bulk_ingest_is_whole(issue: Issue, copy: Path) -> None:
    """By what the program itself says of the copy: what is counted is there, and found by each filter."""
    some = (a_spec(n, target_repo=f"acme/{n % 3}", labels=[f"l{n % 2}"], description="z" * 500) for n in range(MANY))
    (issue.folder / "in.ndjson").write_text(ndjson(*some))
    with issue.start("ingest", str(issue.folder / "in.ndjson")) as process:
        while not issue.path.exists() or states(issue) == {}:
            assert process.poll() is None
        ran = issue.run("backup", str(copy), "--json")
        still_at_it = process.poll() is None
        assert process.communicate()[0].startswith(f"{MANY} received".encode())
    assert ran.objects == [{"file": str(copy), "bytes": copy.stat().st_size, "removed": []}]
    (status,) = issue.run("status", "--json", "--ledger", str(copy)).objects
    if still_at_it:
        assert 0 < status["total"] < MANY
    exported = issue.run("export", "--ledger", str(copy)).objects
    assert len(exported) == status["total"] == status["received"]["created"]
    for name, key in (("--repo", "target_repo"), ("--label", "labels"), ("--state", "state")):
        values = Counter(task[key][0] if key == "labels" else task[key] for task in exported)
        for value, n in values.items():
            found = issue.run("list", "--limit", "0", "--json", "--ledger", str(copy), name, value).objects
            assert len(found) == n
    assert sql(copy, "PRAGMA integrity_check") == [("ok",)]
    assert states(issue) == {"pending": MANY}


WRITES = [
    ("ingest",), ("new", "A title", "--repo", "acme/web"), ("sync",), ("sync", "--wait"), ("retry", "--all"),
    ("retry", "2"), ("link", "1", "--none"), ("link", "1", "https://example.org/1"), ("rejects", "drop", "1"),
    ("serve", "--no-auth", "--port", "0"),
]  # fmt: skip
READS = [
    ("list",), ("list", "--json", "--state", "failed"), ("show", "1"), ("status",), ("status", "--json"), ("export",),
    ("export", "--format", "csv"), ("export", "--format", "taskspec"), ("rejects", "list"), ("rejects", "show", "1"),
    ("sync", "--dry-run"), ("ingest", "--dry-run"),
]  # fmt: skip


@pytest.fixture
def filled(issue: Issue, copy: Path) -> Issue:
    """A ledger with a task that is due, one that has failed, a reject, and a copy of it."""
    issue.run("ingest", input=ndjson(a_spec(1), a_spec(2), "{}"))
    force_state(issue, 2, "failed")
    assert issue.run("backup", str(copy)).code == 0
    return issue


@pytest.mark.parametrize("words", WRITES, ids=" ".join)
def test_a_copy_refuses_every_command_that_writes_and_says_what_to_do(
    filled: Issue, copy: Path, words: tuple[str, ...]
) -> None:
    before = copy.read_bytes()
    ran = filled.run(*words, "--ledger", str(copy), input=ndjson(a_spec(3)))
    assert ran.code == 1
    assert "this is a copy of a ledger, or one that was set aside; it takes nothing" in ran.stderr
    assert f"hint: `issue restore {copy} --ledger LEDGER`" in ran.stderr
    assert copy.read_bytes() == before
    assert [path.name for path in copy.parent.iterdir()] == ["copy.db"]


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_a_copy_is_read_like_the_ledger(filled: Issue, copy: Path, words: tuple[str, ...]) -> None:
    given = ndjson(a_spec(1), a_spec(3))
    here = filled.run(*words, "--ledger", str(copy), input=given)
    there = filled.run(*words, input=given)
    assert (here.code, here.stderr) == (0, "")
    assert _without_age_and_place(here.stdout, copy.parent) == _without_age_and_place(there.stdout, filled.folder)
    assert [path.name for path in copy.parent.iterdir()] == ["copy.db"]


def _without_age_and_place(text: str, folder: Path) -> str:
    return re.sub(r"(oldest_pending_age_s\W+(?:pending\W+)?)[\d.]+", r"\1…", text.replace(str(folder), "…"))


MISTAKES = {
    "nowhere to go": ((), "name the file of the copy, or a folder with --to-dir"),
    "two places": (("copy.db", "--to-dir", "."), "name the file of the copy, or a folder with --to-dir"),
    "keep without a folder": (("copy.db", "--keep", "3"), "--keep has no meaning without --to-dir"),
    "keep none": (("--to-dir", ".", "--keep", "0"), "0 is not in the range"),
    "what is there": (("config.toml",), "config.toml is there already"),
    "a part of a ledger": (("ledger.db-journal",), "files of such names are parts of a ledger"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_backup_that_is_asked_for_wrongly_writes_nothing(filled: Issue, mistake: str) -> None:
    words, says = MISTAKES[mistake]
    before = sorted(filled.folder.iterdir())
    ran = filled.run("backup", *words, cwd=filled.folder)
    assert (ran.code, ran.stdout) == (2, "")
    assert says in " ".join(ran.stderr.split())
    assert sorted(filled.folder.iterdir()) == before


def test_without_a_ledger_there_is_nothing_to_back_up(issue: Issue, copy: Path) -> None:
    ran = issue.run("backup", str(copy))
    assert (ran.code, ran.stderr.splitlines()[0]) == (1, f"issue: there is no ledger {issue.path}")
    assert list(copy.parent.iterdir()) == []


def test_to_dir_writes_under_the_time_also_twice_in_a_second_and_keeps_the_newest_alone(
    issue: Issue, copy: Path
) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    folder = copy.parent
    others = ["ledger.db", "ledger-20200101T000000Z.db.gz", "my-ledger-20200101T000000Z.db", "ledger-2020.db"]
    ours = ["ledger-20200101T000000Z.db", "ledger-20200101T000000Z-2.db", "ledger-20200101T000000Z-10.db"]
    for name in others + ours:
        (folder / name).touch()
    (folder / "ledger-20190101T000000Z.db").mkdir()
    written_now = [issue.call("backup", "--to-dir", str(folder), "--json").objects[0]["file"] for _ in range(4)]
    assert len(set(written_now)) == 4
    left = issue.call("backup", "--to-dir", str(folder), "--keep", "6", "--json").objects[0]
    assert left["removed"] == [str(folder / name) for name in ours[:2]]
    left = issue.call("backup", "--to-dir", str(folder), "--keep", "2", "--json").objects[0]
    kept = {path.name for path in folder.iterdir()} - {*others, "ledger-20190101T000000Z.db"}
    assert len(kept) == 2
    assert Path(left["file"]).name in kept


def test_keep_removes_only_what_is_older_than_what_was_just_written(issue: Issue, copy: Path) -> None:
    """What is named by a later time was written by another backup meanwhile, or while the clock was wrong."""
    issue.run("ingest", input=ndjson(a_spec(1)))
    later = {"ledger-29990101T000000Z.db", "ledger-29990102T000000Z.db"}
    for name in (*later, "ledger-20200101T000000Z.db", "ledger-20200102T000000Z.db"):
        (copy.parent / name).touch()
    (told,) = issue.call("backup", "--to-dir", str(copy.parent), "--keep", "2", "--json").objects
    left = {path.name for path in copy.parent.iterdir()}
    assert left == {*later, "ledger-20200102T000000Z.db", Path(told["file"]).name}
    (told,) = issue.call("backup", "--to-dir", str(copy.parent), "--keep", "1", "--json").objects
    assert {path.name for path in copy.parent.iterdir()} == {*later, Path(told["file"]).name}


def test_a_name_that_keep_has_freed_is_not_given_again(issue: Issue, copy: Path) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    words = ("backup", "--to-dir", str(copy.parent), "--keep", "1", "--json")
    told = [Path(issue.call(*words).objects[0]["file"]).stem.split("-") for _ in range(4)]
    assert len({tuple(each) for each in told}) == 4, told


def test_backups_into_one_folder_at_once_all_come_to_their_end_and_leave_a_copy(issue: Issue, copy: Path) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    words = ("backup", "--to-dir", str(copy.parent), "--keep", "1")
    running = [issue.start(*words) for _ in range(6)]
    told = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 6, told
    assert {path.suffix for path in copy.parent.iterdir()} == {".db"}
    for each in copy.parent.iterdir():
        assert states(issue, "--ledger", str(each)) == {"pending": 1}


def test_to_dir_makes_the_folder_for_its_owner_alone(issue: Issue, copy: Path) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    ran = issue.run("backup", "--to-dir", str(copy.parent / "new"))
    assert ran.code == 0
    assert (copy.parent / "new").stat().st_mode & 0o777 == 0o700
    assert ran.stdout.endswith(" bytes\n")


def test_no_folder_is_made_where_a_disk_is_not_mounted(filled: Issue, copy: Path) -> None:
    there = copy.parent / "disk" / "backups"
    named, by_time = (filled.run("backup", *words) for words in ((str(there / "x.db"),), ("--to-dir", str(there))))
    assert (named.code, by_time.code, by_time.stdout) == (1, 1, "")
    assert by_time.stderr == named.stderr.replace(f"{there}/x.db", str(there))
    assert by_time.stderr.startswith(f"issue: {there}: No such file or directory; there is no copy\nhint: ")
    assert not there.parent.exists()


# --- a restore -------------------------------------------------------------------------------------------------------


def test_a_restore_says_what_it_did(filled: Issue, copy: Path) -> None:
    since = sql(copy, "SELECT value FROM meta WHERE key = 'copied_at'")[0][0]
    ran = filled.run("restore", str(copy))
    first, second = ran.stdout.splitlines()
    assert (ran.code, ran.stderr) == (0, "")
    assert first == f"{filled.path}: 2 tasks as of {since}, 2 of them in doubt"
    assert second.startswith(f"the ledger that was there is kept as {filled.path}.before-")
    lose(filled)
    assert filled.run("restore", str(copy), "--json").objects == [
        {"tasks": 2, "in_doubt": 2, "since": since, "kept_aside": None, "ledger": str(filled.path)}
    ]


def test_a_restore_of_a_file_that_is_missing_is_a_mistake_of_the_command_line(filled: Issue) -> None:
    ran = filled.run("restore", "nowhere.db", cwd=filled.folder)
    assert (ran.code, ran.stdout, ran.stderr) == (2, "", "issue: there is no file nowhere.db\n")


def test_a_restore_of_the_ledger_itself_is_one_too(filled: Issue) -> None:
    ran = filled.run("restore", str(filled.path))
    assert ran.code == 2
    assert "is the ledger itself" in ran.stderr


def test_while_the_ledger_is_served_it_is_not_replaced(filled: Issue, copy: Path) -> None:
    with serving(filled) as server:
        server.ask("POST", "/issues", a_spec(4))
        ran = filled.run("restore", str(copy))
        assert (ran.code, ran.stdout) == (1, "")
        assert ran.stderr.startswith(f"issue: ledger {filled.path}: another process has it open; nothing was changed\n")
        assert server.ask("POST", "/issues", a_spec(5)).status == 201
    assert states(filled) == {"pending": 3, "failed": 1}
    assert not list(filled.folder.glob("*.before-*"))
    assert filled.run("restore", str(copy)).code == 0
    with serving(filled) as server:
        assert server.ask("POST", "/issues", a_spec(5)).status == 201


# --- one issue each --------------------------------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param(each, marks=() if each == "gitea" else pytest.mark.long) for each in TRACKERS])
def tracker(request: pytest.FixtureRequest) -> Iterator[TrackerServer]:
    """A tracker of each kind."""
    with fake(request.param) as server:
        yield server


def sync(issue: Issue, *words: str) -> Ran:
    ran = issue.run("sync", "--wait", *words, env=issue.environment | {TOKEN_VARIABLE: os.environ[TOKEN_VARIABLE]})
    assert ran.code == 0, ran
    return ran


def days_go_by(tracker: TrackerServer, copy: Path, days: float) -> None:
    """Let the copy and every issue be so much older."""
    by = timedelta(days=days)
    for made in tracker.issues:
        made.made_at -= by
        made.seen_from -= by
    [(copied_at,)] = sql(copy, "SELECT value FROM meta WHERE key = 'copied_at'")
    sql(copy, f"UPDATE meta SET value = '{to_text(from_text(copied_at) - by)}' WHERE key = 'copied_at'")  # noqa: S608


@pytest.mark.parametrize("days", [0, 20])
def test_after_a_loss_the_same_input_again_makes_one_issue_each_at_a_tracker(
    issue: Issue, copy: Path, tracker: TrackerServer, days: float
) -> None:
    (issue.folder / "config.toml").write_text(f"{QUICK}\n{tracker.toml('work', **PACE)}")
    issue.run("ingest", input=ndjson(a_spec(1), a_spec(2)))
    sync(issue, "--limit", "1")
    issue.run("backup", str(copy))
    issue.run("ingest", input=ndjson(a_spec(3)))
    sync(issue)
    issue.run("ingest", input=ndjson(a_spec(4)))
    assert len(tracker.issues) == 3
    days_go_by(tracker, copy, days)
    lose(issue)
    assert issue.run("restore", str(copy)).code == 0
    issue.run("ingest", input=ndjson(*(a_spec(n) for n in range(1, 6))))
    sync(issue)
    assert states(issue) == {"synced": 5}
    assert len(tracker.issues) == 5
    assert Counter(tracker.event_ids()) == {a_spec(n)["triggering_event_id"]: 1 for n in range(1, 6)}


def test_after_a_loss_the_same_input_again_makes_one_file_each(issue: Issue, copy: Path) -> None:
    issue.run("ingest", input=ndjson(a_spec(1), a_spec(2)))
    issue.run("sync", "--limit", "1")
    issue.run("backup", str(copy))
    issue.run("ingest", input=ndjson(a_spec(3)))
    assert issue.run("sync").stdout == "2 created\n"
    lose(issue)
    assert issue.run("restore", str(copy)).code == 0
    issue.run("ingest", input=ndjson(*(a_spec(n) for n in range(1, 5))))
    ran = issue.run("sync")
    assert ran.stdout == "1 created, 2 adopted\n"
    files = (issue.folder / "issues").rglob("*.md")
    assert Counter(event_id_in(path.read_bytes()) for path in files) == {
        a_spec(n)["triggering_event_id"]: 1 for n in range(1, 5)
    }


# --- another way: the specs alone ------------------------------------------------------------------------------------


def digests(issue: Issue) -> list[tuple[str, bytes]]:
    return sql(issue.path, "SELECT event_id, digest FROM tasks ORDER BY seq")


def test_an_export_of_the_specs_fills_an_empty_ledger_with_the_same_tasks(issue: Issue) -> None:
    odd = a_spec(2, title="ünïcödé 中 😀", team={"a": [1, 2.5, None, '"é']}, labels=["A", "b"], due_in_days=3)
    issue.run("ingest", input=ndjson(a_spec(1), odd, a_spec(3, description="# Text\r\n\n\ttab\n", priority="high")))
    ran = issue.shell("issue export --format taskspec | issue ingest --ledger other/ledger.db --json")
    assert [receipt["outcome"] for receipt in ran.objects] == ["created"] * 3
    other = Issue(issue.folder / "other")
    assert digests(other) == digests(issue)
    again = issue.shell("issue export --format taskspec --ledger other/ledger.db | issue ingest --json")
    assert [receipt["outcome"] for receipt in again.objects] == ["duplicate"] * 3


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(documents=st.lists(specs(), min_size=1, max_size=12, unique_by=lambda spec: spec["triggering_event_id"]))
def test_whatever_a_spec_says_its_export_says_the_same(tmp_path: Path, documents: list[dict[str, Any]]) -> None:
    folder = tmp_path / str(time.monotonic_ns())
    (folder / "other").mkdir(parents=True)
    issue, other = Issue(folder), Issue(folder / "other")
    with issue.ledger as ledger:
        assert {receipt.outcome for receipt in ingest(ledger, map(written, documents))} == {"created"}
    exported = issue.call("export", "--format", "taskspec").stdout
    with other.ledger as ledger:
        receipts = ingest(ledger, [line.encode() for line in exported.split("\n") if line])
    assert {receipt.outcome for receipt in receipts} == {"created"}
    assert digests(other) == digests(issue)
    assert other.call("export", "--format", "taskspec").stdout == exported
    assert json.loads(exported.split("\n")[0])["triggering_event_id"] == digests(issue)[0][0]
    shutil.rmtree(folder)


def test_a_ledger_filled_with_specs_adopts_the_issues_that_are_there_only_if_it_always_looks(
    issue: Issue, tracker: TrackerServer
) -> None:
    config = f"{QUICK}\n{tracker.toml('work', **PACE)}"
    (issue.folder / "config.toml").write_text(config)
    issue.run("ingest", input=ndjson(a_spec(1), a_spec(2)))
    sync(issue)
    exported = issue.run("export", "--format", "taskspec").stdout
    for made in tracker.issues:
        made.made_at -= timedelta(days=90)
        made.seen_from -= timedelta(days=90)
    (issue.folder / "careful").mkdir()
    careful = Issue(issue.folder / "careful")
    (careful.folder / "config.toml").write_text(f'{config}lookup = "always"\nlookup_back = "3650d"\n')
    careful.run("ingest", input=exported)
    assert sync(careful).stdout.splitlines()[-1] == "2 adopted"
    assert len(tracker.issues) == 2
    (issue.folder / "careless").mkdir()
    careless = Issue(issue.folder / "careless")
    (careless.folder / "config.toml").write_text(config)
    careless.run("ingest", input=exported)
    assert sync(careless).stdout.splitlines()[-1] == "2 created"
