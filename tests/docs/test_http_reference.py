from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from issue_core.task import STATES
from issue_core.transports.http import openapi, reading, routes
from tests.docs.pages import ROOT, blocks, rows_under
from tests.support.cli import Issue, a_spec
from tests.support.serving import Answered, Serving, serving

PAGE = ROOT / "docs" / "reference" / "http.md"
API: dict[str, Any] = json.loads(openapi.document())
MADE_BY_HAND = {100, 500, 503}
"""Statuses of answers that are made before or beside the routes, partly as bytes."""


def words_in_code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def statuses_under(heading: str) -> list[int]:
    return [int(cells[0].strip("`")) for cells in rows_under(PAGE, heading)]


def statuses_in(file: Path) -> Iterator[int]:
    """The statuses that a module gives to what makes answers."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Answer", "HttpError", "problem"):
            status = node.args[0]
            if isinstance(status, ast.Constant) and isinstance(status.value, int):
                yield status.value


def test_every_path_has_its_methods_and_whether_it_needs_a_key() -> None:
    documented = {words_in_code(cells[0])[0]: (cells[1], cells[2]) for cells in rows_under(PAGE, "Paths")}
    real = {
        path: (", ".join(routes.methods_of(path)), "no" if path in routes.OPEN else "yes") for path in routes.ROUTES
    }

    assert documented == real | {"/issues/": real["/issues"]}


def test_the_description_has_every_path_with_its_methods() -> None:
    described = {path: {method.upper() for method in methods} for path, methods in API["paths"].items()}
    real = {path: set(methods) for path, methods in routes.ROUTES.items()}

    assert described == real | {"/issues/": real["/issues"]}


def test_every_status_that_the_code_gives_is_on_the_page_and_no_other() -> None:
    described = {
        int(status) for path in API["paths"].values() for each in path.values() for status in each["responses"]
    }
    given = {status for file in Path(routes.__file__).parent.rglob("*.py") for status in statuses_in(file)}

    assert statuses_under("Statuses") == sorted(described | given | MADE_BY_HAND)


def test_the_statuses_of_a_post_are_in_the_description_and_none_of_its_own_is_left_out() -> None:
    documented = statuses_under("Statuses of a POST")
    post, get = (set(map(int, API["paths"]["/issues"][method]["responses"])) for method in ("post", "get"))

    assert documented == sorted(documented)
    assert post - get <= set(documented) <= post


def test_the_parameters_of_a_page_of_tasks_are_those_of_the_description() -> None:
    rows = {
        words_in_code(cells[0])[0]: (cells[1], cells[2]) for cells in rows_under(PAGE, "Parameters of a page of tasks")
    }

    assert list(rows) == [parameter["name"] for parameter in API["paths"]["/issues"]["get"]["parameters"]]
    assert words_in_code(rows["state"][0]) == list(STATES)
    assert rows["limit"] == (f"1 to {reading.LARGEST_PAGE}", str(reading.PAGE))


def test_the_members_of_a_problem_are_those_of_the_description() -> None:
    documented = [words_in_code(cells[0])[0] for cells in rows_under(PAGE, "Problems")]

    assert documented == list(API["components"]["schemas"]["Problem"]["properties"])


def test_the_problem_shown_is_what_the_description_says_of_one() -> None:
    [shown] = blocks(PAGE, "json")

    schemas = {"$ref": "#/components/schemas/RefusedReceipt", "components": API["components"]}
    jsonschema.validate(json.loads(shown.text), schemas)


def test_the_headers_of_answers_are_those_that_a_server_gives(issue: Issue) -> None:
    documented = {name for cells in rows_under(PAGE, "Headers of answers") for name in words_in_code(cells[0])}

    with serving(issue, config="[serve]\nbusy_timeout = 0.05\n") as server:
        answers = [*every_kind_of_answer(server), busy(server, issue)]

    assert {status for status, _, _ in answers} == {200, 201, 204, 401, 404, 405, 409, 415, 421, 422, 503}
    assert {name for answer in answers for name in answer.headers} == {name.lower() for name in documented}


def every_kind_of_answer(server: Serving) -> Iterator[Answered]:
    yield server.ask("POST", "/issues", a_spec(1))
    yield server.ask("POST", "/issues", a_spec(1), {"Connection": "close"})
    yield server.ask("POST", "/issues", a_spec(1, title="Another"))
    yield server.ask("POST", "/issues", {})
    yield server.ask("POST", "/issues", {}, {"Content-Type": "text/plain"})
    yield server.ask("POST", "/issues", {}, key=None)
    yield server.ask("OPTIONS", "/issues")
    yield server.ask("PUT", "/issues", {})
    yield server.ask("GET", "/issues", headers={"Host": "another.example"})
    for path in (*routes.ROUTES, "/issues/"):
        yield server.ask("GET", path)


def busy(server: Serving, issue: Issue) -> Answered:
    with issue.ledger as ledger, ledger.write():
        return server.ask("POST", "/issues", a_spec(2))


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    return Issue(tmp_path)
