from __future__ import annotations

import json
import re
from collections.abc import Iterator

import jsonschema

from issue_core import errors, schemas
from issue_core.cli import EXIT_INTERRUPTED
from issue_core.cli.output import EXIT_READER_GONE
from issue_core.errors import IssueCoreError
from issue_core.task import OUTCOMES, STATES
from tests.docs.pages import ROOT, blocks, rows_under

REFERENCE = ROOT / "docs" / "reference"


def every_error(kind: type[IssueCoreError] = IssueCoreError) -> Iterator[type[IssueCoreError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from every_error(below)


def test_the_page_of_exit_codes_has_every_error_with_its_exit_code_and_message() -> None:
    documented = {
        code.strip("`"): (int(exit_code), message)
        for code, exit_code, message in rows_under(REFERENCE / "exit-codes.md", "Errors and their codes")
    }
    real = {kind.code: (kind.exit_code, (kind.__doc__ or "").splitlines()[0]) for kind in every_error()}

    assert documented == real


def test_the_tree_of_errors_in_their_module_has_each_below_its_parent_in_the_order_in_which_they_stand() -> None:
    drawn = re.findall(r"^    ([│ ]*(?:[├└]── )?)(\w+)", (errors.__doc__ or "").split("::")[1], re.MULTILINE)

    assert [(len(lines) // 4, name) for lines, name in drawn] == [
        (len(kind.__mro__) - len(IssueCoreError.__mro__), kind.__name__) for kind in every_error()
    ]


def test_the_page_of_exit_codes_has_every_exit_code_once() -> None:
    documented = [int(cells[0].strip("`")) for cells in rows_under(REFERENCE / "exit-codes.md", "The codes")]

    used = {0, 3, EXIT_INTERRUPTED, EXIT_READER_GONE} | {kind.exit_code for kind in every_error()}
    assert documented == sorted(used)


def test_the_page_of_receipts_has_every_outcome_and_every_member() -> None:
    page = REFERENCE / "receipts.md"
    properties = schemas.receipt()["properties"]

    assert [cells[0].strip("`") for cells in rows_under(page, "Outcomes")] == list(OUTCOMES)
    assert sorted(cells[0].strip("`") for cells in rows_under(page, "Members")) == sorted(properties)


def test_the_receipts_shown_are_receipts() -> None:
    shown = blocks(REFERENCE / "receipts.md", "json")

    assert {json.loads(block.text)["outcome"] for block in shown} == set(OUTCOMES)
    for block in shown:
        jsonschema.validate(json.loads(block.text), schemas.receipt())


def test_the_page_of_the_task_object_has_every_member_in_its_order() -> None:
    page = REFERENCE / "task-object.md"
    documented = [cells[0].strip("`") for cells in rows_under(page, "Members")]

    assert documented == list(schemas.task()["properties"])
    assert [cells[0].strip("`") for cells in rows_under(page, "States")] == list(STATES)


def test_the_task_object_shown_is_one() -> None:
    [shown] = blocks(REFERENCE / "task-object.md", "json")

    task = json.loads(shown.text)
    jsonschema.validate(task, schemas.task())
    assert list(task) == list(schemas.task()["properties"])
