"""The Markdown pages of the project, and what stands in them: code blocks, links, headings, tables."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
"""Every page that a reader may open."""

GENERATED = {"docs/reference/cli.md"}
"""Pages that a program writes; what stands in them is held by the tests of that program."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block: the word behind its fence, its text, and its first line in the page (from 1)."""

    language: str
    text: str
    line: int

    @property
    def is_run(self) -> bool:
        """Whether it is for a shell, and tested by one."""
        return self.language in ("bash", "console")


def name_of(page: Path) -> str:
    """The page's path as people say it: ``docs/tutorial.md``."""
    return page.relative_to(ROOT).as_posix()


def pages_with(language: str) -> list[Path]:
    """The pages, written by hand, that have a block in this language."""
    by_hand = (page for page in PAGES if name_of(page) not in GENERATED)
    return [page for page in by_hand if any(block.language == language for block in blocks(page))]


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of ``page``, in their order; only those in ``language``, if it is given."""
    fences = (token for token in _tokens(page) if token.type == "fence")
    found = (Block(token.info.strip(), token.content, (token.map or [0])[0] + 2) for token in fences)
    return [block for block in found if language in (None, block.language)]


def links(page: Path) -> Iterator[str]:
    """Where the links and pictures of ``page`` lead."""
    for token in _tokens(page):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if isinstance(target, str):
                yield target


def anchors(page: Path) -> set[str]:
    """The names under which the headings of ``page`` can be linked to, as code hosts make them."""
    tokens = _tokens(page)
    titles = [inner.content for token, inner in pairwise(tokens) if token.type == "heading_open"]
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


def rows_under(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table behind the heading ``heading``, without the table's own head."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.lstrip("#") == f" {heading}" and line.startswith("#"))
    rows = []
    for line in lines[start + 1 :]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows or line.startswith("#"):
            break
    return rows[2:]


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def environment(home: Path) -> dict[str, str]:
    """The environment of a new user whose home is ``home``, with this checkout's commands first on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ISSUE_CORE_", "NATS_", "XDG_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return kept | {"HOME": str(home), "PATH": path, "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONWARNINGS": "error"}
