"""Text with nothing hidden in it: what came from outside, for people to read."""

from __future__ import annotations

import re
from functools import lru_cache
from json import JSONEncoder

_encode = JSONEncoder(ensure_ascii=False).encode

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str, *, multiline: bool = False) -> str:
    r"""``text`` with every character that would not be seen as what it is shown as ``\n``, ``\x1b`` or ``\u202e``.

    In ``multiline`` text line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    if multiline:
        return _hidden("\x00-\x08\x0b-\x1f").sub(_shown, text.replace("\r\n", "\n"))
    return _hidden("\x00-\x1f").sub(_shown, text)


def to_json(value: object) -> str:
    """``value`` as one line of JSON, with hidden characters in JSON's own escapes: safe on a terminal, too."""
    text = _encode(value)
    if text.isprintable():
        return text
    return _hidden("").sub(lambda match: f"\\u{ord(match.group()):04x}", text)


# Few starts need one of these, so none is compiled before it is needed.
@lru_cache
def _hidden(controls: str) -> re.Pattern[str]:
    """What moves the cursor, reorders the line or cannot be seen: these of ASCII's controls, and all of the others.

    The joiners U+200C and U+200D are none: scripts and emoji need them.
    """
    return re.compile(f"[{controls}\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def _shown(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
