"""Reading tasks. Nothing here writes, and nothing here reads more than what it gives back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice, pairwise
from types import NoneType
from typing import Any, NamedTuple

from issue_core.errors import NotFound, UsageError
from issue_core.ledger import facets, rows, waits
from issue_core.task import (
    OUTCOMES,
    PRIORITIES,
    SOURCE_TYPES,
    STATES,
    Priority,
    Remote,
    SourceType,
    Spec,
    Task,
    TaskState,
)

_COLUMNS = """
    seq, event_id, state, title, description, target_repo, priority, labels, due_in_days, source_type, source_id,
    activity_definition_id, due_date, extra, created_at, updated_at, sightings, backend, attempts, next_attempt_at,
    in_doubt_since, last_error, remote_id, remote_url, remote_project, synced_at, transport, transport_detail
"""

_NAMES = tuple(name.strip() for name in _COLUMNS.split(","))
_NUMBERS = frozenset(("seq", "due_in_days", "attempts"))
_OPTIONAL = frozenset(_NAMES) - {
    *("seq", "event_id", "state", "title", "description", "target_repo", "priority", "labels"),
    *("source_type", "source_id", "created_at", "attempts", "transport"),
}

_TASK = f"SELECT {_COLUMNS} FROM tasks WHERE seq = :seq"  # noqa: S608 - the columns are a constant above

# One condition a filter; only those that are asked for stand in the query.
_CONDITIONS = {
    "state": "state = :state",
    "repo": "target_repo = :repo",
    "priority": "priority = :priority",
    "label": "labels <> '[]'",
    "source": "source_id = :source",
    "source_type": "source_type = :source_type",
    "backend": "backend = :backend",
    "in_doubt": "in_doubt_since IS NOT NULL",
    "created_since": "created_at >= :created_since",
    "created_until": "created_at < :created_until",
    "after": "seq > :after",
}

_BY_PREFIX = "SELECT seq, event_id FROM tasks WHERE event_id >= :low AND event_id < :high ORDER BY event_id LIMIT 6"

_SHOWS = "issue list shows what is there."
_DIGITS = "Digits alone are a task's seq; of an event ID give 8 characters or more, or a letter or dash of it as well."

_BY_STATE = "SELECT state, sum(n) FROM tallies GROUP BY state"
_BY_BACKEND = "SELECT backend, state, sum(n) FROM tallies GROUP BY backend, state HAVING sum(n) > 0"
_BY_REPO = "SELECT target_repo, state, sum(n) FROM tallies GROUP BY target_repo, state HAVING sum(n) > 0"
_RECEIVED = "SELECT outcome, sum(n) FROM received GROUP BY outcome"
_REPOS_IN_STATE = "SELECT DISTINCT target_repo FROM tallies WHERE state = :state AND n > 0"
_REPOS = "SELECT DISTINCT target_repo FROM tallies WHERE n > 0 ORDER BY target_repo"


# Those that a person linked by hand are left out: such an issue carries no mark of ours.
_ISSUES = """
    SELECT tasks.seq, event_id, remote_project, remote_url, synced_at, address
    FROM tasks JOIN attempts ON attempts.id = (
        SELECT coalesce(max(CASE WHEN tried.project = tasks.remote_project THEN tried.id END), max(tried.id))
        FROM attempts AS tried WHERE tried.seq = tasks.seq AND tried.outcome IN ('created', 'found')
    )
    WHERE state = 'synced' AND tasks.backend = :backend
    ORDER BY tasks.seq
"""

_FIRST_AT = """
    SELECT min(at) FROM (
        SELECT min(created_at) AS at FROM tasks WHERE state = 'synced' AND backend = :backend
        UNION ALL
        SELECT min(started_at) FROM attempts WHERE backend = :backend
    )
