"""Where one document ends and the next begins: bytes in, Documents out, and no I/O.

The input is one JSON array (its first character is ``[``), whose elements are taken as they complete; or documents
one after another, each an object on one line or on many. What is not a document is not dropped: it comes out as
a Document that says how it is ``broken``.

Where a document cannot go on, it ends before the first line behind its own that begins with ``{`` and is one whole
object; else with the line where it broke. So one unclosed bracket costs one document, not the file. Of the lines
between, only those within ``max_document`` bytes of the break are looked at: no more is kept of a document that long.

What comes out does not depend on how the bytes were cut into chunks, only when it comes out does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, repeat

from issue_core.task import Document, Place
from issue_core.transports.grammar import SPACE, Trace, is_object, is_plain, object_end, plain_lines, skip_space
from issue_core.transports.unit import Unit

_OPEN_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY, _COMMA = b"{[],"
_BOM = b"\xef\xbb\xbf"
_PIECE = 1024 * 1024  # bytes looked at in one go
_MANY = 1000  # documents given at a time
_RUN = 16 * 1024  # bytes of plain lines taken together
_NEAR = 8 * 1024  # bytes in which a document is looked for by way of the C library
_CONTINUATION = bytes(range(0x80, 0xC0))  # UTF-8: the bytes that begin no character


@dataclass(frozen=True, slots=True)
class _Break:
    """Where a document cannot go on, by its offset in the input, and why."""

    offset: int
    reason: str
    trace: Trace
    brace_at_line_start: bool = False


class Splitter:
    """Cuts one input into Documents. Feed it bytes as they come, then close it.

    ``file`` goes into each document's place as it is. A document longer than ``max_document`` bytes comes out
    as its head, length and hash; memory stays within a few times ``max_document``, whatever the input.
    """

    def __init__(self, *, file: str | None, max_document: int) -> None:
        self._file = file
        self._limit = max_document
        self._out: list[Document] = []
        self._data = b""
        self._pos = 0
        self._base = 0  # the offset of _data[0] in the input
        self._line = 1  # of _data[_pos]
        self._column = 0  # how many characters of its line stand before _data[0]
        self._element = 0
        self._no_run_before = 0  # the offset up to which plain lines were looked for
        self._unit: Unit  # what is being read, and the lines in it that could stand for themselves
        self._trace: Trace
        self._doom: _Break | None = None
        self._final = False
        self._step: Callable[[Splitter], bool] = Splitter._begin
        self._after_line: Callable[[Splitter], bool] = Splitter._between

    def feed(self, chunk: bytes) -> list[Document]:
        """The documents that this chunk completes."""
        return list(chain.from_iterable(self.feed_by_parts(chunk)))

    def close(self) -> list[Document]:
        """What is left, now that the input has ended."""
        return list(chain.from_iterable(self.close_by_parts()))

    def feed_by_parts(self, chunk: bytes) -> Iterator[list[Document]]:
        """The same as :meth:`feed`, a thousand documents or so at a time. Must be read to its end."""
        for start in range(0, len(chunk), _PIECE):
            yield from self._take(chunk[start : start + _PIECE])

    def close_by_parts(self) -> Iterator[list[Document]]:
        """The same as :meth:`close`, a thousand documents or so at a time."""
        self._final = True
        yield from self._take(b"")

    def _take(self, piece: bytes) -> Iterator[list[Document]]:
        """Go on with this piece. A step reads ``_data`` from ``_pos`` on, and is false when it needs the next piece."""
        self._column = self._column_at(self._pos)
        self._base += self._pos
        self._data = self._data[self._pos :] + piece
        self._pos = 0
        while self._step(self):
            if len(self._out) >= _MANY:
                yield self._give()
        yield self._give()

    def _give(self) -> list[Document]:
        out, self._out = self._out, []
        return out

    def _begin(self) -> bool:
        if len(self._data) < len(_BOM) and _BOM.startswith(self._data) and not self._final:
            return False
        if self._data.startswith(_BOM):
            self._data = self._data[len(_BOM) :]
            self._base += len(_BOM)
        self._step = Splitter._first
        return True

    def _first(self) -> bool:
        if self._skip_space():
            return False
        if self._data[self._pos] == _OPEN_ARRAY:
            self._pos += 1
            self._step = Splitter._first_element
        else:
            self._step = Splitter._between
        return True

    # ---- documents one after another

    def _between(self) -> bool:
        if self._skip_space():
            return False
        place = Place(self._file, self._line)
        if self._data[self._pos] != _OPEN_OBJECT:
            self._reject_line("is not a JSON object", place)
        elif self._take_plain_lines() or self._is_doomed():
            pass
        elif end := self._end_nearby():
            self._emit(self._data[self._pos : end], place)
            self._move(end)
        else:
            self._open(place, Trace())
            self._step = Splitter._in_document
        return True

    def _take_plain_lines(self) -> bool:
        """Take a run of lines that hold one object each without another inside it; whether there was one."""
        if self._base + self._pos < self._no_run_before or self._limit < _RUN:
            return False
        end = self._data.rfind(b"\n", self._pos, self._pos + _RUN) + 1
        lines = plain_lines(self._data[self._pos : end])
        if not lines:
            self._no_run_before = self._base + end
            return False
        self._out += map(Document, lines, map(Place, repeat(self._file), count(self._line)))
        self._line += len(lines)
        self._pos = end
        return True

    def _end_nearby(self) -> int:
        """Where the document that begins here ends, or 0 when it takes the recogniser to tell."""
        data, pos = self._data, self._pos
        line = data[pos : max(data.find(b"\n", pos, pos + _NEAR), pos)].rstrip(SPACE)
        if is_plain(line):
            return pos + len(line)
        length = object_end(line if line.endswith(b"}") else data[pos : pos + _NEAR])
        return pos + length if length else 0

    def _in_document(self) -> bool:
        recogniser, trace = self._unit.recogniser, self._trace
        at = recogniser.read(self._data, self._pos, base=self._base)
        if recogniser.status == "done":
            self._finish(at)
            self._step = Splitter._between
        elif recogniser.status == "broken":
            reason = f"breaks off at {self._where(at)}: {recogniser.reason}"
            self._break(_Break(self._base + at, reason, trace, recogniser.brace_at_line_start))
        elif self._final:
            recogniser.end()
            self._break(_Break(self._base + len(self._data), "is cut off: the input ends inside it", trace))
        else:
            self._hold(at)
            return False
        return True

    def _break(self, broken: _Break) -> None:
        """End the document that began at ``_pos``, or in an earlier piece, as one reject."""
        unit = self._unit
        unit.broken = broken.reason
        broken.trace.forget(broken.offset - self._limit)
        if broken.trace.whole:
            self._cut_at(broken.trace.whole[0])
            self._doom = broken
            self._step = Splitter._between
            return
        at = broken.offset - self._base
        unit.settle()
        unit.add(self._data[self._pos : at])
        self._move(at)
        self._step = Splitter._last_line if broken.brace_at_line_start else Splitter._rest_of_line

    def _cut_at(self, offset: int) -> None:
        """End the broken document before ``offset``, the beginning of a line, and read on from there."""
        unit = self._unit
        behind = self._base + self._pos - offset  # how far back it lies: in what earlier pieces left
        if behind > 0:
            again = unit.take_back(behind)
            self._line -= again.count(b"\n")
            self._data = again + self._data[self._pos :]
            self._base, self._pos, self._column = offset, 0, 0
        else:
            unit.settle()
            unit.add(self._data[self._pos : self._pos - behind])
            self._move(self._pos - behind)
        self._emit_unit()

    def _is_doomed(self) -> bool:
        """Whether the document that begins here was read before, as a part of one that broke inside it."""
        if self._doom is None:
            return False
        offset = self._base + self._pos
        if offset >= self._doom.offset:
            self._doom = None
            return False
        self._doom.trace.forget(offset)
        if not self._doom.trace.unclosed or self._doom.trace.unclosed[0] != offset:
            return False
        self._open(Place(self._file, self._line), self._doom.trace)
        self._break(self._doom)
        return True

    def _last_line(self) -> bool:
        """The document broke at a ``{`` that begins a line: the line may be a document of its own."""
        end = self._data.find(b"\n", self._pos)
        if end < 0:
            end = len(self._data)
            if not self._final and end - self._pos <= self._limit:
                return False
        if end - self._pos <= self._limit and is_object(self._data[self._pos : end]):
            self._emit_unit()
            self._step = Splitter._between
        else:
            self._step = Splitter._rest_of_line
        return True

    def _reject_line(self, reason: str, place: Place) -> None:
        self._open(place)
        self._unit.broken = reason
        self._step = Splitter._rest_of_line

    def _rest_of_line(self) -> bool:
        end = self._data.find(b"\n", self._pos)
        stop = len(self._data) if end < 0 else end
        self._unit.add(self._data[self._pos : stop])
        self._move(stop)
        if end < 0 and not self._final:
            return False
        self._emit_unit()
        self._step = self._after_line
        return True

    # ---- one array

    def _first_element(self) -> bool:
        if not self._skip_space() and self._data[self._pos] == _CLOSE_ARRAY:
            self._pos += 1
            self._end_array()
            return True
        return self._before_element()

    def _before_element(self) -> bool:
        if self._skip_space():
            return self._array_is_cut()
        if self._data[self._pos] == _OPEN_OBJECT and (length := object_end(self._data[self._pos : self._pos + _NEAR])):
            self._emit(self._data[self._pos : self._pos + length], self._element_place())
            self._move(self._pos + length)
            self._step = Splitter._after_element
        else:
            self._open(self._element_place())
            self._step = Splitter._in_element
        return True

    def _in_element(self) -> bool:
        recogniser = self._unit.recogniser
        at = recogniser.read(self._data, self._pos, base=self._base)
        if recogniser.status == "done":
            self._finish(at)
            self._step = Splitter._after_element
        elif recogniser.status == "broken":
            self._reject_rest(f"breaks the array off at {self._where(at)}: {recogniser.reason}")
        elif self._final:
            self._reject_rest("is cut off: the input ends inside the array")
        else:
            self._hold(at)
            return False
        return True

    def _after_element(self) -> bool:
        if self._skip_space():
            return self._array_is_cut()
        mark = self._data[self._pos]
        if mark == _COMMA:
            self._pos += 1
            self._step = Splitter._before_element
        elif mark == _CLOSE_ARRAY:
            self._pos += 1
            self._end_array()
        else:
            reason = f"breaks the array off at {self._where(self._pos)}: expected ',' or ']' after an element"
            self._open(self._element_place())
            self._reject_rest(reason)
        return True

    def _reject_rest(self, reason: str) -> None:
        self._unit.broken = reason
        self._step = Splitter._rest_of_input

    def _rest_of_input(self) -> bool:
        self._unit.add(self._data[self._pos :])
        self._pos = len(self._data)
        if self._final:
            self._emit_unit()
            self._step = Splitter._nothing
        return self._final

    def _array_is_cut(self) -> bool:
        if self._final:
            # Nothing is left to show but the bracket that nobody closed.
            self._out.append(Document(b"[", self._element_place(), None, "is cut off: the array is never closed"))
            self._step = Splitter._nothing
        return self._final

    def _end_array(self) -> None:
        self._step = self._after_line = Splitter._behind_array

    def _behind_array(self) -> bool:
        if self._skip_space():
            return False
        self._reject_line("stands behind the end of the array", self._element_place())
        return True

    def _nothing(self) -> bool:
        return False

    def _element_place(self) -> Place:
        self._element += 1
        return Place(self._file, None, self._element - 1)

    # ---- what both share

    def _skip_space(self) -> bool:
        """Move to the next byte that is no white space; whether there is none yet."""
        end = skip_space(self._data, self._pos)
        if end != self._pos:
            self._move(end)
        return end == len(self._data)

    def _move(self, to: int) -> None:
        self._line += self._data.count(b"\n", self._pos, to)
        self._pos = to

    def _open(self, place: Place, trace: Trace | None = None) -> None:
        self._trace = trace or Trace()
        self._unit = Unit(place, self._limit, trace)

    def _hold(self, to: int) -> None:
        self._unit.keep(self._data[self._pos : to], self._base + to)
        self._move(to)

    def _finish(self, end: int) -> None:
        unit, last = self._unit, self._data[self._pos : end]
        self._move(end)
        if unit.is_new:
            self._emit(last, unit.place)
        else:
            unit.settle()
            unit.add(last)
            self._emit_unit()

    def _emit(self, raw: bytes, place: Place) -> None:
        if len(raw) <= self._limit:
            self._out.append(Document(raw, place))
        else:
            self._open(place)
            self._unit.add(raw)
            self._emit_unit()

    def _emit_unit(self) -> None:
        self._out.append(self._unit.document())

    def _where(self, at: int) -> str:
        line = self._line + self._data.count(b"\n", self._pos, at)
        return f"line {line} column {self._column_at(at) + 1}"

    def _column_at(self, at: int) -> int:
        """How many characters of its line stand before ``_data[at]``."""
        start = self._data.rfind(b"\n", 0, at) + 1
        text = self._data[start:at]
        characters = len(text) if text.isascii() else len(text.translate(None, _CONTINUATION))
        return characters if start else self._column + characters
