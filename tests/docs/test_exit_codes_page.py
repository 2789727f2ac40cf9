"""Which commands can end with which code, read from their source, and what the page says of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.docs.pages import ROOT, rows_under
from tests.support.reference import commands

PAGE = ROOT / "docs" / "reference" / "exit-codes.md"
CLI = "issue_core.cli"

Place = tuple[str, str]
"""A module, and a function in it."""


def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))


def every_module() -> list[str]:
    files = (ROOT / "issue_core" / "cli").glob("[!_]*.py")
    return sorted(f"{CLI}.{file.stem}" for file in files)


def calls_of(module: str) -> dict[Place, set[Place]]:
    """Which functions of the command line each function of a module calls by name."""
    tree = parsed(module)
    places = {node.name: (module, node.name) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{CLI}."):
            places |= {each.asname or each.name: (str(node.module), each.name) for each in node.names}
    return {
        (module, node.name): {places[name] for name in names_called(node) if name in places}
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def names_called(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name):
            yield each.func.id


def codes_of(module: str) -> dict[Place, set[int]]:
    """The codes that each function of a module ends the command with itself."""
    return {
        (module, node.name): {
            ast.literal_eval(each.args[0])
            for each in ast.walk(node)
            if isinstance(each, ast.Call) and ast.unparse(each.func) == "typer.Exit"
        }
        for node in parsed(module).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def commands_that_end_with(code: int) -> set[str]:
    calls = {place: called for module in every_module() for place, called in calls_of(module).items()}
    codes = {place: own for module in every_module() for place, own in codes_of(module).items()}
    found = set()
    for path, command in commands():
        if command.callback is None:
            continue
        seen, to_see = set[Place](), [(command.callback.__module__, command.callback.__name__)]
        while to_see:
            place = to_see.pop()
            if place not in seen:
                seen.add(place)
                to_see += calls.get(place, ())
        if any(code in codes.get(place, ()) for place in seen):
            found.add(" ".join(path))
    return found


def rows_of_commands() -> list[list[str]]:
    """The rows of the table that says which commands can end with 3."""
    table = PAGE.read_text(encoding="utf-8").split("Which commands can end with 3:\n\n")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_every_command_that_can_end_with_3_is_in_the_table_and_no_other() -> None:
    documented = {re.sub(r" --[a-z-]+$", "", cells[0].strip("`")) for cells in rows_of_commands()}

    assert documented == commands_that_end_with(3)


def test_every_code_that_a_command_ends_with_is_on_the_page() -> None:
    documented = {int(cells[0].strip("`")) for cells in rows_under(PAGE, "The codes")}
    used = {code for module in every_module() for codes in codes_of(module).values() for code in codes}

    assert used
    assert used <= documented


def test_the_command_that_ends_with_1_of_its_own_accord_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert commands_that_end_with(1) == {"issue dlq drop"}
    assert "`issue dlq drop`" in text