"""

_SEQ = "SELECT seq FROM tasks WHERE event_id = :event_id"


class Filter(NamedTuple):
    """Which tasks: each field that is set narrows the choice. Times are as the ledger writes them."""

    state: TaskState | None = None
    repo: str | None = None
    priority: Priority | None = None
    label: str | None = None
    source: str | None = None
    source_type: SourceType | None = None
    backend: str | None = None
    in_doubt: bool | None = None
    created_since: str | None = None
    created_until: str | None = None
    after: int | None = None


class Counts(NamedTuple):
    """The counters: ``total`` is the sum of ``states``; ``received`` is by outcome; the rest by name, then state."""

    total: int
    states: dict[str, int]
    received: dict[str, int]
    backends: dict[str, dict[str, int]]
    repos: dict[str, dict[str, int]]
    oldest_pending_at: str | None


class OwnIssue(NamedTuple):
    """The issue of a synced task: the project and address it was made or found at, its URL, and since when it is."""

    seq: int
    event_id: str
    project: str
    url: str
    synced_at: str
    address: str


def tasks(connection: sqlite3.Connection, chosen: Filter, *, limit: int | None, newest_first: bool) -> Iterator[Task]:
    """The chosen tasks by falling or rising ``seq``, at most ``limit``, read as they are asked for."""
    found = _matching(connection, chosen, newest_first)
    return found if limit is None else islice(found, limit)


def _matching(connection: sqlite3.Connection, chosen: Filter, newest_first: bool) -> Iterator[Task]:
    asked = {name: value for name, value in chosen._asdict().items() if value not in (None, False)}
    label = None if chosen.label is None else chosen.label.casefold()
    where = " AND ".join(_CONDITIONS[name] for name in asked) or "true"
    order = "DESC" if newest_first else "ASC"
    if not all(map(_can_be_stored, asked.values())):
        return
    for low, high in facets.ranges(connection, asked, newest_first=newest_first):
        query = f"SELECT {_COLUMNS} FROM tasks WHERE seq BETWEEN :low AND :high AND {where} ORDER BY seq {order}"  # noqa: S608 - constants
        for row in connection.execute(query, {**asked, "low": low, "high": high}):
            task = _task(row)
            if label is None or any(label == own.casefold() for own in task.labels):
                yield task


def _can_be_stored(value: str | int) -> bool:
    """Whether SQLite can compare it: bytes on the command line that are no UTF-8 reach us as half surrogate pairs."""
    return not isinstance(value, str) or not any("\ud800" <= character <= "\udfff" for character in value)


def task(connection: sqlite3.Connection, seq: int) -> Task:
    """Task ``seq``.

    Raises:
        NotFound: there is none.
    """
    row = connection.execute(_TASK, {"seq": seq}).fetchone()
    if row is None:
        raise NotFound(f"no task {seq} in the ledger", hint=_SHOWS)
    return _task(row)


def find(connection: sqlite3.Connection, wanted: str) -> int:
    """The ``seq`` of the task that a person means by an event ID, the beginning of one, or (digits alone) its seq.

    Raises:
        NotFound: no task has it.
        UsageError: several have it, or it is too short to tell.
    """
    hint = _SHOWS
    if wanted.isascii() and wanted.isdigit():
        hint = f"{_DIGITS} {_SHOWS}"
        # Digits alone are a seq; where no task has it, or it cannot be one, they may begin an event ID.
        if len(wanted) < 19 and connection.execute("SELECT 1 FROM tasks WHERE seq = ?", (int(wanted),)).fetchone():
            return int(wanted)
        if len(wanted) < 8:
            raise NotFound(f"no task {wanted} in the ledger", hint=hint)
    prefix = _as_prefix(wanted)
    if not prefix.isascii():
        raise NotFound(f"no task with an event ID {wanted!r}", hint=_SHOWS)
    if len(prefix) < 4:
        raise UsageError(
            f"{wanted!r} is too short for an event ID", hint="Give at least 4 characters of it, or the seq."
        )
    found = connection.execute(_BY_PREFIX, {"low": prefix, "high": prefix + "\U0010ffff"}).fetchall()
    if not found:
        raise NotFound(f"no task with an event ID {wanted!r}", hint=hint)
    if len(found) > 1:
        shown = ", ".join(event_id for _, event_id in found[:5]) + (", …" if len(found) > 5 else "")
        raise UsageError(f"{wanted!r} could be any of {shown}", hint="Give more characters of it.")
    seq: int = found[0][0]
    return seq


def _as_prefix(wanted: str) -> str:
    """The beginning of an event ID as the ledger spells it, from any usual spelling of a UUID."""
    bare = wanted.lower().removeprefix("urn:uuid:").strip("{}")
    if "-" in bare:
        return bare
    cuts = (0, 8, 12, 16, 20, None)
    parts = [bare[start:end] for start, end in pairwise(cuts)]
    return "-".join(part for part in parts if part)


def counts(connection: sqlite3.Connection, now: str = waits.EVER) -> Counts:
    """Every counter, kept up to date by each write, so that reading them takes the same time whatever their size.

    The oldest pending task is as :func:`waits.oldest_pending_at` has it.
    """
    states = by_state(connection)
    return Counts(
        sum(states.values()),
        states,
        dict.fromkeys(OUTCOMES, 0) | dict(connection.execute(_RECEIVED)),
        _nested(connection.execute(_BY_BACKEND)),
        _nested(connection.execute(_BY_REPO)),
        waits.oldest_pending_at(connection, now),
    )


def by_state(connection: sqlite3.Connection) -> dict[str, int]:
    """How many tasks are in each of the five states."""
    found = dict(connection.execute(_BY_STATE))
    if unknown := {state for state, n in found.items() if n} - set(STATES):
        raise rows.damaged("the table tallies", ValueError(f"no task has the state {unknown.pop()!r:.60}"))
    return {state: found.get(state, 0) for state in STATES}


def _nested(counted: Iterator[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for name, state, n in counted:
        if not isinstance(name, str):
            raise rows.damaged("the table tallies", ValueError(f"{name!r:.60} is no text"))
        nested.setdefault(name, {})[state] = n
    return nested


def repos(connection: sqlite3.Connection) -> list[str]:
    """Each ``target_repo`` that some task names."""
    return [row[0] for row in connection.execute(_REPOS)]


def repos_in(connection: sqlite3.Connection, state: TaskState) -> list[str]:
    """Each ``target_repo`` that has a task in ``state``."""
    return [row[0] for row in connection.execute(_REPOS_IN_STATE, {"state": state})]


def issues_of(connection: sqlite3.Connection, backend: str) -> Iterator[OwnIssue]:
    """The issue of each synced task of ``backend``, by rising ``seq``; without those that were linked by hand."""
    return map(OwnIssue._make, connection.execute(_ISSUES, {"backend": backend}))


def first_at(connection: sqlite3.Connection, backend: str) -> str | None:
    """When the oldest synced task of ``backend`` came in, or its first attempt was made; ``None``: it has none."""
    at: str | None = connection.execute(_FIRST_AT, {"backend": backend}).fetchone()[0]
    try:
        rows.times(at)
    except rows.UNREADABLE as error:
        raise rows.damaged(f"a task of {backend} or an attempt there", error) from error
    return at


def seq_of(connection: sqlite3.Connection, event_id: str) -> int | None:
    """The ``seq`` of the task with exactly this event ID, if there is one."""
    row = connection.execute(_SEQ, {"event_id": event_id}).fetchone()
    return None if row is None else int(row[0])


def spec_of(task: Task) -> Spec:
    """What the emitter asked for, as the ledger kept it."""
    return Spec(
        task.event_id,
        task.title,
        task.description,
        task.target_repo,
        task.priority,
        task.labels,
        task.due_in_days,
        task.source_type,
        task.source_id,
        task.activity_definition_id,
        task.extra or None,
    )


def _task(row: tuple[Any, ...]) -> Task:
    try:
        return _from_row(row)
    except rows.UNREADABLE as error:
        raise rows.damaged(f"task {row[0]}", error) from error


@lru_cache
def _require(kinds: tuple[type, ...]) -> None:
    """See that a row's values are of the kinds that its columns have; the same few again and again."""
    for name, kind in zip(_NAMES, kinds, strict=True):
        if kind is not (int if name in _NUMBERS else str) and not (name in _OPTIONAL and kind is NoneType):
            raise ValueError(f"{name} is no {'number' if name in _NUMBERS else 'text'}")


