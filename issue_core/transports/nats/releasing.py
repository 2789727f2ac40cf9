"""Before a pass of sync: what is held is settled, as far as the bucket of claims can be asked now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from issue_core.errors import IssueCoreError, LedgerError

if TYPE_CHECKING:
    import asyncio

    from issue_core.config import NatsSettings
    from issue_core.ledger import Ledger

AGAIN = 5.0
"""Seconds after which a bucket that could not be asked is asked again, by a process that makes many passes."""


class Release:
    """Settles held tasks, over a connection of its own each time.

    ``stop`` ends it early. ``say`` hears when they cannot be settled, once for each reason.
    """

    def __init__(self, settings: NatsSettings, stop: threading.Event, say: Callable[[str], None] | None = None) -> None:
        self._settings = settings
        self._stop = stop
        self._say = say
        self._reason = ""
        self._not_before = 0.0

    def __call__(self, ledger: Ledger) -> str:
        """What keeps the tasks that are still held, or nothing.

        Raises:
            LedgerError: the ledger cannot be read or written.
        """
        if time.monotonic() < self._not_before:
            return self._reason
        try:
            self._settle(ledger)
        except LedgerError:
            raise
        except IssueCoreError as error:
            if self._say and error.message != self._reason:
                self._say(f"what is held cannot be claimed: {error.message}")
            self._reason, self._not_before = error.message, time.monotonic() + AGAIN
        else:
            self._reason = ""
        return self._reason

    def _settle(self, ledger: Ledger) -> None:
        from issue_core.transports.nats import require

        require()
        from issue_core.transports.nats.waiting import run

        run(_settle(self._settings, ledger, self._stop))


async def _settle(settings: NatsSettings, ledger: Ledger, stop: threading.Event) -> None:
    from issue_core.transports.nats.connection import connected
    from issue_core.transports.nats.holding import GRACE, join, settle_held
    from issue_core.transports.nats.waiting import bridged, unless

    async def settled(stopping: asyncio.Event) -> None:
        async with connected(settings) as link:
            if bucket := await join(link, settings, ledger, stopping):
                await settle_held(bucket, ledger, stopping)

    async with bridged(stop) as stopping:
        await unless(stopping, settled(stopping), grace=GRACE)
