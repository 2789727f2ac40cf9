"""What needs a person, as far as the ledger knows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from issue_core.clock import figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from issue_core.ledger import Ledger
    from issue_core.ledger.limits import Parked

DOUBT = timedelta(hours=1)
"""How long a task may be in doubt: looks settle most doubts within minutes."""

HELD = timedelta(minutes=10)
"""How long a task may wait for its claim."""

DOWN = timedelta(minutes=10)
"""How long a tracker may be down. One that refuses is a person's business at once."""

_REFUSALS = ("credentials", "project")


class Need(NamedTuple):
    """Something that a person should see to: a stable ``code``, how many, and what to do."""

    code: str
    what: str
    hint: str


def needs(ledger: Ledger, counted: Mapping[str, Any], longest: float | None) -> Iterator[Need]:
    """Each of them. ``counted`` is what ``issue status --json`` shows; ``longest`` how many seconds a task may wait."""
    from issue_core.ledger import history, limits, waits
    from issue_core.task import from_text, to_text

    yield from missing(ledger.path)
    if failed := counted["states"]["failed"]:
        yield Need("failed", f"{failed:,} failed", "issue list --state failed")
    if rejects := counted["rejects"]:
        yield Need("rejects", f"{rejects:,} rejected", "issue rejects list")
    age = counted["oldest_pending_age_s"]
    if longest is not None and age is not None and age > longest:
        yield Need("age", f"the oldest pending task waits for {figure(age)}", "issue sync")
    now = ledger.clock.now()
    with ledger.read() as connection:
        doubts = waits.in_doubt_for_long(connection, to_text(now - DOUBT), to_text(now))
        held_at = waits.oldest_held_at(connection, to_text(now))
        all_parked = limits.all_parked(connection)
        doubles, seq = history.doubles(connection)
    if doubts:
        yield Need("doubts", f"{doubts:,} in doubt for an hour or longer", "issue sync, then issue list --in-doubt")
    if held_at and held_at <= to_text(now - HELD):
        held, lasted = counted["states"]["held"], figure((now - from_text(held_at)).total_seconds())
        yield Need("held", f"{held:,} held for {lasted}", "issue sync says what keeps their claims")
    if doubles:
        yield Need(
            "doubles",
            f"{doubles:,} issue{'' if doubles == 1 else 's'} may be one too many",
            f"issue show {seq} names them; close all but one, then issue link {seq} URL of that one",
        )
    yield from (_parked(each, now) for each in all_parked if each.code in _REFUSALS or each.since <= now - DOWN)


def missing(path: Path) -> Iterator[Need]:
    """What is to be done where a ledger was and is no more."""
    from issue_core.ledger.its_file import is_missing

    if is_missing(path):
        hint = f"is its disk mounted? Else issue restore BACKUP --ledger {path} lays a copy there"
        yield Need("missing", f"no ledger at {path}, but there was one", hint)


def _parked(parked: Parked, now: datetime) -> Need:
    lasted, left = (now - parked.since).total_seconds(), (parked.until - now).total_seconds()
    again = f"tried again in {figure(left)}" if left > 0 else "tried again by the next sync"
    return Need(
        "parked", f"{parked.name} is parked for {figure(lasted)}, {again}: {parked.reason}", "issue config check"
    )
