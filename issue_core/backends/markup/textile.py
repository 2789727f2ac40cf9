"""Markdown as Textile, as Redmine reads it (its ``RedCloth3`` and ``Textile::Formatter``, 3.x to 7).

Text is data: a character that this Textile, or one of Redmine's own marks (``#1``, ``[[page]]``, ``{{macro}}``,
``@name``), would take for its own is written as an HTML entity, which the formatter leaves as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
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

BREAK = "\n"
"""A line break within a block (RedCloth3's ``hard_breaks``, which Redmine sets)."""

_SPECIAL = re.compile(
    r"""&(?=[\#a-z0-9]+;)                         # an entity
      | [<>|@\#\[]                                # tags, tables, code and mentions, issues and lists, wiki pages
      | (?<![^\W_])[*_+^~%-](?=\S)                # phrase marks, which stand at the edge of a word
      | (?<=\S)[*_+^~%-](?![^\W_])
      | (?<![^\W_])\?(?=\?)                       # citations
      | (?<![^\W_])!(?=\S)                        # images
      | \{(?=\{) | (?<=\{)\{                      # macros
      | =(?==) | (?<==)=                          # what is no Textile
      | "(?=:)                                    # links
    """,
    re.VERBOSE | re.IGNORECASE,
)
# What stands at the beginning of a line: rules and lists, and the blocks that textile_… methods make.
_LINE_START = re.compile(r"\s*([*_=#{|>-]|(?:bq|p|h[1-6]|fn\d+)(?=[.({\[<>=~^)-]))")
# The tags whose inside RedCloth3 takes out of the text before all else (OFFTAGS), and a marker of ours.
_ENDS_CODE = re.compile(r"<(?=/?(?:code|pre|kbd|notextile)\b|!--\s*issue-core)", re.IGNORECASE)
_PRE_OR_START = re.compile(r"<pre>.*?</pre>|^(?:<pre>.*?</pre>)?", re.DOTALL | re.MULTILINE)
_MARKS = {"strong": "*", "em": "_", "s": "-"}
# After the address of a link only these may follow at once; what else does would become part of it.
_AFTER_LINK = re.compile(r"[\s<*_-]|[.,:!?](?:\s|$)|$")
# What RedCloth3 asks for on either side of a phrase's mark; another mark is one of ours.
_BEFORE_MARK = re.compile(r"(?:^|[\s(*_-])\Z")
_AFTER_MARK = re.compile(r"[\s.,:;!?)<*_-]|$")


def markup(*texts: str) -> str:
    """Several Markdown texts as one of Textile, each read for itself: no markup reaches from one into the next."""
    return "\n\n".join(part for text in texts if (part := _blocks(parse(text).children)))


def escape(text: str) -> str:
    """One line of text so that every character of it is shown; addresses in it become links to themselves."""
    return around_addresses(text, partial(_SPECIAL.sub, _entity), _address)


def _entity(found: re.Match[str]) -> str:
    return "".join(f"&#{ord(character)};" for character in found[0])


def _address(href: str) -> str:
    """The address with all that ends a link or begins another markup in it percent-encoded."""
    safe = quote(href, safe="%/:?#&=+$,;.~-_'!*@")
    return re.sub(r"(?<=\W)@", "%40", safe).replace("==", "=%3D")


def _blocks(nodes: Iterable[SyntaxTreeNode]) -> str:
    return "\n\n".join(part for node in nodes for part in _block(node) if part)


def _block(node: SyntaxTreeNode) -> Iterator[str]:
    match node.type:
        case "heading":
            yield f"{node.tag}. {_line(node).replace(BREAK, ' ') or ' '}"
        case "blockquote":
            yield _quoted(_blocks(node.children))
        case "bullet_list" | "ordered_list":
            yield "\n".join(items_of(node, _within, BREAK.join))
        case "fence" | "code_block":
            yield _code(node)
        case "table":
            yield "\n".join(map(_row, rows_of(node)))
        case "hr":
            yield "---"
        case "html_block":
            yield _paragraph(_lines(node.content.strip("\n")))
        case _:
            yield _paragraph(_line(node))


def _quoted(inner: str) -> str:
    """The text with ``>`` before each line, but for those within code, which belongs to the line that it begins in."""

    def mark(found: re.Match[str]) -> str:
        at_start = found.start() == 0 or inner[found.start() - 1] == "\n"
        return f"> {found[0]}" if at_start else found[0]

    return _PRE_OR_START.sub(mark, inner)


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
            yield from (_started(escape(" / ".join(map(words_of, row)))) for row in rows_of(node))
        case "html_block":
            yield _lines(node.content.strip("\n"))
        case "hr":
            return
        case _:
            if line := _line(node):
                yield line


def _code(node: SyntaxTreeNode) -> str:
    language = language_of(node)
    code = _ENDS_CODE.sub(f"<{JOINER}", code_of(node))
    return f'<pre><code class="{language}">\n{code}\n</code></pre>' if language else f"<pre>\n{code}\n</pre>"


def _row(cells: Iterable[SyntaxTreeNode]) -> str:
    row = ""
    for cell in cells:
        row += f"|{'_.' if cell.type == 'th' else ''} {_line(cell).replace(BREAK, ' ')} "
    return f"{row}|"


def _paragraph(lines: str) -> str:
    """A paragraph; one that begins with code says that it is one, or it would be taken for HTML."""
    return f"p. {lines}" if lines.startswith("<") else lines


def _started(line: str) -> str:
    """A line whose beginning makes no rule, list or block of it."""
    found = _LINE_START.match(line)
    return line if found is None else f"{line[: found.start(1)]}&#{ord(found[1][0])};{line[found.start(1) + 1 :]}"


def _lines(text: str) -> str:
    return BREAK.join(_started(escape(line).strip()) for line in clean(text).split("\n") if line.strip())


def _line(node: SyntaxTreeNode) -> str:
    """What stands in a block; a line break of the text is a space, a forced one is a line's end."""
    inline = [child for child in node.children if child.type == "inline"]
    return _spans([part for child in inline or [node] for part in child.children], "", "").strip()


def _spans(nodes: Sequence[SyntaxTreeNode], before: str, after: str) -> str:
    """Text with its marks; ``before`` is what stands before it in its block, ``after`` what follows on it."""
    line = ""
    for number, node in enumerate(nodes):
        following = _beginning(nodes[number + 1]) if number + 1 < len(nodes) else after
        line += _span(node, before + line, following)
    return line


def _beginning(node: SyntaxTreeNode) -> str:
    """What a span begins with, as far as it matters to the one before it."""
    return "<" if node.type == "code_inline" else words_of(node)[:2]


def _span(node: SyntaxTreeNode, before: str, following: str) -> str:
    match node.type:
        case "softbreak":
            return " "
        case "hardbreak":
            return BREAK
        case "strong" | "em" | "s":
            return _marked(node, before, following)
        case "code_inline":
            return f"<code>{_ENDS_CODE.sub(f'<{JOINER}', clean(node.content))}</code>"
        case "link" | "image":
            return _link(node, following)
        case _:
            text = escape(clean(node.content).replace("\n", " "))
            return _started(text) if before == "" or before.endswith(BREAK) else text


def _marked(node: SyntaxTreeNode, before: str, following: str) -> str:
    """A phrase with its mark, if it stands where Textile sees one: at the edges of words."""
    mark = _MARKS[node.type]
    inner = _spans(node.children, before + mark, mark)
    if _BEFORE_MARK.search(before) and _AFTER_MARK.match(following) and inner.strip() == inner != "":
        # A parenthesis or a brace at the beginning would be a class or a style.
        return f"{mark}{f'&#{ord(inner[0])};{inner[1:]}' if inner[0] in '({' else inner}{mark}"
    return _spans(node.children, before, following)


def _link(node: SyntaxTreeNode, following: str) -> str:
    """A link, an image too: it is not fetched. An address that nobody should follow from an issue is text."""
    words, address, href = words_of(node), address_of(node), link_of(node)
    if not href:
        return escape(clean(words if address in ("", words) else f"{words} ({address})"))
    space = "" if _AFTER_LINK.match(following) else " "
    if words in ("", href):
        return _address(href) + space
    return f'"{_label(words)}":{_address(href)}{space}'


def _label(words: str) -> str:
    return re.sub(r'["()]', _entity, _SPECIAL.sub(_entity, clean(words)).strip()) or "&#160;"
