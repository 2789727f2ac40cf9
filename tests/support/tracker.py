"""A tracker for tests, and the backend of it: it does what a real one does to its clients, as it is told.

Everything that it knows stands in a SQLite file of its own, so that several processes see the same tracker, and a
client that is killed leaves behind what a real one would: a request that was received is carried out.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from issue_core.backends.base import Backend, Finding, Issue, Target, Traits
from issue_core.clock import Clock
from issue_core.errors import (
    BackendError,
    CredentialsRefused,
    Limited,
    OutcomeUnknown,
    ProjectClosed,
    Refused,
    TryLater,
    Unreachable,
)
from issue_core.task import Task, from_text, to_text

KEYS: Mapping[str, str] = {
    "path": "path",
    "address": "text",
    "account": "text",
    "per_minute": "count",
    "per_hour": "count",
    "settles_with_worker": "flag",
}

Kind = Literal[
    "unreachable",
    "credentials",
    "project",
    "limited",
    "try_later",
    "refused",
    "unknown_before",
    "unknown_after",
    "slow",
]
"""What a request may meet. ``unknown_before``: it is lost; ``unknown_after``: it is carried out, the answer is lost."""

ADDRESS = "https://tracker.example"
ACCOUNT = "our-bot"
PAGE = 2
"""Issues on a page of the listing: few, so that a look has several."""

clock = Clock()
"""The tracker's own clock. A test that moves the time puts its own here."""

clients_clock = Clock()
"""The clock of the machine that the backend runs on; it may be wrong."""

on_create: Callable[[Task, Target, float], None] | None = None
"""Called when a create has been received, before it is carried out, with the time that it may take."""

on_answer: Callable[[Issue], None] | None = None
"""Called when a create has been carried out, before it is answered."""

on_page: Callable[[], None] | None = None
"""Called when a page of a listing has been given."""

_ERRORS: Mapping[str, type[BackendError]] = {
    "unreachable": Unreachable,
    "credentials": CredentialsRefused,
    "project": ProjectClosed,
    "limited": Limited,
    "try_later": TryLater,
    "refused": Refused,
    "unknown_before": OutcomeUnknown,
    "unknown_after": OutcomeUnknown,
}

_TABLES = """
    CREATE TABLE IF NOT EXISTS issues (
        id INTEGER PRIMARY KEY, address TEXT, project TEXT, event_id TEXT, account TEXT, made_at TEXT, seen_from TEXT,
        hidden_looks INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE IF NOT EXISTS calls (
        id INTEGER PRIMARY KEY, at TEXT, operation TEXT, address TEXT, project TEXT, event_id TEXT, account TEXT
    );
    CREATE TABLE IF NOT EXISTS faults (
        id INTEGER PRIMARY KEY, operation TEXT, kind TEXT, address TEXT, project TEXT, event_id TEXT,
        times INTEGER, retry_after REAL, seconds REAL
    );
    CREATE TABLE IF NOT EXISTS nature (key TEXT PRIMARY KEY, value);
"""

# A fault without operation, address, project or event ID is for any; one without times lasts until it is lifted.
_NEXT_FAULT = """
    SELECT id, kind, retry_after, seconds, times FROM faults
    WHERE coalesce(operation, :operation) = :operation AND coalesce(address, :address) = :address
    AND coalesce(project, :project) = :project AND coalesce(event_id, :event_id) = :event_id
    AND coalesce(times, 1) > 0 ORDER BY id LIMIT 1
"""

