"""Runs of the real command `issue sync` on one ledger, to be killed in the middle of what they do."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from issue_core import Ledger
from issue_core.ledger import queries
from issue_core.ledger.queries import Filter
from issue_core.task import Task
from tests.sync_engine.rig import read

ISSUE = str(Path(sys.executable).with_name("issue"))


@dataclass(slots=True, kw_only=True)
class Runs:
    """The runs on the ledger in ``folder``, with the configuration that lies beside it.

    ``ends_with``: the exit codes of a run that is not killed; ``patience``: the seconds after which all must be done.
    """

    folder: Path
    dice: random.Random
    ends_with: tuple[int, ...]
    patience: float
    environment: Mapping[str, str] = field(default_factory=dict)
    runs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def configure(self, text: str) -> None:
        """Lay the configuration there."""
        (self.folder / "config.toml").write_text(text)

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.folder / "ledger.db"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command that people use."""
        words = ["sync", "--wait", "--ledger", str(self.path), "--config", str(self.folder / "config.toml")]
        environment = {**os.environ, "HOME": str(self.folder), **self.environment}
        run = subprocess.Popen([ISSUE, *words], stdout=subprocess.DEVNULL, env=environment)
        self.runs.append(run)
        return run

    def was_killed(self, code: int) -> bool:
        """Whether a run was killed; else it ended as it should."""
        assert code in (*self.ends_with, -signal.SIGKILL)
        return code == -signal.SIGKILL

    def finish(self) -> None:
        """Let one run after the other live, until nothing is left: a parked backend ends a run early."""
        over = time.monotonic() + self.patience
        while self.pending():
            assert time.monotonic() < over, self.tasks()
            assert self.start().wait(timeout=self.patience) in self.ends_with

    def end(self) -> None:
        """Leave nothing running."""
        for run in self.runs:
            run.kill()
            run.wait()

    def tasks(self) -> list[Task]:
        """Every task of the ledger."""
        with Ledger(self.path) as ledger, ledger.read() as connection:
            return list(queries.tasks(connection, Filter(), limit=None, newest_first=False))

    def pending(self) -> int:
        """How many tasks are not synced yet."""
        with Ledger(self.path) as ledger, ledger.read() as connection:
            return queries.counts(connection).states["pending"]


def nothing_is_open(ledger: Path) -> None:
    """No lease is left, no attempt without an outcome, and no issue came late or twice."""
    assert read(ledger, "SELECT * FROM leases") == []
    assert read(ledger, "SELECT * FROM attempts WHERE outcome IS NULL OR outcome = 'unknown'") == []
    assert read(ledger, "SELECT * FROM history WHERE kind IN ('late', 'double')") == []


def kill_seed() -> str:
    """The seed of this test's dice. What fails can be had again, more or less: ``KILL_SEED=… pytest …``."""
    seed = os.environ.get("KILL_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"KILL_SEED={seed}")
    return seed
