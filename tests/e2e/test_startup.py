"""What a start imports: speed is kept by what stays out."""

from __future__ import annotations

import sys

import pytest

from tests.support.cli import Issue, a_spec, ndjson

HEAVY = {
    "rich",
    "pydantic",
    "sqlite_utils",
    "httpx",
    "asyncio",
    "tomllib",
    "markdown_it",
    "pygments",
    "multiprocessing",
}
OURS_TO_READ = {"issue_core.ingestion", "issue_core.taskspec", "issue_core.transports", "issue_core.sync_engine"}


def imported(issue: Issue, *words: str) -> set[str]:
    """The modules that the command imports."""
    issue.run("ingest", input=ndjson(a_spec(1)))
    script = "import sys; from issue_core.cli import main; main(); print(*sys.modules, file=sys.stderr)"
    no_file = issue.environment | {"ISSUE_CORE_CONFIG": ""}
    ran = issue.shell(f'{sys.executable} -c "{script}" {" ".join(words)}', env=no_file)
    assert ran.code == 0
    return set(ran.stderr.split())


@pytest.mark.parametrize(
    "command", ["status", "status --json", "list --limit 5", "list --json", "show 1", "rejects list"]
)
def test_reading_imports_nothing_heavy(issue: Issue, command: str) -> None:
    modules = imported(issue, command)
    assert modules & (HEAVY | OURS_TO_READ) == set()


def test_reading_imports_no_command_but_its_own(issue: Issue) -> None:
    commands = {name for name in imported(issue, "status") if name.startswith("issue_core.cli.")}
    assert commands == {f"issue_core.cli.{name}" for name in ("app", "context", "group", "options", "output", "status")}


def test_ingest_imports_nothing_that_it_does_not_need(issue: Issue) -> None:
    (issue.folder / "in.ndjson").write_text(ndjson(a_spec(2)))
    modules = imported(issue, "ingest in.ndjson")
    assert modules & (HEAVY - {"pydantic"}) == set()


def test_help_in_a_pipe_does_without_rich(issue: Issue) -> None:
    assert "rich" not in imported(issue, "list --help")
