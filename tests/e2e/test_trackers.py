"""`issue sync` at trackers that fail: across runs, across changes of the configuration, one backend beside another."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from tests.support.cli import Issue, Ran
from tests.support.trackers import fake
from tests.support.trackers.server import TOKEN_VARIABLE, Answer, Fault, TrackerServer

_SPACE = UUID("9d3f2b8a-1c9d-4b58-9a53-7c3b8a43c7a4")

QUICK = "\n[sync]\nrequest_timeout = 1\nlease = 4\nbackoff = [0.01, 0.05]\n"
DOWN = Answer(500, "<h1>Internal Server Error</h1>")
LIMIT = Answer(429, {"message": "slow down"}, {"Retry-After": "600"})


@pytest.fixture
def tracker() -> Iterator[TrackerServer]:
    with fake("gitea") as tracker:
        yield tracker


def configure(issue: Issue, *tables: str, default: str = "work") -> None:
    text = "\n".join([f'default_backend = "{default}"', QUICK, *tables])
    (issue.folder / "config.toml").write_text(text, encoding="utf-8")


def take_in(issue: Issue, n: int, repo: str = "acme/web") -> None:
    specs = [
        {
            "title": f"Disk {number} is nearly full",
            "target_repo": repo,
            "source_type": "rule",
            "source_id": "disk",
            "triggering_event_id": str(uuid5(_SPACE, f"{repo} {number}")),
        }
        for number in range(n)
    ]
    assert issue.run("ingest", input="\n".join(map(json.dumps, specs))).code == 0


def sync(issue: Issue, *words: str) -> Ran:
    return issue.run("sync", "--json", *words, env=issue.environment | {TOKEN_VARIABLE: os.environ[TOKEN_VARIABLE]})


def states(issue: Issue) -> dict[str, int]:
    (status,) = issue.run("status", "--json").objects
    return {state: n for state, n in status["states"].items() if n}


def wait_for_it(issue: Issue) -> Ran:
    """Let sync go on until nothing is due or in doubt."""
    return sync(issue, "--wait")


def test_a_limit_holds_across_runs_and_says_until_when(issue: Issue, tracker: TrackerServer) -> None:
    configure(issue, tracker.toml(max_in_flight=1))
    take_in(issue, 3)
    tracker.faults = [Fault("answer_before", times=None, answer=LIMIT)]
    sync(issue)
    sent = len(tracker.requests)
    ran = sync(issue)
    assert len(tracker.requests) == sent
    assert Counter(result["result"] for result in ran.objects) == {"deferred": 3}
    assert all("slow down" in result["reason"] and result["until"] for result in ran.objects)
    assert states(issue) == {"pending": 3}


def test_a_backend_that_is_down_holds_up_no_other(issue: Issue, tracker: TrackerServer) -> None:
    with fake("github") as other:
        routes = '[routes]\n"acme/api" = "hub"\n'
        configure(issue, tracker.toml(), other.toml("hub", min_interval=0), routes)
        take_in(issue, 3)
        take_in(issue, 3, "acme/api")
        tracker.refuse()
        ran = sync(issue)
        assert Counter((result["backend"], result["result"]) for result in ran.objects) == {
            ("hub", "created"): 3,
            ("work", "deferred"): 3,
        }
        assert len(other.issues) == 3
    assert states(issue) == {"pending": 3, "synced": 3}


def test_a_laptop_that_is_offline_for_many_runs_has_no_failed_task(issue: Issue, tracker: TrackerServer) -> None:
    configure(issue, tracker.toml())
    take_in(issue, 3)
    tracker.refuse()
    for _ in range(15):
        sync(issue)
        issue.run("retry", "--all")
    assert states(issue) == {"pending": 3}
    assert [task["attempts"] for task in issue.run("list", "--json").objects] == [0, 0, 0]


def test_a_tracker_that_answers_500_to_everything_is_parked_and_nothing_is_doubled(
    issue: Issue, tracker: TrackerServer
) -> None:
    configure(issue, tracker.toml(settle=0))
    take_in(issue, 12)
    tracker.faults = [Fault("answer_after", on="create", times=None, answer=DOWN)]
    tracker.faults += [Fault("answer_before", on="read", path="/issues", times=None, answer=DOWN)]
    for _ in range(8):
        sync(issue)
    assert states(issue) == {"pending": 12}
    made = len(tracker.issues)
    assert 0 < made < 12
    tracker.faults = []
    issue.run("retry", "--all")
    wait_for_it(issue)
    assert states(issue) == {"synced": 12}
    assert len(tracker.issues) == 12
    assert set(Counter(tracker.event_ids()).values()) == {1}


def in_doubt(issue: Issue, tracker: TrackerServer) -> None:
    """A task whose issue was made, and whose answer was lost."""
    configure(issue, tracker.toml(settle=0.2))
    take_in(issue, 1)
    tracker.faults = [Fault("drop_after")]
    sync(issue)
    assert len(tracker.issues) == 1


def test_a_project_that_is_changed_while_a_task_is_in_doubt_makes_no_second_issue(
    issue: Issue, tracker: TrackerServer
) -> None:
    in_doubt(issue, tracker)
    text = tracker.toml(settle=0.2).replace('"acme/web"', '"acme/api"')
    configure(issue, text)
    ran = wait_for_it(issue)
    assert ran.objects[-1]["result"] == "adopted"
    assert [made.project for made in tracker.issues] == ["acme/web"]


def test_a_route_that_is_changed_while_a_task_is_in_doubt_makes_no_second_issue(
    issue: Issue, tracker: TrackerServer
) -> None:
    in_doubt(issue, tracker)
    configure(issue, tracker.toml(settle=0.2), default="local")
    assert wait_for_it(issue).objects[-1]["result"] == "adopted"
    assert not list(issue.folder.rglob("issues/**/*.md"))


def test_an_address_that_is_changed_while_a_task_is_in_doubt_gets_no_token_until_it_is_named(
    issue: Issue, tracker: TrackerServer
) -> None:
    in_doubt(issue, tracker)
    sent = len(tracker.requests)
    with fake("gitea") as moved:
        configure(issue, moved.toml(settle=0.2))
        results = wait_for_it(issue).objects
        assert {result["result"] for result in results} == {"deferred"}
        assert "does not name any more" in results[-1]["reason"]
        assert (len(tracker.requests), moved.issues) == (sent, [])
        configure(issue, moved.toml(settle=0.2, former_urls=[tracker.url]))
        issue.run("retry", "--all")
        assert wait_for_it(issue).objects[-1]["result"] == "adopted"
        assert moved.issues == []


def test_a_token_that_is_changed_while_a_task_is_in_doubt_makes_no_second_issue(
    issue: Issue, tracker: TrackerServer, tmp_path: Path
) -> None:
    in_doubt(issue, tracker)
    new = tmp_path / "token"
    new.write_text("the-new-token\n")
    tracker.token = "the-new-token"  # noqa: S105 - a test's
    configure(issue, tracker.toml(settle=0.2).replace(f'env = "{TOKEN_VARIABLE}"', f'file = "{new}"'))
    assert wait_for_it(issue).objects[-1]["result"] == "adopted"
    assert len(tracker.issues) == 1


def test_no_secret_is_in_the_ledger_or_in_what_is_printed(issue: Issue, tracker: TrackerServer) -> None:
    configure(issue, tracker.toml())
    take_in(issue, 2)
    echo = Answer(401, {"message": f"bad token {tracker.token}"})
    tracker.faults = [Fault("answer_before", on="any", answer=echo)]
    ran = sync(issue)
    assert "bad token …" in ran.stdout
    assert tracker.token not in ran.stdout + ran.stderr
    assert not any(
        tracker.token.encode() in file.read_bytes() for file in issue.folder.glob("ledger.db*") if file.is_file()
    )
