"""What the pages about watching say of the check, the doctor and the shells is what the program does."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, links, name_of, rows_under
from tests.support.cli import ISSUE, TIMEOUT, Issue

CLI = ROOT / "issue_core" / "cli"
HOW_TO = ROOT / "docs" / "how-to"
WRONG = HOW_TO / "when-something-is-wrong.md"


def calls(file: str, name: str) -> Iterator[ast.Call]:
    """The calls of this function in a module of the command line."""
    for node in ast.walk(ast.parse((CLI / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
            yield node


def words_in(argument: ast.expr) -> str:
    """The text of a string, without what is put in when it runs."""
    parts = (part.value for part in ast.walk(argument) if isinstance(part, ast.Constant))
    return "…".join(part for part in parts if isinstance(part, str))


def test_the_page_has_every_code_of_the_check_and_what_it_says() -> None:
    documented = {cells[0].strip("`"): cells[1].strip("*") for cells in rows_under(WRONG, "What the check says")}
    said = {ast.literal_eval(call.args[0]): words_in(call.args[1]) for call in calls("needs.py", "Need")}

    assert documented.keys() == said.keys()
    for code, text in documented.items():
        for part in re.split(r"\bN\b|NAME|…", text):
            assert part.strip(" ,") in said[code] or "s may be" in part, code


def test_the_page_has_every_finding_of_the_doctor() -> None:
    said = [words_in(call.args[0]) for call in calls("checkups.py", "_wrong")]
    documented = [cells[1].strip("*") for cells in rows_under(WRONG, "What the doctor says") if cells[1][0] == "*"]

    assert [text for text in said if text and not any(part in text for part in documented)] == []
    assert [part for part in documented if not any(part in text for text in said)] == []


def test_the_page_has_everything_that_the_doctor_looks_at() -> None:
    told = {name.strip("` ") for cells in rows_under(WRONG, "What the doctor says") for name in cells[0].split(",")}
    source = (CLI / "doctor.py").read_text(encoding="utf-8")
    named = set(re.findall(r'\(\(?f?"([a-z]+)(?: \{name\})?"(?:,| if)', source)) | set(
        re.findall(r'else "(\w+)"', source)
    )

    assert {name.removesuffix(" NAME") for name in told} == named


def test_every_page_can_be_found_from_the_first_one() -> None:
    assert [name_of(page) for page in PAGES if page not in found_from(ROOT / "README.md")] == []


def test_every_page_of_the_docs_can_be_found_from_their_index() -> None:
    found = found_from(ROOT / "docs" / "index.md")

    assert [name_of(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in found] == []


def found_from(first: Path) -> set[Path]:
    """The pages that links lead to, from this one on."""
    seen, to_see = set[Path](), [first]
    while to_see:
        page = to_see.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        to_see += [
            (page.parent / link.partition("#")[0]).resolve()
            for link in links(page)
            if "://" not in link and link[0] != "#"
        ]
    return seen


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_into_the_shell_that_asks(shell: str, tmp_path: Path) -> None:
    page = ROOT / "docs" / "install.md"
    [install] = [block.text.strip() for block in blocks(page, "sh") if "--install-completion" in block.text]
    if not (program := shutil.which(shell)):
        pytest.skip(f"this machine has no {shell}")
    issue = Issue(tmp_path)
    path = f"{Path(ISSUE).parent}:{issue.environment['PATH']}"

    done = subprocess.run(
        [program, "-c", f"{install}; true"],  # a shell that has nothing else to do would become the command
        env=issue.environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert [file for file in tmp_path.rglob("*") if file.is_file() and "_ISSUE_COMPLETE" in file.read_text("utf-8")]
    assert f"{shell} completion installed" in done.stdout
