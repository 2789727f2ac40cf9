"""The command under a supervisor: started again whenever it has ended before its time, and killed by tests."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

from tests.support.cli import TIMEOUT, Issue

DONE = (0, 3)
"""The exit codes of what need not be run again: all is done, or what is left needs a person."""


@dataclass(slots=True)
class Supervised:
    """One command after the other on one ledger, each run again until it has ended by itself, and well.

    ``words`` is the one that runs, or ran last. ``log`` takes what they write, over all of their lives; ``options`` are
    subprocess's.
    """

    issue: Issue
    commands: Iterator[tuple[str, ...]]
    log: Path
    options: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    kills: int = 0
    began: float = 0.0
    words: tuple[str, ...] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it runs at this moment."""
        return self.process is not None and self.process.poll() is None

    @property
    def said(self) -> str:
        """What was written so far."""
        return self.log.read_text() if self.log.exists() else ""

    def look(self) -> None:
        """Start what has ended, or what comes next."""
        if self.is_running:
            return
        if self.process is None or self.process.returncode in DONE:
            self.words = next(self.commands, None)
        if self.words is not None:
            with self.log.open("ab") as log:
                streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                self.process = self.issue.start(*self.words, **streams | self.options)
            self.starts += 1
            self.began = time.monotonic()

    def kill(self) -> bool:
        """End it as a crash would; whether it ran."""
        if not self.process or not self.is_running:
            return False
        self.kills += 1
        self.process.kill()
        self.process.wait(TIMEOUT)
        return True

    def stop(self) -> int:
        """Tell it to stop; gives its exit code."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)


def supervised(issue: Issue, *words: str, log: Path, **options: Any) -> Supervised:
    """One command, for ever."""
    return Supervised(issue, repeat(words), log, options)
