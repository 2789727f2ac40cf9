"""What is wrong with a TaskSpec, in words for the author of a rule."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from issue_core.task import FieldProblem
from issue_core.taskspec.model import TaskSpec, parse_event_id

# Unicode's Cc, and the two separators that break a line without being control characters.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class NoJsonNumber(float):
    """NaN or an infinity: Python's reader takes them, JSON (RFC 8259, section 6) does not."""


def event_id_in(value: dict[str, Any]) -> str | None:
    """The event ID of a document that is refused for other reasons; ``None``: it has none that can be read."""
    try:
        return parse_event_id(value.get("triggering_event_id", ""))
    except (ValueError, TypeError):
        return None


MAX_PROBLEMS = 100
"""How many of a document's problems are told, and how many of its unknown fields are named."""


def first_of(problems: Iterable[FieldProblem]) -> tuple[FieldProblem, ...]:
    """As many as a person reads: a hostile megabyte could have half a million."""
    told = tuple(islice(problems, MAX_PROBLEMS + 1))
    if len(told) <= MAX_PROBLEMS:
        return told
    return (*told[:MAX_PROBLEMS], FieldProblem("document", f"has more problems than these {MAX_PROBLEMS}"))


def of_spec(invalid: ValidationError) -> Iterator[FieldProblem]:
    """What pydantic found, in our words."""
    for error in invalid.errors(include_url=False):
        yield FieldProblem(_path(error["loc"]), _in_words(error))


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _in_words(error: ErrorDetails) -> str:
    kind, found, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "is required"
    if isinstance(found, NoJsonNumber):
        return f"must not be {kind_of(found)}: JSON has no such number"
    if kind == "string_unicode" or (isinstance(found, str) and _SURROGATE.search(found)):
        return _surrogate(found)
    if kind == "string_pattern_mismatch":
        return _bad_character(found, str(error["loc"][0]))
    if kind == "string_too_short":
        return "must not be empty"
    if kind in ("string_too_long", "too_long"):
        length = len(_as_counted(found, error["loc"][0]))
        return f"is {length:,} characters long; {context['max_length']:,} are allowed"
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"must be between 0 and 3650, not {quoted(found)}"
    if kind == "literal_error":
        return f"must be {context['expected'].replace(chr(39), chr(34))}, not {quoted(found)}"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {kind_of(found)}"
    return error["msg"]


_EXPECTED = {"string_type": "a string", "int_type": "a whole number", "list_type": "a list of strings"}


def _bad_character(text: str, field: str) -> str:
    if field == "target_repo" and (space := re.search(r"\s", text)):
        return f"must not hold white space (character {space.start() + 1})"
    start = text.index(_as_counted(text, field))
    bad = text.index("\0") if field == "description" else next(_UNPRINTABLE.finditer(text, start)).start()
    return f"must not hold a control character (U+{ord(text[bad]):04X} at character {bad + 1})"


# What pydantic trims: Unicode's White_Space. str.strip() takes U+001C to U+001F away too.
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def _as_counted(text: str, field: int | str) -> str:
    return text.strip(_WHITE_SPACE) if field in ("title", "labels") else text


def _surrogate(text: str) -> str:
    found = _SURROGATE.search(text)
    where = f" (U+{ord(found.group()):04X} at character {found.start() + 1})" if found else ""
    return f"must not hold half of a surrogate pair{where}"


def kind_of(value: Any) -> str:
    """What kind of JSON value this is, as one would say it."""
    if isinstance(value, NoJsonNumber):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(float(value))]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"the number {quoted(value)}"
    return "a string" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def quoted(value: Any) -> str:
    """A value as it stands in JSON, cut to what fits into a line."""
    text = json.dumps(value) if isinstance(value, str | int | float) else kind_of(value)
    return text if len(text) <= 60 else text[:57] + "…" + ('"' if text[0] == '"' else "")


# --- fields that a TaskSpec does not have ---------------------------------------------------------------------------

MAX_DEPTH = 100
"""How deeply the value of an unknown field may be nested."""


def of_extra(value: Any, path: tuple[int | str, ...] = ()) -> Iterator[FieldProblem]:
    """What a known field refuses, an unknown one refuses too, at any depth."""
    if len(path) > MAX_DEPTH:
        yield FieldProblem(_spelled(path), f"is nested more than {MAX_DEPTH} levels deep")
    elif isinstance(value, dict):
        for name, inner in value.items():
            if not _is_text(name):
                yield FieldProblem(_spelled(path) or "document", _bad_text(name, "a field's name "))
            yield from of_extra(inner, (*path, name))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from of_extra(inner, (*path, n))
    elif isinstance(value, str) and not _is_text(value):
        yield FieldProblem(_spelled(path), _bad_text(value))
    elif isinstance(value, float) and not math.isfinite(value):
        yield FieldProblem(_spelled(path), "must not be NaN or infinite: JSON has no such number")


def _is_text(text: str) -> bool:
    return not (_UNPRINTABLE.search(text) or _SURROGATE.search(text))


def _bad_text(text: str, what: str = "") -> str:
    return what + (_surrogate(text) if _SURROGATE.search(text) else _bad_character(text, "extra"))


def _spelled(path: tuple[int | str, ...]) -> str:
    """The path in characters that can be shown and stored, and not many of them: names are as long as one likes."""
    text = _path(path)
    text = text if _is_text(text) else json.dumps(text)
    return text if len(text) <= 200 else text[:199] + "…"


def of_unknown(extra: dict[str, Any]) -> Iterator[FieldProblem]:
    """A problem for each field that a TaskSpec does not have."""
    for name in extra:
        yield FieldProblem(_spelled((name,)), f"is no field of a TaskSpec{_did_you_mean(name)}")


def warnings(extra: dict[str, Any]) -> Iterator[str]:
    """A warning for each field that a TaskSpec does not have and that is kept."""
    for name in islice(extra, MAX_PROBLEMS):
        yield f"unknown field {quoted(name)} kept{_did_you_mean(name)}"
    if len(extra) > MAX_PROBLEMS:
        yield f"{len(extra) - MAX_PROBLEMS:,} more unknown fields kept"


def _did_you_mean(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, TaskSpec.model_fields, n=1, cutoff=0.75)
    return f" (did you mean {quoted(near[0])}?)" if near else ""
