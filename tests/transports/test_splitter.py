from __future__ import annotations

import hashlib
import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from issue_core.task import HEAD_BYTES, Document, Oversize, Place
from issue_core.transports.splitter import Splitter
from tests.support.reading import SPACE, expected, found, nasty_inputs, split

GOOD = b'{"a":1}'
NESTED = b'{"b":{"c":[2]}}'


def raws(documents: list[Document]) -> list[bytes]:
    return [document.raw for document in documents]


def broken(documents: list[Document]) -> list[bytes]:
    return [document.raw for document in documents if document.broken]


def lines(documents: list[Document]) -> list[int | None]:
    return [document.place.line for document in documents]


# ---- what is nothing


@pytest.mark.parametrize("data", [b"", b"\n\r\n \t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n", b"[]", b" \n[ \n]\n"])
def test_nothing_is_no_document(data: bytes) -> None:
    assert split(data) == []


def test_a_byte_order_mark_is_nothing_before_documents_and_before_an_array() -> None:
    assert split(b"\xef\xbb\xbf" + GOOD) == [Document(GOOD, Place("-", 1))]
    assert split(b"\xef\xbb\xbf\n[" + GOOD + b"]") == [Document(GOOD, Place("-", None, 0))]


def test_a_byte_order_mark_anywhere_else_is_not_nothing() -> None:
    assert broken(split(GOOD + b"\n\xef\xbb\xbf" + GOOD)) == [b"\xef\xbb\xbf" + GOOD]


def test_carriage_returns_blank_lines_and_blanks_around_are_nothing() -> None:
    data = b"\r\n\n  %s \t\r\n \r\n%s\r\n%s\n\n" % (GOOD, NESTED, GOOD)

    assert split(data) == [
        Document(GOOD, Place("-", 3)),
        Document(NESTED, Place("-", 5)),
        Document(GOOD, Place("-", 6)),
    ]


# ---- documents one after another


def test_the_file_is_named_in_each_place_as_it_was_given() -> None:
    assert [d.place.file for d in split(GOOD + b"\n" + GOOD, file="tasks.ndjson")] == ["tasks.ndjson"] * 2
    assert Splitter(file=None, max_document=100).feed(GOOD) == [Document(GOOD, Place(None, 1))]


def test_a_document_on_many_lines_has_the_line_on_which_it_begins() -> None:
    pretty = json.dumps({"a": {"b": [1, {}]}}, indent=2).encode()

    assert split(b"\n%s\n%s" % (pretty, GOOD)) == [Document(pretty, Place("-", 2)), Document(GOOD, Place("-", 10))]


@pytest.mark.parametrize("between", [b"", b" ", b"\t \t"])
def test_several_documents_may_stand_on_one_line(between: bytes) -> None:
    assert split(GOOD + between + NESTED + between + GOOD) == [
        Document(raw, Place("-", 1)) for raw in (GOOD, NESTED, GOOD)
    ]


def test_an_object_that_is_no_task_is_a_document_all_the_same() -> None:
    data = b'{}\n{"a":NaN}\n{"a":1,"a":2}\n{"a":"\xff\\ud800"}'

    assert split(data) == [Document(raw, Place("-", at)) for at, raw in enumerate(data.split(b"\n"), 1)]


@pytest.mark.parametrize("document", [GOOD, NESTED, b'{\n"a":\n1}'])
def test_a_document_is_given_out_with_its_closing_brace(document: bytes) -> None:
    splitter = Splitter(file="-", max_document=1000)

    assert splitter.feed(document[:-1]) == []
    assert raws(splitter.feed(document[-1:])) == [document]
    assert splitter.feed(b"\n") == splitter.close() == []


@pytest.mark.parametrize(
    "line", [b"junk", b'"text"', b"42", b"null", b"]", b"}", b", x", b"# comment", b"\x00", b"\xff"]
)
def test_a_line_that_is_no_document_is_one_reject(line: bytes) -> None:
    documents = split(b"%s\n  %s \r\n%s" % (GOOD, line, NESTED))

    assert raws(documents) == [GOOD, line, NESTED]
    assert documents[1] == Document(line, Place("-", 2), None, "is not a JSON object")


