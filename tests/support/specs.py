"""TaskSpecs for tests: one to change, and strategies that make valid ones and write them in many ways."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from itertools import count
from typing import Any
from uuid import UUID, uuid5

from hypothesis import strategies as st

OMITTED = "(omitted)"
"""As a field's value: leave the field out."""

_NUMBERS = count(1)
_SPACE = UUID("8c0f8d52-0b86-4c3c-9f0a-5a3d1b7f2e64")


def an_event_id(number: int | None = None) -> str:
    """An event ID: always the same for a ``number``, always another one without."""
    return str(uuid5(_SPACE, str(-next(_NUMBERS) if number is None else number)))


def a_spec(**changes: Any) -> dict[str, Any]:
    """A TaskSpec as JSON, with an event ID of its own unless ``changes`` set it."""
    fields = {
        "title": "Disk is nearly full",
        "target_repo": "acme/web",
        "source_type": "rule",
        "source_id": "disk-watch",
        "triggering_event_id": changes.get("triggering_event_id") or an_event_id(),
    } | changes
    return {name: value for name, value in fields.items() if value is not OMITTED}


def written(spec: object) -> bytes:
    """The JSON of ``spec`` as most programs write it."""
    return json.dumps(spec).encode()


def written_oddly(fields: list[tuple[str, Any]], chance: random.Random) -> bytes:
    """A JSON object with ``fields`` (some may come twice), with white space and escapes where JSON allows them."""
    space = _space(chance)
    inner = (space + b"," + space).join(
        space + _string(name, chance) + space + b":" + space + _value(value, chance) for name, value in fields
    )
    return space + b"{" + inner + space + b"}" + space


def _space(chance: random.Random) -> bytes:
    return bytes(chance.choice(b" \t\r\n") for _ in range(chance.choice((0, 0, 0, 1, 2))))


def _value(value: Any, chance: random.Random) -> bytes:
    if isinstance(value, str):
        return _string(value, chance)
    if isinstance(value, list):
        parts = (_space(chance) + _value(item, chance) + _space(chance) for item in value)
        return b"[" + b",".join(parts) + b"]"
    if isinstance(value, dict):
        return written_oddly(list(value.items()), chance)
    return json.dumps(value).encode()


def _string(text: str, chance: random.Random) -> bytes:
    odd = chance.random() < 0.3
    return b'"' + b"".join(_character(character, odd, chance) for character in text) + b'"'


def _character(character: str, odd: bool, chance: random.Random) -> bytes:
    if odd and chance.random() < 0.5:
        if character == "/":
            return b"\\/"
        units = character.encode("utf-16-be", "surrogatepass")
        return b"".join(b"\\u" + units[n : n + 2].hex().encode() for n in range(0, len(units), 2))
    return json.dumps(character, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")


UUID_SPELLINGS = (
    str,
    lambda event_id: event_id.upper(),
    lambda event_id: event_id.replace("-", ""),
    lambda event_id: "{" + event_id + "}",
    lambda event_id: "urn:uuid:" + event_id,
    lambda event_id: "URN:UUID:" + event_id.replace("-", "").upper(),
)


def texts(least: int, most: int, *, white_space: bool = True) -> st.SearchStrategy[str]:
    """Text without control characters that says something after trimming."""
    if not white_space:
        return st.text("abz/#-_.ÄßİſǅΣς中😀", min_size=max(least, 1), max_size=most)
    alphabet = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
    return st.text(alphabet, min_size=least, max_size=most).map(lambda text: text.strip() or "x" * least)


def json_values() -> st.SearchStrategy[Any]:
    """What an unknown field may hold."""
    leaves = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | texts(0, 8)
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        leaves | numbers, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(1, 4), inner, max_size=3)
    )


def specs(
    *, event_ids: st.SearchStrategy[str] | None = None, unknown: bool = True
) -> st.SearchStrategy[dict[str, Any]]:
    """Valid TaskSpecs as JSON: every field at many values, and optional ones left out at times."""
    required = {
        "title": texts(1, 20),
        "target_repo": texts(1, 8, white_space=False),
        "source_type": st.sampled_from(["rule", "instruction"]),
        "source_id": texts(1, 8),
        "triggering_event_id": st.uuids().map(str) if event_ids is None else event_ids,
    }
    optional: Mapping[str, st.SearchStrategy[Any]] = {
        "description": st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12),
        "priority": st.sampled_from(["high", "medium", "low"]),
        "labels": st.lists(texts(1, 6), max_size=4),
        "due_in_days": st.none() | st.integers(0, 3650),
        "activity_definition_id": st.none() | texts(0, 6),
    }
    known = st.fixed_dictionaries(required, optional=dict(optional))
    if not unknown:
        return known
    names = texts(1, 6).filter(lambda name: name not in required and name not in optional)
    extra = st.dictionaries(names, json_values(), max_size=2)
    return known | st.builds(dict.__or__, extra, known)
