"""What a person sees on a terminal."""

from __future__ import annotations

import re

import pytest

from tests.support.cli import Issue, a_spec, force_state, ndjson

OLD = "2026-01-01T00:00:00.000Z"
URL = "https://git.example.org/acme/web/issues/7"

ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\]8;[^\x1b]*\x1b\\")


def plainly(text: str) -> str:
    """What is left without colours and links."""
    return ANSI.sub("", text)


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


@pytest.mark.parametrize(("columns", "length", "is_shown"), [(120, 8, True), (120, 80, False), (200, 80, True)])
def test_an_address_is_shown_whole_or_not_at_all(filled: Issue, columns: int, length: int, is_shown: bool) -> None:
    url = "https://x.org/" + "7" * length
    force_state(filled, 3, "synced", remote_url=url)
    text = filled.on_terminal("list", columns=columns).stdout
    plain = plainly(text)
    assert (url in plain, "issue" in plain.splitlines()[0], "https://" in plain) == (is_shown,) * 3
    assert f";{url}\x1b\\" in text


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("length", [61, 196])
def test_a_long_name_hides_no_count(filled: Issue, columns: int, length: int) -> None:
    filled.run("ingest", input=ndjson(a_spec(4, target_repo="a" * length)))
    lines = plainly(filled.on_terminal("status", columns=columns).stdout).splitlines()
    assert max(map(len, lines)) <= columns
    header = next(line.split() for line in lines if line.startswith("repos"))
    assert header == ["repos", "pending", "synced", "failed"]
    assert [line.split()[-1] for line in lines if line.startswith("aaaa")] == ["1"]


def test_where_a_name_has_no_room_beside_its_counts_they_are_words(filled: Issue) -> None:
    text = plainly(filled.on_terminal("status", columns=30).stdout)
    assert re.search(r"^acme/web: 1 failed, 1 pending *$", text, re.MULTILINE)


def test_status_says_what_needs_a_person_and_what_to_do(filled: Issue) -> None:
    with filled.ledger as ledger, ledger.write() as tx:
        park = "INSERT INTO parked VALUES ('work', '', 'credentials', '401', :now, :now, 0)"
        tx.connection.execute(park, {"now": tx.now})
    ran = filled.on_terminal("status", columns=200)
    assert ran.code == 0
    assert "\x1b[1;38;5;160m1 failed (issue list --state failed)" in ran.stdout
    assert "1 rejected (issue rejects list)" in plainly(ran.stdout)
    assert re.search(r"^work is parked.*401 \(issue config check\)", plainly(ran.stdout), re.MULTILINE)


def test_status_of_a_healthy_ledger_asks_for_nothing(issue: Issue) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    text = issue.on_terminal("status").stdout
    assert "(issue" not in text
    assert "tracker's limit" not in text


def test_status_says_which_tracker_wants_no_request_and_until_when(filled: Issue) -> None:
    with filled.ledger as ledger, ledger.write() as tx:
        limits = "INSERT INTO limits (backend, limited_until, limit_reason) VALUES (?, ?, 'slow down')"
        tx.connection.executemany(limits, [("hub", "9999-01-01T00:00:00.000Z"), ("past", OLD)])
    text = plainly(filled.on_terminal("status").stdout)
    assert re.search(r"^tracker's limit +hub ends in [0-9,]+ d *$", text, re.MULTILINE)


def test_what_happened_this_moment_is_now_in_status_too(filled: Issue) -> None:
    with filled.ledger as ledger, ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET created_at = '9999-01-01T00:00:00.000Z'")
    assert re.search(r"^oldest pending +now *$", plainly(filled.on_terminal("status").stdout), re.MULTILINE)


def test_list_says_which_task_is_in_doubt_and_which_one_waits(filled: Issue) -> None:
    force_state(filled, 1, "pending", in_doubt_since=OLD)
    force_state(filled, 2, "pending", next_attempt_at="9999-01-01T00:00:00.000Z")
    narrow, wide = (plainly(filled.on_terminal("list", columns=columns).stdout) for columns in (80, 160))
    assert re.search(r"^ +1  in doubt +medium", narrow, re.MULTILINE)
    assert re.search(r"^ +2  pending +medium", narrow, re.MULTILINE)
    assert re.search(r"^ +2  pending, in [0-9,]+ d +medium", wide, re.MULTILINE)


