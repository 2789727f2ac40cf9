from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name_of, rows_under

INVARIANTS = ROOT / "docs" / "decisions" / "0001-invariants.md"
DECISIONS = [page for page in PAGES if name_of(page).startswith("docs/decisions/")]


def named_tests(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)


def functions_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = named_tests(page.read_text(encoding="utf-8"))

    assert [(file, test) for file, test in named if test not in functions_in(ROOT / file)] == []


def test_each_invariant_has_a_number_and_a_test_that_holds_it() -> None:
    rows = rows_under(INVARIANTS, "The invariants")

    assert [cells[0] for cells in rows] == [str(n) for n in range(1, len(rows) + 1)]
    assert [cells[0] for cells in rows if not named_tests(cells[2])] == []


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_each_decision_says_why_and_what_else_was_thought_of(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)

    assert {"Context", "Decision", "Consequences", "Alternatives"} <= set(headings)


def test_the_numbers_of_the_decisions_have_no_gap() -> None:
    numbers = [int(page.name[:4]) for page in DECISIONS if page.name[0].isdigit()]

    assert numbers == list(range(1, len(numbers) + 1))
