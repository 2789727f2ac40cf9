"""A process that syncs a ledger until nothing is left to do, and that can be told to die at a chosen point.

``python -m tests.support.sync_worker LEDGER BACKEND``, with a ``tracker.db`` beside the ledger when the backend is
``scripted``. The environment variable :data:`DIES_AT` names a kind of event and a number: at the n-th such event the
process kills itself, as ``kill -9`` would. ``sql`` counts the moments before and after each commit, of the ledger and
of the tracker, ``file`` those before and after each operation on a file.
"""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from issue_core import Ledger, backends, sync
from issue_core.config import BackendSettings, Settings, SyncSettings
from issue_core.ledger import queries

DIES_AT = "SYNC_WORKER_DIES_AT"

TIMEOUT = 1.0
SETTLE = 0.3
SYNC = SyncSettings(request_timeout=TIMEOUT, lease=4.0, backoff=(0.01, 0.05), max_attempts=100_000)
"""Times as short as a slow machine allows. No number of kills makes a task fail."""

PAUSE = 0.02
"""Seconds between two passes."""

FILE_OPERATIONS = ("open", "write", "fsync", "link", "unlink", "mkdir", "close")


def settings_for(ledger: Path, backend: str) -> Settings:
    """All tasks go to ``backend``: ``local`` or ``scripted``."""
    tracker = BackendSettings("scripted", "scripted", settle=SETTLE, looks=1, look_interval=0.0)
    return Settings(
        ledger,
        default_backend=backend,
        backends={"scripted": tracker, "local": BackendSettings("local", "local")},
        sync=SYNC,
    )


def pending(ledger: Ledger) -> int:
    """How many tasks are not synced yet."""
    with ledger.read() as connection:
        return queries.counts(connection).states["pending"]


def run(path: Path, backend: str) -> None:
    """Sync until nothing is pending."""
    backends._MODULES["scripted"] = "tests.support.tracker"
    stop = threading.Event()
    with Ledger(path) as ledger:
        while pending(ledger):
            sync(ledger, settings_for(path, backend), stop=stop)
            stop.wait(PAUSE)


def die_at(kind: str, n: int) -> None:
    """Arrange for the process to die at the n-th event of this kind."""
    numbers = itertools.count(1)

    def pass_by() -> None:
        if next(numbers) == n:
            os.kill(os.getpid(), signal.SIGKILL)

    if kind == "sql":
        _count_commits(pass_by)
    else:
        for name in FILE_OPERATIONS:
            setattr(os, name, _counted(getattr(os, name), pass_by))


def _count_commits(pass_by: Callable[[], None]) -> None:
    class Mortal(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *parameters)
            pass_by()
            cursor = super().execute(sql)
            pass_by()
            return cursor

    connect = sqlite3.connect

    def connect_mortal(*arguments: Any, **named: Any) -> sqlite3.Connection:
        return connect(*arguments, factory=Mortal, **named)

    setattr(sqlite3, "connect", connect_mortal)  # noqa: B010 - an overloaded function, which cannot be assigned


def _counted(operation: Callable[..., Any], pass_by: Callable[[], None]) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        pass_by()
        result = operation(*arguments, **named)
        pass_by()
        return result

    return counted


if __name__ == "__main__":
    if DIES_AT in os.environ:
        event, number = os.environ[DIES_AT].split()
        die_at(event, int(number))
    run(Path(sys.argv[1]), sys.argv[2])