def test_an_array_that_is_not_the_first_thing_is_one_reject() -> None:
    assert broken(split(GOOD + b"\n[" + GOOD + b"]\n" + GOOD)) == [b"[" + GOOD + b"]"]


def test_what_is_left_of_a_line_behind_its_documents_is_one_reject() -> None:
    documents = split(b"%s%s, x %s\n%s," % (GOOD, NESTED, GOOD, GOOD))

    assert raws(documents) == [GOOD, NESTED, b", x " + GOOD, GOOD, b","]
    assert broken(documents) == [b", x " + GOOD, b","]
    assert lines(documents) == [1, 1, 1, 2, 2]


# ---- documents that break


def test_a_document_that_breaks_on_its_own_line_ends_with_the_line() -> None:
    documents = split(b'%s\n{"a" {}, "b": 1} x\n%s\n' % (GOOD, GOOD))

    assert raws(documents) == [GOOD, b'{"a" {}, "b": 1} x', GOOD]
    assert documents[1].broken == "breaks off at line 2 column 6: expected ':' after a key"


def test_columns_are_counted_in_characters() -> None:
    whole = split('{"ä€😀" {}'.encode())
    cut = split('{"ä€😀" {}'.encode(), cuts=[4, 9, 12])

    assert whole == cut
    assert whole[0].broken == "breaks off at line 1 column 8: expected ':' after a key"


def test_a_string_that_is_not_closed_ends_with_its_line() -> None:
    documents = split(b'{"a": {"b": "c}}\n%s\n' % GOOD)

    assert raws(documents) == [b'{"a": {"b": "c}}', GOOD]
    assert documents[0].broken == "breaks off at line 1 column 17: the line ends inside a string"


def test_the_line_on_which_a_document_breaks_is_read_again_when_it_is_whole() -> None:
    documents = split(b'{"a": 1,\n  "b": 2,\n  %s\n%s\n' % (NESTED, GOOD))

    assert raws(documents) == [b'{"a": 1,\n  "b": 2,', NESTED, GOOD]
    assert lines(documents) == [1, 3, 4]
    assert documents[0].broken == "breaks off at line 3 column 3: expected a key in double quotes"


def test_the_earliest_whole_line_ends_a_broken_document() -> None:
    documents = split(b'{"a":\n%s\n%s\n%s\n' % (GOOD, NESTED, GOOD))

    assert raws(documents) == [b'{"a":', GOOD, NESTED, GOOD]
    assert broken(documents) == [b'{"a":']


def test_a_whole_line_far_above_the_break_ends_a_broken_document() -> None:
    documents = split(b'{"a":[\n1,\n%s\n,\n2,\nx\n%s\n' % (NESTED, GOOD))

    assert raws(documents) == [b'{"a":[\n1,', NESTED, b",", b"2,", b"x", GOOD]


def test_a_broken_document_with_no_whole_line_ends_with_the_line_where_it_broke() -> None:
    documents = split(b'{"a":\n{"b":1},\n{"c":2} x\n%s\n' % GOOD)

    assert raws(documents) == [b'{"a":\n{"b":1},\n{"c":2} x', GOOD]
    assert lines(documents) == [1, 4]


def test_the_line_on_which_a_document_breaks_goes_with_it_when_it_is_not_whole() -> None:
    documents = split(b'{"a":1,\n{"b":\n2}\n%s' % GOOD)

    assert raws(documents) == [b'{"a":1,\n{"b":', b"2}", GOOD]


def test_documents_before_the_broken_one_on_its_line_are_not_part_of_it() -> None:
    assert raws(split(b'%s {"a":,\n%s' % (NESTED, GOOD))) == [NESTED, b'{"a":,', GOOD]


def test_whether_a_broken_line_is_read_on_waits_for_the_end_of_that_line_only() -> None:
    splitter = Splitter(file="-", max_document=1000)

    assert splitter.feed(b'{"a":1,\n' + GOOD) == []
    assert raws(splitter.feed(b"\n")) == [b'{"a":1,', GOOD]


