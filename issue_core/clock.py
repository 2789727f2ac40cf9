"""The time, in one place, so that a test can bring its own; and how a length of time is shown."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

_UNITS = (("d", 86400), ("h", 3600), ("min", 60))

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux, see random(4)


def figure(seconds: float) -> str:
    """A length of time in one figure: ``42 s``, ``7 min``, ``3 h``, ``1,200 d``."""
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length):,} {unit}"
    return f"{int(seconds)} s"


class Clock:
    """The wall clock for what people read, the running clock for how long something takes."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC. It may jump."""
        return datetime.now(UTC)

    def running(self) -> float:
        """Seconds since some fixed point of this boot. It never jumps, and all processes see the same."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def boot(self) -> str:
        """Which boot :meth:`running` belongs to; empty where the system does not say."""
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:
            return ""
