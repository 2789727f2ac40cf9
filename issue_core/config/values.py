"""One value of the file made what its kind says, or told why it cannot be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from issue_core.config.keys import Key, dotted
from issue_core.config.secret import FORM, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST_TIME = 10 * 365 * 86400
"""Seconds that a time may have: ten years, well within what clocks and time-outs can count."""

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*@")


class Unfit(ValueError):
    """A value that its key cannot have; the text says why and, but for numbers and names, leaves the value out."""


@dataclass(frozen=True, slots=True)
class Where:
    """What a value's meaning may depend on: its dotted key, and the folder that relative paths start from."""

    key: str
    folder: Path


def convert(key: Key, value: object, where: Where) -> Any:
    """``value`` as the kind of ``key`` has it, within its limits.

    Raises:
        Unfit: it cannot be that.
    """
    if key.kind not in _CONVERTERS:
        raise Unfit(f"this backend's type declares it as {key.kind!r}, which is no kind of key; mend the plug-in")
    converted = _CONVERTERS[key.kind](value, where)
    if isinstance(converted, float | int) and not (converted >= key.least and converted > key.above):
        raise Unfit(f"must be {f'{key.least:g} or more' if key.least > key.above else f'more than {key.above:g}'}")
    if isinstance(converted, float | int) and converted > key.most:
        raise Unfit(f"must be {key.most} or less")
    if key.only:
        _only(key.only, converted)
    return converted


def parse_duration(text: str) -> float:
    """The seconds that ``45s``, ``30m``, ``12h``, ``7d`` or a number alone stand for.

    Raises:
        ValueError: it is none of these, or longer than ten years.
    """
    if not (found := _DURATION.fullmatch(text.strip())):
        raise Unfit("expected a duration like 45s, 30m, 12h or 7d, or a number of seconds")
    return _time(float(found[1]) * _UNITS[found[2]])


def nearest(word: str, words: list[str]) -> str | None:
    """The one of ``words`` that ``word`` was most likely meant to be, if any is near."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, words, n=1, cutoff=0.6)), None)


def suggest(word: str, words: list[str]) -> str:
    """What to write in the place of ``word``: the nearest of ``words``, else all of them."""
    near = nearest(word, words)
    return f"did you mean {near}?" if near else f"there is: {', '.join(words) or 'none'}"


def as_table(value: object) -> Mapping[str, object]:
    """``value`` if it is a table.

    Raises:
        Unfit: it is something else.
    """
    if not isinstance(value, dict):
        raise _mismatch("a table", value)
    return value


def as_text(value: object, where: Where) -> str:
    """``value`` if it is one line of text, not empty, with no credentials in an address.

    Raises:
        Unfit: it is something else.
    """
    if not isinstance(value, str):
        raise _mismatch("text", value)
    if not value.strip():
        raise Unfit("is empty")
    if any(char < " " or char == "\x7f" for char in value):
        raise Unfit("has a line break or another control character in it")
    if _CREDENTIALS.match(value):
        raise Unfit(f"has credentials in its address; a secret is not written in this file but named: {FORM}")
    return value


def _flag(value: object, _: Where) -> bool:
    if not isinstance(value, bool):
        raise _mismatch("true or false", value)
    return value


def _count(value: object, _: Where) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _mismatch("a whole number", value)
    return value


def _seconds(value: object, _: Where) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _mismatch("a number of seconds", value)
    return _time(value)


def _duration(value: object, where: Where) -> float:
    return parse_duration(value) if isinstance(value, str) else _seconds(value, where)


def _time(seconds: float) -> float:
    # Written so that NaN fails, and before float(), which a huge integer would overflow.
    if not 0 <= seconds <= LONGEST_TIME:
        raise Unfit(f"must be from 0 to {LONGEST_TIME} seconds, which is ten years")
    return float(seconds)


def _pair(value: object, where: Where) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise _mismatch("a list of two numbers of seconds, [first, longest]", value)
    first, longest = (_seconds(item, where) for item in value)
    if first > longest:
        raise Unfit("its first wait is longer than its longest: write [first, longest]")
    return first, longest


def _path(value: object, where: Where) -> Path:
    try:
        return where.folder / Path(as_text(value, where)).expanduser()
    except RuntimeError:
        raise Unfit("begins with ~, and no home folder is known for it; write the whole path") from None


def _list(value: object, where: Where) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _mismatch("a list of text", value)
    return tuple(as_text(item, where) for item in value)


def _table(value: object, where: Where) -> dict[str, str]:
    return {name: _entry(name, item, where) for name, item in as_table(value).items()}


def _entry(name: str, value: object, where: Where) -> str:
    if isinstance(value, dict):
        raise Unfit(f"{dotted(name)}: expected text, found a table; a name with a dot in it must stand in quotes")
    try:
        as_text(name, where)
        return as_text(value, where)
    except Unfit as unfit:
        raise Unfit(f"{dotted(name)}: {unfit}") from None


def as_secret(value: object, where: Where) -> Secret:
    """``value`` if it names the place of a secret.

    Raises:
        Unfit: it is something else; the text shows the right form.
    """
    wrong = Unfit(f"a secret is not written in this file but named: {FORM}")
    if not isinstance(value, dict) or len(value) != 1:
        raise wrong
    match value:
        case {"env": str(name)} if _VARIABLE.fullmatch(name):
            return Secret(where.key, "env", (name,))
        case {"file": str(path)} if path:
            return Secret(where.key, "file", (str(_path(path, where)),))
        case {"command": [str(program), *arguments]} if program and all(_argument(a) for a in (program, *arguments)):
            return Secret(where.key, "command", (program, *arguments))
    raise wrong


def _argument(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _only(allowed: tuple[str, ...], value: str | Mapping[str, str]) -> None:
    for name in [value] if isinstance(value, str) else value:
        if name not in allowed:
            near = nearest(name, list(allowed))
            raise Unfit(f"{dotted(name)} is none of {', '.join(allowed)}{f'; did you mean {near}?' if near else ''}")


def _mismatch(expected: str, found: object) -> Unfit:
    return Unfit(f"expected {expected}, found {_called(found)}")


def _called(value: object) -> str:
    match value:
        case str():
            return "text"
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case float():
            return "a number with a fraction"
        case list():
            return f"a list of {len(value)}"
        case date() | time():
            return "a date or time"
        case _:
            return "a table"


_CONVERTERS: Mapping[str, Callable[[object, Where], Any]] = {
    "text": as_text,
    "flag": _flag,
    "count": _count,
    "seconds": _seconds,
    "duration": _duration,
    "pair of seconds": _pair,
    "path": _path,
    "list of text": _list,
    "table of text": _table,
    "secret": as_secret,
}
