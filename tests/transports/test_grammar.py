from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.transports.grammar import Recogniser, Trace, is_object, is_plain, object_end
from tests.support.reading import PARTS

DEPTH = 1 << 20

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
styles = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 2, "\t"]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]),
        "ensure_ascii": st.booleans(),
    }
)


def recognise(data: bytes) -> tuple[str, int]:
    recogniser = Recogniser(depth=DEPTH)
    end = recogniser.read(data, 0)
    return recogniser.status, end


def reads_as_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=len, parse_float=len)
    except ValueError:
        return False
    return True


def closers(text: str) -> str:
    """The brackets that ``text`` leaves open, closed."""
    opened = ""
    for bracket in re.sub(r'"(?:[^"\\]|\\.)*"?', "", text):
        if bracket in "[{":
            opened = "]}"["[{".index(bracket)] + opened
        elif bracket in "]}":
            opened = opened[1:]
    return opened


@given(json_values, styles)
def test_a_json_value_ends_where_it_ends(value: Any, style: dict[str, Any]) -> None:
    data = json.dumps({"": value}, **style).encode("utf-8", "surrogatepass")

    assert recognise(data) == ("done", len(data))
    assert recognise(data + b" {") == ("done", len(data))
    assert object_end(data + b" {") == len(data)


@given(json_values, styles, st.data())
def test_a_value_cut_anywhere_is_open_until_its_last_byte(
    value: Any, style: dict[str, Any], data: st.DataObject
) -> None:
    whole = json.dumps({"": value}, **style).encode("utf-8", "surrogatepass")
    cut = data.draw(st.integers(0, len(whole) - 1))
    recogniser = Recogniser(depth=DEPTH)

    again = recogniser.read(whole[:cut], 0)
    was = recogniser.status
    end = recogniser.read(whole[again:], 0)

    assert (was, recogniser.status) == ("open", "done")
    assert again + end == len(whole)


@given(st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join))
def test_it_takes_what_python_takes_and_nothing_else(tail: bytes) -> None:
    data = b'{"k":' + tail
    status, end = recognise(data)

    assert (status == "done") == bool(object_end(data))
    if status == "done":
        assert object_end(data) == end
        assert reads_as_json(data[:end].decode("latin-1"))


@given(st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join))
def test_it_breaks_no_earlier_than_it_must(tail: bytes) -> None:
    data = b'{"k":' + tail
    status, end = recognise(data)
    if status != "broken":
        return

    good = data[:end].decode("latin-1")
    endings = ["", "0", '"":0', ":0", '"', '":0']
    assert any(reads_as_json(good + ending + closers(good)) for ending in endings)


@pytest.mark.parametrize(
    ("data", "at", "reason"),
    [
        (b"{{", 1, "expected a key in double quotes or '}'"),
        (b"{1", 1, "expected a key in double quotes or '}'"),
        (b"{,", 1, "expected a key in double quotes or '}'"),
        (b'{"a":1,}', 7, "expected a key in double quotes"),
        (b'{"a":1,1', 7, "expected a key in double quotes"),
        (b"{'a'", 1, "expected a key in double quotes or '}'"),
        (b'{"a" 1', 5, "expected ':' after a key"),
        (b'{"a" "b"', 5, "expected ':' after a key"),
        (b'{"a" "b', 5, "expected ':' after a key"),
        (b'{"a"}', 4, "expected ':' after a key"),
        (b'{"a":}', 5, "expected a value"),
        (b'{"a":]', 5, "expected a value"),
        (b'{"a":tru,', 5, "expected a value"),
        (b'{"a":True,', 5, "expected a value"),
        (b'{"a":01,', 5, "expected a value"),
        (b'{"a":1.,', 5, "expected a value"),
        (b'{"a":+1,', 5, "expected a value"),
        (b'{"a":.5,', 5, "expected a value"),
        (b'{"a":[,', 6, "expected a value or ']'"),
        (b'{"a":[1,]', 8, "expected a value"),
        (b'{"a":[1}', 7, "expected ',' or ']' after a value"),
        (b'{"a":[1 2]', 8, "expected ',' or ']' after a value"),
        (b'{"a":1]', 6, "expected ',' or '}' after a value"),
        (b'{"a":1 "b"', 7, "expected ',' or '}' after a value"),
        (b'{"a":{}{', 7, "expected ',' or '}' after a value"),
        (b'{"a":"b\nc', 7, "the line ends inside a string"),
        (b'{"a":"b\tc', 7, "control character U+0009 in a string"),
        (b'{"a":"b\x00', 7, "control character U+0000 in a string"),
        (rb'{"a":"b\x', 7, "invalid escape in a string"),
        (rb'{"a":"b\u12g4', 7, "invalid escape in a string"),
        (b"{#", 1, "expected a key in double quotes or '}'"),
        (b'{"a":\x0c1', 5, "expected a value"),
    ],
)
def test_it_says_at_which_byte_a_value_cannot_go_on_and_why(data: bytes, at: int, reason: str) -> None:
    recogniser = Recogniser(depth=DEPTH)

    assert recogniser.read(data, 0) == at
    assert (recogniser.status, recogniser.reason) == ("broken", reason)


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity", b"1" * 5000, b"-0.0E+10"])
def test_what_python_reads_as_a_number_passes_here(word: bytes) -> None:
    assert recognise(b'{"a":%s}' % word) == ("done", len(word) + 6)


