"""What programs may import from ``issue_core``, and how it looks from outside."""

from __future__ import annotations

import inspect
import json
import random
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import issue_core
from issue_core import Document, Ledger, Place, Receipt, TaskIngestionRequest, TaskSpec, ingest, sync
from issue_core.ledger import queries
from issue_core.sync_engine import Result
from issue_core.task import OUTCOMES
from tests.support.specs import a_spec, an_event_id, written

ROOT = Path(__file__).parents[1]


def test_the_public_names_are_these() -> None:
    """A name that is taken away, or added without thought, is a change for the programs of others."""
    assert sorted(issue_core.__all__) == [
        *("Document", "Ledger", "Place", "Receipt", "Task", "TaskIngestionRequest", "TaskSpec", "ingest", "sync"),
    ]


@pytest.mark.parametrize("name", issue_core.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    thing = getattr(issue_core, name)
    assert thing is getattr(issue_core, name)
    assert inspect.getdoc(thing)


def test_what_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'issue_core' has no attribute 'nothing'"):
        _ = issue_core.nothing
    assert not hasattr(issue_core, "_HOMES_")


def test_no_module_takes_the_place_of_a_public_function() -> None:
    """``import issue_core.ingest`` would put the module where the function was."""
    package = Path(str(files("issue_core")))
    modules = {path.stem for path in package.iterdir()}
    assert modules & set(issue_core.__all__) == set()


def test_all_of_it_can_be_imported_at_once() -> None:
    script = "from issue_core import *; print(sorted(name for name in dir() if not name.startswith('_')))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip() == str(sorted(issue_core.__all__))


def test_the_package_is_typed_and_knows_its_version() -> None:
    assert files("issue_core").joinpath("py.typed").is_file()
    assert issue_core.__version__ == version("issue-core")


def test_ingest_has_the_parameters_that_programs_were_told_of() -> None:
    assert str(inspect.signature(ingest)) == (
        "(ledger: 'Ledger', documents: 'Iterable[Document | bytes | str]', *, transport: 'Transport' = 'cli', "
        "strict: 'bool' = False, max_document: 'int' = 1048576, replaces: 'int | None' = None) -> 'list[Receipt]'"
    )


def test_a_program_hands_in_a_batch_and_gets_its_receipts(tmp_path: Path) -> None:
    spec = a_spec(triggering_event_id=an_event_id(1))
    with Ledger(tmp_path / "ledger.db") as ledger:
        receipts = ingest(ledger, [written(spec), json.dumps(spec), Document(b"{", Place("-", 3))], transport="rest")
        with ledger.read() as connection:
            task = queries.task(connection, 1)
    assert all(isinstance(receipt, Receipt) for receipt in receipts)
    assert [receipt.outcome for receipt in receipts] == ["created", "duplicate", "invalid"]
    assert isinstance(task, issue_core.Task)
    common = {"event_id": an_event_id(1), "seq": 1, "state": "pending", "warnings": []}
    assert [receipt.to_json() for receipt in receipts[:2]] == [
        {"outcome": "created", **common},
        {"outcome": "duplicate", **common},
    ]
    refused = receipts[2].to_json()
    assert list(refused) == ["outcome", "event_id", "seq", "state", "warnings", "reject_id", "errors", "file", "line"]
    assert (refused["reject_id"], refused["line"], refused["file"]) == (1, 3, "-")


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize(
    ("place", "members"),
    [
        (Place(), {}),
        (Place(line=3), {"line": 3}),
        (Place("in", 3), {"file": "in", "line": 3}),
        (Place(element=0), {"index": 0}),
        (Place("in", 1, 0), {"file": "in", "line": 1, "index": 0}),
    ],
)
def test_a_receipt_in_json_has_its_place_and_a_reject_its_reasons(
    outcome: Any, place: Place, members: dict[str, Any]
) -> None:
    shown = Receipt(outcome, an_event_id(1), 1, "pending", ("w",), place=place).to_json()
    assert {name: shown[name] for name in members} == members
    assert ("reject_id" in shown) == ("errors" in shown) == (outcome in ("conflict", "invalid"))
    assert set(shown) - {"reject_id", "errors"} - set(members) == {"outcome", "event_id", "seq", "state", "warnings"}
    assert Place.from_json(members) == place


def test_the_model_can_be_built_by_programs_that_emit(tmp_path: Path) -> None:
    spec = TaskSpec.model_validate(a_spec(triggering_event_id=an_event_id(1), labels=["a", "A"]))
    assert TaskIngestionRequest is TaskSpec
    with Ledger(tmp_path / "ledger.db") as ledger:
        (first,) = ingest(ledger, [spec.model_dump_json()])
        (second,) = ingest(ledger, [written(a_spec(triggering_event_id=an_event_id(1), labels=["A"]))])
    assert (first.outcome, second.outcome) == ("created", "duplicate")


def test_the_schema_of_the_model_names_every_field_and_rule() -> None:
    shown = TaskSpec.model_json_schema()
    assert set(shown["required"]) == {"title", "target_repo", "source_type", "source_id", "triggering_event_id"}
    assert all(field.get("description") for field in shown["properties"].values())
    assert shown["properties"]["title"]["maxLength"] == 255


# --- however it is imported -----------------------------------------------------------------------------------------

SUBMODULES = ("ingestion", "sync_engine", "ledger", "task", "taskspec", "config", "backends", "transports", "cli")


@pytest.mark.parametrize("seed", range(6))
def test_the_names_are_the_same_in_whatever_order_they_and_the_modules_are_imported(seed: int) -> None:
    lines = [f"from issue_core import {name}" for name in issue_core.__all__]
    lines += [f"import issue_core.{module}" for module in SUBMODULES]
    random.Random(seed).shuffle(lines)
    kinds = "{name: type(getattr(issue_core, name)).__name__ for name in ('ingest', 'sync')}"
    here = "all(globals()[name] is getattr(issue_core, name) for name in issue_core.__all__)"
    script = "\n".join([*lines, "import issue_core, json", f"print(json.dumps([{kinds}, {here}]))"])
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(ran.stdout) == [{"ingest": "function", "sync": "function"}, True]


def test_the_names_stand_in_order() -> None:
    assert issue_core.__all__ == sorted(issue_core.__all__)


def test_a_program_takes_a_task_from_json_to_a_file(tmp_path: Path) -> None:
    told: list[Result] = []
    with Ledger(tmp_path / "ledger.db") as ledger:
        (receipt,) = ingest(ledger, [written(a_spec(title="Renew the certificate"))])
        summary = sync(ledger, tell=told.append)
    (file,) = (tmp_path / "issues").rglob("*.md")
    assert receipt.outcome == "created"
    assert summary.counts == {"created": 1}
    assert [(result.seq, result.event_id, result.result) for result in told] == [(1, receipt.event_id, "created")]
    assert "# Renew the certificate" in file.read_text()


TYPED = """
from issue_core import Ledger, Receipt, ingest, sync
from issue_core.sync_engine import Summary

with Ledger("ledger.db") as ledger:
    receipts: list[Receipt] = ingest(ledger, ["{}"])
    summary: Summary = sync(ledger)
"""


def test_a_type_checker_knows_the_names_and_finds_their_misuse(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(TYPED)
    (tmp_path / "wrong.py").write_text(TYPED.replace('["{}"]', "[7]"))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file=", "right.py", "wrong.py"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert [line.split(":")[0] for line in ran.stdout.splitlines() if ": error:" in line] == ["wrong.py"]
    assert "[list-item]" in ran.stdout
