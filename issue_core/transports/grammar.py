"""JSON read piece by piece: at which byte a value ends, and at which byte it cannot go on (RFC 8259).

Nothing is decoded and nothing is kept but a byte for each open bracket, so a value may be longer than
memory. ``NaN``, ``Infinity`` and ``-Infinity`` pass, as in Python's own reader; UTF-8, surrogates and keys given
twice are not looked at. All three are for whoever judges the value to refuse, in better words.
"""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

SPACE = b" \t\r\n"
"""What JSON calls white space."""

_TOKEN = re.compile(rb'[ \t\r\n]*(?:("[^"\\\x00-\x1f]*")|([-+.0-9A-Za-z_]+)|([^ \t\r\n]))')
_STRING, _WORD, _MARK = 1, 2, 3  # the groups of _TOKEN; a string with escapes, or cut, is found as its first quote
# A value without brackets and escapes, and the comma behind it. No number here is as long as the shortest that is
# refused for its length, so that a number means the same however it is cut.
_PLAIN = rb'[ \t\r\n]*(?:"[^"\\\x00-\x1f]*"|-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?|true|false|null)[ \t\r\n]*,'
_SHORT_WORD = 64
_PLAIN_ELEMENTS = re.compile(rb"(?:%s){1,64}" % _PLAIN)
_PLAIN_MEMBERS = re.compile(rb'(?:[ \t\r\n]*"[^"\\\x00-\x1f]*"[ \t\r\n]*:%s){1,64}' % _PLAIN)
_SPACES = re.compile(rb"[ \t\r\n]*")
_BLANKS = re.compile(rb"[ \t\r]*")
# The count is bounded because the regex engine remembers every round of a group.
_CHARACTERS = re.compile(rb'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*){0,64}')
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null|NaN|-?Infinity")

_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY, _COLON, _COMMA, _QUOTE, _BACKSLASH, _NEWLINE = b'{}[]:,"\\\n'
_OBJECT_AT_LINE_START = ord("L")  # on the stack, beside _OPEN_OBJECT and _OPEN_ARRAY


class _Expect(IntEnum):
    """What the grammar wants next."""

    VALUE = 0
    VALUE_OR_END = 1
    KEY = 2
    KEY_OR_END = 3
    COLON = 4
    COMMA_OR_END = 5


_AFTER_STRING = {
    _Expect.VALUE: _Expect.COMMA_OR_END,
    _Expect.VALUE_OR_END: _Expect.COMMA_OR_END,
    _Expect.KEY: _Expect.COLON,
    _Expect.KEY_OR_END: _Expect.COLON,
}
_VALUE_MAY_COME = (_Expect.VALUE, _Expect.VALUE_OR_END)
_WANTED = {
    _Expect.VALUE: "expected a value",
    _Expect.VALUE_OR_END: "expected a value or ']'",
    _Expect.KEY: "expected a key in double quotes",
    _Expect.KEY_OR_END: "expected a key in double quotes or '}'",
    _Expect.COLON: "expected ':' after a key",
}


@dataclass(slots=True)
class Trace:
    """The lines inside a document that begin with ``{``, by the offset of that brace, in rising order.

    ``unclosed`` are those whose object is still open, ``whole`` those that hold one complete object and nothing
    else. What an object is does not depend on what stands around it: so when the document breaks, each of
    ``unclosed``, read by itself, would break at that same byte.
    """

    unclosed: deque[int] = field(default_factory=deque)
    whole: deque[int] = field(default_factory=deque)

    def clear(self) -> None:
        """Drop them all."""
        self.unclosed.clear()
        self.whole.clear()

    def forget(self, before: int) -> None:
        """Drop the lines that begin before this offset."""
        for offsets in (self.unclosed, self.whole):
            while offsets and offsets[0] < before:
                offsets.popleft()


