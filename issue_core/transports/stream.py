"""Files and standard input: read in bounded memory, and cut into the batches that one commit takes each."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from issue_core.errors import IssueCoreError, UsageError
from issue_core.task import Document
from issue_core.transports.splitter import Splitter

STANDARD_INPUT = "-"

MAX_DOCUMENTS = 10_000
"""How many documents a batch has at most."""

_BATCH_BYTES = 4 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_PAUSE = 0.005  # seconds without input after which an open pipe's documents are given out
_LONGEST_WAIT = 0.1  # seconds that a document waits for others, however fast they come


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents for one commit, in the order of the input, and how many bytes of it were read so far.

    ``more_at_hand``: documents of the next batch were read already; it will not have to be waited for.
    """

    documents: list[Document]
    bytes_read: int
    more_at_hand: bool


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to read: its name (``-`` is standard input), and its size in bytes where it has one."""

    name: str
    size: int | None

    @contextmanager
    def open(self) -> Iterator[int]:
        """A descriptor to read from, until the block ends.

        Raises:
            IssueCoreError: it cannot be opened any more.
        """
        if self.name == STANDARD_INPUT:
            yield 0
            return
        try:
            descriptor = os.open(self.name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise IssueCoreError(f"{self.name} cannot be opened: {error.strerror}") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def open_inputs(names: Sequence[str]) -> list[Input]:
    """The inputs of these names, in this order; every one is looked at before any is read.

    Raises:
        UsageError: one of them is missing, a folder, or may not be read.
    """
    return [_standard_input() if name == STANDARD_INPUT else _file(name) for name in names]


def batches(descriptor: int, *, file: str, max_document: int) -> Iterator[Batch]:
    """Read ``descriptor`` to its end, in batches of about 4 MiB or :data:`MAX_DOCUMENTS` documents.

    An open pipe's documents are given out as soon as it pauses; a regular file is never waited for.
    ``file`` goes into each document's place; ``max_document`` is in bytes.

    Raises:
        IssueCoreError: reading failed half-way; the documents before that were given out.
    """
    splitter = Splitter(file=file, max_document=max_document)
    hand = _Hand(descriptor)
    ended = False
    while not ended:
        if hand.is_due():
            yield hand.give(more_at_hand=False)
        try:
            chunk = _read(descriptor)
        except OSError as error:
            if hand.documents:
                yield hand.give(more_at_hand=False)
            raise _unreadable(file, error) from None
        ended = not chunk
        hand.total += len(chunk)
        for documents in splitter.feed_by_parts(chunk) if chunk else splitter.close_by_parts():
            hand.take(documents)
            while hand.has_more_than_a_batch():
                yield hand.give(more_at_hand=True)
    if hand.documents:
        yield hand.give(more_at_hand=False)


@dataclass(slots=True)
class _Hand:
    """The documents in hand, and what decides when they are given out."""

    descriptor: int
    documents: list[Document] = field(default_factory=list)
    total: int = 0
    _batch: int = MAX_DOCUMENTS  # how many of the documents in hand the next batch takes
    _batch_began_at: int = 0
    _since: float = 0.0
    _never_waits: bool = field(init=False)

    def __post_init__(self) -> None:
        self._never_waits = stat.S_ISREG(os.fstat(self.descriptor).st_mode)

    def take(self, documents: list[Document]) -> None:
        if documents and not self.documents:
            self._since = time.monotonic()
        self.documents += documents
        if self._batch == MAX_DOCUMENTS and self.total - self._batch_began_at >= _BATCH_BYTES:
            self._batch = min(len(self.documents) or MAX_DOCUMENTS, MAX_DOCUMENTS)

    def has_more_than_a_batch(self) -> bool:
        return len(self.documents) > self._batch

    def give(self, *, more_at_hand: bool) -> Batch:
        batch = Batch(self.documents[: self._batch], self.total, more_at_hand)
        del self.documents[: self._batch]
        self._batch, self._batch_began_at = MAX_DOCUMENTS, self.total
        self._since = time.monotonic()
        return batch

    def is_due(self) -> bool:
        """Whether the input has paused, or has come for so long that the first document has waited enough."""
        if not self.documents or self._never_waits:
            return False
        left = self._since + _LONGEST_WAIT - time.monotonic()
        return left <= 0 or not _has_more(self.descriptor, min(_PAUSE, left))


def _has_more(descriptor: int, timeout: float | None) -> bool:
    """Whether there is something to read, or the end, within ``timeout`` seconds (None: however long it takes)."""
    readable, _, _ = select.select([descriptor], [], [], timeout)
    return bool(readable)


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _READ_BYTES)
        except BlockingIOError:  # whoever started us left the descriptor non-blocking
            _has_more(descriptor, None)


def _unreadable(file: str, error: OSError) -> IssueCoreError:
    return IssueCoreError(
        f"{_called(file)} cannot be read any further: {error.strerror}",
        hint="What was read before is safe. Read it again once this is mended: what is stored counts as a duplicate.",
    )


def _called(file: str) -> str:
    return "standard input" if file == STANDARD_INPUT else file


def _standard_input() -> Input:
    try:
        status = os.fstat(0)
    except OSError:
        raise UsageError(
            "standard input is closed", hint="Name a file, or pipe documents in: issue ingest < tasks.ndjson"
        ) from None
    _refuse_folder(STANDARD_INPUT, status)
    return Input(STANDARD_INPUT, _size(status))


def _file(name: str) -> Input:
    try:
        status = Path(name).stat()
        _refuse_folder(name, status)
        _try_to_read(name, status)
    except FileNotFoundError:
        raise UsageError(
            f"there is no file {name}", hint="Nothing was read. Check the name and run it again."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read: {error.strerror}",
            hint="Nothing was read. Make it readable for this user, and run it again.",
        ) from None
    return Input(name, _size(status))


def _refuse_folder(name: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{_called(name)} is a folder, not a file", hint="Nothing was read. Name the files in it.")


def _try_to_read(name: str, status: os.stat_result) -> None:
    """Raise the OSError that opening it would. A pipe is not opened for this: its writer would see the end of it."""
    if stat.S_ISREG(status.st_mode):
        os.close(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
    elif not os.access(name, os.R_OK):
        raise PermissionError(0, "Permission denied")


def _size(status: os.stat_result) -> int | None:
    """The size of a regular file; None also for those that say 0, as the ones under /proc do whatever they hold."""
    return (status.st_size or None) if stat.S_ISREG(status.st_mode) else None
