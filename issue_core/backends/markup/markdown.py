"""An issue's text for trackers that read Markdown: the description, what has no field there, the event ID in a comment.

The description comes from outside. It is data: it calls nobody, commands nothing, hides nothing that stands under it,
and carries no mark of ours. What it says is kept, character by character where it is code.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from issue_core.backends.markup.parsing import JOINER, NESTING, as_code_block, backticks, clean, new_reader
from issue_core.task import Task

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

LONGEST_PARAGRAPH = 10_000
"""Characters of one paragraph in which code is told from text; reading takes time that grows with the square."""

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MARKER = re.compile(rf"(?m)^[ \t]*<!-- issue-core event=({_UUID})(?=\s)", re.IGNORECASE)
# Wider than what is looked for, so that nothing a tracker does to a text makes a mark of it.
_LIKE_A_MARKER = re.compile(r"<!--(?=\s*issue-core)", re.IGNORECASE)
# A comment must not hold "--" or ">" (HTML 4, XML), and some trackers look for mentions in the raw text.
_NOT_IN_A_COMMENT = re.compile("[<>@]|-(?=-)")

# The blocks that a blank line does not end (CommonMark 0.31.2 §4.5 and §4.6, start conditions 1 to 5).
_OPENER = re.compile(r"^( {0,3})<(?=[!?]|(?:pre|script|style|textarea)(?:[\s>]|$))", re.MULTILINE | re.IGNORECASE)
# A fence, HTML, or so many quotations and lists in each other that a reader gives up.
_MAY_STAY_OPEN = re.compile(rf"```|~~~|<|(?:[->+*.)][ \t]*(?:\d+)?){{{NESTING // 2}}}")

# An "@" that may begin a name, as itself or as the entity that a reader makes one of. Within a word it is an e-mail
# address; in the path of an address on the web (medium.com/@somebody) no tracker takes it for a mention.
_MENTION = re.compile(
    rf"""(?P<address>(?<![\w/])https?://[\w.-]+\.[a-z]+(?::\d+)?/(?:[\w.~%+-]+/)*@(?=\w))
      | (?<![0-9A-Za-z])(?:@|&commat;|&\#0*64;|&\#x0*40;)(?=[^\s{JOINER}])""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_SIGN = re.compile("[@&]")

_COMMAND = re.compile(r"[ \t]*/[A-Za-z]")
# GitLab's own pattern: at the line's beginning, with white space or the line's end behind
# (`lib/gitlab/quick_actions/extractor.rb`).
_WHOLE_COMMAND = re.compile(r"/\w+(?=\s|$)")


def marker(task: Task) -> str:
    """The event ID and where the task came from, as one comment on one line of ASCII that readers do not see."""
    came_from = _NOT_IN_A_COMMENT.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(task.ingestion))
    return f"<!-- issue-core event={task.event_id} {came_from} -->"


def events_in(body: str) -> list[str]:
    """The event IDs of all markers in a body, in lower case, each once."""
    return list(dict.fromkeys(event_id.lower() for event_id in _MARKER.findall(body)))


def safe(text: str, *, mentions: bool = True, commands: bool = False) -> str:
    """The description as it may stand in an issue: every block closed, and no mark of ours in it.

    With ``mentions`` an ``@`` outside code is followed by :data:`JOINER`, so that nobody is called. With ``commands``
    a line that begins with a slash and a letter becomes code, for GitLab carries out what it takes for a quick action.
    In a fence, which GitLab may overlook (it knows only the plainest, and HTML can hide one), it has a blank in front.
    """
    text = _closed(_shown(_unmarked(clean(text))))
    if commands:
        text = _without_commands(text)
    return _without_mentions(text) if mentions else text


def body(task: Task, *, text: str, facts: Sequence[str], most: int | None, size: Callable[[str], int] = len) -> str:
    """The whole body: ``text`` (safe already), the facts that people should see, and the marker, within ``most``.

    ``most`` must have room for the facts and the marker.
    """
    listed = "".join(f"\n- {_unmarked(fact)}" for fact in facts)
    end = (f"\n\n---\n{listed}" if facts else "") + f"\n\n{marker(task)}\n"
    if most is not None and size(text + end) > most:
        # A text that calls nobody must not begin to where the cut opens what was code.
        mend = partial(safe, mentions=_without_mentions(text) == text)
        text = _cut(text, most - size(end), cut_note(task), size, mend)
    return (text + end).lstrip("\n")


def cut_note(task: Task) -> str:
    """What stands where a description was cut."""
    return (
        f"*[Cut here: the whole description is {len(task.description)} characters long; "
        f"it is kept in the ledger under event ID {task.event_id}.]*"
    )


def cut(text: str, most: int, note: str, size: Callable[[str], int] = len) -> str:
    """``text`` if it fits, else as much of it as fits together with ``note``, and every block of it closed.

    It is cut at a line's end, or within a line that is longer than half of what fits.
    """
    return _cut(text, most, note, size, _closed)


def facts_of(task: Task, *, priority: bool, due: bool, labels: Sequence[str]) -> list[str]:
    """What people should read in the text, since the tracker has no place of its own for it."""
    facts = []
    if priority:
        facts.append(f"**Priority:** {task.priority}")
    if due and task.due_date:
        facts.append(f"**Due:** {task.due_date}")
    if labels:
        facts.append(f"**Labels:** {', '.join(as_text(label) for label in labels)}")
    return facts


def as_text(words: str) -> str:
    """One line of a task's words that shows as it stands, and is no markup, mention or marker."""
    escaped = re.sub(r"([\\`*_\[\]>~|#])", r"\\\1", words.replace("&", "&amp;").replace("<", "&lt;"))
    return re.sub(r"(?<![0-9A-Za-z])@(?=\S)", f"@{JOINER}", escaped)


def _cut(text: str, most: int, note: str, size: Callable[[str], int], mend: Callable[[str], str]) -> str:
    """The text cut to ``most``, mended where the cut opened something; "" when not even the note has room."""
    if size(text) <= most:
        return text
    end = f"\n\n{note}"
    room = most - size(end)
    while room > 0:
        made = mend(_head(text, room, size)).rstrip() + end
        if (over := size(made) - most) <= 0:
            return made
        room -= over
    return note if size(note) <= most else ""


def _head(text: str, room: int, size: Callable[[str], int]) -> str:
    """As much of the text as has room, to the end of a line unless that leaves less than half of it."""
    longest = bisect_left(range(len(text)), True, key=lambda end: size(text[: end + 1]) > room)
    end = text.rfind("\n", 0, longest + 1)
    return text[: end if end > longest // 2 else longest]


def _unmarked(text: str) -> str:
    """The text with what looks like a mark of ours made plain: ``<! --`` begins no comment, in code or out of it."""
    return _LIKE_A_MARKER.sub("<! --", text)


def _shown(text: str) -> str:
    """The text with the comments shown that are never closed."""
    last_end = text.rfind("-->") + 1
    return text[:last_end] + text[last_end:].replace("<!--", "&lt;!--")


def _closed(text: str) -> str:
    """The text with nothing left open at its end: a fence is closed, HTML that would hide what follows is shown."""
    if not _MAY_STAY_OPEN.search(text):
        return text
    # A paragraph after a blank line stands alone unless it is within a block that is still open.
    last = _blocks(f"{text}\n\nx")[0][-1]
    if last.type == "fence":
        return f"{text.removesuffix(chr(10))}\n{last.markup}"
    if last.type == "paragraph_close" and last.level == 0:
        return text
    if last.type != "html_block" or last.map is None:
        return as_code_block(text)
    start = _starts(text)[last.map[0]]
    opener = text.index("<", start)
    return _closed(f"{text[:opener]}&lt;" + _OPENER.sub(r"\1&lt;", text[opener + 1 :]))


def _without_commands(text: str) -> str:
    lines = text.split("\n")
    commands = [number for number, line in enumerate(lines) if _COMMAND.match(line)]
    if not commands:
        return text
    fenced = {number for token in _blocks(text)[0] if token.type == "fence" for number in range(*(token.map or (0, 0)))}
    for number in commands:
        if number not in fenced:
            lines[number] = _as_code(lines[number].strip())
        elif _WHOLE_COMMAND.match(lines[number]):
            lines[number] = f" {lines[number]}"
    return "\n".join(lines)


def _as_code(line: str) -> str:
    """The line as a code span, between more backticks than it has in a row (CommonMark §6.1)."""
    ticks = backticks(line, 1)
    return f"{ticks} {line} {ticks}" if line.endswith("`") else f"{ticks}{line}{ticks}"


def _without_mentions(text: str) -> str:
    if not _MENTION.search(text):
        return text
    code = set(_signs_in_code(text))
    return _MENTION.sub(lambda found: found[0] if found.start() in code else _joined(found), text)


def _joined(mention: re.Match[str]) -> str:
    return mention[0] if mention["address"] else mention[0] + JOINER


def _signs_in_code(text: str) -> Iterator[int]:
    """Where in the text an ``@`` or ``&`` stands in code.

    Markdown's reader tells the lines of a paragraph, not the places in it. But what it reads there has the same signs
    in the same order; where it has not (a row of a table with too many cells), nothing counts as code.
    """
    tokens, env = _blocks(text)
    starts = _starts(text)
    inline = defaultdict[tuple[int, int], list[str]](list)
    for token in tokens:
        lines = (token.map[0], token.map[1]) if token.map else (0, 0)
        if token.type in ("fence", "code_block"):
            yield from (sign.start() for sign in _SIGN.finditer(text, starts[lines[0]], starts[lines[1]]))
        elif token.type == "inline":
            inline[lines].append(token.content)
    for (first, end), contents in inline.items():
        if any("`" in content for content in contents):
            places = [sign.start() for sign in _SIGN.finditer(text, starts[first], starts[end])]
            coded = [is_code for content in contents for is_code in _coded(content, env)]
            if len(places) == len(coded):
                yield from (place for place, is_code in zip(places, coded, strict=True) if is_code)


def _coded(content: str, env: dict[str, Any]) -> list[bool]:
    """For each sign in the text of a paragraph: whether it stands in a code span."""
    spans: list[tuple[int, int]] = []
    if len(content) <= LONGEST_PARAGRAPH:
        _reader().inline.parse(content, _reader(), {**env, "content": content, "spans": spans}, [])
    return [any(start <= sign.start() < end for start, end in spans) for sign in _SIGN.finditer(content)]


def _blocks(text: str) -> tuple[list[Token], dict[str, Any]]:
    """The blocks of the text in a row, and the links that it defines."""
    env: dict[str, Any] = {}
    return _reader().parse(text, env), env


def _starts(text: str) -> list[int]:
    """Where each line begins; twice more the text's end, for lines that a reader adds."""
    breaks = [found.end() for found in re.finditer("\n", text)]
    return [0, *breaks, len(text), len(text)]


@cache
def _reader() -> MarkdownIt:
    """A reader of blocks that notes where code spans stand once it is asked for the inside of one."""
    reader = new_reader()
    reader.disable(["inline", "text_join"])
    reader.inline.ruler.at("backticks", _noted_backticks)
    return reader


def _noted_backticks(state: StateInline, silent: bool) -> bool:
    from markdown_it.rules_inline import backtick

    start, tokens = state.pos, len(state.tokens)
    found = backtick(state, silent)
    # The text of an image is read on its own, by other places; it is no code that anybody sees.
    if len(state.tokens) > tokens and state.tokens[-1].type == "code_inline" and state.src is state.env["content"]:
        state.env["spans"].append((start, state.pos))
    return found
