"""``issue list``, ``show``, ``status`` and ``export``: what they print, for whom."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from issue_core.cli.export import CSV_COLUMNS
from issue_core.ledger import facts, history
from issue_core.task import Document, TaskState, to_text
from issue_core.taskspec import judge
from tests.support.cli import Issue, a_spec, force_state, ndjson

OLD = "2026-01-01T00:00:00.000Z"


@pytest.fixture
def three(issue: Issue, tmp_path: Path) -> Issue:
    """A ledger with three tasks: 1 ordinary, 2 urgent with labels, 3 in another repo and from a person."""
    return filled(
        issue,
        a_spec(1),
        a_spec(2, priority="high", labels=["Disk", "ops"], description="one\ntwo\n"),
        a_spec(3, target_repo="acme/api", source_type="instruction", source_id="mail", extra_field={"a": [1]}),
    )


def filled(issue: Issue, *documents: Any) -> Issue:
    (issue.folder / "in.ndjson").write_text(ndjson(*documents))
    assert issue.call("ingest", str(issue.folder / "in.ndjson")).code == 0
    return issue


def seqs(issue: Issue, *words: str) -> list[int]:
    return [task["seq"] for task in issue.call("list", "--json", *words).objects]


def test_list_shows_the_newest_first(three: Issue) -> None:
    assert seqs(three) == [3, 2, 1]
    assert seqs(three, "--limit", "2") == [3, 2]
    assert seqs(three, "--limit", "0") == [3, 2, 1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--state pending", [3, 2, 1]),
        ("--state failed", []),
        ("--repo acme/api", [3]),
        ("--priority high", [2]),
        ("--label dISK", [2]),
        ("--source mail", [3]),
        ("--source-type rule", [2, 1]),
        ("--repo acme/web --priority medium", [1]),
        ("--since 1h", [3, 2, 1]),
        ("--until 1h", []),
        ("--since 2001-01-01 --until 2002-01-01", []),
        ("--in-doubt", []),
    ],
)
def test_list_and_export_take_the_same_filters(three: Issue, words: str, expected: list[int]) -> None:
    assert seqs(three, *words.split()) == expected
    exported = [task["seq"] for task in three.call("export", *words.split()).objects]
    assert exported == expected[::-1]


def test_list_finds_tasks_in_doubt(three: Issue) -> None:
    force_state(three, 2, "pending", in_doubt_since="2026-01-01T00:00:00.000Z")
    assert seqs(three, "--in-doubt") == [2]


def test_list_in_a_pipe_is_tab_separated_below_a_line_of_names(three: Issue) -> None:
    ran = three.call("list")
    assert ran.stdout.splitlines()[0] == "seq\tevent_id\tstate\tpriority\trepo\ttitle\tcreated_at\turl"
    assert [row[0] for row in ran.rows] == ["3", "2", "1"]
    assert ran.rows[1][2:6] == ["pending", "high", "acme/web", "Task 2"]
    assert {len(row) for row in ran.rows} == {8}


def test_list_says_beside_the_output_that_there_is_nothing(three: Issue, issue: Issue) -> None:
    ran = three.call("list", "--repo", "nowhere")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "no such task\n")


@pytest.mark.parametrize("name", ["2", "event ID", "its beginning", "in capitals"])
def test_show_takes_a_seq_an_event_id_or_its_beginning(three: Issue, name: str) -> None:
    event_id = a_spec(2)["triggering_event_id"]
    word = {"2": "2", "event ID": event_id, "its beginning": event_id[:8], "in capitals": event_id.upper()}[name]
    [task] = three.call("show", "--json", word).objects
    assert task["seq"] == 2


def test_show_gives_the_same_object_as_list_and_the_history(three: Issue) -> None:
    [shown] = three.call("show", "--json", "2").objects
    history = shown.pop("history")
    assert shown == three.call("list", "--json", "--priority", "high").objects[0]
    assert [(entry["kind"], entry["transport"]) for entry in history] == [("created", "cli")]


def test_show_in_a_pipe_is_one_line_for_each_field(three: Issue) -> None:
    fields = dict(three.call("show", "2").rows)
    assert fields["labels"] == "Disk, ops"
    assert fields["description"] == "one\\ntwo\\n"
    assert fields["ingestion transport"] == "cli"
    assert " created transport=cli run=" in fields["history"]


@pytest.mark.parametrize(("word", "code"), [("9", 1), ("ffff", 1), ("abc", 2)])
def test_show_says_when_there_is_no_such_task_or_the_name_is_too_short(three: Issue, word: str, code: int) -> None:
    ran = three.call("show", word)
    assert (ran.code, ran.stdout, ran.stderr.startswith("issue: ")) == (code, "", True)


@pytest.mark.parametrize(("word", "says"), [("0190", True), ("99999999", True), ("ffff", False)])
def test_digits_alone_that_no_task_has_are_explained(three: Issue, word: str, says: bool) -> None:
    assert ("Digits alone are a task's seq" in three.call("show", word).stderr) == says


def test_status_adds_up(three: Issue) -> None:
    force_state(three, 3, "failed")
    (three.folder / "more.ndjson").write_text(ndjson(a_spec(1), "bad", a_spec(2, title="other")))
    assert three.call("ingest", str(three.folder / "more.ndjson")).code == 3
    [status] = three.call("status", "--json").objects
    age = status.pop("oldest_pending_age_s")
    assert status == {
        "total": 3,
        "states": {"pending": 2, "synced": 0, "failed": 1, "held": 0, "elsewhere": 0},
        "rejects": 2,
        "received": {"created": 3, "duplicate": 1, "conflict": 1, "invalid": 1},
        "backends": {"unrouted": {"pending": 2, "failed": 1}},
        "repos": {"acme/web": {"pending": 2}, "acme/api": {"failed": 1}},
    }
    assert 0 <= age < 60


def test_status_of_an_empty_ledger_knows_no_age(issue: Issue) -> None:
    [status] = issue.call("status", "--json").objects
    assert (status["total"], status["oldest_pending_age_s"], status["backends"]) == (0, None, {})


def test_status_in_a_pipe_has_a_line_for_each_count(three: Issue) -> None:
    ran = three.call("status")
    assert ran.stdout.splitlines()[0] == "what\tname\tstate\tvalue"
    rows = {tuple(row[:3]): row[3] for row in ran.rows}
    assert rows["tasks", "", "total"] == "3"
    assert rows["received", "", "duplicate"] == "0"
    assert rows["repo", "acme/web", "pending"] == "2"
    assert rows["backend", "unrouted", "pending"] == "3"


def test_status_check_says_nothing_when_nothing_needs_a_person(three: Issue) -> None:
    ran = three.call("status", "--check", "--max-age", "1h")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")


def test_status_check_names_what_needs_a_person_and_ends_with_3(three: Issue) -> None:
    force_state(three, 3, "failed")
    (three.folder / "bad").write_text("bad")
    three.call("ingest", str(three.folder / "bad"))
    with three.ledger as ledger, ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET created_at = '2026-01-01T00:00:00.000Z' WHERE seq = 1")
        tx.connection.execute(
            "INSERT INTO parked VALUES ('work', '', 'credentials', '401', :now, :now, 0)", {"now": tx.now}
        )
        tx.connection.execute(
            "INSERT INTO parked VALUES ('home', '', 'unreachable', 'down', :now, :now, 0)", {"now": tx.now}
        )
        tx.connection.execute(
            "INSERT INTO parked VALUES ('far', 'web', 'unreachable', 'down', :long, :now, 0)",
            {"long": "2026-01-01T00:00:00.000Z", "now": tx.now},
        )
    ran = three.call("status", "--check", "--max-age", "1h")
    assert ran.code == 3
    assert ran.stdout.count("\n") == 1
    named = [part.split(" (")[0] for part in ran.stdout.split("; ")]
    assert [re.sub(" for [^:]*", "", each) for each in named] == [
        "1 failed",
        "1 rejected",
        "the oldest pending task waits",
        "far web is parked: down",
        "work is parked: 401",
    ]
    [status] = three.call("status", "--check", "--json").objects
    assert [need["code"] for need in status["needs"]] == ["failed", "rejects", "parked", "parked"]


@pytest.mark.parametrize(
    ("state", "columns", "code"),
    [
        ("pending", {"in_doubt_since": OLD, "created_at": OLD}, "doubts"),
        ("held", {"created_at": OLD}, "held"),
    ],
)
def test_status_check_names_what_is_in_doubt_or_held_for_long(
    three: Issue, state: TaskState, columns: dict[str, str], code: str
) -> None:
    force_state(three, 1, state)
    assert code not in [need["code"] for need in three.call("status", "--check", "--json").objects[0]["needs"]]
    force_state(three, 1, state, **columns)
    ran = three.call("status", "--check", "--json")
    assert (ran.code, code in [need["code"] for need in ran.objects[0]["needs"]]) == (3, True)


def needs(issue: Issue, *words: str) -> list[str]:
    """The codes of what needs a person."""
    [status] = issue.call("status", "--check", "--json", *words).objects
    return [need["code"] for need in status["needs"]]


def test_a_task_that_failed_in_doubt_is_told_as_failed_alone(three: Issue) -> None:
    force_state(three, 1, "failed", in_doubt_since=OLD, created_at=OLD)
    assert needs(three) == ["failed"]


def test_one_that_is_held_for_long_is_told_whatever_became_of_those_before_it(three: Issue) -> None:
    for seq in (2, 3):
        force_state(three, seq, "held", created_at=OLD)
    force_state(three, 1, "held", created_at=OLD, updated_at="2999-01-01T00:00:00.000Z")
    assert needs(three) == ["held"]


def test_one_that_waits_for_long_is_told_whatever_the_clock_said_when_the_first_came(three: Issue) -> None:
    force_state(three, 1, "pending", created_at="2999-01-01T00:00:00.000Z")
    assert needs(three, "--max-age", "1h") == []
    force_state(three, 2, "pending", created_at=OLD)
    assert needs(three, "--max-age", "1h") == ["age"]
    [status] = three.call("status", "--json").objects
    assert status["oldest_pending_age_s"] > 3600


def test_what_a_restore_left_in_doubt_is_told_when_there_was_an_hour_to_look_for_it(three: Issue) -> None:
    made = three.folder / "copy.db"
    assert three.call("backup", str(made)).code == 0
    with closing(sqlite3.connect(made)) as copy, copy:
        copy.execute("UPDATE tasks SET created_at = ?", (OLD,))
        copy.execute("UPDATE meta SET value = ? WHERE key = 'copied_at'", (OLD,))
    assert three.call("restore", str(made)).code == 0
    assert needs(three) == []
    with three.ledger as ledger, ledger.write() as tx:
        facts.write(tx.connection, facts.RESTORED_AT, to_text(tx.moment - timedelta(hours=1, seconds=1)))
    assert needs(three) == ["doubts"]


@pytest.mark.parametrize("beside", ["ledger.db-wal", "ledger.db.workers"])
def test_a_ledger_that_is_gone_and_left_its_companions_needs_a_person(issue: Issue, beside: str) -> None:
    (issue.folder / "ledger.db.lock").touch()
    assert needs(issue) == []
    (issue.folder / beside).touch()
    ran = issue.call("status", "--check")
    assert (ran.code, ran.stdout.split(" (")[0]) == (3, f"no ledger at {issue.path}, but there was one")
    assert needs(issue) == ["missing"]
    filled(issue, a_spec(1))
    assert needs(issue) == []


def test_status_check_names_what_another_ledger_has_claimed_after_an_attempt_here(three: Issue) -> None:
    with three.ledger as ledger, ledger.write() as tx:
        history.add(tx, 1, "contested", ledger="another")
    ran = three.call("status", "--check")
    assert (ran.code, ran.stdout.split(" (")[0]) == (3, "1 issue may be one too many")


def test_export_is_ndjson_with_the_oldest_first(three: Issue) -> None:
    tasks = three.call("export").objects
    assert [task["seq"] for task in tasks] == [1, 2, 3]
    assert tasks == three.call("list", "--json").objects[::-1]


def test_export_as_csv_can_be_read_back(three: Issue) -> None:
    text = three.call("export", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["description"] for row in rows] == ["", "one\ntwo\n", ""]
    assert json.loads(rows[1]["labels"]) == ["Disk", "ops"]
    assert json.loads(rows[2]["extra"]) == {"extra_field": {"a": [1]}}
    assert json.loads(rows[2]["ingestion"])["source_id"] == "mail"
    assert rows[0]["due_date"] == rows[0]["remote_url"] == ""
    assert text.count("\r\n") == 4


def test_export_as_taskspec_asks_for_the_same_thing_digest_for_digest(issue: Issue) -> None:
    given = [
        a_spec(1),
        a_spec(2, description="\u202e\x1b\x85é\n", labels=["B", "a"], due_in_days=0, activity_definition_id=""),
        a_spec(3, priority="low", other={"deep": [None, 1.5, "\u2028x".strip("\u2028")]}, more="1"),
    ]
    filled(issue, *given)
    exported = issue.call("export", "--format", "taskspec").stdout.split("\n")[:-1]
    judged = [
        (judge(Document(json.dumps(spec).encode())), judge(Document(line.encode())))
        for spec, line in zip(given, exported, strict=True)
    ]
    assert [before.digest for before, _ in judged] == [after.digest for _, after in judged]  # type: ignore[union-attr]


def test_what_came_from_outside_is_shown_escaped(issue: Issue) -> None:
    filled(issue, a_spec(1, title="\u202egnp.exe [red]x", description="\x1b[2J"))
    for words in (["list"], ["show", "1"], ["list", "--json"], ["export"], ["export", "--format", "taskspec"]):
        text = issue.call(*words).stdout
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "\\u202egnp.exe [red]x" in text
