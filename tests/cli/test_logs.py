"""``-v``, ``-vv`` and ``--log-format``: what is said on standard error, and what never is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.cli import Issue, Ran, a_spec, ndjson

SECRET = "hunter2-hunter2"  # noqa: S105 - it is nobody's


def lines(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.stderr.splitlines()]


@pytest.fixture
def given(issue: Issue) -> Issue:
    """The command beside a file with one good document, one bad one and one that has a warning."""
    documents = (a_spec(1, description="the description"), "bad", a_spec(2, strange=1))
    (issue.folder / "in.ndjson").write_text(ndjson(*documents))
    return issue


def test_without_being_asked_only_what_matters_is_said(given: Issue) -> None:
    ran = given.call("ingest", str(given.folder / "in.ndjson"))
    assert len(ran.stderr.splitlines()) == 2
    assert given.call("list").stderr == ""


@pytest.mark.parametrize("words", [("-v", "ingest"), ("ingest", "-v"), ("--verbose", "ingest")])
def test_each_step_is_said_before_the_command_and_behind_it(given: Issue, words: tuple[str, ...]) -> None:
    ran = given.call(*words, str(given.folder / "in.ndjson"))
    steps = [line.split()[2] for line in ran.stderr.splitlines() if re.match(r"\d{4}-.*Z [0-9a-f]{8} ", line)]
    assert steps == ["start", "settings", "receipt", "receipt", "receipt", "end"]
    assert ran.stdout == "3 received: 2 created, 0 duplicate, 0 conflict, 1 invalid\n"


def test_in_json_each_line_is_an_object_with_its_time_level_and_run(given: Issue) -> None:
    ran = given.call("-v", "--log-format", "json", "ingest", str(given.folder / "in.ndjson"))
    said = lines(ran)
    assert {tuple(line)[:4] for line in said} == {("at", "level", "run", "event")}
    assert [line["event"] for line in said] == [
        *("start", "settings", "receipt", "receipt", "receipt", "message", "message", "end"),
    ]
    assert said[0]["command"] == "issue ingest"
    assert said[1]["ledger"] == str(given.path)
    assert [line["level"] for line in said if line["event"] == "message"] == ["info", "warning"]
    assert (said[-1]["exit_code"], said[-1]["seconds"] >= 0) == (3, True)
    assert len({line["run"] for line in said}) == 1


def test_a_line_leads_to_the_rows_of_the_history(given: Issue) -> None:
    ran = given.run("-v", "--log-format", "json", "ingest", str(given.folder / "in.ndjson"))
    [run] = {line["run"] for line in lines(ran)}
    [receipt, _] = [line for line in lines(ran) if line.get("outcome") == "created"]
    [task] = given.call("show", receipt["event_id"], "--json").objects
    assert [entry["run"] for entry in task["history"]] == [run]


def test_each_result_of_sync_is_said(given: Issue) -> None:
    given.call("ingest", str(given.folder / "in.ndjson"))
    said = lines(given.call("sync", "-v", "--log-format", "json"))
    results = [(line["seq"], line["result"]) for line in said if line["event"] == "result"]
    assert sorted(results) == [(1, "created"), (2, "created")]


@pytest.mark.parametrize("how", [(), ("-v",), ("--log-format", "json"), ("-v", "--log-format", "json")])
def test_a_description_is_said_with_two_v_and_never_with_fewer(given: Issue, how: tuple[str, ...]) -> None:
    file = str(given.folder / "in.ndjson")
    assert "the description" not in given.call("ingest", *how, file).stderr
    assert "the description" not in given.call("sync", *how).stderr
    assert "the description" in given.call("ingest", *how, "-vv", file).stderr


def test_a_secret_is_never_said(given: Issue) -> None:
    (given.folder / "config.toml").write_text(
        '[backends.work]\ntype = "gitea"\nurl = "http://127.0.0.1:1"\ntoken = {env = "T"}\nproject = "a/b"\n'
        '[routes]\n"*" = "work"\n'
    )
    given.call("ingest", str(given.folder / "in.ndjson"))
    commands = (
        ("sync", "-vv"),
        ("config", "check", "-vv"),
        ("config", "show", "-vv"),
        ("nats", "status", "-vv", "--nats-url", f"nats://me:{SECRET}@127.0.0.1:1"),
    )
    for words in commands:
        for form in ("text", "json"):
            ran = given.run(*words, "--log-format", form, env=given.environment | {"T": SECRET})
            assert "start" in ran.stderr
            assert SECRET not in ran.stderr + ran.stdout


@pytest.mark.parametrize(
    ("words", "code", "hinted"),
    [(("show", "99"), "not_found", True), (("show",), "usage", True), (("list", "--since", "x"), "usage", True)],
)
def test_an_error_is_one_object_with_its_code_and_its_hint(
    issue: Issue, words: tuple[str, ...], code: str, hinted: bool
) -> None:
    for call in (("--log-format", "json", *words), (*words, "--log-format", "json")):
        [error] = lines(issue.call(*call))
        assert (error["level"], error["event"], error["code"], bool(error["hint"])) == ("error", "error", code, hinted)


def test_a_form_that_there_is_not_is_a_wrong_usage(issue: Issue) -> None:
    ran = issue.call("list", "--log-format", "xml")
    assert (ran.code, ran.stderr.startswith("issue: Invalid value for '--log-format'")) == (2, True)


def test_what_was_asked_of_one_command_does_not_last(issue: Issue) -> None:
    issue.call("list", "-vv", "--log-format", "json")
    assert issue.call("list").stderr == f"no task in the ledger {issue.path}\n"
