"""Sync in the process of a way in: whenever something is due, so that a laptop needs no cron."""

from __future__ import annotations

import threading
from collections.abc import Callable

from issue_core.config import Settings
from issue_core.errors import IssueCoreError
from issue_core.ledger import Ledger
from issue_core.sync_engine import Result, repeat
from issue_core.transports.nats.releasing import Release

AGAIN = 30.0
"""Seconds after which sync is tried again when it could not run at all."""


class SyncBeside:
    """Sync in a thread of its own, from :meth:`start` to :meth:`stop`. ``say`` hears what a person should know.

    ``settles``: it settles held tasks, too; else somebody else in this process does.
    """

    def __init__(self, ledger: Ledger, settings: Settings, say: Callable[[str], None], *, settles: bool) -> None:
        self._ledger = ledger
        self._settings = settings
        self._say = say
        self._news = threading.Event()
        self._stop = threading.Event()
        self._release = Release(settings.nats, self._stop, say) if settles else None
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)

    def start(self) -> None:
        """Begin with a pass."""
        self._thread.start()

    def wake(self) -> None:
        """Something new is there."""
        self._news.set()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stop.set()
        self._news.set()

    def wait(self, seconds: float) -> bool:
        """Wait for what is under way, once it was told to stop; whether it ended in so many seconds.

        What did not is in doubt, as after a crash, and is looked up by the next run.
        """
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                with self._ledger.beside() as ledger:
                    repeat.whenever_due(
                        ledger,
                        self._settings,
                        tell=self._tell,
                        news=self._news,
                        stop=self._stop,
                        release=self._release,
                    )
            except IssueCoreError as error:
                if error.message != told:
                    told = error.message
                    self._say(f"sync cannot run: {error.message}; it is tried again every {AGAIN:g} s")
                self._stop.wait(AGAIN)

    def _tell(self, result: Result) -> None:
        if result.result in ("created", "adopted"):
            url = result.remote.url if result.remote else ""
            self._say(f"{result.result}: task {result.seq} ({result.event_id}) at {result.backend}: {url}")
        elif result.result == "failed":
            self._say(f"failed: task {result.seq} ({result.event_id}) at {result.backend}: {result.error}")