_LISTED = """
    SELECT id, project, event_id, account FROM issues
    WHERE address = :address AND project = :project AND made_at >= :since AND seen_from <= :now AND hidden_looks <= 0
    ORDER BY made_at, id
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """What the next ``times`` requests that fit meet (``None``: all, until :meth:`Tracker.lift`).

    ``seconds`` is for ``slow`` how long the request takes, and for ``unknown_after`` how much later it is carried out.
    """

    kind: Kind
    operation: Literal["create", "look", "probe", "account"] | None = "create"
    address: str | None = None
    project: str | None = None
    event_id: str | None = None
    times: int | None = 1
    retry_after: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """A request that the tracker received."""

    at: datetime
    operation: str
    address: str
    project: str
    event_id: str
    account: str


@dataclass(frozen=True, slots=True)
class Made:
    """An issue at the tracker, seen or not."""

    id: int
    address: str
    project: str
    event_id: str
    account: str


class Tracker:
    """The tracker whose state is the file at ``path``, as the test sees and directs it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_TABLES)

    def will(self, *faults: Fault) -> None:
        """Meet the coming requests with these faults, one after the other."""
        with _opened(self.path) as db:
            for fault in faults:
                _insert(db, "faults", asdict(fault))

    def lift(self) -> None:
        """Forget every fault that has not struck yet."""
        with _opened(self.path) as db:
            db.execute("DELETE FROM faults")

    def be(self, **nature: float) -> None:
        """Set ``chance`` (of a random fault, 0 to 1), its ``seed``, ``lag`` (seconds until a new issue is listed),
        ``hidden_looks`` (the same in looks), ``work`` (the longest time that a create takes, seconds), or ``late`` (so
        many seconds after its time-out a request whose answer is lost is carried out, at the latest; by chance)."""
        with _opened(self.path) as db:
            db.executemany("INSERT OR REPLACE INTO nature VALUES (?, ?)", nature.items())

    def plant(self, event_id: str, *, account: str = ACCOUNT, address: str = ADDRESS, project: str = "acme/web") -> int:
        """Make an issue behind the engine's back; gives its ID."""
        with _opened(self.path) as db:
            return _make(db, Target("", address, project), event_id, account, hidden_looks=0)

    def issues(self, event_id: str | None = None) -> list[Made]:
        """Every issue, or those of one event, oldest first."""
        with _opened(self.path) as db:
            rows = db.execute("SELECT id, address, project, event_id, account FROM issues ORDER BY id").fetchall()
        return [made for made in (Made(*row) for row in rows) if event_id in (None, made.event_id)]

    def calls(self, operation: str | None = None) -> list[Call]:
        """Every request that came, or those of one kind, in their order."""
        with _opened(self.path) as db:
            rows = db.execute("SELECT at, operation, address, project, event_id, account FROM calls ORDER BY id")
            calls = [Call(from_text(at), *rest) for at, *rest in rows]
        return [call for call in calls if operation in (None, call.operation)]


def open_backend(name: str, options: Mapping[str, Any], *, home: Path, request_timeout: float) -> Backend:
    """The backend called ``name`` of the tracker in ``options["path"]``, else of ``tracker.db`` in ``home``."""
    traits = Traits(
        max_in_flight=4,
        per_minute=options.get("per_minute", 0),
        per_hour=options.get("per_hour", 0),
        settles_with_worker=options.get("settles_with_worker", False),
    )
    path = home / options.get("path", "tracker.db")
    address, account = options.get("address", ADDRESS), options.get("account", ACCOUNT)
    return Scripted(name, traits, path, address, account, options.get("projects", {}))


class Scripted:
    """A client of the tracker at ``path``."""

    def __init__(
        self, name: str, traits: Traits, path: Path, address: str, account: str, projects: Mapping[str, str]
    ) -> None:
        self.name = name
        self.traits = traits
        self._path = path
        self._address = address
        self._account = account
        self._projects = projects

    def target(self, target_repo: str) -> Target:
        """The repository's own project, unless ``projects`` names another."""
        return Target(self.name, self._address, self._projects.get(target_repo, target_repo))

    def account(self) -> str:
        """The account of the options."""
        with _received(self._path) as db:
            _raise(self._meet(db, "account", Target(self.name, self._address, "")))
        return self._account

    def create(self, task: Task, target: Target, *, timeout: float, before_send: Callable[[], None]) -> Issue:
        """Make an issue, or do as the next fault says. What was received is carried out even if the client dies."""
        deadline = clock.now() + timedelta(seconds=timeout)
        before_send()
        with _received(self._path) as db:
            fault = self._meet(db, "create", target, task.event_id)
        if on_create is not None:
            on_create(task, target, timeout)
        with _received(self._path) as db:
            kind = fault["kind"] if fault else None
            if fault and kind not in ("unknown_after", "slow"):
                _raise(fault)
            work = _worktime(db)
            delay = work if fault is None else max(work, fault["seconds"] or 0.0)
            if late := _nature(db, "late"):
                left = (deadline - clock.now()).total_seconds()
                delay = random.uniform(work, left + late) if kind == "unknown_after" else work
            hidden = int(_nature(db, "hidden_looks"))
            issue_id = _make(db, target, task.event_id, self._account, hidden_looks=hidden, delay=delay)
        if kind == "unknown_after":
            _raise(fault)
        if work or kind == "slow":
            _take_time(delay)
        issue = Issue(str(issue_id), f"{target.address}/{target.project}/{issue_id}", target.project, self._account)
        if on_answer is not None:
            on_answer(issue)
        return issue

    def look(
        self, target: Target, event_ids: Collection[str], since: datetime, *, keep_lease: Callable[[], None]
    ) -> dict[str, list[Issue]]:
        """The listed issues with one of the event IDs."""
        with _received(self._path) as db:
            _raise(self._meet(db, "look", target))
            now = clock.now()
            # How long ago that is holds on both machines; what time it was there, a real tracker says in its answers.
            far_end = now - (clients_clock.now() - since)
            asked = {
                "address": target.address,
                "project": target.project,
                "since": to_text(far_end),
                "now": to_text(now),
            }
            rows = db.execute(_LISTED, asked).fetchall()
            db.execute("UPDATE issues SET hidden_looks = hidden_looks - 1 WHERE hidden_looks > 0")
        found: dict[str, list[Issue]] = {}
        for number, (issue_id, project, event_id, account) in enumerate(rows, start=1):
            if event_id in event_ids:
                url = f"{target.address}/{project}/{issue_id}"
                found.setdefault(event_id, []).append(Issue(str(issue_id), url, project, account))
            if number % PAGE == 0:
                if on_page is not None:
                    on_page()
                keep_lease()
        return found

    def probe(self, target: Target) -> None:
        """Nothing, or the next fault."""
        with _received(self._path) as db:
            _raise(self._meet(db, "probe", target))

    def check(self) -> list[Finding]:
        """It is always well."""
        return [Finding(True, "the scripted tracker")]

    def close(self) -> None:
        """Nothing stays open."""

    def _meet(
        self, db: sqlite3.Connection, operation: str, target: Target, event_id: str = ""
    ) -> dict[str, Any] | None:
        """Write the request down; gives the fault that it meets."""
        here = {"operation": operation, "address": target.address, "project": target.project, "event_id": event_id}
        number = _insert(db, "calls", {**here, "at": to_text(clock.now()), "account": self._account})
        row = db.execute(_NEXT_FAULT, here).fetchone()
        if row is None:
            return _by_chance(db, operation, number)
        fault_id, kind, retry_after, seconds, times = row
        if times is not None:
            db.execute("UPDATE faults SET times = times - 1 WHERE id = ?", (fault_id,))
        return {"kind": kind, "retry_after": retry_after, "seconds": seconds}


