"""Rejects: input that became no task, kept as it came, until a person has replayed or dropped it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from issue_core.errors import NotFound
from issue_core.ledger import rows
from issue_core.task import TRANSPORTS, Document, FieldProblem, Place, Transport

if TYPE_CHECKING:
    from issue_core.ledger import Transaction

RejectKind = Literal["invalid", "conflict", "elsewhere"]
RejectState = Literal["open", "replayed", "dropped"]

_KEEP = """
    INSERT INTO rejects (kind, sha256, length, event_id, errors, place, transport, first_at, last_at, raw)
    VALUES (:kind, :sha256, :length, :event_id, :errors, :place, :transport, :now, :now, :raw)
    ON CONFLICT (sha256) DO UPDATE SET
        count = count + 1, kind = excluded.kind, event_id = excluded.event_id, errors = excluded.errors,
        place = excluded.place, transport = excluded.transport, last_at = excluded.last_at
"""

_ID_OF = "SELECT id, count FROM rejects WHERE sha256 = :sha256"

_COLUMNS = """
    id, kind, state, count, event_id, errors, place, transport, first_at, last_at, closed_at, replayed_as,
    length, sha256
"""

_LIST = f"""
    SELECT {_COLUMNS} FROM rejects WHERE (:state IS NULL OR state = :state) ORDER BY id DESC LIMIT :limit
"""  # noqa: S608 - the columns are a constant above

_GET = f"SELECT {_COLUMNS}, raw FROM rejects WHERE id = :id"  # noqa: S608 - the same

_OPEN_IDS = "SELECT id FROM rejects WHERE state = 'open' ORDER BY id"

_CLOSE = """
    UPDATE rejects SET state = :state, closed_at = :now, replayed_as = :event_id
    WHERE id = :id AND state = 'open'
"""

_OPEN_COUNT = "SELECT count(*) FROM rejects WHERE state = 'open'"


@dataclass(frozen=True, slots=True)
class Reject:
    """One refused input: what kind, how often it came, why it was refused, and its bytes (``raw``, when asked for).

    ``length`` and ``sha256`` are those of the whole input, also where only its head was kept.
    """

    id: int
    kind: RejectKind
    state: RejectState
    count: int
    event_id: str | None
    errors: tuple[FieldProblem, ...]
    place: Place
    transport: Transport
    first_at: str
    last_at: str
    closed_at: str | None
    replayed_as: str | None
    length: int
    sha256: str
    raw: bytes = b""

    @property
    def whole(self) -> bool:
        """Whether all of the input was kept, so that it can be replayed."""
        return len(self.raw) == self.length

    @property
    def text(self) -> str:
        """The bytes as text; what is no UTF-8 is shown as ``\\xff``."""
        return self.raw.decode("utf-8", "backslashreplace")

    def to_json(self) -> dict[str, Any]:
        """The reject as a JSON object, without its bytes; where it stood as ``file``, ``line``, ``index``."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name not in ("raw", "place", "errors")}
        errors = [{"field": error.field, "problem": error.problem} for error in self.errors]
        return {**shown, "errors": errors, **self.place.to_json()}


def keep(
    tx: Transaction,
    document: Document,
    kind: RejectKind,
    errors: Sequence[FieldProblem],
    transport: Transport,
    event_id: str | None,
) -> tuple[int, bool]:
    """Keep a refused document, once; the same bytes again raise its count. Gives its ID, and whether it is new."""
    raw, oversize = document.raw, document.oversize
    sha256 = oversize.sha256 if oversize else hashlib.sha256(raw).hexdigest()
    parameters = {
        "kind": kind,
        "sha256": sha256,
        "length": oversize.length if oversize else len(raw),
        "event_id": event_id,
        # In ASCII: the name of a file may hold what is no UTF-8, and SQLite takes nothing else for text.
        "errors": json.dumps([[e.field, e.problem] for e in errors]),
        "place": json.dumps(document.place.to_json()),
        "transport": transport,
        "now": tx.now,
        "raw": raw,
    }
    tx.connection.execute(_KEEP, parameters)
    reject_id, count = tx.connection.execute(_ID_OF, {"sha256": sha256}).fetchone()
    return reject_id, count == 1


def close(tx: Transaction, reject_id: int, state: Literal["replayed", "dropped"], event_id: str | None = None) -> None:
    """A person has dealt with the reject: ``replayed`` (as which event) or ``dropped``. The first time counts."""
    tx.connection.execute(_CLOSE, {"id": reject_id, "state": state, "event_id": event_id, "now": tx.now})


def get(connection: sqlite3.Connection, reject_id: int) -> Reject:
    """The reject with its bytes.

    Raises:
        NotFound: there is none with this ID.
    """
    row = connection.execute(_GET, {"id": reject_id}).fetchone() if 0 < reject_id < 2**63 else None
    if row is None:
        raise NotFound(f"no reject {reject_id} in the ledger", hint="issue rejects list --state all shows them.")
    return _from_row(row)


def page(connection: sqlite3.Connection, *, state: RejectState | None, limit: int) -> list[Reject]:
    """The newest rejects in ``state`` (``None``: any), without their bytes."""
    return [_from_row(row) for row in connection.execute(_LIST, {"state": state, "limit": limit})]


def open_ids(connection: sqlite3.Connection) -> list[int]:
    """The IDs of the open rejects, oldest first."""
    return [row[0] for row in connection.execute(_OPEN_IDS)]


def count_open(connection: sqlite3.Connection) -> int:
    """How many rejects wait for a person."""
    n: int = connection.execute(_OPEN_COUNT).fetchone()[0]
    return n


def _from_row(row: tuple[Any, ...]) -> Reject:
    (reject_id, kind, state, count, event_id, errors, place, transport, first_at, last_at, closed_at, *rest) = row
    try:
        rows.a_choice("transport", transport, TRANSPORTS)
        rows.times(first_at, last_at, closed_at)
        return Reject(
            reject_id,
            kind,
            state,
            count,
            event_id,
            tuple(FieldProblem(*pair) for pair in rows.pairs(errors)),
            Place.from_json(rows.an_object(place)),
            transport,
            first_at,
            last_at,
            closed_at,
            *rest,
        )
    except rows.UNREADABLE as error:
        raise rows.damaged(f"reject {reject_id}", error) from error
