"""A clock that stands still until a test moves it, so that no test sleeps."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from issue_core.clock import Clock

START = datetime(2026, 3, 1, 9, tzinfo=UTC)


class MovedClock(Clock):
    """Both hands stand still: :meth:`move` turns them together, :meth:`jump` the wall clock alone."""

    def __init__(self, *, running: float = 50_000.0) -> None:
        self.gone_by = 0.0
        self._now = START
        self._running = running
        self._boot = "first boot"

    def now(self) -> datetime:
        """The wall clock's time."""
        return self._now

    def running(self) -> float:
        """The seconds since this boot."""
        return self._running

    def boot(self) -> str:
        """The name of this boot."""
        return self._boot

    def move(self, seconds: float) -> None:
        """Let so much time go by."""
        self.gone_by += seconds
        self._now += timedelta(seconds=seconds)
        self._running += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._now += timedelta(seconds=seconds)

    def reboot(self, *, off: float, up: float) -> None:
        """Switch the machine off for ``off`` seconds; it has been up for ``up`` seconds again when this returns."""
        self.gone_by += off + up
        self._now += timedelta(seconds=off + up)
        self._running = up
        self._boot += ", and one more"


class RightClock(Clock):
    """The clock of another machine: the same time goes by there, but it is always right."""

    def __init__(self, ours: MovedClock) -> None:
        self._ours = ours

    def now(self) -> datetime:
        """The true time."""
        return START + timedelta(seconds=self._ours.gone_by)

    def move(self, seconds: float) -> None:
        """Let so much time go by, for all."""
        self._ours.move(seconds)


class Patience(threading.Event):
    """A stop signal whose waits take no time: each one moves the clock to its end instead."""

    def __init__(self, clock: MovedClock) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Move the clock ``timeout`` seconds on."""
        if timeout is not None and not self.is_set():
            self.waited.append(timeout)
            self._clock.move(timeout)
        return self.is_set()
