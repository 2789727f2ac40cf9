"""``ingest`` for many threads at once: calls that come while a commit is under way share the next one."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from issue_core import taskspec
from issue_core.errors import IssueCoreError, LedgerBusy, LedgerFull
from issue_core.ingestion import store_judged
from issue_core.ledger import Ledger
from issue_core.ledger.its_file import ItsFile
from issue_core.task import MAX_DOCUMENT, Accepted, Document, Receipt, Rejected, Transport

MOST_BYTES = 8 * 1024 * 1024
"""Bytes of documents in one commit, about: what waits beyond that has the next one."""

Outcome = list[Receipt] | IssueCoreError
"""What became of a call: its receipts, or why nothing of it was stored."""


@dataclass(slots=True, eq=False)
class _Call:
    """Documents of one call, and who hears what became of them."""

    judged: list[Accepted | Rejected]
    done: Callable[[Outcome], None]
    size: int
    outcome: Outcome = field(default_factory=lambda: IssueCoreError("the commit that this was a part of was given up"))


class GroupCommit:
    """One ledger that many threads ingest into.

    A call that comes alone is committed in its own thread, at once. Those that come meanwhile wait together, and a
    thread of this class then commits for all of them: an ``fsync`` is paid once for however many there are.
    """

    def __init__(
        self, ledger: Ledger, *, transport: Transport, strict: bool = False, max_document: int = MAX_DOCUMENT
    ) -> None:
        self.max_document = max_document
        self._ledger = ledger
        self._transport = transport
        self.strict = strict
        self._mutex = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._busy = False
        self._closed = False
        self.file = ItsFile(ledger)
        self.ending = False
        """Whether long batches should end between two commits."""
        self.failed = False
        """Whether the last commit failed."""
        self._work = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="group commit", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. Whoever calls has no call under way any more."""
        self._closed = True
        self._work.release()
        self._thread.join()

    def ingest(self, documents: Iterable[Document]) -> list[Receipt]:
        """Store each document as :func:`issue_core.ingest` does; all of them are on the disk when this returns.

        Raises what ``ingest`` raises; then nothing of this call was stored.
        """
        done = threading.Lock()
        done.acquire()
        outcomes: list[Outcome] = []

        def note(outcome: Outcome) -> None:
            outcomes.append(outcome)
            done.release()

        self.submit(documents, note)
        done.acquire()
        if isinstance(outcomes[0], IssueCoreError):
            raise outcomes[0]
        return outcomes[0]

    def submit(self, documents: Iterable[Document], done: Callable[[Outcome], None]) -> None:
        """:meth:`ingest`, without waiting: ``done`` hears the receipts or the error, in this thread or another one.

        What it takes there the next commit waits for, so it must not wait for anything itself, nor raise.
        """
        # Judged before its turn comes: while one thread waits for the disk, the others do this.
        judge, most, strict = taskspec.judge, self.max_document, self.strict
        judged = [judge(document, strict=strict, max_document=most) for document in documents]
        call = _Call(judged, done, sum(len(item.document.raw) for item in judged))
        with self._mutex:
            if self._busy:
                self._waiting.append(call)
                return
            self._busy = True
        try:
            self._commit([call])
        except Exception:  # noqa: BLE001 - whoever hears of the outcome must hear of it once, and not in two ways
            _complain()
        finally:
            with self._mutex:
                self._busy = busy = bool(self._waiting)
            if busy:
                self._work.release()
            call.done(call.outcome)

    def _run(self) -> None:
        """Commit for all that wait, again and again, until nobody waits."""
        while True:
            self._work.acquire()
            if self._closed:
                return
            while group := self._next_group():
                try:
                    self._commit(group)
                except Exception:  # noqa: BLE001 - everybody waits for this thread: it must not end
                    _complain()
                for call in group:
                    _tell(call)

    def _next_group(self) -> list[_Call]:
        with self._mutex:
            group: list[_Call] = []
            size = 0
            while self._waiting and size < MOST_BYTES:
                group.append(self._waiting.popleft())
                size += group[-1].size
            self._busy = bool(group)
            return group

    def _commit(self, group: Sequence[_Call]) -> None:
        judged = [item for call in group for item in call.judged]
        try:
            self.file.require()
            receipts = iter(store_judged(self._ledger, judged, transport=self._transport))
        except IssueCoreError as error:
            self.failed = True
            if len(group) > 1 and not isinstance(error, LedgerBusy | LedgerFull):
                # Something about one of them, such as a damaged row under its event ID: the others must not suffer.
                for call in group:
                    self._commit([call])
                return
            for call in group:
                call.outcome = error
        else:
            self.failed = False
            for call in group:
                call.outcome = [next(receipts) for _ in call.judged]


def _tell(call: _Call) -> None:
    try:
        call.done(call.outcome)
    except Exception:  # noqa: BLE001 - the others wait to be told as well
        _complain()


def _complain() -> None:
    """Say what went wrong as Python does where a thread ends by it."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