def test_a_line_with_one_pair_of_braces_is_left_to_the_judge() -> None:
    line = b'{"a" 1}'

    assert split(line) == split(line, cuts=range(7)) == [Document(line, Place("-", 1))]


def test_good_lines_survive_each_kind_of_junk() -> None:
    junk = [
        b'{"a":',
        b'{"a":[',
        b'{"a":{',
        b'{"a":"',
        b"{",
        b'{"',
        b"x",
        b"]",
        b"}",
        b'{"a" {',
        b'{"a":1,',
        b"\x00",
        b'"',
    ]
    good = [b'{"n":%d}' % n for n in range(len(junk))]
    documents = split(b"".join(b"%s\n%s\n%s\n" % (bad, one, NESTED) for bad, one in zip(junk, good, strict=True)))

    assert [raw for raw in raws(documents) if raw in good] == good
    assert raws(documents).count(NESTED) == len(junk)
    assert len(documents) == 3 * len(junk)


# ---- the end of the input


def test_a_document_that_the_end_of_the_input_cuts_is_one_reject() -> None:
    documents = split(b'%s\n{"a":\n  [1,\n' % GOOD)

    assert raws(documents) == [GOOD, b'{"a":\n  [1,']
    assert documents[1] == Document(b'{"a":\n  [1,', Place("-", 2), None, "is cut off: the input ends inside it")


@pytest.mark.parametrize("last", [b"", b"\n", b"  ", b"\r\n"])
def test_a_cut_document_gives_back_the_whole_lines_in_it(last: bytes) -> None:
    documents = split(b'{"a":[\n%s\n,\n{"b":[\n%s%s' % (GOOD, NESTED, last))

    assert raws(documents) == [b'{"a":[', GOOD, b",", b'{"b":[', NESTED]
    assert broken(documents) == [b'{"a":[', b",", b'{"b":[']
    assert lines(documents) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("cut", [b'{"a":"b', b'{"a":"b\\', b'{"a":"b\\u0', b'{"a":tr', b'{"a":-', b"{", b'{"a"'])
def test_a_cut_in_the_middle_of_anything_is_one_reject(cut: bytes) -> None:
    assert split(cut) == [Document(cut, Place("-", 1), None, "is cut off: the input ends inside it")]


# ---- one array


def test_the_elements_of_an_array_are_numbered_from_nought() -> None:
    documents = split(b' \n[%s,\n%s , 7,null, "x", [1] ]\n\n' % (GOOD, NESTED))

    assert raws(documents) == [GOOD, NESTED, b"7", b"null", b'"x"', b"[1]"]
    assert [d.place for d in documents] == [Place("-", None, at) for at in range(6)]
    assert broken(documents) == []


def test_an_element_is_given_out_when_it_completes() -> None:
    splitter = Splitter(file="-", max_document=1000)

    assert raws(splitter.feed(b"[" + NESTED)) == [NESTED]
    assert raws(splitter.feed(b"," + GOOD[:-1])) == []
    assert raws(splitter.feed(b"}")) == [GOOD]
    assert splitter.feed(b"]") == splitter.close() == []


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        (b'{"a" {}},%s]\n%s' % (GOOD, GOOD), "column 15: expected ':' after a key"),
        (b'{"a":"b\n"}]', "column 17: the line ends inside a string"),
        (b"tru, 1]", "column 10: expected a value"),
        (b"]", "column 10: expected a value"),
        (b", 1]", "column 10: expected a value"),
    ],
)
def test_an_array_that_breaks_is_one_reject_from_the_broken_element_on(rest: bytes, why: str) -> None:
    documents = split(b"[%s,%s" % (GOOD, rest))

    assert raws(documents) == [GOOD, rest]
    assert documents[1].place == Place("-", None, 1)
    assert documents[1].broken == f"breaks the array off at line 1 {why}"


def test_elements_without_a_comma_between_break_the_array() -> None:
    documents = split(b"[%s\n%s\n%s]" % (GOOD, NESTED, GOOD))

    assert raws(documents) == [GOOD, b"%s\n%s]" % (NESTED, GOOD)]
    assert documents[1].broken == "breaks the array off at line 2 column 1: expected ',' or ']' after an element"


