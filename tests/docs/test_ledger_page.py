from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from issue_core import Ledger, ingest
from issue_core.ledger import facts, schema
from tests.docs.pages import ROOT, rows_under

PAGE = ROOT / "docs" / "ledger.md"


def a_ledger(path: Path) -> sqlite3.Connection:
    with Ledger(path) as ledger:
        ingest(ledger, [b"{}"])
    return sqlite3.connect(path)


def tables_of(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def documented_tables() -> list[str]:
    return re.findall(r"^### `(\w+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_has_every_table_of_a_real_ledger_and_no_other(tmp_path: Path) -> None:
    with closing(a_ledger(tmp_path / "ledger.db")) as connection:
        assert sorted(documented_tables()) == sorted(tables_of(connection))


def test_the_page_has_every_column_of_each_table_in_the_tables_own_order(tmp_path: Path) -> None:
    with closing(a_ledger(tmp_path / "ledger.db")) as connection:
        for table in documented_tables():
            columns = [row[1] for row in connection.execute("SELECT * FROM pragma_table_info(?)", (table,))]
            documented = [cells[0].strip("`") for cells in rows_under(PAGE, f"`{table}`")]
            assert documented == columns, table


def test_the_page_says_by_which_numbers_a_ledger_is_known() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert f"`{schema.APPLICATION_ID}`" in text
    assert f"`user_version` is `{schema.SCHEMA_VERSION}`" in text


def test_the_page_has_every_fact_that_a_ledger_may_know_of_itself() -> None:
    named = {value for name, value in vars(facts).items() if name.isupper() and re.fullmatch("[a-z_]+", str(value))}
    text = PAGE.read_text(encoding="utf-8").split("### `meta`")[1].split("### ")[0]

    documented = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) - {"key", "value"}
    assert documented == named | {"proved_at"}


def test_the_page_has_every_kind_of_history_entry_that_is_written() -> None:
    documented = {cells[0].strip("`") for cells in rows_under(PAGE, "Kinds of history entries")}
    written = {kind for file in (ROOT / "issue_core").rglob("*.py") for kind in kinds_written_in(file)}

    assert documented == written


def kinds_written_in(file: Path) -> Iterator[str]:
    """The kinds that this module gives to ``history.add``, as they stand there or in the variable it is given."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assigned = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "history.add":
            kind = node.args[2]
            value = assigned[kind.id] if isinstance(kind, ast.Name) else kind
            constants = (part.value for part in ast.walk(value) if isinstance(part, ast.Constant))
            yield from (constant for constant in constants if isinstance(constant, str))
