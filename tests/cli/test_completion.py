"""What a shell is told when somebody presses the tab key, asked as the shells' own scripts ask it."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from issue_core.cli.completion import MOST
from issue_core.ledger import Ledger, suggestions
from tests.support.cli import ISSUE, Issue, Ran, a_spec, force_state, ndjson

SHELLS = ("bash", "zsh", "fish")
ALL = pytest.mark.parametrize("shell", SHELLS)

_OFFERED = {
    "bash": re.compile(r"^(.+)$", re.MULTILINE),
    "zsh": re.compile(r'^(?:_arguments \'\*: :\(\()?"([^"]+)"', re.MULTILINE),
    "fish": re.compile(r"^([^\t\n]+)", re.MULTILINE),
}


def asked(shell: str, line: str) -> dict[str, str]:
    """The environment in which the shell's script runs the command, for a line with the cursor at its end."""
    if shell == "bash":
        words = re.findall(r"[^\s=]+|=", line) + ([""] if line[-1] in " " else [])  # bash breaks words at the sign
        return {"_ISSUE_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    action = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    return {"_ISSUE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line, **action}


@dataclass(frozen=True, slots=True)
class Asked(Issue):
    """The command, asked by a shell."""

    variables: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What the shell's script adds, too."""
        return Issue(self.folder).environment | dict(self.variables)


def answer(issue: Issue, shell: str, line: str) -> Ran:
    return Asked(issue.folder, asked(shell, line)).call()


def offers(issue: Issue, shell: str, line: str) -> list[str]:
    """The names that the shell is offered."""
    ran = answer(issue, shell, line)
    assert (ran.code, ran.stderr) == (0, "")
    return [] if ran.stdout.strip() == "_files" else _OFFERED[shell].findall(ran.stdout)


@pytest.fixture
def filled(issue: Issue) -> Issue:
    """A ledger with three tasks, the second of which failed, and two rejects, the first of which is closed."""
    specs = (a_spec(1), a_spec(2, target_repo="acme/api", labels=["Disk"]), a_spec(3, source_id="mail"))
    (issue.folder / "in.ndjson").write_text(ndjson(*specs, "bad", "worse"))
    issue.call("ingest", str(issue.folder / "in.ndjson"))
    issue.call("rejects", "drop", "1")
    force_state(issue, 2, "failed")
    (issue.folder / "config.toml").write_text(
        '[backends.work]\ntype = "gitea"\nurl = "https://x"\ntoken = {env = "T"}\nproject = "a/b"\n'
    )
    return issue


def event_id(number: int) -> str:
    return str(a_spec(number)["triggering_event_id"])


@ALL
@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("issue sta", ["status"]),
        ("issue rejects dr", ["drop"]),
        ("issue list --state f", ["failed"]),
        ("issue list --repo ", ["acme/api", "acme/web"]),
        ("issue list --repo acme/w", ["acme/web"]),
        ("issue export --label d", ["disk"]),
        ("issue list --source ", ["disk-watch", "mail"]),
        ("issue new x --repo acme/a", ["acme/api"]),
        ("issue sync --backend ", ["work", "local"]),
        ("issue sync --backend w", ["work"]),
        ("issue rejects show ", ["2", "1"]),
        ("issue rejects replay ", ["2"]),
        ("issue ingest --replaces ", ["2"]),
        ("issue show ", [event_id(3), event_id(2), event_id(1)]),
        (f"issue show {event_id(2)[:6]}", [event_id(2)]),
        (f"issue link {event_id(1)[:4]}", [event_id(1)]),
        ("issue retry ", [event_id(2)]),
        ("issue show zzzz", []),
        ("issue show ä", []),
        ("issue rejects show x", []),
        ("issue list --since ", []),
    ],
)
def test_names_are_offered(filled: Issue, shell: str, line: str, names: list[str]) -> None:
    assert offers(filled, shell, line) == names


