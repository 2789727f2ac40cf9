"""The issue's text: written with the event ID and where the task came from, and read back.

A file begins with YAML front matter. Each value in it is JSON as every YAML 1.1 and 1.2 parser reads it: strings in
double quotes, no line break and nothing invisible unescaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from issue_core.task import Task

HEAD_BYTES = 4096
"""How much of a file is read to find its event ID, which stands in the second line unless somebody moved it."""

_BOM = b"\xef\xbb\xbf"
_FENCE = "---"
_EVENT_ID_LINE = re.compile(
    rb"""event_id:[ \t]*(["']?)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\1?[ \t]*(?:[ \t]#.*)?""", re.IGNORECASE
)

# Left unescaped by JSON, but not printable in YAML (YAML 1.2.2 §5.1), a line break in YAML 1.1 (U+0085, U+2028,
# U+2029), or able to show the line in another order than it has (the bidirectional controls of UAX #9).
_UNPRINTABLE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")
# What YAML reads otherwise than JSON: a string that is a key, and a float that lacks the dot or the exponent's sign.
_JSON_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*")(?P<colon>:?)|(?<![\d.])(?P<digits>-?\d+)(?P<exponent>e[+-]\d+)'
)
# A key that is not marked with "?" ends within 1024 characters (YAML 1.2.2 §7.4.2); some parsers count bytes.
_LONGEST_SIMPLE_KEY = 250

_PLAIN_KEY = re.compile(r"[a-z]+(?:_[a-z]+)+|stream|subject|sequence|transport")

# What CommonMark would not show as it stands, in the one line of a heading. Underscores within a word are harmless.
_MARKUP = re.compile(
    r"""[`*<\[~]                                    # code, emphasis, HTML, links, strike-through
      | \\(?=[!-/:-@\[-`{-~])                       # a backslash that would escape what follows
      | (?<![^\W_])_ | _(?![^\W_])                  # emphasis
      | &(?=\#?[0-9A-Za-z]+;)                       # an entity
      | (?:(?<=\s)|^)\#(?=\#*\s*$)                  # a closing sequence
    """,
    re.VERBOSE,
)


def render(task: Task) -> str:
    """The whole text of the issue's file: front matter, the title as a heading, the description as it is."""
    description = task.description
    if description and not description.endswith("\n"):
        description += "\n"
    return f"{front_matter(task)}\n{heading(task.title)}\n" + (f"\n{description}" if description else "")


def front_matter(task: Task) -> str:
    """What machines read: ``event_id`` first, then the fields of the task, then where it came from."""
    fields = {
        "event_id": task.event_id,
        "title": task.title,
        "target_repo": task.target_repo,
        "priority": task.priority,
        "labels": task.labels,
        "due_date": task.due_date,
        "created_at": task.created_at,
    }
    lines = [f"{name}: {_value(value)}" for name, value in fields.items()]
    lines += _block("ingestion", task.ingestion)
    if task.extra:
        lines.append(f"extra: {_value(task.extra)}")
    return "\n".join([_FENCE, *lines, _FENCE, ""])


def heading(title: str) -> str:
    """The title as a heading of the first rank that shows every character of it as it stands."""
    return "# " + _MARKUP.sub(lambda found: "\\" + found[0], title)


def event_id_in(head: bytes) -> str | None:
    """The event ID (lower case) in the front matter that a file begins with; None when there is none.

    ``head`` is the file's first :data:`HEAD_BYTES` bytes. Only a line of the front matter itself counts, so an ID
    that the title or the description tells of is not taken for the file's own.
    """
    lines = head.removeprefix(_BOM).splitlines()
    if not lines or lines[0].rstrip() != _FENCE.encode():
        return None
    for line in lines[1:]:
        if line.rstrip() in (b"---", b"..."):
            return None
        if found := _EVENT_ID_LINE.fullmatch(line):
            return found[2].decode().lower()
    return None


def _block(name: str, mapping: Mapping[str, Any]) -> list[str]:
    """The mapping with one line for each of its keys."""
    if not mapping:
        return [f"{name}: {{}}"]
    return [f"{name}:", *(f"  {_key(key)} {_value(value)}" for key, value in mapping.items())]


def _key(key: str) -> str:
    if _PLAIN_KEY.fullmatch(key):
        return f"{key}:"
    written = _value(key)
    return f"{written}:" if len(written) <= _LONGEST_SIMPLE_KEY else f"? {written}\n  :"


def _value(value: object) -> str:
    """The value on one line, as JSON that is YAML too."""
    return _JSON_TOKEN.sub(_as_yaml, json.dumps(value, ensure_ascii=False))


def _as_yaml(token: re.Match[str]) -> str:
    if token["digits"]:
        return f"{token['digits']}.0{token['exponent']}"
    string = _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", token["string"])
    explicit = "? " if token["colon"] and len(string) > _LONGEST_SIMPLE_KEY else ""
    return f"{explicit}{string}{token['colon']}"