class Recogniser:
    """One JSON value, from its first byte on. Memory: a byte for each open bracket, at most ``depth`` of them.

    ``status`` is ``open`` until the value is ``done`` or ``broken``; then ``reason`` says what stands in the way,
    and ``brace_at_line_start`` whether it is a ``{`` with nothing before it on its line.
    With a ``trace``, the lines that begin with ``{`` are noted there.
    """

    def __init__(self, *, depth: int, trace: Trace | None = None) -> None:
        self.status: Literal["open", "done", "broken"] = "open"
        self.reason = ""
        self.brace_at_line_start = False
        self._depth = depth
        self._trace = trace
        self._stack = bytearray()
        self._expect = _Expect.VALUE
        self._in_string = False
        self._starved = False
        self._on_new_line = False  # the piece before this one ended in white space with a line break
        self._open_line: int | None = None  # an object that began a line, while that line goes on
        self._closed_line: int | None = None  # the same once it is closed, while only blanks followed it

    def read(self, data: bytes, pos: int, *, base: int = 0) -> int:
        """Read on in ``data`` from ``pos``, to the end of the value, to where it breaks, or as far as ``data`` goes.

        Returns where it stopped: behind the value, or at the byte that cannot follow, or at the first byte that
        has to be given again, at the head of the next piece. ``base`` is the offset of ``data[0]`` in the input.
        """
        if self._closed_line is not None:
            self._see_rest_of_line(data, pos)
        self._starved = False
        first = pos
        while self.status == "open" and not self._starved:
            pos = self._characters(data, pos) if self._in_string else self._token(data, pos, first, base)
        if self._starved and self._open_line is not None and data.find(b"\n", max(self._open_line - base, 0)) >= 0:
            self._open_line = None
        return pos

    def first_line(self) -> int | None:
        """The offset of the first line that is whole or may become so."""
        if self._trace is not None and self._trace.whole:
            return self._trace.whole[0]
        return self._open_line if self._closed_line is None else self._closed_line

    def forget(self, before: int) -> None:
        """Drop the lines that begin before this offset."""
        if self._trace is not None:
            self._trace.forget(before)
        if self._open_line is not None and self._open_line < before:
            self._open_line = None
        if self._closed_line is not None and self._closed_line < before:
            self._closed_line = None

    def end(self) -> None:
        """Say that no more will come."""
        if self._trace is not None and self._closed_line is not None:
            self._trace.whole.append(self._closed_line)

    def _token(self, data: bytes, pos: int, first: int, base: int) -> int:
        pos = self._plain_run(data, pos)
        found = _TOKEN.match(data, pos)
        if found is None:
            self._starved = True
            self._on_new_line = self._begins_line(data, pos, len(data), first)
            return len(data)
        kind = found.lastindex or _MARK
        start = found.start(kind)
        if kind == _STRING:
            return found.end() if self._string_ended() else self._break(start)
        if kind == _WORD:
            return self._word(data, start, found.end())
        mark = data[start]
        if mark == _QUOTE and self._expect in _AFTER_STRING:
            self._in_string = True
        elif mark == _OPEN_OBJECT:
            return self._brace(start, self._begins_line(data, pos, start, first), base)
        elif mark in b"}]":
            return self._close(data, start, base)
        elif not self._punctuation(mark):
            return self._break(start)
        return start + 1

    def _plain_run(self, data: bytes, pos: int) -> int:
        """Skip what most values are made of, many at a time: members or elements without brackets and escapes."""
        if self._expect in (_Expect.KEY, _Expect.KEY_OR_END):
            end, after = _end_of(_PLAIN_MEMBERS, data, pos), _Expect.KEY
        elif self._expect is _Expect.VALUE_OR_END or (self._expect is _Expect.VALUE and self._stack[-1:] == b"["):
            end, after = _end_of(_PLAIN_ELEMENTS, data, pos), _Expect.VALUE
        else:
            return pos
        if end != pos:
            self._expect = after
        return end

    def _begins_line(self, data: bytes, pos: int, start: int, first: int) -> bool:
        return (pos == first and self._on_new_line) or data.find(b"\n", pos, start) >= 0

    def _punctuation(self, mark: int) -> bool:
        if mark == _OPEN_ARRAY and self._expect in _VALUE_MAY_COME:
            self._open(_OPEN_ARRAY, _Expect.VALUE_OR_END)
        elif mark == _COLON and self._expect is _Expect.COLON:
            self._expect = _Expect.VALUE
        elif mark == _COMMA and self._expect is _Expect.COMMA_OR_END:
            self._expect = _Expect.VALUE if self._stack[-1] == _OPEN_ARRAY else _Expect.KEY
        else:
            return False
        return len(self._stack) <= self._depth

    def _brace(self, start: int, begins_line: bool, base: int) -> int:
        if self._expect not in _VALUE_MAY_COME:
            self.brace_at_line_start = begins_line
            return self._break(start)
        if begins_line and self._trace is not None:
            self._trace.unclosed.append(base + start)
            self._open_line = base + start
            self._open(_OBJECT_AT_LINE_START, _Expect.KEY_OR_END)
        else:
            self._open(_OPEN_OBJECT, _Expect.KEY_OR_END)
        return start + 1 if len(self._stack) <= self._depth else self._break(start)

    def _open(self, kind: int, expect: _Expect) -> None:
        self._stack.append(kind)
        self._expect = expect

    def _close(self, data: bytes, start: int, base: int) -> int:
        of_array = data[start] == _CLOSE_ARRAY
        opened = self._stack[-1] if self._stack else 0
        empty = _Expect.VALUE_OR_END if of_array else _Expect.KEY_OR_END
        if self._expect not in (empty, _Expect.COMMA_OR_END) or (opened == _OPEN_ARRAY) != of_array:
            return self._break(start)
        self._stack.pop()
        if opened == _OBJECT_AT_LINE_START:
            self._close_line(data, start + 1, base)
        self._value_ended()
        return start + 1

    def _close_line(self, data: bytes, pos: int, base: int) -> None:
        if self._trace is None or not self._trace.unclosed:
            return
        offset = self._trace.unclosed.pop()
        if offset == self._open_line and data.find(b"\n", max(offset - base, 0), pos) < 0:
            self._open_line = None
            self._closed_line = offset
            self._see_rest_of_line(data, pos)

    def _see_rest_of_line(self, data: bytes, pos: int) -> None:
        end = _end_of(_BLANKS, data, pos)
        if end == len(data):
            return
        if data[end] == _NEWLINE and self._trace is not None and self._closed_line is not None:
            self._trace.whole.append(self._closed_line)
        self._closed_line = None

    def _word(self, data: bytes, start: int, end: int) -> int:
        if self._expect not in _VALUE_MAY_COME or end - start > max(self._depth, _SHORT_WORD):
            return self._break(start)
        if end == len(data):  # it may go on in the next piece
            self._starved = True
            self._on_new_line = False
            return start
        if _SCALAR.fullmatch(data, start, end) is None:
            return self._break(start)
        self._value_ended()
        return end

    def _characters(self, data: bytes, pos: int) -> int:
        pos = _end_of(_CHARACTERS, data, pos)
        if pos == len(data) or _CUT_ESCAPE.match(data, pos):
            self._starved = True
            self._on_new_line = False
        elif data[pos] == _QUOTE:
            self._in_string = False
            self._string_ended()
            pos += 1
        elif not _ESCAPE.match(data, pos):
            return self._break(pos, _in_string_reason(data[pos]))
        return pos

    def _string_ended(self) -> bool:
        after = _AFTER_STRING.get(self._expect)
        if after is _Expect.COMMA_OR_END:
            self._value_ended()
        elif after is not None:
            self._expect = after
        return after is not None

    def _value_ended(self) -> None:
        self._expect = _Expect.COMMA_OR_END
        if not self._stack:
            self.status = "done"

    def _break(self, pos: int, reason: str | None = None) -> int:
        self.status = "broken"
        if len(self._stack) > self._depth:
            reason = "its brackets are nested too deeply"
            if self._trace is not None:  # which would break elsewhere by itself: the depth is the one thing around it
                self._trace.clear()
        end = "]" if self._stack[-1:] == b"[" else "}"
        self.reason = reason or _WANTED.get(self._expect, f"expected ',' or '{end}' after a value")
        return pos


