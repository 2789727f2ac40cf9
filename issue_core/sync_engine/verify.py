"""Seeing for oneself: the trackers' marked issues beside the ledger's tasks. Nothing is written to either side.

What a listing does not show is asked for once more, by a look, before it is called missing: an issue that somebody
deletes meanwhile can make another one slip past the end of a page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from issue_core.backends.base import Backend, Issue, Lists, Target
from issue_core.config import BackendSettings, Settings
from issue_core.errors import BackendError, Limited
from issue_core.ledger import Ledger, limits, queries
from issue_core.ledger.queries import OwnIssue
from issue_core.sync_engine.plan import Choice, Plan, shown
from issue_core.task import from_text, to_text

MARGIN = timedelta(days=1)
"""How far before the oldest task's time issues are listed, at least."""

FIRST = datetime(2000, 1, 1, tzinfo=UTC)
"""From when on issues are listed for a ledger that has none of the backend's: it may be what is left of another."""

PAGE = 500
"""So many event IDs are looked for at once."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One event of which tracker and ledger tell different things.

    ``double``: it has several issues. ``unknown``: it has one, and the ledger has no task of it. ``missing``: its task
    is synced, and no issue of it is there. ``urls`` are those of its issues; of a missing one, where it was.
    """

    backend: str
    project: str
    finding: Literal["double", "unknown", "missing"]
    event_id: str
    seq: int | None
    urls: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The mismatch as the JSON object that ``issue sync --verify --json`` prints."""
        return asdict(self)


@dataclass(slots=True)
class Verified:
    """What was gone through, and how much of what was found.

    ``issues`` counts marked issues, ``by_look`` names the backends that cannot list those, so that only the events of
    their synced tasks were looked for, and ``failures`` says what could not be read, and why.
    """

    issues: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    by_look: list[str] = field(default_factory=list)
    failures: list[tuple[str, BackendError]] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """What a tracker shows: the issues of each event, each once; and the places that could not be read to the end."""

    issues: dict[str, list[Issue]] = field(default_factory=dict)
    unread: set[Target] = field(default_factory=set)

    def add(self, event_id: str, issue: Issue) -> None:
        """Take an issue in, unless it is there: a renamed project shows the same ones under both of its names."""
        issues = self.issues.setdefault(event_id, [])
        if not any(each.url == issue.url or (each.project, each.id) == (issue.project, issue.id) for each in issues):
            issues.append(issue)


def verify(
    ledger: Ledger, settings: Settings, *, backend: str | None = None, tell: Callable[[Mismatch], None]
) -> Verified:
    """Compare the marked issues of each configured backend, or of ``backend``, with the ledger's tasks.

    ``tell`` is called with each mismatch. A place that cannot be read does not stop the others.

    Raises:
        ConfigError: a backend cannot be used as it is configured.
        UsageError: there is no ``backend`` of this name.
        LedgerError: the ledger cannot be read.
    """
    summary = Verified()
    with closing(Plan(settings, ledger.path, Choice(backend))) as plan:
        for name in sorted(settings.backends) if backend is None else [backend]:
            for mismatch in _mismatches(plan.backend(name), settings.backends[name], ledger, summary):
                summary.counts[mismatch.finding] += 1
                tell(mismatch)
    return summary


def _mismatches(backend: Backend, settings: BackendSettings, ledger: Ledger, summary: Verified) -> Iterable[Mismatch]:
    began = ledger.clock.now()
    with ledger.read() as connection:
        limited = limits.limited(connection, backend.name, began)
        first_at = queries.first_at(connection, backend.name)
        places = {_place(backend, own) for own in queries.issues_of(connection, backend.name)}
    if limited:
        reason = f"it wants no request before {to_text(limited.until)}: {limited.reason}"
        summary.failures.append((backend.name, Limited(reason)))
        return ()
    back = max(MARGIN, timedelta(seconds=settings.lookup_back))
    since = FIRST if first_at is None else from_text(first_at) - back
    seen = _Seen()
    if isinstance(backend, Lists):
        _list(backend, {*places, *_configured(backend, settings)}, since, seen, summary)
    else:
        summary.by_look.append(backend.name)
    unseen = _unseen(backend, ledger, seen, began)
    _look(backend, unseen, since, seen, summary)
    summary.issues += sum(map(len, seen.issues.values()))
    return [*_too_many(backend, ledger, seen), *_missing(backend, unseen, seen)]


def _place(backend: Backend, own: OwnIssue) -> Target:
    """Where a task's issue is listed."""
    return Target(backend.name, own.address, "" if backend.traits.lists_whole_address else own.project)