def test_a_wide_list_says_what_a_failed_task_failed_for(filled: Issue) -> None:
    force_state(filled, 2, "failed", last_error="422: unknown field\nand more")
    force_state(filled, 1, "pending", last_error="busy")
    narrow, wide = (plainly(filled.on_terminal("list", columns=columns).stdout) for columns in (80, 160))
    assert "422" not in narrow
    assert re.search(r"^ +2  failed .*  422: unknown field *$", wide, re.MULTILINE)
    assert "busy" not in wide


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (80, "seq state prio accepted repo title"),
        (56, "seq state prio repo title"),
        (40, "seq state repo title"),
        (20, "seq state title"),
    ],
)
def test_a_narrow_list_leaves_out_columns_before_it_cuts_seq_state_or_title(
    filled: Issue, columns: int, names: str
) -> None:
    header, *lines = plainly(filled.on_terminal("list", columns=columns).stdout).splitlines()
    assert header.split() == names.split()
    assert [line.split()[:2] for line in lines] == [["3", "synced"], ["2", "failed"], ["1", "pending"]]
    assert all(re.search(r"  (Task|A ti|A t…)", line) for line in lines)


def test_a_terminal_without_256_colours_gets_bold_and_dim_alone(filled: Issue) -> None:
    for words in (("list",), ("status",), ("show", "2")):
        text = filled.on_terminal(*words, environment={"TERM": "xterm"}).stdout
        assert "\x1b[1m" in text
        assert not re.search(r"\x1b\[[0-9;]*[349][0-9]", text)


def test_history_on_a_terminal_has_no_number_that_reads_as_a_count_of_tries(filled: Issue) -> None:
    assert "attempt=" in filled.call("show", "3").stdout
    text = plainly(filled.on_terminal("show", "3", columns=200).stdout)
    assert "attempt=" not in text
    assert "backend=local" in text


def test_where_no_task_is_listed_a_person_reads_what_to_do(issue: Issue) -> None:
    text = issue.on_terminal("list").stdout
    assert text.splitlines()[0] == f"no task in the ledger {issue.path}"
    assert "hint: issue ingest FILE" in text
    issue.run("ingest", input=ndjson(a_spec(1)))
    said = issue.on_terminal("list", "--repo", "nowhere").stdout.splitlines()
    assert said[0] == "no such task"
    assert said[1].startswith("hint: issue list without filters shows all")


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
    ago = re.compile(r"\b\d,\d{3} d ago\b")
    assert ago.search(ANSI.sub("", filled.on_terminal(*command.split(), columns=columns).stdout))
    piped = filled.call(*command.split()).stdout
    assert not ago.search(piped)
    assert "2020-01-01T00:00:00.000Z" in piped or command == "status"


def test_a_wide_terminal_shows_whole_titles_and_addresses(filled: Issue) -> None:
    force_state(filled, 3, "synced", remote_url=URL)
    text = ANSI.sub("", filled.on_terminal("list", columns=200, environment={"TERM": "linux"}).stdout)
    assert URL in text
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
    assert "2,001 received: 2,000 created" in ran.stdout.splitlines()[-1]


def test_the_progress_bar_is_red_only_once_something_was_rejected(issue: Issue) -> None:
    lines = [a_spec(number, description="x" * 5000) for number in range(2000)]
    (issue.folder / "in.ndjson").write_text(ndjson("bad", *lines))
    seen = issue.on_terminal("ingest", str(issue.folder / "in.ndjson"), columns=100).stdout
    assert re.search(r"(\x1b\[0m| )0 rejected", seen)
    assert "m0 rejected" not in seen.replace("\x1b[0m", "")
    assert "\x1b[38;5;160m1 rejected" in seen


def test_small_input_has_no_progress_bar(issue: Issue) -> None:
    (issue.folder / "in.ndjson").write_text(ndjson(a_spec(1)))
    ran = issue.on_terminal("ingest", str(issue.folder / "in.ndjson"))
    assert ran.stdout == "1 received: 1 created, 0 duplicate, 0 conflict, 0 invalid\n"