@pytest.mark.parametrize(
    ("shell", "names"), [("bash", ["acme/web"]), ("zsh", ["--repo=acme/web"]), ("fish", ["--repo=acme/web"])]
)
def test_a_value_behind_an_equals_sign_is_completed_as_the_shell_wants_it(
    filled: Issue, shell: str, names: list[str]
) -> None:
    assert offers(filled, shell, "issue list --repo=acme/w") == names


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_task_is_offered_with_its_state_and_title_and_nothing_that_a_shell_would_run(
    issue: Issue, shell: str
) -> None:
    title = "Größe `touch a` $(touch b) ${IFS} 'c' \"d\" ; touch e \\ %s !x"
    (issue.folder / "in.ndjson").write_text(ndjson(a_spec(1, title=title)))
    issue.call("ingest", str(issue.folder / "in.ndjson"))
    told = answer(issue, shell, "issue show ").stdout
    assert "pending Größe touch a touch b IFS c d touch e s x" in told
    assert set("`$\\;!%") & set(told) == set()


@ALL
def test_a_repo_whose_name_a_shell_could_run_is_not_offered(issue: Issue, shell: str) -> None:
    repos = ["ok", "$(reboot)", "`reboot`", "a;b", "a*", "'", '"', "\\", "-rf", "größe", "a:b", "~", "a|b", "{a,b}"]
    specs = [a_spec(number, target_repo=repo) for number, repo in enumerate(repos)]
    (issue.folder / "in.ndjson").write_text(ndjson(*specs))
    issue.call("ingest", str(issue.folder / "in.ndjson"))
    assert offers(issue, shell, "issue list --repo ") == ["ok"]


