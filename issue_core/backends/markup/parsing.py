"""Markdown read for trackers that have a markup of their own: the tree that CommonMark (with tables) makes of it.

What comes out is data. HTML is text, and an address is one that a browser may open, or it is text too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

# Control characters show nothing, and XML 1.0 §2.2, which Jira keeps and exports in, has no place for most of them.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_BREAKS = re.compile("\r\n?|[\u2028\u2029]")
NESTING = 100
"""So deep are quotations and lists read; a text that has them deeper is no text for people, and shown as code."""

JOINER = "\u2060"
"""Word joiner: shows nothing, breaks no line, and is no part of anybody's name."""

_URL = re.compile(r"https?://[^\s<>\"|\[\]{}\\^`]+[^\s<>\"|\[\]{}\\^`.,;:!?'()*_~-]", re.IGNORECASE)
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,40}")


def parse(markdown: str) -> SyntaxTreeNode:
    """The tree of a text: CommonMark, with tables and strike-through as GitHub has them.

    A reader leaves out whatever lies deeper than its limit, so such a text is one block of code: nothing is lost.
    """
    from markdown_it.tree import SyntaxTreeNode

    reader = new_reader()
    tokens = reader.parse(markdown)
    if max((token.level for token in tokens), default=0) >= NESTING - 1:
        tokens = reader.parse(as_code_block(markdown))
    return SyntaxTreeNode(tokens)


def new_reader() -> MarkdownIt:
    """A reader of CommonMark with tables and strike-through, which stops at :data:`NESTING`."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"maxNesting": NESTING}).enable(["table", "strikethrough"])


def backticks(text: str, least: int) -> str:
    """More backticks than the text has in a row, and ``least`` of them at least."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def as_code_block(text: str) -> str:
    """The text as one block of code, between more backticks than it has in a row (CommonMark 0.31.2 §4.5)."""
    ticks = backticks(text, 3)
    return f"{ticks}\n{text}\n{ticks}"


def link_of(node: SyntaxTreeNode) -> str | None:
    """The address of a link or an image if it is http, https or mailto; None for every other."""
    href = address_of(node)
    safe = href.lower().startswith(("http://", "https://", "mailto:"))
    return href if safe and not re.search(r"[\s<>\x00-\x1f\x7f]", href) else None


def address_of(node: SyntaxTreeNode) -> str:
    """The address of a link or an image, whatever it is."""
    return str(node.attrs.get("src" if node.type == "image" else "href", ""))


def words_of(node: SyntaxTreeNode) -> str:
    """The text within a node, on one line, without its marks."""
    if node.type in ("softbreak", "hardbreak"):
        return " "
    if node.children:
        return "".join(map(words_of, node.children))
    return clean(node.content).replace("\n", " ")


def around_addresses(text: str, plain: Callable[[str], str], address: Callable[[str], str]) -> str:
    """The text with each web address in it as ``address`` writes it, and what is between them as ``plain`` does."""
    parts, at = [], 0
    for url in _URL.finditer(text):
        parts += [plain(text[at : url.start()]), address(url[0])]
        at = url.end()
    return "".join([*parts, plain(text[at:])])


def items_of(
    node: SyntaxTreeNode,
    within: Callable[[SyntaxTreeNode], Iterable[str]],
    joined: Callable[[list[str]], str],
    prefix: str = "",
) -> Iterator[str]:
    """The lines of a list as Textile and wiki markup write one: ``*`` and ``#`` before an item, one for each level.

    ``within`` gives the parts of what an item has beside lists, which ``joined`` makes its line of.
    """
    prefix += "*" if node.type == "bullet_list" else "#"
    for item in node.children:
        lists = [child for child in item.children if child.type.endswith("_list")]
        others = [part for child in item.children if child not in lists for part in within(child)]
        yield f"{prefix} {joined(others) or ' '}"
        for child in lists:
            yield from items_of(child, within, joined, prefix)


def clean(text: str) -> str:
    """The text with ``\\n`` for each line break, and U+FFFD for each control character but the tab."""
    return _CONTROLS.sub("\ufffd", _BREAKS.sub("\n", text))


def code_of(node: SyntaxTreeNode) -> str:
    """The lines of a block of code, without the newline at its end."""
    return clean(node.content).removesuffix("\n")


def language_of(node: SyntaxTreeNode) -> str | None:
    """The language that a fence names; None when it names none, or none that is a name."""
    word = (node.info or "").strip().partition(" ")[0] if node.type == "fence" else ""
    return word if _LANGUAGE.fullmatch(word) else None


def rows_of(table: SyntaxTreeNode) -> list[list[SyntaxTreeNode]]:
    """The cells of a table (``th`` or ``td``), row by row."""
    return [list(row.children) for section in table.children for row in section.children]
