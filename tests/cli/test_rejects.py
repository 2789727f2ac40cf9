"""``issue rejects``, ``retry`` and ``new``: what they do to the ledger."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from issue_core.ledger import queries
from tests.support.cli import Issue, a_spec, force_state, ndjson


@pytest.fixture
def two(issue: Issue) -> Issue:
    """A ledger with one task and two rejects: 1 is no JSON, 2 a conflict with the task."""
    (issue.folder / "in.ndjson").write_text(ndjson(a_spec(1), 'bad \x1b["a"]', a_spec(1, title="Other")))
    assert issue.call("ingest", str(issue.folder / "in.ndjson")).code == 3
    return issue


def states(issue: Issue) -> dict[int, str]:
    return {
        reject["id"]: reject["state"] for reject in issue.call("rejects", "list", "--state", "all", "--json").objects
    }


def test_list_shows_open_rejects_with_where_they_came_from_and_why(two: Issue) -> None:
    ran = two.call("rejects", "list")
    assert ran.stdout.splitlines()[0] == "id\tstate\tkind\tcount\tlast_at\tplace\tproblems"
    assert [row[0] for row in ran.rows] == ["2", "1"]
    assert ran.rows[1][2:4] == ["invalid", "1"]
    assert ran.rows[1][5:] == [f"{two.folder}/in.ndjson:2", "document: is not a JSON object"]
    assert ran.rows[0][6].startswith("title: differs")


def test_list_says_beside_the_output_that_there_is_none(issue: Issue) -> None:
    ran = issue.call("rejects", "list", "--json")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "no reject is open\n")


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize("words", [[], ["--state", "all"]])
def test_at_a_narrow_terminal_the_ids_are_whole_and_a_quarter_of_it_has_the_problems(
    two: Issue, columns: int, words: list[str]
) -> None:
    with two.ledger as ledger, ledger.write() as tx:
        tx.connection.execute("UPDATE rejects SET id = id + 12344, count = 1234567")
    ran = two.on_terminal("rejects", "list", *words, columns=columns, environment={"NO_COLOR": "1"})
    names, *lines = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout).splitlines()
    assert [line.split()[0] for line in lines] == ["12346", "12345"]
    assert {len(line) for line in lines} == {columns}
    shown = [line[names.index("problems") :].rstrip(" …") for line in lines]
    assert min(map(len, shown)) >= columns // 4 - 2
    assert "document: is not a JSON object".startswith(shown[1])


def test_show_gives_the_bytes_escaped_as_json_or_as_they_came(two: Issue) -> None:
    assert dict(two.call("rejects", "show", "1").rows)["raw"] == 'bad \\x1b["a"]'
    [shown] = two.call("rejects", "show", "1", "--json").objects
    assert shown["raw"] == 'bad \x1b["a"]'
    assert (shown["kind"], shown["line"], shown["errors"][0]["field"]) == ("invalid", 2, "document")
    assert two.run("rejects", "show", "1", "--raw").stdout == 'bad \x1b["a"]'


def test_a_conflict_is_replayed_as_a_second_task(two: Issue) -> None:
    ran = two.call("rejects", "replay", "2", "--as-new", "--json")
    [receipt] = ran.objects
    assert (ran.code, receipt["outcome"], receipt["seq"]) == (0, "created", 2)
    assert states(two) == {1: "open", 2: "replayed"}
    assert [task["title"] for task in two.call("export").objects] == ["Task 1", "Other"]


def test_what_is_still_refused_stays_open_and_ends_with_3(two: Issue) -> None:
    ran = two.call("rejects", "replay", "--all")
    assert (ran.code, ran.stdout) == (3, "")
    assert "reject 1 is refused again: document: is not JSON" in ran.stderr
    assert "issue: reject 2 is a conflict" in ran.stderr
    assert states(two) == {1: "open", 2: "open"}


def test_one_that_cannot_be_replayed_does_not_stop_the_others(two: Issue) -> None:
    ran = two.call("rejects", "replay", "--as-new", "1", "2")
    assert (ran.code, ran.stdout.startswith("reject 2: created task 2")) == (3, True)


def test_a_reject_that_is_not_there_stops_before_anything_is_done(two: Issue) -> None:
    ran = two.call("rejects", "replay", "--as-new", "2", "9")
    assert (ran.code, ran.stderr.splitlines()[0]) == (1, "issue: no reject 9 in the ledger")
    assert two.call("rejects", "drop", "1", "9").code == 1
    assert states(two) == {1: "open", 2: "open"}


def test_dropped_rejects_stay_in_the_ledger(two: Issue) -> None:
    assert two.call("rejects", "drop", "1").stdout == "1 dropped\n"
    assert two.call("rejects", "drop", "--all", "--json").objects == [{"dropped": [2]}]
    assert states(two) == {1: "dropped", 2: "dropped"}
    again = two.call("rejects", "drop", "1")
    assert (again.code, "reject 1 was dropped at" in again.stderr) == (2, True)


def test_input_that_sets_a_reject_right_closes_it(two: Issue) -> None:
    (two.folder / "mended.json").write_text(ndjson(a_spec(2)))
    assert two.call("ingest", "--replaces", "1", str(two.folder / "mended.json")).code == 0
    assert states(two) == {1: "replayed", 2: "open"}
    [reject] = two.call("rejects", "show", "1", "--json").objects
    assert reject["replayed_as"] == a_spec(2)["triggering_event_id"]


def test_to_replace_a_reject_that_is_not_there_stores_nothing(two: Issue) -> None:
    (two.folder / "mended.json").write_text(ndjson(a_spec(2)))
    assert two.call("ingest", "--replaces", "9", str(two.folder / "mended.json")).code == 1
    assert two.call("status", "--json").objects[0]["total"] == 1


@pytest.mark.parametrize("words", [["1"], ["--all"]])
def test_retry_makes_a_failed_task_pending(two: Issue, words: list[str]) -> None:
    force_state(two, 1, "failed")
    assert two.call("retry", *words).stdout == "1 due now\n"
    assert two.call("status", "--json").objects[0]["states"]["pending"] == 1
    assert [entry["kind"] for entry in two.call("show", "1", "--json").objects[0]["history"]][-1] == "retry"


def test_retry_all_tries_what_is_parked(two: Issue) -> None:
    with two.ledger as ledger, ledger.write() as tx:
        park = "INSERT INTO parked VALUES ('work', '', 'unreachable', 'down', :now, '2999-01-01T00:00:00.000Z', 0)"
        tx.connection.execute(park, {"now": tx.now})
    assert two.call("retry", "--all", "--json").objects == [{"due": 0, "unparked": 1}]


def test_retry_of_a_task_that_is_not_there_changes_nothing(two: Issue) -> None:
    force_state(two, 1, "failed")
    assert two.call("retry", "1", "77").code == 1
    assert two.call("status", "--json").objects[0]["states"]["failed"] == 1


def task(issue: Issue, seq: int) -> dict[str, Any]:
    with issue.ledger as ledger, ledger.read() as connection:
        return queries.task(connection, seq).to_json()


def test_new_makes_one_task_with_what_was_said(issue: Issue) -> None:
    said = ["-d", "text", "-p", "high", "-l", "ops", "-l", "Disk", "--due-in", "0", "--source-id", "me"]
    ran = issue.call("new", "  Renew the certificate ", "--repo", "acme/web", *said)
    made = task(issue, 1)
    assert ran.stdout == f"created task 1 ({made['event_id']})\n"
    assert {
        name: made[name] for name in ("title", "description", "priority", "labels", "source_id", "source_type")
    } == {
        "title": "Renew the certificate",
        "description": "text",
        "priority": "high",
        "labels": ["ops", "Disk"],
        "source_id": "me",
        "source_type": "instruction",
    }
    assert made["due_date"] == made["created_at"][:10]
    assert made["sightings"] == {"new": 1}


def test_new_has_a_receipt_too_and_a_fresh_event_id_each_time(issue: Issue) -> None:
    receipts = [issue.call("new", "x", "--repo", "a", "--json").objects[0] for _ in range(2)]
    assert [receipt["outcome"] for receipt in receipts] == ["created", "created"]
    assert receipts[0]["event_id"] != receipts[1]["event_id"]


def test_new_says_all_that_is_wrong_and_stores_nothing(issue: Issue) -> None:
    ran = issue.call("new", "", "--repo", "a b", "--due-in", "-1", "--label", "")
    assert (ran.code, ran.stdout) == (2, "")
    lines = ran.stderr.splitlines()
    assert lines[0] == "issue: this is no TaskSpec; nothing was stored"
    assert [line.split()[0] for line in lines[1:]] == ["TITLE", "--repo", "--label", "--due-in", "hint:"]
    assert not issue.path.exists()


def test_new_reads_a_long_description_from_standard_input(issue: Issue) -> None:
    assert issue.run("new", "x", "--repo", "a", "-d", "-", input="one\ntwo\n").code == 0
    assert task(issue, 1)["description"] == "one\ntwo\n"


def test_completion_offers_commands_states_and_repos(issue: Issue, tmp_path: Path) -> None:
    issue.call("new", "x", "--repo", "acme/web")

    def offered(line: str, word: str) -> str:
        wanted = {"_ISSUE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": word}
        return issue.run(env=issue.environment | wanted).stdout

    assert {"list", "rejects", "status"} <= set(offered("issue ", "1").split())
    assert offered("issue list --state ", "3").split() == ["pending", "synced", "failed", "held", "elsewhere"]
    assert offered("issue list --repo ac", "3").split() == ["acme/web"]


def test_json_is_on_standard_output_alone(two: Issue) -> None:
    for words in ("status", "list", "rejects list", "rejects drop 1", "retry --all", "config show", "show 1"):
        ran = two.call(*words.split(), "--json")
        assert [json.loads(line) for line in ran.stdout.splitlines()]
        assert ran.stderr == ""


def test_to_retry_all_where_all_is_due_already_says_so(two: Issue) -> None:
    assert two.call("retry", "--all").stdout == "nothing had to be made due\n"


def test_to_replay_all_where_none_is_open_says_so(two: Issue) -> None:
    two.call("rejects", "drop", "--all")
    ran = two.call("rejects", "replay", "--all")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "0 replayed: no reject is open\n", "")
    assert two.call("rejects", "replay", "--all", "--json").stdout == ""