def _from_row(row: tuple[Any, ...]) -> Task:
    (
        seq, event_id, state, title, description, target_repo, priority, labels, due_in_days, source_type, source_id,
        activity_definition_id, due_date, extra, created_at, updated_at, sightings, backend, attempts,
        next_attempt_at, in_doubt_since, last_error, remote_id, remote_url, remote_project, synced_at, transport,
        detail,
    ) = row  # fmt: skip
    _require(tuple(map(type, row)))
    rows.a_choice("state", state, STATES)
    rows.a_choice("priority", priority, PRIORITIES)
    rows.a_choice("source_type", source_type, SOURCE_TYPES)
    rows.times(created_at, updated_at, next_attempt_at, in_doubt_since, synced_at)
    return Task(
        seq,
        event_id,
        state,
        title,
        description,
        target_repo,
        priority,
        rows.strings(labels),
        due_in_days,
        source_type,
        source_id,
        activity_definition_id,
        due_date,
        rows.an_object(extra),
        created_at,
        updated_at or created_at,
        {transport: 1} if sightings is None else rows.numbers(sightings),
        backend,
        attempts,
        next_attempt_at,
        in_doubt_since,
        last_error,
        None if remote_id is None else Remote(remote_id, remote_url, remote_project, synced_at),
        {
            "triggering_event_id": event_id,
            "source_type": source_type,
            "source_id": source_id,
            "activity_definition_id": activity_definition_id,
            "target_repo": target_repo,
            "transport": transport,
            "received_at": created_at,
            **rows.an_object(detail),
        },
    )
