"""Standard streams that are closed, full or left alone, and other things that a shell may do to a program."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from tests.support.cli import TIMEOUT, Issue, a_spec, ndjson

MANY = 3000


@pytest.fixture
def many(issue: Issue) -> Issue:
    """A ledger with more tasks than a pipe holds."""
    issue.run("ingest", input=ndjson(*(a_spec(number, description="z" * 200) for number in range(MANY))))
    return issue


@pytest.mark.parametrize("command", ["list --limit 0", "list --limit 0 --json", "export", "export --format csv"])
def test_a_reader_that_has_enough_ends_the_command_quietly(many: Issue, command: str) -> None:
    ran = many.shell(f"issue {command} | head -1; echo ${{PIPESTATUS[0]}}")
    assert ran.stderr == ""
    assert ran.stdout.splitlines()[-1] == "141"
    assert len(ran.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("target", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
@pytest.mark.parametrize("command", ["list", "status --json", "export", "show 1", "schema"])
def test_output_that_cannot_be_written_is_an_error(issue: Issue, command: str, target: str, reason: str) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    ran = issue.shell(f"issue {command} {target}")
    assert (ran.code, ran.stderr) == (1, f"issue: standard output cannot be written: {reason}\n")


@pytest.mark.parametrize("words", ["--help", "-h", "list --help", "nats -h", "--version", "--show-completion bash"])
def test_help_that_cannot_be_written_is_an_error(issue: Issue, words: str) -> None:
    ran = issue.shell(f"issue {words} >/dev/full")
    assert (ran.code, ran.stderr) == (1, "issue: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("new x --repo a", r"task 2 \([0-9a-f-]{36}\) is stored"),
        ("new x --repo a --json", r"task 2 \([0-9a-f-]{36}\) is stored"),
        ("sync", "so far: 1 created"),
        ("sync --json", "so far: 1 created"),
        ("sync --wait", "so far: 1 created"),
        ("backup copy.db", "the copy is written at copy.db"),
    ],
)
def test_what_was_done_is_told_although_the_output_cannot_be_written(issue: Issue, command: str, says: str) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    ran = issue.shell(f"issue {command} >/dev/full")
    assert ran.code == 1
    told = rf"issue: standard output cannot be written: No space left on device\n  {says}\n"
    assert re.fullmatch(told, ran.stderr)


def test_a_plan_that_cannot_be_written_says_nothing_was_done(issue: Issue) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    assert "so far" not in issue.shell("issue sync --dry-run >/dev/full").stderr


def test_ingest_stores_although_its_output_cannot_be_written(issue: Issue) -> None:
    (issue.folder / "in.ndjson").write_text(ndjson(a_spec(1)))
    assert issue.shell("issue ingest in.ndjson >&-").code == 1
    assert issue.call("status", "--json").objects[0]["total"] == 1


def test_messages_to_a_closed_standard_error_vanish_and_land_in_no_file(issue: Issue) -> None:
    ran = issue.shell("issue ingest 2>&- <<< bad")
    assert (ran.code, ran.stdout) == (3, "1 received: 0 created, 0 duplicate, 0 conflict, 1 invalid\n")
    assert b"is not a JSON object" not in issue.path.read_bytes()[:100]


def test_no_standard_stream_at_all(issue: Issue) -> None:
    (issue.folder / "in.ndjson").write_text(ndjson(a_spec(1)))
    assert issue.shell("issue ingest in.ndjson <&- >&- 2>&-").code == 1
    assert issue.call("status", "--json").objects[0]["total"] == 1


@pytest.mark.parametrize("words", ["ingest", "new x --repo a -d -"])
def test_a_closed_standard_input_is_a_wrong_usage(issue: Issue, words: str) -> None:
    ran = issue.shell(f"issue {words} <&-")
    assert (ran.code, ran.stderr.startswith("issue: standard input is closed")) == (2, True)


def test_output_is_utf_8_whatever_the_locale_says(issue: Issue) -> None:
    issue.run("ingest", input=ndjson(a_spec(1, title="Größe 大きさ")))
    for locale in ({"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}):
        ran = issue.run("list", env=issue.environment | locale)
        assert ran.rows[0][5] == "Größe 大きさ"


def test_a_file_name_that_is_no_utf_8_is_named_all_the_same(issue: Issue) -> None:
    name = b"caf\xe9.ndjson"
    (issue.folder / os.fsdecode(name)).write_text(ndjson("bad"))
    ran = issue.run("ingest", name, cwd=issue.folder)
    assert (ran.code, ran.stderr.startswith("caf\\udce9.ndjson:1: reject 1 (invalid)")) == (3, True)
    ran = issue.run("ingest", "--json", name, cwd=issue.folder)
    assert os.fsencode(ran.objects[0]["file"]) == name


@pytest.mark.parametrize("words", [["show", b"\xff"], ["list", "--repo", b"\xff"], [b"\xff"], ["ingest", b"\xff\n"]])
def test_arguments_that_are_no_utf_8_cause_no_traceback(issue: Issue, words: list[str | bytes]) -> None:
    ran = issue.run(*words)
    assert "Traceback" not in ran.stderr
    assert "\\udcff" in ran.stderr or ran.stderr == "no such task\n"


def test_a_title_that_is_no_utf_8_is_refused(issue: Issue) -> None:
    ran = issue.run("new", b"caf\xe9", "--repo", "a")
    assert (ran.code, "TITLE must not hold half of a surrogate pair" in ran.stderr) == (2, True)


def test_a_working_folder_that_is_gone_causes_no_traceback(issue: Issue) -> None:
    ran = issue.shell("mkdir gone; cd gone; rmdir ../gone; issue list --ledger x.db; issue ingest y.json; issue list")
    assert "Traceback" not in ran.stderr
    assert [line.split(":")[0] for line in ran.stderr.splitlines() if not line.startswith("hint")] == [
        "issue",
        "issue",
        f"no task in the ledger {issue.path}",
    ]


def test_a_ledger_that_is_none_is_named_with_what_to_do(issue: Issue) -> None:
    issue.path.write_text("something else, and long enough to be read as what it is not\n" * 3)
    ran = issue.run("list")
    assert (ran.code, ran.stderr.splitlines()[0]) == (
        1,
        f"issue: ledger {issue.path}: this file is not a ledger of issue-core; it was left as it is",
    )


def test_an_interrupt_while_nothing_was_read_is_one_line(issue: Issue) -> None:
    with issue.start("ingest", "--dry-run", "--json") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(ndjson(a_spec(1)).encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["outcome"] == "created"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
        assert process.stderr.read() == b"issue: interrupted: this was a dry run, nothing was stored\n"


def test_python_m_is_the_same_command(issue: Issue) -> None:
    ran = issue.shell("python -m issue_core --version; issue --version")
    first, second = ran.stdout.splitlines()
    assert first == second
