"""The JSON Schemas: real receipts and tasks of every kind fit them, and what is none does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from issue_core import schemas
from issue_core.task import STATES
from tests.support.cli import Issue, a_spec, force_state, ndjson

STRICT = Draft202012Validator.FORMAT_CHECKER


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=STRICT)


@pytest.fixture
def tasks(issue: Issue, tmp_path: Path) -> Issue:
    """A ledger with a task in every state, one of them synced for real."""
    plain = [a_spec(number) for number in range(1, len(STATES) + 1)]
    plain[0] |= {"due_in_days": 3, "labels": ["a"], "activity_definition_id": "x", "other": {"a": 1}}
    (tmp_path / "in.ndjson").write_text(ndjson(*plain))
    assert issue.call("ingest", str(tmp_path / "in.ndjson")).code == 0
    assert issue.call("sync", "--limit", "1").code == 0
    for seq, state in enumerate(STATES, 2):
        if seq <= len(STATES) and state != "synced":
            force_state(issue, seq, state, last_error="broken", next_attempt_at="2026-01-01T00:00:00.000Z")
    return issue


def test_every_task_fits_its_schema(tasks: Issue) -> None:
    check = validator(schemas.task())
    found = tasks.call("list", "--json").objects
    assert {"synced", "failed"} <= {task["state"] for task in found}
    for task in found:
        check.validate(task)
        check.validate(tasks.call("show", "--json", str(task["seq"])).objects[0])


def test_every_receipt_fits_its_schema(issue: Issue, tmp_path: Path) -> None:
    lines = [a_spec(1), a_spec(1), a_spec(1, title="other"), "bad", a_spec(2, other=1)]
    (tmp_path / "in.ndjson").write_text(ndjson(*lines))
    (tmp_path / "array.json").write_text(f"[{ndjson(a_spec(3))}, 4]")
    check = validator(schemas.receipt())
    outcomes = set()
    for words in (["--dry-run"], [], ["--strict"]):
        for receipt in issue.call(
            "ingest", "--json", *words, str(tmp_path / "in.ndjson"), str(tmp_path / "array.json")
        ).objects:
            check.validate(receipt)
            outcomes.add(receipt["outcome"])
    assert outcomes == {"created", "duplicate", "conflict", "invalid"}


def test_a_taskspec_fits_its_schema_and_what_is_none_does_not() -> None:
    check = validator(schemas.taskspec())
    check.validate(a_spec(1, labels=["a"], due_in_days=3, description="x", priority="low", unknown=1))
    for change in ({"title": ""}, {"title": 1}, {"priority": "urgent"}, {"due_in_days": "7"}, {"labels": "a"}):
        with pytest.raises(ValidationError):
            check.validate(a_spec(1, **change))


@pytest.mark.parametrize(
    "change", [{"outcome": "kept"}, {"seq": 0}, {"errors": []}, {"state": None, "more": 1}, {"line": 0}]
)
def test_what_is_no_receipt_does_not_fit(change: dict[str, Any]) -> None:
    receipt: dict[str, Any] = {
        "outcome": "created",
        "event_id": None,
        "seq": 1,
        "state": "pending",
        "warnings": [],
        "line": 1,
    }
    check = validator(schemas.receipt())
    check.validate(receipt)
    with pytest.raises(ValidationError):
        check.validate(receipt | change)


@pytest.mark.parametrize("kind", ["taskspec", "receipt", "task"])
def test_the_command_prints_the_schema_with_its_dialect(issue: Issue, kind: str) -> None:
    schema = json.loads(issue.call("schema", kind).stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema == getattr(schemas, kind)()


def test_the_schema_is_a_taskspecs_unless_told_otherwise(issue: Issue) -> None:
    assert issue.call("schema").stdout == issue.call("schema", "taskspec").stdout
