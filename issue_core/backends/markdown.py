"""An issue's text in Markdown: what a task says is data in it, and a marker carries the event ID.

The marker is an HTML comment on a line of its own at the end, which GitHub, Gitea, GitLab and Redmine keep and do not
show. It holds neither ``--`` nor ``>`` inside, so that no parser ends it early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

from issue_core.task import Task

_MARKER = re.compile(r"(?m)^[ \t]*<!-- issue-core event=([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?=\s)")

_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_PLAIN_FENCE = re.compile(r"```\w*")
_COMMAND = re.compile(r"[ \t]*/[A-Za-z]")
_MENTION = re.compile(r"(?<![\w`])@(?=\w)")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)")

JOINER = "\u2060"
"""Invisible and without width: it parts an @ from the name behind it, or a mark in code from what makes it one."""


def marker(task: Task) -> str:
    """The one line of ASCII that carries the event ID and where the task came from."""
    told = json.dumps(task.ingestion).replace("-", "\\u002d").replace("<", "\\u003c").replace(">", "\\u003e")
    return f"<!-- issue-core event={task.event_id} {told} -->"


def events_in(body: str) -> list[str]:
    """The event IDs of all markers in a body, in lower case, each once."""
    return list(dict.fromkeys(found.lower() for found in _MARKER.findall(body)))


def safe(text: str, *, mentions: bool = True, commands: bool = False) -> str:
    """``text`` so that it is nothing but text: no marker, no open comment or fence, and nobody is called by it.

    ``mentions``: the @ before a name outside code is parted from it. ``commands``: a line that begins with a slash
    and a letter becomes code, for GitLab carries out what it takes for a quick action. It knows only the plainest of
    code fences, so where a text has others, such lines within its code get an invisible letter in front.
    """
    text = _without_comments_of_ours(text.replace("\r\n", "\n").replace("\r", "\n"))
    misread = commands and any(_FENCE.search(line) and not _PLAIN_FENCE.fullmatch(line) for line in text.split("\n"))
    lines = []
    for line, in_code in _lines(text):
        if not in_code:
            lines.append(_defused(line, mentions=mentions, commands=commands))
        else:
            lines.append(JOINER + line if misread and _COMMAND.match(line) else line)
    return "\n".join([*lines, *_closing(text)])


def body(task: Task, *, text: str, facts: Sequence[str], most: int | None, size: Callable[[str], int] = len) -> str:
    """The whole body: ``text`` (safe already), the facts that people should see, and the marker, within ``most``."""
    listed = "".join(f"\n- {fact.replace('<!--', '&lt;!--')}" for fact in facts)
    end = (f"\n\n---\n{listed}" if facts else "") + f"\n\n{marker(task)}\n"
    if most is not None and size(text + end) > most:
        text = cut(text, most - size(end), cut_note(task), size)
    return (text + end).lstrip("\n")


def cut_note(task: Task) -> str:
    """What stands where a description was cut."""
    return (
        f"*[Cut here: the whole description is {len(task.description)} characters long; "
        f"it is kept in the ledger under event ID {task.event_id}.]*"
    )


def cut(text: str, most: int, note: str, size: Callable[[str], int] = len) -> str:
    """``text`` if it fits, else as much of it as fits together with ``note``, cut at a line's end if it can be."""
    if size(text) <= most:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if size(_ended(text[:middle], note)) <= most:
            low = middle
        else:
            high = middle - 1
    kept = text[:low]
    at_line = kept.rpartition("\n")[0]
    return _ended(at_line or kept, note)


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
    escaped = re.sub(r"([\\`*_\[\]>~|#])", r"\\\1", words.replace("<", "&lt;"))
    return _MENTION.sub(f"@{JOINER}", escaped)


def _ended(kept: str, note: str) -> str:
    return "\n".join([kept, *_closing(kept), "", note])


def _without_comments_of_ours(text: str) -> str:
    """Break the comment marks that are ours, and those that are never closed and would hide what follows."""
    last_end = text.rfind("-->")
    return re.sub(
        r"<!--(?=(\s*issue-core)?)",
        lambda found: "&lt;!--" if found[1] or found.start() > last_end else "<!--",
        text,
        flags=re.IGNORECASE,
    )


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is within fenced code (CommonMark 0.31 §4.5) or one of its fences."""
    fence = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if not fence:
            fence = found[1] if found else ""
            yield line, bool(fence)
        else:
            yield line, True
            if _ends(line, fence):
                fence = ""


def _ends(line: str, fence: str) -> bool:
    stripped = line.strip(" \t")
    indent = len(line) - len(line.lstrip(" "))
    return indent <= 3 and len(stripped) >= len(fence) and set(stripped) == {fence[0]}


def _closing(text: str) -> list[str]:
    """The line that closes the code fence which ``text`` leaves open, if it leaves one open."""
    fence = ""
    for line in text.split("\n"):
        if fence:
            fence = "" if _ends(line, fence) else fence
        elif found := _FENCE.match(line):
            fence = found[1]
    return [fence] if fence else []


def _defused(line: str, *, mentions: bool, commands: bool) -> str:
    if commands and _COMMAND.match(line):
        return f"`{line.strip().replace('`', chr(39))}`"
    if not mentions or "@" not in line:
        return line
    parts, at = [], 0
    for code in _CODE_SPAN.finditer(line):
        parts += [_MENTION.sub(f"@{JOINER}", line[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, _MENTION.sub(f"@{JOINER}", line[at:])])
