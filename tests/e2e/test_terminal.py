"""What a person sees on a terminal."""

from __future__ import annotations

import re

import pytest

from tests.support.cli import Issue, a_spec, force_state, ndjson

ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\]8;[^\x1b]*\x1b\\")


@pytest.fixture
def filled(issue: Issue) -> Issue:
    """A ledger with an ordinary task, a failed one with a long title, a synced one and a reject."""
    specs = [
        a_spec(1),
        a_spec(2, title="A title [red]that is[/] far too long for a line of eighty columns, and goes on " * 2),
        a_spec(3, target_repo="acme/a-repository-with-a-long-name", description="one\n\n\ttwo \x1b[2J"),
    ]
    issue.run("ingest", input=ndjson(*specs, "bad \x1b[2J"))
    issue.call("sync", "--repo", "acme/a-*")
    force_state(issue, 2, "failed")
    return issue


@pytest.mark.parametrize("command", ["list", "status", "show 2", "show 3", "rejects list", "rejects show 1"])
def test_it_fits_eighty_columns_and_shows_nothing_raw(filled: Issue, command: str) -> None:
    ran = filled.on_terminal(*command.split(), columns=80)
    plain = ANSI.sub("", ran.stdout)
    assert ran.code == 0
    assert [line for line in plain.splitlines() if len(line) > 80] == []
    assert "\x1b" not in plain
    assert "\x1b[2J" not in ran.stdout


def test_states_are_in_colour_and_markup_is_shown_as_it_is(filled: Issue) -> None:
    text = filled.on_terminal("list", columns=160).stdout
    assert "\x1b[38;5;130mpending" in text
    assert "\x1b[1;38;5;160mfailed" in text
    assert "[red]that is[/]" in text


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(filled: Issue, environment: dict[str, str]) -> None:
    for command in ("list", "status", "show 2"):
        text = filled.on_terminal(*command.split(), environment=environment).stdout
        assert not re.search(r"\x1b\[[0-9;]*3[0-8](;[0-9;]*)?m", text)


def test_the_issues_address_can_be_followed(filled: Issue) -> None:
    text = filled.on_terminal("list", columns=200).stdout
    [task] = filled.call("list", "--json", "--state", "synced").objects
    assert f";{task['remote']['url']}\x1b\\" in text


def test_where_there_is_no_room_for_the_address_the_title_leads_there(filled: Issue) -> None:
    text = filled.on_terminal("list", columns=80).stdout
    [task] = filled.call("list", "--json", "--state", "synced").objects
    assert re.search(rf"\x1b\]8;[^;]*;{re.escape(task['remote']['url'])}\x1b\\Task 3", text)
    assert "file://" not in ANSI.sub("", text)


def test_a_terminal_that_knows_no_links_gets_none(filled: Issue) -> None:
    for words in (("list",), ("show", "3")):
        assert "\x1b]8;" in filled.on_terminal(*words, columns=200).stdout
        assert "\x1b]8;" not in filled.on_terminal(*words, columns=200, environment={"TERM": "linux"}).stdout


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("command", ["list", "rejects list", "show 1", "rejects show 1", "status"])
def test_times_are_told_from_now_on_a_terminal_and_exactly_in_a_pipe(filled: Issue, command: str, columns: int) -> None:
    with filled.ledger as ledger, ledger.write() as tx:
        for table, column in (("tasks", "created_at"), ("rejects", "last_at")):
            tx.connection.execute(f"UPDATE {table} SET {column} = '2020-01-01T00:00:00.000Z'")  # noqa: S608 - constants
    ago = re.compile(r"\b\d{4} d ago\b")
    assert ago.search(ANSI.sub("", filled.on_terminal(*command.split(), columns=columns).stdout))
    piped = filled.call(*command.split()).stdout
    assert not ago.search(piped)
    assert "2020-01-01T00:00:00.000Z" in piped or command == "status"


def test_a_wide_terminal_shows_whole_titles_and_addresses(filled: Issue) -> None:
    text = ANSI.sub("", filled.on_terminal("list", columns=200, environment={"TERM": "linux"}).stdout)
    [task] = filled.call("list", "--json", "--state", "synced").objects
    assert task["remote"]["url"][:40] in text
    assert [line for line in text.splitlines() if len(line) > 200] == []


def test_a_plan_is_a_table(filled: Issue) -> None:
    text = ANSI.sub("", filled.on_terminal("sync", "--dry-run").stdout)
    assert re.search(r"^seq  backend  result   until  reason *$", text, re.MULTILINE)
    assert "\t" not in text


def test_help_is_wrapped_where_the_terminal_ends(issue: Issue) -> None:
    text = issue.on_terminal("list", "--help", columns=80).stdout
    assert "created_at and url, separated by tabs, below a line with these names." in ANSI.sub("", text)


def test_a_description_keeps_its_lines(filled: Issue) -> None:
    text = ANSI.sub("", filled.on_terminal("show", "3").stdout)
    assert re.search(r"^  one *\n *\n +two \\x1b\[2J", text, re.MULTILINE)


def test_help_is_in_boxes_and_keeps_its_examples(issue: Issue) -> None:
    text = ANSI.sub("", issue.on_terminal("list", "--help", columns=100).stdout)
    assert "╭─ Options" in text
    assert re.search(r"^ +\$ issue list --state failed --since 7d *$", text, re.MULTILINE)


def test_ingest_from_a_terminal_says_what_it_waits_for(issue: Issue) -> None:
    ran = issue.on_terminal("ingest", keys=ndjson(a_spec(1)).encode() + b"\x04")
    assert "reading TaskSpecs from this terminal" in ran.stdout
    assert "1 received: 1 created" in ran.stdout.splitlines()[-1]


def test_large_input_has_a_progress_bar_on_standard_error_and_none_is_left(issue: Issue) -> None:
    lines = [a_spec(number, description="x" * 5000) for number in range(2000)]
    (issue.folder / "in.ndjson").write_text(ndjson(*lines, "bad"))
    ran = issue.on_terminal("ingest", str(issue.folder / "in.ndjson"), columns=100)
    assert ran.code == 3
    assert re.search(r"TaskSpecs, [0-9,]+/s", ran.stdout)
    assert "2001 received: 2000 created" in ran.stdout.splitlines()[-1]


def test_small_input_has_no_progress_bar(issue: Issue) -> None:
    (issue.folder / "in.ndjson").write_text(ndjson(a_spec(1)))
    ran = issue.on_terminal("ingest", str(issue.folder / "in.ndjson"))
    assert ran.stdout == "1 received: 1 created, 0 duplicate, 0 conflict, 0 invalid\n"
