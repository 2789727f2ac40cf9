"""``issue link``: what a person says, in words that can be wrong, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.cli.link import MAX_URL, _id_in
from issue_core.errors import UsageError
from issue_core.ledger import Ledger, history, outbox
from issue_core.ledger.outbox import Times, Where
from issue_core.ledger.workers import enlisted
from tests.support.cli import Issue, a_spec, ndjson

URL = "https://git.example.org/acme/web/issues/34"


@pytest.fixture
def one(issue: Issue) -> Issue:
    """A ledger with one task."""
    (issue.folder / "in.ndjson").write_text(ndjson(a_spec(1)))
    assert issue.call("ingest", str(issue.folder / "in.ndjson")).code == 0
    return issue


def shown(issue: Issue) -> dict[str, Any]:
    """The task as ``issue show`` has it, with its history."""
    [task] = issue.call("show", "1", "--json").objects
    return dict(task)


def kinds(issue: Issue) -> list[str]:
    """What happened to the task."""
    return [entry["kind"] for entry in shown(issue)["history"]]


def begin(ledger: Ledger, worker: str) -> None:
    """``worker`` takes the task in hand."""
    where, times = Where("local", "/issues", "acme/web", ""), Times(30.0, 0.0, 120.0)
    running, boot = ledger.clock.running(), ledger.clock.boot()
    with ledger.write() as tx:
        assert outbox.begin(tx, 1, where, owner=worker, times=times, running=running, boot=boot)


def in_doubt(issue: Issue) -> None:
    """A worker takes the task in hand, and dies."""
    with issue.ledger as ledger, enlisted(issue.path) as worker:
        begin(ledger, worker)


@pytest.mark.parametrize("doubtful", [False, True])
def test_an_issue_that_is_there_becomes_the_tasks_and_sync_makes_no_other(one: Issue, doubtful: bool) -> None:
    if doubtful:
        in_doubt(one)
    ran = one.run("link", "1", URL)
    assert (ran.code, ran.stdout, ran.stderr) == (0, f"task 1 is synced with {URL}\n", "")
    assert one.call("sync").stdout == "nothing was due\n"
    assert not (one.folder / "issues").exists()
    task = shown(one)
    assert (task["state"], task["backend"], task["in_doubt_since"]) == ("synced", "local", None)
    assert (task["remote"]["id"], task["remote"]["url"], task["remote"]["project"]) == ("34", URL, "acme/web")
    [status] = one.call("status", "--json").objects
    assert status["backends"] == {"local": {"synced": 1}}


def test_a_task_without_a_backend_goes_to_where_its_route_points_now(one: Issue) -> None:
    config = '[backends.notes]\ntype = "local"\npath = "notes"\n[routes]\n"acme/*" = "notes"\n'
    (one.folder / "config.toml").write_text(config)
    one.call("link", "1", URL)
    assert shown(one)["backend"] == "notes"


def test_none_ends_a_doubt_and_the_next_sync_makes_the_issue(one: Issue) -> None:
    in_doubt(one)
    ran = one.run("link", a_spec(1)["triggering_event_id"], "--none")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "task 1 is in doubt no more\n", "")
    task = shown(one)
    assert (task["state"], task["in_doubt_since"], task["next_attempt_at"]) == ("pending", None, None)
    assert one.call("sync").stdout == "1 created\n"
    assert kinds(one) == ["created", "attempt", "ruled_out", "attempt", "synced"]


@pytest.mark.parametrize("words", [[URL], ["--none"]])
def test_json_is_the_task_object_that_show_gives_but_for_its_history(one: Issue, words: list[str]) -> None:
    in_doubt(one)
    ran = one.call("link", "1", *words, "--json")
    task = shown(one)
    del task["history"]
    assert (ran.objects, ran.stderr) == ([task], "")


def test_the_same_issue_again_is_nothing_to_do_and_another_one_an_error_that_names_the_first(one: Issue) -> None:
    one.call("link", "1", URL)
    again = one.call("link", "1", URL)
    assert (again.code, again.stdout) == (0, f"task 1 was synced with {URL} already\n")
    for words, message in (
        ([f"{URL}5"], f"issue: task 1 has its issue already: {URL}\n"),
        (["--none"], f"issue: task 1 is in no doubt: it has its issue, {URL}\n"),
    ):
        ran = one.call("link", "1", *words)
        assert (ran.code, ran.stdout) == (1, "")
        assert ran.stderr.startswith(message)
    assert kinds(one) == ["created", "linked"]


def test_a_double_is_told_until_the_command_that_the_check_names_settles_it(one: Issue) -> None:
    one.call("link", "1", URL)
    with one.ledger as ledger, ledger.write() as tx:
        history.add(tx, 1, "double", url=f"{URL}5")
    told = one.call("status", "--check")
    assert (told.code, told.stdout.split(" (")[0]) == (3, "1 issue may be one too many")
    assert "issue show 1 " in told.stdout
    assert "issue link 1 URL" in told.stdout
    ran = one.call("link", "1", URL)
    assert (ran.code, ran.stdout) == (0, f"task 1 has one issue: {URL}\n")
    assert kinds(one) == ["created", "linked", "double", "settled"]
    assert (one.call("status", "--check").code, one.call("link", "1", URL).code) == (0, 0)


def test_none_is_an_error_where_there_is_no_doubt(one: Issue) -> None:
    ran = one.call("link", "1", "--none")
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.stderr.startswith("issue: task 1 is in no doubt\nhint: ")
    assert kinds(one) == ["created"]


@pytest.mark.parametrize("words", [[URL], ["--none"]])
def test_a_task_that_a_sync_has_in_hand_is_left_to_it(one: Issue, words: list[str]) -> None:
    with one.ledger as ledger, enlisted(one.path) as worker:
        begin(ledger, worker)
        ran = one.run("link", "1", *words)
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.stderr == "issue: task 1: a sync has this task in hand right now\nhint: Try again in a moment.\n"
    assert kinds(one) == ["created", "attempt"]


@pytest.mark.parametrize("words", [[], [URL, "--none"]])
def test_exactly_one_of_url_and_none_must_be_said(one: Issue, words: list[str]) -> None:
    ran = one.call("link", "1", *words)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("issue: name the issue by its URL, or say --none\n")


@pytest.mark.parametrize("words", [[URL], ["--none"]])
def test_where_there_is_no_such_task_no_ledger_is_made(issue: Issue, words: list[str]) -> None:
    ran = issue.call("link", "1", *words)
    assert (ran.code, ran.stderr.splitlines()[0]) == (1, "issue: no task 1 in the ledger")
    assert not issue.path.exists()


@pytest.mark.parametrize(
    ("url", "issue_id"),
    [
        ("https://github.com/acme/web/issues/12", "12"),
        ("https://github.com/acme/web/issues/12#issuecomment-99", "12"),
        ("https://gitlab.example/acme/web/-/issues/12/designs", "12"),
        ("https://gitlab.example/acme/web/-/work_items/12?tab=notes", "12"),
        ("https://redmine.example/issues/12/", "12"),
        ("https://jira.example/browse/KEY-1", "KEY-1"),
        ("https://jira.example:8443/jira/browse/KEY-1?focusedId=7", "KEY-1"),
        ("HTTP://git.example/acme/issues/issues/12", "12"),
        ("https://git.example/acme/issues/pulls/12", "12"),
        ("https://tracker.example/t/%C3%A9t%C3%A9-7", "été-7"),
        ("https://tracker.example/t/a%0Ab", "a%0Ab"),
        ("file:///home/kim/issues/acme2/disk-is-full-0190c7a4.md", "disk-is-full-0190c7a4.md"),
        ("file:///home/kim/issues", "issues"),
    ],
)
def test_an_issues_id_is_what_its_address_ends_with_or_what_stands_behind_issues(url: str, issue_id: str) -> None:
    assert _id_in(url) == issue_id


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "it must begin with https://"),
        ("12", "it must begin with https://"),
        ("git.example.org/acme/web/issues/34", "it must begin with https://"),
        ("ftp://git.example.org/34", "it must begin with https://"),
        ("javascript:alert(1)", "it must begin with https://"),
        ("https:///acme/issues/34", "it must begin with https://"),
        ("file:issues/34.md", "it must begin with https://"),
        ("https://git.example.org", "it names no issue"),
        ("https://git.example.org/acme/web/issues/", "it names no issue"),
        ("file:///", "it names no issue"),
        ("https://git.example.org/issues/34\nhttps://x", "it must be one line without spaces"),
        ("https://git.example.org/issues/34 ", "it must be one line without spaces"),
        ("https://git.example.org/issues/\u202e34", "it must be one line without spaces"),
        ("https://git.example.org:port/issues/34", "Port could not be cast"),
        ("https://[git.example.org/issues/34", "Invalid IPv6 URL"),
        ("https://git.example.org/issues/" + "3" * MAX_URL, "it has more than 2000 characters"),
    ],
)
def test_what_is_no_address_of_an_issue_is_a_wrong_usage(one: Issue, url: str, why: str) -> None:
    ran = one.call("link", "1", url)
    assert (ran.code, ran.stdout) == (2, "")
    problem, hint = ran.stderr.splitlines()
    assert f" cannot be an issue's address: {why}" in problem
    assert hint.startswith("hint: ")
    assert kinds(one) == ["created"]


@pytest.mark.parametrize(
    "url",
    [
        "https://kim:s3cret@git.example.org/issues/34",
        "https://s3cret@git.example.org/issues/34",
        "https://git.example.org/issues/34?private_token=s3cret",
        "https://git.example.org/issues/34?x=1&Access_Token=s3cret",
    ],
)
def test_an_address_with_credentials_is_refused_and_they_are_not_repeated(one: Issue, url: str) -> None:
    ran = one.call("link", "1", url)
    assert (ran.code, ran.stdout) == (2, "")
    assert "it has credentials in it" in ran.stderr
    assert "s3cret" not in ran.stderr
    assert kinds(one) == ["created"]


def test_an_address_of_the_longest_length_is_taken(one: Issue) -> None:
    url = URL + "4" * (MAX_URL - len(URL))
    assert one.call("link", "1", url).code == 0
    assert shown(one)["remote"]["url"] == url


@given(
    st.text(st.characters() | st.sampled_from("/:@?#%[]. \n"), max_size=60),
    st.sampled_from(["", "https://", "file:///"]),
)
def test_whatever_is_given_as_an_address_is_an_id_that_can_be_kept_or_a_wrong_usage(text: str, scheme: str) -> None:
    try:
        issue_id = _id_in(scheme + text)
    except UsageError:
        return
    assert issue_id
    assert issue_id.isprintable()
    assert json.loads(json.dumps(issue_id).encode()) == issue_id