def skip_space(data: bytes, pos: int) -> int:
    """The index of the first byte from ``pos`` on that is no white space."""
    return _end_of(_SPACES, data, pos)


def _end_of(pattern: re.Pattern[bytes], data: bytes, pos: int) -> int:
    found = pattern.match(data, pos)
    return found.end() if found else pos


def _in_string_reason(byte: int) -> str:
    if byte == _BACKSLASH:
        return "invalid escape in a string"
    if byte in b"\r\n":
        return "the line ends inside a string"
    return f"control character U+{byte:04X} in a string"


# Numbers are measured, not made: one of any length costs nothing and raises nothing.
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len)


def object_end(data: bytes) -> int:
    """Where the JSON object at the head of ``data`` ends, or 0 when that takes a closer look.

    It reads what :class:`Recogniser` reads, at the speed of the C library, but makes the object in memory:
    for a few kilobytes at a time.
    """
    try:
        # Latin-1 maps each byte to one character, so the end in the text is the end in the bytes.
        return _DECODER.raw_decode(data.decode("latin-1"))[1]
    except (ValueError, RecursionError):
        return 0


def is_object(line: bytes) -> bool:
    """Whether ``line`` is one complete JSON object and nothing else but white space behind it."""
    recogniser = Recogniser(depth=len(line))
    end = recogniser.read(line, 0)
    return recogniser.status == "done" and not line[end:].strip(SPACE)


def is_plain(line: bytes) -> bool:
    """Whether ``line`` begins with ``{``, ends with ``}`` and has no other brace.

    Such a line is one unit, valid or not: no string goes over the end of a line, so what began with the one brace
    ends with the other, or breaks before the line does.
    """
    return line.startswith(b"{") and line.endswith(b"}") and line.count(b"{") == 1 == line.count(b"}")


def plain_lines(run: bytes) -> list[bytes]:
    """The lines of ``run``, which ends with a line break, if every one is plain; else none."""
    if b"\r" in run:
        run = run.replace(b"\r\n", b"\n")
    lines = run.split(b"\n")
    lines.pop()
    # With as many braces as lines, and one at each line's beginning and end, no line has another.
    if not run.count(b"{") == len(lines) == run.count(b"}"):
        return []
    for line in lines:
        if not line or line[0] != _OPEN_OBJECT or line[-1] != _CLOSE_OBJECT:
            return []
    return lines
