"""What the reader's tests share: its grammar in the plainest form, over the whole input, and inputs that test it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

from hypothesis import strategies as st

from issue_core.task import Document
from issue_core.transports.grammar import Recogniser
from issue_core.transports.splitter import Splitter

SPACE = b" \t\r\n"
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len)

Found = tuple[object, int | None, int | None, bool]
"""Bytes (or length and hash of what is too long), line, element, and whether the reader calls it broken."""

PARTS = [
    *(bytes([byte]) for byte in b'{}[],:"\n\n 1x\x01\\'),
    *(b"\r\n", b'"a"', b"-0.5e3", b"true", b"tru", b"NaN", b"null", b"\\n", b"\\u00e4", b"\xc3\xa4", b"\xef\xbb\xbf"),
    *(b"{}", b'{"a":1}', b'{"a":1}\n', b'\n{"a":1}\n', b'\n{"a":1}', b'{"a" 1}\n', b'"a":1,', b'"s",', b'"b":', b"}\n"),
    *(b'{"a":[\n', b'{"a":\n', b"[\n{", b"\n,\n", b',\n{"q":{"a":2}}\n', b'\n{"z":[', b'{"a":[\n{}\n,\n'),
]


def nasty_inputs() -> st.SearchStrategy[bytes]:
    """Bytes that are nearly JSON, in documents or in an array."""
    beginning = st.sampled_from([b"", b"", b"", b"[", b'{"a":[\n', b"\xef\xbb\xbf"])
    return st.tuples(beginning, st.lists(st.sampled_from(PARTS), max_size=30).map(b"".join)).map(b"".join)


def split(data: bytes, *, cuts: Iterable[int] = (), max_document: int = 1 << 20, file: str = "-") -> list[Document]:
    """All documents of ``data``, fed in chunks that end at ``cuts``."""
    splitter = Splitter(file=file, max_document=max_document)
    documents, last = [], 0
    for cut in [*sorted(cuts), len(data)]:
        documents += splitter.feed(data[last:cut])
        last = cut
    return documents + splitter.close()


def found(documents: Iterable[Document]) -> list[Found]:
    """The documents in the form in which :func:`expected` gives them."""
    return [
        (
            (d.oversize.length, d.oversize.sha256) if d.oversize else d.raw,
            d.place.line,
            d.place.element,
            d.broken is not None,
        )
        for d in documents
    ]


def expected(data: bytes, limit: int) -> list[Found]:
    """What must come out of ``data``, found by going over all of it as often as it takes."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    start = _skip(data, 0)
    if data[start : start + 1] == b"[":
        return list(_array(data, start + 1, limit))
    return list(_documents(data, start, limit))


def _documents(data: bytes, pos: int, limit: int) -> Iterator[Found]:
    while (pos := _skip(data, pos)) < len(data):
        line = 1 + data.count(b"\n", 0, pos)
        if data[pos : pos + 1] != b"{":
            end, broken = _end_of_line(data, pos), True
        else:
            recogniser = Recogniser(depth=limit)
            end = recogniser.read(data, pos)
            broken = recogniser.status != "done"
            if broken:
                end = end if recogniser.status == "broken" else len(data)
                end = _end_of_broken(data, pos, end, 0 if "deeply" in recogniser.reason else limit)
        raw = data[pos:end].rstrip(SPACE)
        plain = raw[:1] == b"{" and raw[-1:] == b"}" and raw.count(b"{") == 1 == raw.count(b"}") and b"\n" not in raw
        yield _found(raw, line, None, broken and not plain, limit)
        pos = end


def _end_of_broken(data: bytes, start: int, at: int, limit: int) -> int:
    """A document that began at ``start`` cannot go on at ``at``: where it ends."""
    last = _end_of_line(data, at)
    line = _end_of_line(data, start) + 1
    while line <= last:
        brace, end = _skip(data, line), _end_of_line(data, line)
        near = end - brace if brace == at else at - brace
        if brace < end and near <= limit and _is_object(data[brace:end].strip(SPACE)):
            return brace
        line = end + 1
    return last


def _array(data: bytes, pos: int, limit: int) -> Iterator[Found]:
    element = 0
    closed = data[_skip(data, pos) :][:1] == b"]"
    pos = _skip(data, pos) + closed
    while not closed:
        pos = _skip(data, pos)
        recogniser = Recogniser(depth=limit)
        end = recogniser.read(data, pos)
        if recogniser.status != "done":
            yield _found(data[pos:] or b"[", None, element, True, limit)
            return
        yield _found(data[pos:end], None, element, False, limit)
        element += 1
        pos = _skip(data, end)
        if data[pos : pos + 1] not in (b",", b"]"):
            yield _found(data[pos:] or b"[", None, element, True, limit)
            return
        closed = data[pos : pos + 1] == b"]"
        pos += 1
    while (pos := _skip(data, pos)) < len(data):
        end = _end_of_line(data, pos)
        yield _found(data[pos:end], None, element, True, limit)
        pos, element = end, element + 1


def _found(raw: bytes, line: int | None, element: int | None, broken: bool, limit: int) -> Found:
    raw = raw.rstrip(SPACE)
    if len(raw) > limit:
        return (len(raw), hashlib.sha256(raw).hexdigest()), line, element, False
    return raw, line, element, broken


def _skip(data: bytes, pos: int) -> int:
    while data[pos : pos + 1] and data[pos] in SPACE:
        pos += 1
    return pos


def _end_of_line(data: bytes, pos: int) -> int:
    end = data.find(b"\n", pos)
    return len(data) if end < 0 else end


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(_DECODER.decode(line.decode("latin-1")), dict)
    except (ValueError, RecursionError):
        return False
