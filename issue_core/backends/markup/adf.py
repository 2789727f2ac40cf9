"""Markdown as an Atlassian Document Format document, as Jira Cloud's API v3 takes it.

Text is data: it goes into text nodes and nowhere else, so no word of it can become a mention, a macro or a card. The
nodes and what may stand in them: developer.atlassian.com, "Atlassian Document Format", document structure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from issue_core.backends.markup.parsing import (
    address_of,
    clean,
    code_of,
    language_of,
    link_of,
    parse,
    rows_of,
    words_of,
)

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

Node = dict[str, Any]
"""One node, or one mark, of a document."""

_MARKS = {"strong": "strong", "em": "em", "s": "strike"}


def document(*texts: str) -> Node:
    """One document of several Markdown texts, each read for itself: no markup reaches from one into the next."""
    return {"version": 1, "type": "doc", "content": [block for text in texts for block in blocks(text)]}


def size(node: Node) -> int:
    """How long a document is, as compact JSON in UTF-16 units: Jira's own counting is not documented."""
    return len(json.dumps(node, ensure_ascii=False, separators=(",", ":")).encode("utf-16-le")) // 2


def blocks(markdown: str) -> list[Node]:
    """The block nodes of a Markdown text."""
    return [block for child in parse(markdown).children for block in _block(child)]


def _block(node: SyntaxTreeNode) -> Iterator[Node]:
    """The node as blocks that may stand in a document."""
    match node.type:
        case "heading":
            yield {"type": "heading", "attrs": {"level": int(node.tag[1:])}, "content": _inline(node)}
        case "blockquote":
            yield {"type": "blockquote", "content": _within(node.children) or [_paragraph([])]}
        case "hr":
            yield {"type": "rule"}
        case "table":
            yield {"type": "table", "content": [_row(row) for row in rows_of(node)]}
        case _:
            yield from _inner_block(node)


def _within(nodes: Iterable[SyntaxTreeNode]) -> list[Node]:
    return [block for node in nodes for block in _inner_block(node)]


def _inner_block(node: SyntaxTreeNode) -> Iterator[Node]:
    """The node as blocks that may stand in a quotation or a list item: there are no headings, rules or tables."""
    match node.type:
        case "bullet_list":
            yield {"type": "bulletList", "content": [_item(item) for item in node.children]}
        case "ordered_list":
            start = {"order": int(node.attrs.get("start", 1))}
            yield {"type": "orderedList", "attrs": start, "content": [_item(item) for item in node.children]}
        case "fence" | "code_block":
            yield _code(node)
        case "blockquote":
            yield from _within(node.children)
        case "heading":
            yield _paragraph(_inline(node, [{"type": "strong"}]))
        case "html_block":
            yield _paragraph(list(_text(clean(node.content).strip("\n"), [])))
        case "table":
            yield from (_paragraph(_text_nodes(" | ".join(map(words_of, row)))) for row in rows_of(node))
        case "hr":
            return
        case _:
            yield _paragraph(_inline(node))


def _paragraph(content: list[Node]) -> Node:
    return {"type": "paragraph", "content": content}


def _item(node: SyntaxTreeNode) -> Node:
    """A list item; it must begin with a paragraph or code."""
    content = _within(node.children)
    if not content or content[0]["type"] not in ("paragraph", "codeBlock"):
        content.insert(0, _paragraph([]))
    return {"type": "listItem", "content": content}


def _code(node: SyntaxTreeNode) -> Node:
    """A block of code: the one node whose text has line breaks in it, and no marks."""
    language, code = language_of(node), code_of(node)
    attrs = {"attrs": {"language": language}} if language else {}
    return {"type": "codeBlock", **attrs, "content": [{"type": "text", "text": code}] if code else []}


def _row(cells: Sequence[SyntaxTreeNode]) -> Node:
    kinds = {"th": "tableHeader", "td": "tableCell"}
    content = [{"type": kinds[cell.type], "content": [_paragraph(_inline(cell))]} for cell in cells]
    return {"type": "tableRow", "content": content}


def _inline(node: SyntaxTreeNode, marks: Sequence[Node] = ()) -> list[Node]:
    """The inline nodes of a block; neighbours with the same marks are one."""
    merged: list[Node] = []
    for one in _spans(node, marks):
        last = merged[-1] if merged else None
        if last and one["type"] == last["type"] == "text" and one.get("marks") == last.get("marks"):
            last["text"] += one["text"]
        else:
            merged.append(one)
    return merged


def _spans(node: SyntaxTreeNode, marks: Sequence[Node]) -> Iterator[Node]:
    for child in node.children:
        match child.type:
            case "inline":
                yield from _spans(child, marks)
            case "softbreak":
                yield from _text(" ", marks)
            case "hardbreak":
                yield {"type": "hardBreak"}
            case "strong" | "em" | "s":
                yield from _spans(child, _with(marks, {"type": _MARKS[child.type]}))
            case "code_inline":
                links = [mark for mark in marks if mark["type"] == "link"]  # the one mark that code may have beside it
                yield from _text(clean(child.content), [*links, {"type": "code"}])
            case "link":
                yield from _link(child, marks)
            case "image":
                href = link_of(child)
                yield from _text(words_of(child) or "image", _with(marks, _href(href)) if href else marks)
            case _:
                yield from _text(clean(child.content), marks)


def _link(node: SyntaxTreeNode, marks: Sequence[Node]) -> Iterator[Node]:
    """A link, or for an address that nobody should follow from an issue, its text and the address as text."""
    href = link_of(node)
    yield from _spans(node, _with(marks, _href(href)) if href else marks)
    address = address_of(node)
    if not href and address not in ("", words_of(node)):
        yield from _text(f" ({address})", marks)


def _href(address: str) -> Node:
    return {"type": "link", "attrs": {"href": address}}


def _with(marks: Sequence[Node], mark: Node) -> Sequence[Node]:
    """The marks and one more; a text has each kind of mark once."""
    return marks if any(each["type"] == mark["type"] for each in marks) else [*marks, mark]


def _text_nodes(text: str) -> list[Node]:
    return list(_text(text, []))


def _text(text: str, marks: Sequence[Node]) -> Iterator[Node]:
    """The text with these marks: no text node is empty, none has a line break in it."""
    for number, line in enumerate(text.split("\n")):
        if number:
            yield {"type": "hardBreak"}
        if line:
            yield {"type": "text", "text": line, "marks": list(marks)} if marks else {"type": "text", "text": line}
