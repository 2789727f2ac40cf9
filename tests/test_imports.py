"""What an import may bring along: start-up is kept short by an allow-list."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import Issue, a_spec, ndjson

ROOT = Path(__file__).parents[1]

HEAVY = {
    *("asyncio", "concurrent.futures", "ctypes", "decimal", "email", "http.client", "http.server", "inspect"),
    *(
        "logging",
        "multiprocessing",
        "socket",
        "ssl",
        "tomllib",
        "typing_extensions",
        "unittest",
        "urllib.request",
        "zipfile",
    ),
}
"""Modules of the standard library that take some milliseconds each, and are asked for where they are needed alone."""

DATACLASSES = {"inspect"}
PYDANTIC = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
# What pydantic brings along is its own affair, but for these.
PYDANTIC |= HEAVY - {"asyncio", "http.client", "http.server", "multiprocessing", "ssl", "tomllib", "urllib.request"}

# What each of our modules may import from outside the standard library, and of the heavy part of it.
ALLOWED: dict[str, set[str]] = {
    "issue_core": set(),
    "issue_core.errors": set(),
    "issue_core.task": set(),
    "issue_core.ledger": set(),
    "issue_core.ledger.queries": set(),
    "issue_core.ledger.history": set(),
    "issue_core.ledger.rejects": DATACLASSES,
    "issue_core.cli": set(),
    "issue_core.cli.output": set(),
    "issue_core.config": DATACLASSES,
    "issue_core.backends.base": DATACLASSES,
    "issue_core.taskspec": PYDANTIC,
    "issue_core.ingestion": PYDANTIC,
}


def imported_by(module: str) -> set[str]:
    """The modules that importing ``module`` brings along, in a process of its own."""
    script = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "__import__(sys.argv[1])\n"
        "new = sorted(set(sys.modules) - before)\n"
        "print(json.dumps(new))"
    )
    command = [sys.executable, "-c", script, module]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(ran.stdout))


@pytest.mark.parametrize("module", ALLOWED)
def test_an_import_brings_along_only_what_it_may(module: str) -> None:
    imported = imported_by(module)
    foreign = {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {"issue_core"}
    foreign = {name for name in foreign if not name.startswith("_")}
    assert foreign | (imported & HEAVY) <= ALLOWED[module]


def test_the_public_names_are_loaded_when_they_are_used() -> None:
    assert (
        imported_by("issue_core") & {"sqlite3", "json", "dataclasses", "issue_core.task", "issue_core.ledger"} == set()
    )


def test_reading_a_ledger_does_not_need_the_rules_for_what_comes_in() -> None:
    imported = imported_by("issue_core.ledger.queries")
    assert (
        imported & {"issue_core.taskspec", "issue_core.ingestion", "issue_core.config", "issue_core.backends"} == set()
    )


@pytest.mark.parametrize("module", ["app", "group", "options", "context", "listing", "show", "status"])
def test_a_command_that_reads_brings_along_what_typer_does_and_no_more(module: str) -> None:
    imported = imported_by(f"issue_core.cli.{module}") - imported_by("typer")
    foreign = {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {"issue_core"}
    assert foreign <= {"typer"}
    assert imported & (HEAVY | {"difflib"}) <= DATACLASSES


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["status"], ["status", "--json"], ["show", "1"]])
def test_a_command_that_reads_runs_without_what_writes_and_draws(tmp_path: Path, words: list[str]) -> None:
    """As Python itself tells it, of the real command: see ``-X importtime``."""
    issue = Issue(tmp_path)
    assert issue.run("ingest", input=ndjson(a_spec())).code == 0
    ran = issue.run(*words, env=issue.environment | {"PYTHONPROFILEIMPORTTIME": "1"})
    assert ran.code == 0
    imported = {line.rsplit("|", 1)[1].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert "issue_core.ledger.queries" in imported
    # The settings are found by platformdirs, or read by tomllib.
    unwanted = {"rich", "pydantic", "sqlite_utils", "asyncio", "ssl", "http.client", "logging", "jsonschema"}
    assert imported & unwanted == set()
