"""The records that the rooms of this project hand to each other: plain, typed, without I/O.

A :class:`Document` is what a way in read. It is judged once, as :class:`Accepted` or :class:`Rejected`;
either way the ledger answers with one :class:`Receipt`. What stands in the ledger is a :class:`Task`.

They are named tuples: a frozen dataclass takes three times as long to make, and every start of the command line pays
for making its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, get_args

from issue_core.errors import LedgerCorrupt

Transport = Literal["cli", "new", "rest", "nats"]
Outcome = Literal["created", "duplicate", "conflict", "invalid"]
TaskState = Literal["pending", "synced", "failed", "held", "elsewhere"]
Priority = Literal["high", "medium", "low"]
SourceType = Literal["rule", "instruction"]

TRANSPORTS: tuple[Transport, ...] = get_args(Transport)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
STATES: tuple[TaskState, ...] = get_args(TaskState)
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
SOURCE_TYPES: tuple[SourceType, ...] = get_args(SourceType)

MAX_DOCUMENT = 1024 * 1024
"""How long a document may be, in bytes, unless the configuration says otherwise."""

HEAD_BYTES = 64 * 1024
"""How much of a document that is over the size limit is kept."""


_LENGTH_OF_TIME = len("2026-03-01T09:00:00.000Z")

_WAYS_IN: dict[Transport, str] = {"cli": "stdin", "new": "issue new", "rest": "HTTP", "nats": "NATS"}


class Place(NamedTuple):
    """Where a document stood: in ``file`` (``-`` is standard input), on ``line`` (from 1), or as which
    ``element`` of an array (from 0; ``index`` in JSON, a name that a tuple has taken)."""

    file: str | None = None
    line: int | None = None
    element: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The parts that are known: ``file``, ``line``, ``index``."""
        named = {"file": self.file, "line": self.line, "index": self.element}
        return {name: value for name, value in named.items() if value is not None}

    def shown(self, transport: Transport = "cli") -> str:
        """As compilers write it: ``tasks.ndjson:12``, ``tasks.json[3]``; without a file the way in: ``stdin:1``."""
        name = _WAYS_IN[transport] if self.file in (None, "-") else self.file
        line = "" if self.line is None else f":{self.line}"
        return f"{name}{line}" + ("" if self.element is None else f"[{self.element}]")

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Place:
        """The place that :meth:`to_json` gave."""
        return cls(known.get("file"), known.get("line"), known.get("index"))


class Oversize(NamedTuple):
    """What is known of a document over the size limit: ``length`` and ``limit`` in bytes, SHA-256 in hex."""

    length: int
    sha256: str
    limit: int


class Document(NamedTuple):
    """One piece of input that should be a TaskSpec, as it was read: bytes, and where they stood.

    ``oversize`` is set when the document is longer than the limit: ``raw`` is then its first
    :data:`HEAD_BYTES` bytes. ``broken`` says why the reader could not make it one JSON document, if it could not.
    ``meta`` is what the transport knows beside it (NATS stream and sequence, the key's name).
    """

    raw: bytes
    place: Place = Place()
    oversize: Oversize | None = None
    broken: str | None = None
    meta: Mapping[str, Any] | None = None


class FieldProblem(NamedTuple):
    """What is wrong with one field (``document`` when it is the whole), in words for the author of a rule."""

    field: str
    problem: str


class Spec(NamedTuple):
    """A TaskSpec that passed: every field normalised, as the ledger keeps it."""

    event_id: str
    title: str
    description: str
    target_repo: str
    priority: Priority
    labels: list[str]
    due_in_days: int | None
    source_type: SourceType
    source_id: str
    activity_definition_id: str | None
    extra: dict[str, Any] | None


class Accepted(NamedTuple):
    """A document that is a TaskSpec: the spec, the digest of its canonical form (SHA-256, 32 bytes), warnings."""

    document: Document
    spec: Spec
    digest: bytes
    warnings: tuple[str, ...] = ()


class Rejected(NamedTuple):
    """A document that is no TaskSpec, and every reason why."""

    document: Document
    errors: tuple[FieldProblem, ...]
    event_id: str | None = None


class Receipt(NamedTuple):
    """What became of one document. ``created`` means: it is on the disk."""

    outcome: Outcome
    event_id: str | None = None
    seq: int | None = None
    state: TaskState | None = None
    warnings: tuple[str, ...] = ()
    reject_id: int | None = None
    errors: tuple[FieldProblem, ...] = ()
    place: Place = Place()

    def to_json(self) -> dict[str, Any]:
        """The receipt as the JSON object that every transport answers with."""
        shown: dict[str, Any] = {
            "outcome": self.outcome,
            "event_id": self.event_id,
            "seq": self.seq,
            "state": self.state,
            "warnings": list(self.warnings),
        }
        if self.outcome in ("conflict", "invalid"):
            shown["reject_id"] = self.reject_id
            shown["errors"] = [{"field": e.field, "problem": e.problem} for e in self.errors]
        return shown | self.place.to_json()


class Remote(NamedTuple):
    """The issue in the tracker: its ``id`` there, its address for people, its project, and since when we know it."""

    id: str
    url: str
    project: str
    synced_at: str


class Task(NamedTuple):
    """A task as it stands in the ledger. Times are RFC 3339 in UTC with milliseconds and ``Z``."""

    seq: int
    event_id: str
    state: TaskState
    title: str
    description: str
    target_repo: str
    priority: Priority
    labels: list[str]
    due_in_days: int | None
    source_type: SourceType
    source_id: str
    activity_definition_id: str | None
    due_date: str | None
    extra: dict[str, Any]
    created_at: str
    updated_at: str
    sightings: dict[str, int]
    backend: str | None
    attempts: int
    next_attempt_at: str | None
    in_doubt_since: str | None
    last_error: str | None
    remote: Remote | None
    ingestion: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The task object: the same wherever a task is shown as JSON."""
        shown = self._asdict()
        shown["remote"] = self.remote and self.remote._asdict()
        shown["sync_metadata"] = {"ingestion": shown.pop("ingestion")}
        return shown


class HistoryEntry(NamedTuple):
    """One thing that happened to a task: when, what kind, and what there is to say about it."""

    at: str
    kind: str
    detail: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The entry as one flat JSON object: ``at``, ``kind``, then the detail."""
        return {"at": self.at, "kind": self.kind, **self.detail}


def to_text(moment: datetime) -> str:
    """An aware datetime as the ledger writes it: RFC 3339, UTC, milliseconds, ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_text(text: str) -> datetime:
    """The aware datetime that :func:`to_text` wrote.

    Raises:
        LedgerCorrupt: it wrote nothing of the kind.
    """
    try:
        if len(text) == _LENGTH_OF_TIME and text[-1] == "Z":
            return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        pass  # it is damaged, as is what has another length
    raise LedgerCorrupt(f"{text!r:.60} is no time")
