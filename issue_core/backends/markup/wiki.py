"""Markdown as Jira's wiki markup, as Jira Data Center's API v2 takes it.

Text is data: what the markup would read as its own is escaped, with a backslash where that is documented (Jira's
"Text Formatting Notation Help Guide": ``\\X`` escapes the special character X) and else as an HTML entity, which the
renderer leaves as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from issue_core.backends.markup.parsing import (
    JOINER,
    address_of,
    around_addresses,
    clean,
    code_of,
    items_of,
    language_of,
    link_of,
    parse,
    rows_of,
    words_of,
)

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

BREAK = " \\\\ "
"""A forced line break."""

# The languages of {code}: with another one Jira shows an error in place of the code.
_LANGUAGES = re.compile(
    "actionscript|ada|applescript|bash|c|c#|c[+][+]|cpp|css|erlang|go|groovy|haskell|html|java|javascript|js|json|lua|none"
    "|objc|perl|php|python|r|ruby|scala|sh|sql|swift|visualbasic|xml|yaml"
)

_SPECIAL = re.compile(
    r"""(?P<slash>\\)                                     # escapes, and two of them break the line
      | (?P<entity>&(?=\#?[0-9A-Za-z]+;))                 # an entity
      | (?P<face>\((?=(?:[/!+\-?xyni*]|\*[rgby]|on|off|flag|flagoff)\)) | [:;](?=-?[()PD]))  # (x), :) and such
      | (?P<always>[{}\[\]|!*^~])                         # macros, links, tables, images, strong, super- and subscript
      | (?P<outer>(?<![^\W_])[-_+]|[-_+](?![^\W_]))       # phrase marks, which stand at the edge of a word
      | (?P<cite>\?(?=\?)|(?<=\?)\?)                      # citations
    """,
    re.VERBOSE,
)
_LINE_START = re.compile(r"\s*(?:(h[1-6]|bq)(?=\.)|(?=\#))", re.IGNORECASE)
_MACRO = re.compile(r"\{(?=(?:code|noformat)\b)", re.IGNORECASE)
_MARKS = {"strong": "*", "em": "_", "s": "-"}


def markup(*texts: str) -> str:
    """Several Markdown texts as one of wiki markup, each read for itself: no markup reaches from one into the next."""
    return "\n\n".join(part for text in texts if (part := _blocks(parse(text).children)))


def size(text: str) -> int:
    """How long Jira takes the text to be: Java counts UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2


def escape(text: str) -> str:
    """The text so that the markup shows every character of it; addresses in it become links to themselves."""
    return around_addresses(text, partial(_SPECIAL.sub, _escaped), lambda url: f"[{_address(url)}]")


def _escaped(found: re.Match[str]) -> str:
    if found["slash"] or found["face"]:
        return f"&#{ord(found[0])};"
    return "&amp;" if found["entity"] else f"\\{found[0]}"


def _address(href: str) -> str:
    """The address with all that ends a link or begins another markup in it percent-encoded."""
    return quote(href, safe="%/:?#@&=+$,;.~-_'()*!")


def _blocks(nodes: Iterable[SyntaxTreeNode], *, quoted: bool = False) -> str:
    return "\n\n".join(part for node in nodes for part in _block(node, quoted=quoted) if part)


def _block(node: SyntaxTreeNode, *, quoted: bool) -> Iterator[str]:
    """A block. A quotation in a quotation is part of it, for ``{quote}`` would end the outer one."""
    match node.type:
        case "heading":
            yield f"{node.tag}. {_line(node)}"
        case "blockquote":
            inner = _blocks(node.children, quoted=True)
            yield inner if quoted else f"{{quote}}\n{inner}\n{{quote}}"
        case "bullet_list" | "ordered_list":
            yield "\n".join(items_of(node, _within, _joined))
        case "fence" | "code_block":
            yield _code(node)
        case "table":
            yield "\n".join(map(_row, rows_of(node)))
        case "hr":
            yield "----"
        case "html_block":
            yield _start(_lines(node.content.strip("\n")))
        case _:
            yield _start(_line(node))


def _joined(parts: Iterable[str]) -> str:
    """The parts of one item: code, which has lines of its own, stands under the item's line."""
    joined = ""
    for part in parts:
        joined += f"\n{part}" if "\n" in part or joined.endswith("}") else f"{BREAK}{part}" if joined else part
    return joined


def _within(node: SyntaxTreeNode) -> Iterator[str]:
    """A block within a list item: lines, and code."""
    match node.type:
        case "fence" | "code_block":
            yield _code(node)
        case "blockquote":
            yield from (part for child in node.children for part in _within(child))
        case "bullet_list" | "ordered_list":
            yield from (part for item in node.children for child in item.children for part in _within(child))
        case "table":
            yield from (_start(escape(" / ".join(map(words_of, row)))) for row in rows_of(node))
        case "html_block":
            yield _start(_lines(node.content.strip("\n")))
        case "hr":
            return
        case _:
            yield _start(_line(node))


def _code(node: SyntaxTreeNode) -> str:
    """A block of code in the macro that it does not name; where it names both, a joiner that nobody sees parts them."""
    code, language = code_of(node), (language_of(node) or "none").lower()
    if re.search(r"\{code\b", code, re.IGNORECASE):
        if not re.search(r"\{noformat\b", code, re.IGNORECASE):
            return f"{{noformat}}\n{code}\n{{noformat}}"
        code = _MACRO.sub(f"{{{JOINER}", code)
    return f"{{code:{language if _LANGUAGES.fullmatch(language) else 'none'}}}\n{code}\n{{code}}"


def _row(cells: Iterable[SyntaxTreeNode]) -> str:
    row = ""
    for cell in cells:
        edge = "||" if cell.type == "th" else "|"
        row += f"{edge}{_line(cell) or ' '}"
    return row + edge if row else ""


def _start(line: str) -> str:
    """A line that begins a block: a word that would make it a heading, a quotation or a list is broken."""
    found = _LINE_START.match(line)
    if not found:
        return line
    at = found.end()
    return f"{line[:at]}&#46;{line[at + 1 :]}" if found[1] else f"{line[:at]}\\{line[at:]}"


def _lines(text: str) -> str:
    return BREAK.join(escape(line) for line in clean(text).split("\n"))


def _line(node: SyntaxTreeNode) -> str:
    """What stands in a block, on one line: a line break of the text is a forced one here."""
    line = ""
    for child in node.children:
        mark = _MARKS.get(child.type)
        if child.type == "inline":
            line += _line(child)
        elif mark:
            line += _marked(mark, _line(child))
        else:
            line += _span(child)
    return line


def _marked(mark: str, inner: str) -> str:
    """A phrase with its mark in braces, which works within a word as well."""
    return f"{{{mark}}}{inner}{{{mark}}}" if inner.strip() else inner


def _span(node: SyntaxTreeNode) -> str:
    match node.type:
        case "softbreak":
            return " "
        case "hardbreak":
            return BREAK
        case "code_inline":
            return "{{" + re.sub(r"[^\w\s.,/=]", lambda found: f"&#{ord(found[0])};", clean(node.content)) + "}}"
        case "link" | "image":
            return _link(node)
        case _:
            return _lines(node.content)


def _link(node: SyntaxTreeNode) -> str:
    """A link, an image too: it is not fetched. An address that nobody should follow from an issue is text."""
    words, address, href = words_of(node), address_of(node), link_of(node)
    if href:
        return f"[{_address(href)}]" if words in ("", href) else f"[{_label(words)}|{_address(href)}]"
    return escape(words if address in ("", words) else f"{words} ({address})")


def _label(words: str) -> str:
    return _SPECIAL.sub(_escaped, words)
