"""``issue ingest`` as users and their scripts meet it."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.support.cli import TIMEOUT, Issue, Ran, a_spec, ndjson


def total(issue: Issue) -> int:
    count: int = issue.call("status", "--json").objects[0]["total"]
    return count


def test_the_summary_counts_every_outcome_and_each_reject_is_a_line_beside_it(issue: Issue) -> None:
    ran = issue.run("ingest", input=ndjson(a_spec(1), a_spec(1), "bad \x1b[2J", a_spec(1, title="Other"), a_spec(2)))
    assert ran.code == 3
    assert ran.stdout == "5 received: 2 created, 1 duplicate, 1 conflict, 1 invalid\n"
    invalid, conflict = ran.stderr.splitlines()
    assert invalid == "stdin:3: reject 1 (invalid): document: is not a JSON object"
    assert conflict.startswith("stdin:4: reject 2 (conflict with task 1): title: differs")
    assert total(issue) == 2


def test_input_that_was_stored_before_is_done(issue: Issue) -> None:
    for expected in ("1 created, 0 duplicate", "0 created, 1 duplicate"):
        ran = issue.run("ingest", input=ndjson(a_spec(1)))
        assert (ran.code, ran.stderr) == (0, "")
        assert expected in ran.stdout


def test_json_is_one_receipt_a_document_in_the_order_of_the_input(issue: Issue) -> None:
    ran = issue.run("ingest", "--json", input=ndjson(a_spec(1), "bad", a_spec(2, unknown=1)))
    assert (ran.code, ran.stderr) == (3, "")
    assert [(each["outcome"], each["line"], each["file"]) for each in ran.objects] == [
        ("created", 1, "-"),
        ("invalid", 2, "-"),
        ("created", 3, "-"),
    ]
    assert ran.objects[2]["warnings"] == ['unknown field "unknown" kept']


def test_files_and_standard_input_are_read_in_their_order(issue: Issue) -> None:
    (issue.folder / "one.json").write_text(json.dumps([a_spec(1), 7], indent=2))
    (issue.folder / "two.ndjson").write_text(ndjson(a_spec(2)))
    ran = issue.run("ingest", "--json", "one.json", "-", "two.ndjson", input=ndjson(a_spec(3)), cwd=issue.folder)
    assert [(each["file"], each.get("index"), each.get("line")) for each in ran.objects] == [
        ("one.json", 0, None),
        ("one.json", 1, None),
        ("-", None, 1),
        ("two.ndjson", None, 1),
    ]


def test_every_file_is_looked_at_before_any_is_read(issue: Issue) -> None:
    (issue.folder / "one.json").write_text(ndjson(a_spec(1)))
    ran = issue.run("ingest", "one.json", "missing.json", cwd=issue.folder)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("issue: there is no file missing.json\nhint: Nothing was read.")
    assert not issue.path.exists()


def test_empty_input_is_said_and_is_no_failure(issue: Issue) -> None:
    ran = issue.run("ingest", input="\n \n")
    assert ran == Ran(
        0,
        "0 received: 0 created, 0 duplicate, 0 conflict, 0 invalid\n",
        "standard input was empty: no TaskSpec in it\n",
    )


def test_strict_refuses_a_field_that_is_kept_otherwise(issue: Issue) -> None:
    document = ndjson(a_spec(1, prioritty="high"))
    ran = issue.run("ingest", "--strict", input=document)
    assert (ran.code, 'prioritty: is no field of a TaskSpec (did you mean "priority"?)' in ran.stderr) == (3, True)
    ran = issue.run("ingest", input=document)
    assert (ran.code, ran.stderr) == (0, 'warning: unknown field "prioritty" kept (did you mean "priority"?)\n')


def test_a_dry_run_says_what_would_happen_and_stores_nothing(issue: Issue) -> None:
    ran = issue.run("ingest", "--dry-run", input=ndjson(a_spec(1), a_spec(1), "bad", a_spec(1, title="Other")))
    summary = "4 received: 1 created, 1 duplicate, 1 conflict, 1 invalid (dry run: nothing was stored)\n"
    assert (ran.code, ran.stdout) == (3, summary)
    assert ran.stderr.startswith("stdin:3: rejected (invalid): ")
    assert not issue.path.exists()


def test_a_dry_run_knows_what_is_in_the_ledger(issue: Issue) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    ran = issue.run("ingest", "--dry-run", "--json", input=ndjson(a_spec(1), a_spec(2)))
    assert [(each["outcome"], each["seq"]) for each in ran.objects] == [("duplicate", 1), ("created", None)]
    assert total(issue) == 1


def test_an_open_pipe_gets_its_receipt_at_once(issue: Issue) -> None:
    with issue.start("ingest", "--json") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2):
            process.stdin.write(ndjson(a_spec(number)).encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["seq"] == number
            assert total(issue) == number
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0


def test_an_interrupted_run_says_what_is_stored(issue: Issue) -> None:
    with issue.start("ingest", "--json") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(ndjson(a_spec(1), a_spec(2)).encode())
        process.stdin.flush()
        for _ in range(2):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
        assert process.stderr.read().startswith(b"issue: interrupted: at least 2 TaskSpecs are stored; they are safe")


def test_a_ledger_that_fails_half_way_says_what_was_stored_before(issue: Issue) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))  # or the limit would be in the way of making the ledger
    specs = [a_spec(1), *(a_spec(number, description="x" * 50_000) for number in range(2, 201))]

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 1024 * 1024, 6 * 1024 * 1024))

    ran = issue.run("ingest", "--json", input=ndjson(*specs), preexec_fn=small_files_only)
    assert ran.code == 1
    stored = len(ran.objects)
    assert f"\n  at least {stored} TaskSpecs are stored; they are safe" in ran.stderr
    assert 1 < stored < len(specs)
    assert total(issue) == stored
    assert issue.run("ingest", input=ndjson(*specs)).stdout.startswith(f"200 received: {200 - stored} created")


def test_a_very_long_line_about_a_reject_is_cut(issue: Issue) -> None:
    ran = issue.run("ingest", input=ndjson({f"field number {n}\u202e": "\x00" for n in range(100)}))
    [line] = ran.stderr.splitlines()
    assert line.endswith("…")
    assert len(line) < 700


def test_memory_does_not_grow_with_the_input(issue: Issue) -> None:
    def peak(documents: int) -> int:
        text = "".join(ndjson(a_spec(number, description="y" * 4000)) for number in range(documents))
        (issue.folder / "in.ndjson").write_text(text)
        script = (
            "import resource, subprocess, sys;"
            "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        words = [sys.executable, "-c", script, *command, "in.ndjson"]
        done = subprocess.run(words, env=issue.environment, cwd=issue.folder, capture_output=True, check=True)
        return int(done.stdout)

    command = [sys.executable, "-m", "issue_core", "ingest"]
    assert peak(16_000) < 1.25 * peak(4_000)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_goes_away_ends_it_quietly_and_what_is_stored_is_safe(issue: Issue, stream: str) -> None:
    lines: list[Any] = ["bad"] * 20_000 if stream == "stderr" else [a_spec(number) for number in range(3000)]
    (issue.folder / "in.ndjson").write_text(ndjson(*lines))
    redirect = "2>&1 >/dev/null" if stream == "stderr" else ""
    ran = issue.shell(f"issue ingest --json in.ndjson {redirect} | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}")
    assert "Traceback" not in ran.stderr
    assert ran.stdout.strip() in ("0", "3", "141")
    assert issue.run("ingest", "in.ndjson", cwd=issue.folder).code in (0, 3)
