"""Every command and option: explained, shown in an example, and in the reference."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer import Context

from tests.support.cli import Issue
from tests.support.reference import PAGE, commands, reference

COMMANDS = dict(commands())
ALL = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def examples(command: Any) -> list[str]:
    return [line.strip().removeprefix("$ ") for line in command.epilog.splitlines()[2:]]


def parameters(path: tuple[str, ...]) -> list[Any]:
    return list(COMMANDS[path].params)


@ALL
def test_every_command_is_explained_and_has_an_example(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    assert examples(command)


@ALL
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    assert [each.name for each in parameters(path) if not each.help] == []


@ALL
def test_every_option_says_what_stands_behind_it_and_not_of_which_type_that_is(path: tuple[str, ...]) -> None:
    records = [each.get_help_record(Context(COMMANDS[path])) for each in parameters(path)]
    assert [names for names, _ in filter(None, records) if re.search(r"<(str|int|float|path)\b", names)] == []


@ALL
def test_every_command_has_json_and_says_as_much_as_is_asked_for(path: tuple[str, ...]) -> None:
    if hasattr(COMMANDS[path], "list_commands"):
        return
    options = {option for each in parameters(path) for option in each.opts}
    assert {"--json", "--verbose", "--log-format"} - options == ({"--json"} if path == ("issue", "serve") else set())


@ALL
def test_every_example_shows_its_command_with_options_that_it_has(path: tuple[str, ...]) -> None:
    for example in examples(COMMANDS[path]):
        calls = [shlex.split(part) for part in re.split(r"[|<>]", example) if part.strip().startswith("issue ")]
        named = [max((each for each in COMMANDS if tuple(words[: len(each)]) == each), key=len) for words in calls]
        assert path in [each[: len(path)] for each in named]
        for each, words in zip(named, calls, strict=True):
            known = {option for parameter in parameters(each) for option in parameter.opts}
            assert {word for word in words if re.match("--?[a-z]", word)} <= known


@ALL
def test_every_command_but_schema_takes_the_ledger_and_configuration_behind_its_name(path: tuple[str, ...]) -> None:
    if hasattr(COMMANDS[path], "list_commands") or path[-1] == "schema":
        return
    options = {option for each in parameters(path) for option in each.opts}
    assert {"--config", "--ledger"} - options <= ({"--ledger"} if path == ("issue", "config", "init") else set())


@ALL
def test_the_help_of_a_command_shows_its_examples_unwrapped(path: tuple[str, ...], issue: Issue) -> None:
    ran = issue.call(*path[1:], "--help")
    assert ran.code == 0
    assert [each for each in examples(COMMANDS[path]) if f"$ {each}\n" not in ran.stdout] == []


def test_the_reference_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "stale: write it again with `make docs`"


def test_the_reference_names_every_command_and_option() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for path in COMMANDS:
        section = page.split(f"`{' '.join(path)}`\n", 1)[1].split("\n#", 1)[0]
        missing = [option for each in parameters(path) for option in each.opts if option.startswith("-")]
        assert [option for option in missing if option not in section] == []


def test_no_command_asks_for_help_text_that_rich_would_take_for_markup() -> None:
    texts = [text for command in COMMANDS.values() for text in (command.help, *(p.help for p in command.params))]
    assert [text for text in texts if re.search(r"\[[a-z#/@]", text)] == []


def test_the_command_alone_shows_its_help_and_is_a_wrong_usage(issue: Issue) -> None:
    ran = issue.call()
    assert (ran.code, ran.stdout.startswith("Usage: issue [OPTIONS] COMMAND")) == (2, True)
    assert issue.call("rejects").stdout.startswith("Usage: issue rejects")


def test_the_help_of_a_group_says_all_of_each_commands_first_sentence(issue: Issue) -> None:
    for path, command in COMMANDS.items():
        if hasattr(command, "list_commands"):
            text = " ".join(issue.call(*path[1:], "--help").stdout.split())
            below = [COMMANDS[each] for each in COMMANDS if each[:-1] == path]
            first = [" ".join(each.help.split("\n\n")[0].split()) for each in below]
            assert [each for each in first if each not in text] == []


def test_version(issue: Issue) -> None:
    assert re.fullmatch(r"issue-core \d+\.\d+\.\d+\n", issue.call("--version").stdout)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lst"], "issue: No such command 'lst'. Did you mean 'list'?"),
        (["list", "--stat", "x"], "issue: No such option: --stat (Possible options: --state)"),
        (["rejects", "shw"], "issue: No such command 'shw'. Did you mean 'show'?"),
        (["show"], "issue: Missing argument 'ID'."),
        (["list", "--limit", "-1"], "issue: Invalid value for '--limit': -1 is not in the range 0<=x<=2147483648."),
        (["list", "a\x1b[2J"], "issue: Got unexpected extra argument(s) (a\\x1b[2J)"),
        (["status", "--max-age", "1h"], "issue: --max-age has no meaning without --check"),
        (["status", "--check", "--max-age", "soon"], "issue: --max-age 'soon': expected a duration"),
        (["retry"], "issue: name the tasks to try again, or say --all"),
        (["retry", "1", "--all"], "issue: name the tasks to try again, or say --all"),
        (["rejects", "drop"], "issue: name the rejects by their IDs, or say --all"),
        (["list", "--since", "yesterday"], "issue: --since 'yesterday': neither an age nor a date"),
    ],
)
def test_a_wrong_usage_is_one_line_and_a_hint_and_ends_with_2(issue: Issue, words: list[str], message: str) -> None:
    ran = issue.call(*words)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(message)
    assert len(ran.stderr.splitlines()) <= 2


def test_ledger_and_config_may_stand_before_the_command_and_behind_it_and_behind_wins(
    issue: Issue, tmp_path: Path
) -> None:
    one, other = str(tmp_path / "one.db"), str(tmp_path / "other.db")
    assert issue.call("--ledger", one, "list").stderr == f"no task in the ledger {one}\n"
    assert issue.call("list", "--ledger", one).stderr == f"no task in the ledger {one}\n"
    assert issue.call("--ledger", other, "list", "--ledger", one).stderr == f"no task in the ledger {one}\n"
    assert issue.call("list").stderr == f"no task in the ledger {issue.path}\n"


def test_a_configuration_before_the_command_is_read(issue: Issue, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[sync]\nlaese = 1\n")
    ran = issue.call("--config", str(tmp_path / "mine.toml"), "list")
    assert (ran.code, ran.stderr.startswith(f"issue: {tmp_path}/mine.toml")) == (2, True)


def test_nothing_that_only_reads_makes_a_ledger(issue: Issue) -> None:
    for words in (
        "list",
        "status",
        "export",
        "rejects list",
        "rejects drop --all",
        "rejects replay --all",
        "retry --all",
    ):
        assert issue.call(*words.split()).code == 0
    assert not issue.path.exists()