@pytest.mark.parametrize("rest", [b'{"a":', b'{"a":"x', b'{"a":1,\n\n', b"12", b"tru"])
def test_what_a_cut_array_leaves_is_one_reject(rest: bytes) -> None:
    cut = Document(rest.rstrip(), Place("-", None, 1), None, "is cut off: the input ends inside the array")

    assert split(b"[%s, %s" % (GOOD, rest))[1:] == [cut]


@pytest.mark.parametrize(("data", "element"), [(b"[", 0), (b"[" + GOOD, 1), (b"[" + GOOD + b", \n", 1)])
def test_an_array_that_is_cut_between_elements_shows_the_bracket_that_nobody_closed(data: bytes, element: int) -> None:
    unclosed = Document(b"[", Place("-", None, element), None, "is cut off: the array is never closed")

    assert split(data)[-1] == unclosed
    assert len(split(data)) == element + 1


def test_each_line_behind_an_array_is_one_reject() -> None:
    documents = split(b"[%s] x\n\n%s\n[1]" % (GOOD, GOOD))

    assert raws(documents) == [GOOD, b"x", GOOD, b"[1]"]
    assert [d.broken for d in documents[1:]] == ["stands behind the end of the array"] * 3
    assert [d.place.element for d in documents] == [0, 1, 2, 3]


# ---- what is too long


def oversize(data: bytes, limit: int) -> tuple[bytes, Oversize]:
    return data[:HEAD_BYTES], Oversize(len(data), hashlib.sha256(data).hexdigest(), limit)


TOO_LONG = {
    "junk": b"x" * 200_000,
    "one line": b'{"a":"%s"}' % (b"x" * 200_000),
    "many lines": b'{"a":[%s1]}' % (b"1,\n" * 70_000),
    "broken": b'{"a":[%s}' % (b"1,\n" * 70_000),
    "unclosed string": b'{"a":{"b":"%s' % (b"x" * 200_000),
}


@pytest.mark.parametrize("data", TOO_LONG.values(), ids=TOO_LONG.keys())
@pytest.mark.parametrize("limit", [1000, 100_000])
@pytest.mark.parametrize("chunk", [999, 1 << 20])
def test_a_document_over_the_limit_is_its_head_length_and_hash(data: bytes, limit: int, chunk: int) -> None:
    documents = split(data + b" \r\n" + GOOD, max_document=limit, cuts=range(0, len(data), chunk))
    head, known = oversize(data, limit)

    assert documents == [
        Document(head, Place("-", 1), known),
        Document(GOOD, Place("-", 2 + data.count(b"\n"))),
    ]


def test_an_element_over_the_limit_is_its_head_length_and_hash() -> None:
    long = b'{"a":"%s"}' % (b"x" * 2000)
    head, known = oversize(long, 1000)

    assert split(b"[%s,%s]" % (long, GOOD), max_document=1000) == [
        Document(head, Place("-", None, 0), known),
        Document(GOOD, Place("-", None, 1)),
    ]


def test_a_document_of_exactly_the_limit_is_whole_whatever_blanks_follow() -> None:
    document = b'{"a":"%s"}' % (b"x" * 92)
    junk = b"x" * 100
    data = document + b" " * 500 + b"\n" + junk + b" " * 500 + b"\n"

    assert raws(split(data, max_document=100)) == [document, junk]
    assert [d.oversize is None for d in split(data, max_document=99)] == [False, False]


def test_whole_lines_within_the_limit_of_a_break_survive_a_document_that_is_too_long() -> None:
    long = b'{"a":[%s' % (b'{"x":\n1},\n' * 50)
    documents = split(long + GOOD + b"\n" + NESTED + b"\n", max_document=100)

    assert raws(documents)[1:] == [GOOD, NESTED]
    assert (documents[0].raw, documents[0].oversize) == oversize(long.rstrip(), 100)


# ---- for every input


