"""What is written: nothing hidden in it, and JSON that says what it said before."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.cli.output import escape, to_json

ANY_TEXT = st.text(st.characters())
HIDDEN = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200b\u200e\u200f\u2028\u2029\u202e\u2066\ufeff",
]


@pytest.mark.parametrize("character", [*HIDDEN, "\ud800"])
def test_what_cannot_be_seen_is_shown(character: str) -> None:
    assert character not in escape(f"a{character}b")
    assert character not in to_json(f"a{character}b")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b2J", "\\x9b2J"),
        ("\udcff", "\\udcff"),
        ("naïve 日本語 [bold]", "naïve 日本語 [bold]"),
        ("👩\u200d👧 ‌", "👩\u200d👧 ‌"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_text_of_several_lines_keeps_its_lines() -> None:
    assert escape("a\r\nb\tc\rd\x1b", multiline=True) == "a\nb\tc\\rd\\x1b"


@given(ANY_TEXT)
def test_escaped_text_is_one_line_that_can_be_encoded(text: str) -> None:
    assert len(escape(text).encode().decode().splitlines()) <= 1


@given(
    st.recursive(st.text() | st.integers() | st.none(), lambda each: st.lists(each) | st.dictionaries(st.text(), each))
)
def test_json_says_what_it_said_before(value: object) -> None:
    line = to_json(value)
    assert json.loads(line) == value
    assert len(line.encode().decode().splitlines()) == 1
