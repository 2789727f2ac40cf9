"""One document in the making: as much of it as is needed, whatever its length."""

from __future__ import annotations

import hashlib

from issue_core.task import HEAD_BYTES, Document, Oversize, Place
from issue_core.transports.grammar import SPACE, Recogniser, Trace, is_plain


class Unit:
    """The bytes of one document or reject, given in pieces; white space at its end is not counted to it.

    Up to ``limit`` bytes are kept (64 KiB at least); beyond that there is a running hash. With a ``trace`` it is
    a document that may break, and what follows the first line that could then stand for itself is kept back, so
    that it can be read again.
    """

    def __init__(self, place: Place, limit: int, trace: Trace | None = None, broken: str | None = None) -> None:
        self.place = place
        self.recogniser = Recogniser(depth=limit, trace=trace)
        self.broken = broken
        self._limit = limit
        self._is_document = trace is not None
        self._kept = bytearray()
        self._capacity = max(limit, HEAD_BYTES)
        self._hash = hashlib.sha256()  # of all bytes, once there are more than _capacity
        self._hashed = 0
        self._length = 0  # up to the last byte that is no white space
        self._digest = ""  # up to there
        self._back = bytearray()

    @property
    def is_new(self) -> bool:
        """Whether it has no bytes yet."""
        return not (self._kept or self._back)

    def keep(self, piece: bytes, end: int) -> None:
        """Add a piece that the recogniser has read; ``end`` is the offset behind it in the input."""
        self._back += piece
        self.recogniser.forget(end - self._limit)
        first = self.recogniser.first_line()
        self._release(len(self._back) if first is None else len(self._back) - (end - first))

    def settle(self) -> None:
        """Nothing of it will be read again."""
        self._release(len(self._back))

    def take_back(self, length: int) -> bytes:
        """Remove the last ``length`` bytes, to be read again."""
        self._release(len(self._back) - length)
        again = bytes(self._back)
        self._back.clear()
        return again

    def _release(self, length: int) -> None:
        if length:
            self.add(bytes(self._back[:length]))
            del self._back[:length]

    def add(self, piece: bytes) -> None:
        """Add a piece that is settled."""
        room = self._capacity - len(self._kept)
        if len(piece) > room and not self._hashed:
            self._count(bytes(self._kept))
        self._kept += piece[:room]
        if len(piece) > room:
            self._count(piece)

    def _count(self, piece: bytes) -> None:
        solid = len(piece.rstrip(SPACE))
        self._hash.update(piece[:solid])
        if solid:
            self._length = self._hashed + solid
            self._digest = self._hash.hexdigest()
        self._hash.update(piece[solid:])
        self._hashed += len(piece)

    def document(self) -> Document:
        """The document that all of this makes.

        A broken line that looks whole from outside is given as it is, as the fast way gives it: what is wrong
        with it is for the judge to say. A document over the limit is that, whatever else it is.
        """
        if not self._hashed:
            self._count(bytes(self._kept))
        if self._length > self._limit:
            head = bytes(self._kept[: min(HEAD_BYTES, self._length)])
            return Document(head, self.place, Oversize(self._length, self._digest, self._limit))
        raw = bytes(self._kept[: self._length])
        looks_whole = self._is_document and is_plain(raw) and b"\n" not in raw
        return Document(raw, self.place, None, None if looks_whole else self.broken)
