"""``ingest`` for many threads at once: calls that come while a commit is under way share the next one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from issue_core import taskspec
from issue_core.errors import IssueCoreError, LedgerBusy, LedgerFull
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger
from issue_core.task import MAX_DOCUMENT, Accepted, Document, Receipt, Rejected, Transport


@dataclass(slots=True, eq=False)
class _Call:
    """One thread's documents, and what became of them."""

    judged: list[Accepted | Rejected]
    woken: threading.Event = field(default_factory=threading.Event)
    receipts: list[Receipt] | None = None
    error: IssueCoreError | None = None


class GroupCommit:
    """One ledger that many threads ingest into.

    A call that comes alone commits in its own thread, at once. Those that come meanwhile wait together; one of them
    then commits for all, so that an ``fsync`` is paid once for however many there are.
    """

    def __init__(
        self, ledger: Ledger, *, transport: Transport, strict: bool = False, max_document: int = MAX_DOCUMENT
    ) -> None:
        self.max_document = max_document
        self._ledger = ledger
        self._transport = transport
        self._strict = strict
        self._mutex = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._busy = False

    def ingest(self, documents: Iterable[Document]) -> list[Receipt]:
        """Store each document as :func:`issue_core.ingest` does; all of them are on the disk when this returns.

        Raises what ``ingest`` raises; then nothing of this call was stored.
        """
        # Judged before the turn comes: while one thread waits for the disk, the others do this.
        judge, most, strict = taskspec.judge, self.max_document, self._strict
        call = _Call([judge(document, strict=strict, max_document=most) for document in documents])
        with self._mutex:
            self._waiting.append(call)
            leads = not self._busy
            self._busy = True
        if not leads:
            call.woken.wait()
        if call.receipts is None and call.error is None:
            self._lead()
        if call.error is not None:
            raise call.error
        assert call.receipts is not None  # noqa: S101 - whoever led has set one of the two
        return call.receipts

    def _lead(self) -> None:
        """Commit for all that wait, then hand on the lead to the first of those that came meanwhile."""
        with self._mutex:
            group = list(self._waiting)
            self._waiting.clear()
        try:
            self._commit(group)
        finally:
            with self._mutex:
                heir = self._waiting[0] if self._waiting else None
                self._busy = heir is not None
            for call in group:
                if call.receipts is None and call.error is None:
                    call.error = IssueCoreError("the commit that this was to be a part of was given up")
                call.woken.set()
            if heir:
                heir.woken.set()

    def _commit(self, group: Sequence[_Call]) -> None:
        try:
            receipts = iter(
                ingest(self._ledger, [item for call in group for item in call.judged], transport=self._transport)
            )
        except IssueCoreError as error:
            if len(group) > 1 and not isinstance(error, LedgerBusy | LedgerFull):
                # Something about one of them, such as a damaged row under its event ID: the others must not suffer.
                for call in group:
                    self._commit([call])
                return
            for call in group:
                call.error = error
        else:
            for call in group:
                call.receipts = [next(receipts) for _ in call.judged]