def test_a_hundred_thousand_brackets_do_not_recurse() -> None:
    recogniser = Recogniser(depth=DEPTH)
    deep = 100_000
    recogniser.read(b'{"a":' + b"[" * deep, 0)
    was = recogniser.status

    assert recogniser.read(b"]" * deep + b"}", 0) == deep + 1
    assert (was, recogniser.status) == ("open", "done")


def test_brackets_deeper_than_the_given_depth_break_it() -> None:
    recogniser = Recogniser(depth=3)

    assert recogniser.read(b'{"a":[[[', 0) == 7
    assert recogniser.reason == "its brackets are nested too deeply"


def test_a_number_longer_than_any_document_breaks_it_however_it_is_cut() -> None:
    word = b"1" * 101
    whole, cut = Recogniser(depth=100), Recogniser(depth=100)

    assert whole.read(b"[%s]" % word, 0) == 1
    assert cut.read(b"[" + word[:50], 0) == 1
    assert cut.read(word + b"]", 0) == 0
    assert (whole.status, cut.status) == ("broken", "broken")


def test_the_lines_that_begin_with_a_brace_are_traced() -> None:
    lines = [b'{"a":[', b'{"b":1}', b",", b'{"c":{}},', b'  {"d":', b'{"e":2} ', b",x"]
    data = b"\n".join(lines)
    trace = Trace()
    recogniser = Recogniser(depth=DEPTH, trace=trace)
    recogniser.read(data, 0, base=100)

    assert recogniser.status == "broken"
    assert list(trace.whole) == [100 + data.index(b'{"b"'), 100 + data.index(b'{"e"')]
    assert list(trace.unclosed) == [100 + data.index(b'{"d"')]


def test_a_brace_where_none_may_stand_is_told_apart_when_it_begins_a_line() -> None:
    inside, first = Recogniser(depth=DEPTH), Recogniser(depth=DEPTH)
    inside.read(b'{"a":1, {', 0)
    first.read(b'{"a":1,\n  {', 0)

    assert (inside.brace_at_line_start, first.brace_at_line_start) == (False, True)


@pytest.mark.parametrize(
    ("line", "answer"),
    [(b"{}", True), (b'{"a":[{}]}\r', True), (b"{} x", False), (b'{"a":', False), (b"{}{}", False), (b"[]x", False)],
)
def test_a_line_is_an_object_only_when_nothing_else_is_on_it(line: bytes, answer: bool) -> None:
    assert is_object(line) is answer


@given(st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join).filter(lambda part: b"\n" not in part))
def test_a_plain_line_ends_or_breaks_within_itself(middle: bytes) -> None:
    line = b"{" + middle.replace(b"{", b"").replace(b"}", b"") + b"}"
    status, end = recognise(line + b"\n{}")

    assert is_plain(line)
    assert end <= len(line)
    assert status == "broken" or end == len(line)
    assert status != "open"
