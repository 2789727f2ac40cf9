"""What a person at a terminal sees of a sync that takes its time, and what it says at its end."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping

import pytest

from tests.support.cli import Issue, Ran, a_spec, ndjson
from tests.support.trackers import fake
from tests.support.trackers.server import TOKEN_VARIABLE, Answer, Fault, TrackerServer

ERASE = "\r\x1b[K"
LONG = 2.0  # seconds that a request takes: longer than the line waits before it is there


@pytest.fixture
def tracker() -> Iterator[TrackerServer]:
    with fake("gitea") as tracker:
        yield tracker


@pytest.fixture
def two(issue: Issue, tracker: TrackerServer) -> Issue:
    """Two tasks for a tracker that takes one at a time, and is slow with the second."""
    configure(issue, tracker.toml(max_in_flight=1, settle=2))
    issue.run("ingest", input=ndjson(a_spec(1), a_spec(2)))
    tracker.faults = [Fault("delay", seconds=LONG, after=1)]
    return issue


def configure(issue: Issue, tables: str) -> None:
    (issue.folder / "config.toml").write_text(
        f'default_backend = "work"\n[sync]\nrequest_timeout = 4\nlease = 12\n{tables}'
    )


def watched(issue: Issue, *words: str, environment: Mapping[str, str] | None = None) -> Ran:
    token = {TOKEN_VARIABLE: os.environ[TOKEN_VARIABLE]}
    return issue.on_terminal(*words, environment=token | dict(environment or {}))


def left(seen: str) -> list[str]:
    """The lines that are there at the end, when what was erased is gone."""
    return [line.rsplit(ERASE, 1)[-1] for line in seen.split("\n")]


def test_a_sync_that_takes_long_says_how_far_it_is_and_leaves_nothing_of_it(two: Issue) -> None:
    ran = watched(two, "sync")
    assert re.search(r"\r\x1b\[K1 created; at work for \d s\r", ran.stdout)
    assert left(ran.stdout) == ["2 created", ""]
    assert "\x1b[?25l" not in ran.stdout  # whatever kills it, the cursor is there


def test_while_it_waits_it_says_for_how_long(two: Issue, tracker: TrackerServer) -> None:
    tracker.faults = [Fault("drop_after", after=1)]
    ran = watched(two, "sync", "--wait")
    assert re.search(r"\r\x1b\[K1 created, 1 waiting; next look in \d s\r", ran.stdout)
    assert left(ran.stdout) == ["1 created, 1 adopted", ""]


def test_what_is_printed_meanwhile_is_printed_whole(two: Issue, tracker: TrackerServer) -> None:
    tracker.faults = [Fault("delay", seconds=LONG, times=None)]
    ran = watched(two, "sync", "--json")
    assert "at work for" in ran.stdout
    assert [json.loads(line)["result"] for line in left(ran.stdout)[:-1]] == ["created", "created"]


@pytest.mark.parametrize("words", [["sync", "-v"], ["sync"]])
def test_where_steps_are_said_or_the_terminal_can_erase_nothing_there_is_no_such_line(
    two: Issue, words: list[str]
) -> None:
    environment = {} if "-v" in words else {"TERM": "dumb"}
    assert "at work for" not in watched(two, *words, environment=environment).stdout


def test_a_pipe_sees_nothing_of_it(two: Issue) -> None:
    ran = two.run("sync", env=two.environment | {TOKEN_VARIABLE: os.environ[TOKEN_VARIABLE]})
    assert (ran.stdout, ran.stderr) == ("2 created\n", "")


@pytest.mark.parametrize(
    ("tasks", "says"), [(1, "1 at work: {}, goes on in"), (2, "2 at work: {}, the first goes on in")]
)
def test_at_its_end_a_person_reads_when_what_waits_goes_on_and_a_pipe_gets_the_time(
    issue: Issue, tracker: TrackerServer, tasks: int, says: str
) -> None:
    configure(issue, tracker.toml(max_in_flight=1))
    issue.run("ingest", input=ndjson(*(a_spec(number) for number in range(tasks))))
    limit = Answer(429, {"message": "slow down."}, {"Retry-After": "600"})
    tracker.faults = [Fault("answer_before", times=None, answer=limit)]
    assert re.search(rf"^  {says.format('.*slow down')} (9|10) min$", watched(issue, "sync").stdout, re.MULTILINE)
    piped = issue.run("sync", env=issue.environment | {TOKEN_VARIABLE: os.environ[TOKEN_VARIABLE]}).stdout
    assert re.search(r"slow down\., the first until \d{4}-\d\d-\d\dT", piped)