@ALL
@pytest.mark.parametrize("where", ["before", "behind"])
def test_the_ledger_that_the_line_names_is_asked(filled: Issue, shell: str, where: str, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    filled.path.rename(other)
    line = {"before": f"issue --ledger {other} show ", "behind": f"issue show --ledger {other} "}[where]
    assert offers(filled, shell, line) == [event_id(3), event_id(2), event_id(1)]


def _no_ledger(issue: Issue) -> None:
    pass


def _not_a_ledger(issue: Issue) -> None:
    issue.path.write_text("something else, and long enough to be read as what it is not\n" * 3)


def _a_folder(issue: Issue) -> None:
    issue.path.mkdir()


def _a_broken_configuration(issue: Issue) -> None:
    (issue.folder / "config.toml").write_text("[backends\n")


@ALL
@pytest.mark.parametrize("line", ["issue show ", "issue list --repo a", "issue rejects show ", "issue retry "])
@pytest.mark.parametrize("trouble", [_no_ledger, _not_a_ledger, _a_folder, _a_broken_configuration])
def test_where_nothing_can_be_read_nothing_is_offered_said_or_made(
    issue: Issue, shell: str, line: str, trouble: Callable[[Issue], None]
) -> None:
    trouble(issue)
    (issue.folder / "config.toml").touch()
    before = sorted(issue.folder.rglob("*"))
    ran = answer(issue, shell, line)
    assert (ran.stdout.strip() in ("", "_files"), ran.stderr) == (True, "")
    assert sorted(issue.folder.rglob("*")) == before


@pytest.mark.parametrize(
    "variables",
    [
        {"_ISSUE_COMPLETE": "complete_bash"},
        {"_ISSUE_COMPLETE": "complete_bash", "COMP_WORDS": "issue", "COMP_CWORD": "x"},
        {"_ISSUE_COMPLETE": "complete_zsh"},
        {"_ISSUE_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "issue list --repo 'acme"},
        {"_ISSUE_COMPLETE": "complete_fish"},
        {"_ISSUE_COMPLETE": "complete_csh"},
        {"_ISSUE_COMPLETE": ""},
    ],
)
def test_an_environment_that_makes_no_sense_causes_no_traceback(issue: Issue, variables: dict[str, str]) -> None:
    ran = issue.run(env=issue.environment | variables)
    assert "Traceback" not in ran.stderr
    assert ran.code in (0, 1, 2)


@ALL
def test_completion_imports_nothing_heavy(filled: Issue, shell: str) -> None:
    script = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    script += "from issue_core.cli import main; main()"
    ran = filled.shell(
        f"python -c {shlex.quote(script)}",
        env=filled.environment
        | asked(shell, "issue show ")
        | {"PATH": f"{Path(ISSUE).parent}:/usr/bin:/bin", "ISSUE_CORE_CONFIG": ""},
    )
    assert event_id(1) in ran.stdout
    heavy = {"rich", "pydantic", "sqlite_utils", "urllib3", "asyncio", "tomllib", "issue_core.ingestion"}
    assert heavy & set(ran.stderr.split()) == set()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A ledger with 200,000 tasks of as many repos: the first half with random event IDs, the rest in order of time."""
    path = tmp_path_factory.mktemp("large") / "ledger.db"
    with Ledger(path) as ledger, ledger.write():
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
            INSERT INTO tasks (seq, event_id, state, digest, title, target_repo, priority, labels, source_type,
                               source_id, transport, run, created_at, description)
            SELECT i, CASE WHEN i <= 100000 THEN printf('%08x-', (i * 2654435761) % 4294967296) ELSE '0190aaaa-' END
                      || printf('0000-0000-0000-%012x', i),
                   'failed', x'00', 'title', 'repo' || i, 'low', '[]', 'rule', 's', 'cli', 'r',
                   '2026-03-01T09:00:00.000Z', '' FROM n;
            INSERT INTO facets SELECT 'repo', target_repo, seq / 1024 FROM tasks;
            INSERT INTO facets SELECT DISTINCT 'state', 'failed', seq / 1024 FROM tasks;
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
            INSERT INTO rejects (id, kind, state, sha256, length, errors, place, transport, first_at, last_at, raw)
            SELECT i, 'invalid', iif(i % 2, 'open', 'dropped'), i, 0, '[]', '{}', 'cli',
                   '2026-03-01T09:00:00.000Z', '2026-03-01T09:00:00.000Z', x'' FROM n;
        """)
        connection.commit()
    with Ledger(path) as ledger, ledger.read() as connection:
        yield connection


def steps(connection: sqlite3.Connection, find: Callable[[], object]) -> int:
    """How many steps of SQLite's machine it takes, roughly; a million of them are about 50 ms."""
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1

    connection.set_progress_handler(count, 100)
    try:
        find()
    finally:
        connection.set_progress_handler(None, 0)
    return taken * 100


@pytest.mark.parametrize(
    "beginning", ["", "0", "0190", "0190aaaa-0000-0000-0000-00000003", "7", "7f", "7f3", "fffe", "g"]
)
def test_event_ids_are_found_in_bounded_time_the_newest_first(large: sqlite3.Connection, beginning: str) -> None:
    found = suggestions.event_ids(large, beginning, limit=MOST)
    seqs = [task.seq for task in found]
    assert len(found) <= MOST
    assert all(task.event_id.startswith(beginning) for task in found)
    assert beginning == "7" or seqs == sorted(seqs, reverse=True)
    assert bool(found) == (beginning != "g")
    assert steps(large, lambda: suggestions.event_ids(large, beginning, limit=MOST)) < 500_000


@pytest.mark.parametrize("beginning", ["", "repo1", "repo199999", "x"])
def test_repos_are_found_in_bounded_time(large: sqlite3.Connection, beginning: str) -> None:
    found = suggestions.values(large, "repo", beginning, limit=MOST)
    assert found == sorted(found)
    assert len(found) == {"": MOST, "repo1": MOST, "repo199999": 1, "x": 0}[beginning]
    assert steps(large, lambda: suggestions.values(large, "repo", beginning, limit=MOST)) < 10_000


@pytest.mark.parametrize(
    ("beginning", "first"), [("", 99999), ("7", 79999), ("99998", None), ("99999", 99999), ("0", None)]
)
def test_rejects_are_found_in_bounded_time_the_newest_first(
    large: sqlite3.Connection, beginning: str, first: int | None
) -> None:
    def find() -> list[suggestions.RejectName]:
        return list(suggestions.reject_ids(large, beginning, state="open", limit=MOST))

    found = [each.id for each in find()]
    assert found[:1] == ([] if first is None else [first])
    assert found == sorted(found, reverse=True)
    assert steps(large, find) < 20_000


def test_failed_tasks_are_found_in_bounded_time(large: sqlite3.Connection) -> None:
    assert [task.seq for task in suggestions.failed(large, "", limit=2)] == [200000, 199999]
    assert steps(large, lambda: suggestions.failed(large, "zz", limit=MOST)) < 500_000


def test_rejects_that_begin_with_the_same_digits_are_found_whatever_follows(issue: Issue) -> None:
    (issue.folder / "in").write_text("".join(f"bad {number}\n" for number in range(130)))
    issue.call("ingest", str(issue.folder / "in"))
    with issue.ledger as ledger, ledger.read() as connection:
        found = suggestions.reject_ids(connection, "12", state=None, limit=MOST)
        assert [each.id for each in found] == [*range(129, 119, -1), 12]


_SCRIPTS = {
    "bash": """
        COMP_WORDS=(issue show {word}); COMP_CWORD=2; _issue_completion issue; echo "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        compdef() {{ true }}; _arguments() {{ print -r -- "$@" }}; source issue.sh
        words=(issue show {word}); CURRENT=3; _issue_completion
    """,
    "fish": """
        complete -C "issue show {word}"
    """,
}


@ALL
def test_the_script_that_is_installed_asks_and_understands(filled: Issue, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    script = filled.run(env=filled.environment | {"_ISSUE_COMPLETE": f"source_{shell}"})
    assert script.code == 0
    (filled.folder / "issue.sh").write_text(script.stdout)
    text = _SCRIPTS[shell].format(word=event_id(2)[:5])
    run = text if shell == "zsh" else f"source issue.sh\n{text}"
    (filled.folder / "run.sh").write_text(run)
    quiet = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[shell]
    ran = filled.shell(f"{shell} {quiet} run.sh")
    assert (ran.code, event_id(2) in ran.stdout, ran.stderr) == (0, True, "")


@ALL
def test_the_script_of_any_shell_is_shown_by_its_name_whichever_is_in_use(filled: Issue, shell: str) -> None:
    asked_for = filled.run(env=filled.environment | {"_ISSUE_COMPLETE": f"source_{shell}"})
    for words in (["--show-completion", shell], [f"--show-completion={shell}"]):
        assert filled.run(*words).stdout.strip() == asked_for.stdout.strip()


@ALL
@pytest.mark.parametrize("words", ["--show-completion", "--show-completion -v"])
def test_without_a_name_it_is_that_of_the_shell_in_use(filled: Issue, shell: str, words: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    ran = filled.shell(f"{shell} -c 'issue {words}; true'")
    assert ran.stdout == filled.run("--show-completion", shell).stdout


@pytest.mark.parametrize("option", ["--show-completion", "--install-completion"])
def test_a_shell_for_which_there_is_none_is_a_wrong_usage(issue: Issue, option: str) -> None:
    ran = issue.call(option, "ksh")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == "issue: there is no completion for ksh\nhint: Name one: bash, zsh, fish.\n"


@ALL
def test_the_names_of_the_shells_are_offered(issue: Issue, shell: str) -> None:
    assert offers(issue, shell, "issue --show-completion z") == ["zsh"]


_RUN = {"bash": "bash --rcfile .bashrc -i", "zsh": "zsh -i", "fish": "fish -i"}


@contextmanager
def typing_into(issue: Issue, shell: str) -> Iterator[int]:
    """The shell at a terminal of its own, which is its keyboard's end, once it takes commands."""
    environment = issue.environment | {"PATH": f"{Path(ISSUE).parent}:/usr/bin:/bin", "fish_greeting": ""}
    process, ours = pty.fork()
    if not process:
        os.chdir(issue.folder)
        command = _RUN[shell].split()
        os.execvpe(command[0], command, environment)  # noqa: S606 - the shell itself is what is looked at
    try:
        until(ours, issue.folder / "ready", "here", typed="echo here > ready\r")
        yield ours
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ours)


def until(terminal: int, file: Path, text: str, *, typed: str) -> None:
    """Type this and read what the shell shows until it has written ``text`` to a file."""
    os.write(terminal, typed.encode())
    over = time.monotonic() + 20
    while not (file.exists() and text in file.read_text()):
        assert time.monotonic() < over
        # fish asks a terminal what it is, and waits a while for the answer
        if select.select([terminal], [], [], 0.05)[0] and b"\x1b[c" in os.read(terminal, 65536):
            os.write(terminal, b"\x1b[?62;c")


@ALL
def test_what_is_installed_completes_what_is_typed_into_the_shell(filled: Issue, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    ran = filled.run("--install-completion", shell)
    assert (ran.code, ran.stdout.startswith(f"{shell} completion installed in {filled.folder}")) == (0, True)
    with typing_into(filled, shell) as terminal:
        typed = f"issue show {event_id(2)[:5]}\t --json > seen\r"
        until(terminal, filled.folder / "seen", '"seq": 2,', typed=typed)
