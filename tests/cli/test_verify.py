"""``issue sync --verify``: what it says, and the code with which it ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.cli import Issue, a_spec, ndjson
from tests.support.trackers import fake


@pytest.fixture
def synced(issue: Issue) -> Issue:
    """A ledger with two tasks, whose issues are files."""
    (issue.folder / "in.ndjson").write_text(ndjson(a_spec(1), a_spec(2)))
    assert issue.call("ingest", str(issue.folder / "in.ndjson")).code == 0
    assert issue.call("sync").code == 0
    return issue


def files(issue: Issue) -> list[Path]:
    """The issues, in the order of their tasks."""
    return [issue.folder / "issues" / task["remote"]["id"] for task in issue.call("list", "--json").objects[::-1]]


def test_all_is_well(synced: Issue) -> None:
    ran = synced.run("sync", "--verify")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "2 marked issues: 0 double, 0 unknown, 0 missing\n", "")
    assert synced.call("sync", "--verify", "--json", "--backend", "local").objects == []


def test_each_finding_is_an_object_and_the_command_ends_with_3(synced: Issue) -> None:
    doubled, gone = files(synced)
    shutil.copy(doubled, doubled.with_name("copy.md"))
    gone.unlink()
    ran = synced.call("sync", "--verify", "--json")
    double, missing = ran.objects
    assert (ran.code, ran.stderr) == (3, "")
    assert set(double.pop("urls")) == {doubled.as_uri(), doubled.with_name("copy.md").as_uri()}
    first, second = (a_spec(number)["triggering_event_id"] for number in (1, 2))
    common = {"backend": "local", "project": "acme/web"}
    assert double == {**common, "finding": "double", "event_id": first, "seq": 1}
    assert missing == {**common, "finding": "missing", "event_id": second, "seq": 2, "urls": [gone.as_uri()]}


def test_a_person_reads_a_line_a_finding_and_the_sum(synced: Issue) -> None:
    gone, known = files(synced)
    gone.unlink()
    stranger = "0b0b0b0b-0000-4000-8000-000000000000"
    other = known.with_name("other.md")
    other.write_text(known.read_text().replace(a_spec(2)["triggering_event_id"], stranger))
    ran = synced.run("sync", "--verify")
    assert ran.code == 3
    assert ran.stdout.splitlines() == [
        f"unknown: {stranger} (no task) at local: {other.as_uri()}",
        f"missing: {a_spec(1)['triggering_event_id']} (task 1) at local: {gone.as_uri()}",
        "2 marked issues: 0 double, 1 unknown, 1 missing",
    ]


def test_where_no_ledger_is_none_is_made(issue: Issue) -> None:
    assert issue.call("sync", "--verify").code == 0
    assert not issue.path.exists()
    assert not (issue.folder / "issues").exists()


@pytest.mark.parametrize(
    "other", [["--wait"], ["--watch", "5"], ["--limit", "1"], ["--dry-run"], ["--repo", "acme/*"]], ids=lambda o: o[0]
)
def test_it_goes_with_no_other_way_to_sync(synced: Issue, other: list[str]) -> None:
    ran = synced.call("sync", "--verify", *other)
    assert ran.code == 2
    assert "--verify goes with --backend alone" in ran.stderr


def test_what_cannot_be_read_is_named_and_is_a_failure_whatever_was_found(synced: Issue) -> None:
    files(synced)[0].unlink()
    with fake("gitea") as tracker:
        (synced.folder / "config.toml").write_text(
            tracker.toml(token={"file": str(synced.folder / "token")}, project=tracker.unknown_project)
        )
        (synced.folder / "token").write_text(tracker.token)
        (synced.folder / "token").chmod(0o600)
        ran = synced.call("sync", "--verify")
    assert ran.code == 1
    assert "1 missing" in ran.stdout
    assert f"work, {tracker.unknown_project} at {tracker.url} could not be verified" in ran.stderr
    assert "not everything could be verified" in ran.stderr


def test_it_says_where_only_the_issues_of_synced_tasks_can_be_looked_for(issue: Issue) -> None:
    with fake("jira") as tracker:
        (issue.folder / "config.toml").write_text(tracker.toml(token={"file": str(issue.folder / "token")}))
        ran = issue.call("sync", "--verify", "--backend", "work", "--json")
    assert (ran.code, ran.stdout) == (0, "")
    assert ran.stderr == "work: its tracker cannot list marked issues; those of synced tasks were looked for\n"


def test_before_the_ledgers_folder_is_there_no_issue_can_be(issue: Issue) -> None:
    ran = issue.call("sync", "--verify", "--ledger", str(issue.folder / "new" / "ledger.db"))
    assert (ran.code, ran.stdout) == (0, "0 marked issues: 0 double, 0 unknown, 0 missing\n")
    assert not (issue.folder / "new").exists()


def test_a_folder_that_cannot_be_read_is_named(issue: Issue) -> None:
    (issue.folder / "config.toml").write_text('[backends.far]\ntype = "local"\npath = "/no/such/place"\n')
    ran = issue.call("sync", "--verify", "--backend", "far")
    assert (ran.code, ran.stderr.startswith("far, at /no/such/place could not be verified: ")) == (1, True)