@settings(deadline=None, max_examples=300)
@given(nasty_inputs(), st.sampled_from([5, 20, 40, 1 << 20]))
def test_what_comes_out_is_what_the_plain_grammar_says(data: bytes, limit: int) -> None:
    assert found(split(data, max_document=limit)) == expected(data, limit)


@settings(deadline=None, max_examples=300)
@given(nasty_inputs(), st.sampled_from([5, 20, 40, 1 << 20]), st.data())
def test_chunks_change_nothing(data: bytes, limit: int, draw: st.DataObject) -> None:
    some = draw.draw(st.lists(st.integers(0, len(data)), max_size=8))
    whole = split(data, max_document=limit)

    assert split(data, max_document=limit, cuts=some) == whole
    assert split(data, max_document=limit, cuts=range(len(data))) == whole


@settings(deadline=None)
@given(nasty_inputs())
def test_no_byte_is_lost_or_read_twice(data: bytes) -> None:
    text = data.removeprefix(b"\xef\xbb\xbf").strip(SPACE)
    between = SPACE + b"[]," if text.startswith(b"[") else SPACE
    pos = 0
    for document in split(data):
        if document.broken == "is cut off: the array is never closed":
            continue
        start = text.index(document.raw, pos)
        assert not text[pos:start].strip(between)
        pos = start + len(document.raw)
    assert not text[pos:].strip(between)


objects = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
).map(lambda value: {"k": value})
styles = st.fixed_dictionaries(
    {"indent": st.sampled_from([None, 0, 3]), "separators": st.sampled_from([(",", ":"), (" ,\n", ":\r\n ")])}
)
spaces = st.text(" \t\r\n", max_size=4).map(str.encode)


@settings(deadline=None)
@given(st.lists(st.tuples(objects, styles, spaces), max_size=6), st.data())
def test_valid_documents_come_out_as_they_went_in(
    given: list[tuple[Any, dict[str, Any], bytes]], draw: st.DataObject
) -> None:
    written = [json.dumps(value, **style).encode() for value, style, _ in given]
    data = b"".join(raw + space for raw, (_, _, space) in zip(written, given, strict=True))
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=4))

    assert raws(split(data, cuts=cuts)) == written
    assert broken(split(data)) == []


@settings(deadline=None)
@given(st.lists(st.tuples(objects, styles, spaces), max_size=6), st.data())
def test_valid_elements_come_out_as_they_went_in(
    given: list[tuple[Any, dict[str, Any], bytes]], draw: st.DataObject
) -> None:
    written = [json.dumps(value, **style).encode() for value, style, _ in given]
    data = b"[" + b",".join(space + raw + space for raw, (_, _, space) in zip(written, given, strict=True)) + b"]"
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=4))

    assert raws(split(data, cuts=cuts)) == written
    assert broken(split(data)) == []


# ---- time and memory


@pytest.mark.parametrize("opening", [b"x", b'{"a":"x', b'{"a":[1', b"[", b'{"a":{"b":'])
def test_memory_is_flat_however_long_a_document_is(opening: bytes) -> None:
    splitter = Splitter(file="-", max_document=100_000)
    splitter.feed(opening)
    tracemalloc.start()
    for _ in range(300):
        splitter.feed(b"1" * 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    documents = splitter.close()

    assert peak < 2_000_000
    assert [d.oversize and d.oversize.length for d in documents] == [30_000_000 + len(opening) - (opening == b"[")]


def test_documents_come_by_parts_that_do_not_pile_up() -> None:
    splitter = Splitter(file="-", max_document=1000)
    sizes = [len(part) for part in splitter.feed_by_parts(b"x\n" * 100_000)]

    assert sum(sizes) == 100_000
    assert max(sizes) < 2000


def test_a_document_that_breaks_inside_a_thousand_others_is_not_read_a_thousand_times() -> None:
    nested = b'{"a":[\n{}\n,\n' * 20_000
    started = time.process_time()
    documents = split(nested + b"x")

    assert len(documents) == 60_001
    assert raws(documents)[:4] == [b'{"a":[', b"{}", b",", b'{"a":[']
    assert time.process_time() - started < 20  # each again from the start would take an hour