def _by_chance(db: sqlite3.Connection, operation: str, number: int) -> dict[str, Any] | None:
    """A random fault that can pass, the same for the same seed and number of the request."""
    dice = random.Random(f"{_nature(db, 'seed')} {number}")
    if dice.random() >= _nature(db, "chance"):
        return None
    kinds = ["unreachable", "try_later", "limited", "unknown_before"]
    if operation == "create":
        kinds += ["unknown_after", "unknown_after"]
    return {"kind": dice.choice(kinds), "retry_after": 0.01, "seconds": 0.0}


def _raise(fault: Mapping[str, Any] | None) -> None:
    if fault is None or fault["kind"] == "slow":
        return
    words = str(fault["kind"]).replace("_", " ")
    raise _ERRORS[fault["kind"]](f"the tracker says: {words}", retry_after=fault["retry_after"])


def _worktime(db: sqlite3.Connection) -> float:
    longest = _nature(db, "work")
    return random.random() * longest if longest else 0.0


def _take_time(seconds: float) -> None:
    """Wait for the answer: on the moved clock of a test, or in earnest where processes are killed."""
    move = getattr(clock, "move", None)
    if move is not None:
        move(seconds)
    else:
        time.sleep(seconds)


def _make(
    db: sqlite3.Connection, target: Target, event_id: str, account: str, *, hidden_looks: int, delay: float = 0.0
) -> int:
    """Make an issue which is there ``delay`` seconds from now, and listed when the list has caught up."""
    made_at = clock.now() + timedelta(seconds=delay)
    issue = {
        "address": target.address,
        "project": target.project,
        "event_id": event_id,
        "account": account,
        "made_at": to_text(made_at),
        "seen_from": to_text(made_at + timedelta(seconds=_nature(db, "lag"))),
        "hidden_looks": hidden_looks,
    }
    return _insert(db, "issues", issue)


def _nature(db: sqlite3.Connection, key: str) -> float:
    row = db.execute("SELECT value FROM nature WHERE key = ?", (key,)).fetchone()
    return float(row[0]) if row else 0.0


def _insert(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    columns = ", ".join(row)
    values = ", ".join(f":{column}" for column in row)
    row_id = db.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", row).lastrowid  # noqa: S608 - our names
    assert row_id is not None
    return row_id


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = OFF")
        yield db
    finally:
        db.close()


@contextmanager
def _received(path: Path) -> Iterator[sqlite3.Connection]:
    """The state as one request sees and leaves it, also one that is met with a fault."""
    with _opened(path) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        finally:
            db.execute("COMMIT")