def _configured(backend: Backend, settings: BackendSettings) -> Iterator[Target]:
    """The places that the configuration names."""
    if backend.traits.lists_whole_address:
        yield replace(backend.target(""), project="")
        return
    if settings.options.get("project"):
        yield backend.target("")
    yield from map(backend.target, settings.projects)


def _list(backend: Lists, places: Iterable[Target], since: datetime, seen: _Seen, summary: Verified) -> None:
    """See every marked issue of these places."""
    for place in sorted(places, key=shown):
        with _reading(place, seen, summary):
            for event_id, issue in backend.marked(place, since, keep_lease=_no_lease):
                seen.add(event_id, issue)


def _unseen(backend: Backend, ledger: Ledger, seen: _Seen, began: datetime) -> dict[Target, list[OwnIssue]]:
    """The issues that should have been seen and were not, by place.

    What was synced only just before is left out for as long as one look would not be believed here either.
    """
    until = to_text(began - timedelta(seconds=backend.traits.look_interval * (backend.traits.looks - 1)))
    unseen: dict[Target, list[OwnIssue]] = {}
    with ledger.read() as connection:
        for own in queries.issues_of(connection, backend.name):
            place = _place(backend, own)
            if own.synced_at <= until and own.event_id not in seen.issues and place not in seen.unread:
                unseen.setdefault(place, []).append(own)
    return unseen


def _look(
    backend: Backend, unseen: dict[Target, list[OwnIssue]], since: datetime, seen: _Seen, summary: Verified
) -> None:
    for place, owns in unseen.items():
        with _reading(place, seen, summary):
            for chunk in _chunks(owns):
                found = backend.look(place, [own.event_id for own in chunk], since, keep_lease=_no_lease)
                for event_id, issues in found.items():
                    for issue in issues:
                        seen.add(event_id, issue)


@contextmanager
def _reading(place: Target, seen: _Seen, summary: Verified) -> Iterator[None]:
    """Go on with the next place where this one cannot be read, and remember it."""
    try:
        yield
    except BackendError as error:
        seen.unread.add(place)
        summary.failures.append((f"{place.backend}, {shown(place).strip()}", error))


def _too_many(backend: Backend, ledger: Ledger, seen: _Seen) -> Iterator[Mismatch]:
    """The events with more issues than one, and those with an issue and no task."""
    found: list[tuple[str, int | None]] = []
    # A task is there before its issue: read after the listing, the ledger knows every event of its own.
    with ledger.read() as connection:
        for event_id, issues in seen.issues.items():
            seq = queries.seq_of(connection, event_id)
            if seq is None or len(issues) > 1:
                found.append((event_id, seq))
    for event_id, seq in found:
        issues = seen.issues[event_id]
        project, urls = issues[0].project, tuple(issue.url for issue in issues)
        if len(issues) > 1:
            yield Mismatch(backend.name, project, "double", event_id, seq, urls)
        if seq is None:
            yield Mismatch(backend.name, project, "unknown", event_id, seq, urls)


def _missing(backend: Backend, unseen: dict[Target, list[OwnIssue]], seen: _Seen) -> Iterator[Mismatch]:
    """The synced tasks whose issue was seen neither in a list nor by a look."""
    for place, owns in unseen.items():
        for own in owns if place not in seen.unread else ():
            if own.event_id not in seen.issues:
                yield Mismatch(backend.name, own.project, "missing", own.event_id, own.seq, (own.url,))


def _chunks(owns: Sequence[OwnIssue]) -> Iterator[Sequence[OwnIssue]]:
    return (owns[at : at + PAGE] for at in range(0, len(owns), PAGE))


def _no_lease() -> None:
    """A listing that writes nothing holds no task."""
