"""What sync says about a task, and about a whole run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from issue_core.ledger.limits import Parked
from issue_core.task import Remote, to_text

SyncOutcome = Literal["created", "adopted", "deferred", "failed", "planned"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one task in this run.

    ``reason`` says why it waits, ``until`` until when (``None``: nobody knows), ``error`` what the tracker said.
    ``parked``: it waits for a backend or a project that is parked.
    """

    event_id: str
    seq: int
    backend: str
    result: SyncOutcome
    reason: str | None = None
    until: datetime | None = None
    remote: Remote | None = None
    error: str | None = None
    parked: bool = False

    def to_json(self) -> dict[str, Any]:
        """The result as the JSON object that ``issue sync --json`` prints."""
        return {
            "event_id": self.event_id,
            "seq": self.seq,
            "backend": self.backend,
            "result": self.result,
            "reason": self.reason,
            "until": self.until and to_text(self.until),
            "remote": self.remote and self.remote._asdict(),
            "error": self.error,
        }


@dataclass(slots=True)
class Summary:
    """A run in numbers: how many tasks came to each result, what they wait for, and what is parked.

    ``waits`` counts the tasks by (backend, reason) with the earliest time at which one of them goes on.
    ``others_at_work``: another process has tasks in hand. ``held`` tasks wait for their claim, because of what
    ``held_for`` says.
    """

    counts: Counter[str] = field(default_factory=Counter)
    waits: dict[tuple[str, str], tuple[int, datetime | None]] = field(default_factory=dict)
    next_at: datetime | None = None
    parked: list[Parked] = field(default_factory=list)
    others_at_work: bool = False
    held: int = 0
    held_for: str = ""

    @property
    def needs_a_person(self) -> bool:
        """Whether some task failed, or a backend or project is parked for its credentials or a refusal."""
        return self.counts["failed"] > 0 or any(p.code in ("credentials", "project") for p in self.parked)

    def add(self, result: Result) -> None:
        """Count one result."""
        self.counts[result.result] += 1
        if result.result != "deferred":
            return
        key = (result.backend, result.reason or "")
        n, until = self.waits.get(key, (0, None))
        self.waits[key] = (n + 1, _earlier(until, result.until))
        if not result.parked:
            self.next_at = _earlier(self.next_at, result.until)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(filter(None, (one, other)), default=None)
