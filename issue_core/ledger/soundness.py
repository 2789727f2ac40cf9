"""Whether each row can be what it says: damage that SQLite does not see, for which a row is any values."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple

from issue_core.ledger import rows, schema
from issue_core.ledger.connection import is_no_text
from issue_core.task import PRIORITIES, SOURCE_TYPES, STATES, TRANSPORTS, Spec, from_text, to_text

Digest = Callable[[Spec], bytes]
"""Gives the digest of a TaskSpec's canonical form."""

_NONE: Mapping[str, Any] = MappingProxyType({})


class _Table(NamedTuple):
    """A table: how a row of it is called, by its first columns; and which of its columns hold what.

    ``key`` are the whole numbers by which it is read; ``None``: it is small, and has none.
    """

    name: str
    called: str
    key: str | None
    times: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]] = _NONE
    documents: Mapping[str, Callable[[str], object]] = _NONE


_TABLES = (
    _Table(
        "tasks",
        "task {}",
        "seq",
        ("created_at", "updated_at", "next_attempt_at", "in_doubt_since", "synced_at"),
        {"state": STATES, "priority": PRIORITIES, "source_type": SOURCE_TYPES, "transport": TRANSPORTS},
        {
            "labels": rows.strings,
            "extra": rows.an_object,
            "sightings": rows.numbers,
            "transport_detail": rows.an_object,
        },
    ),
    _Table("history", "task {}: entry {} of its history", "seq, n", ("at",), documents={"detail": rows.an_object}),
    _Table(
        "rejects",
        "reject {}",
        "id",
        ("first_at", "last_at", "closed_at"),
        {"transport": TRANSPORTS},
        {"errors": rows.pairs, "place": rows.an_object},
    ),
    _Table("attempts", "attempt {}", "id", ("started_at", "ended_at")),
    _Table("blocks", "block {}", "block", ("first_at", "last_at")),
    _Table("limits", "the limit of {}", None, ("next_free_at", "limited_until")),
    _Table("parked", "what is parked of {} {}", None, ("since", "until")),
    _Table("tallies", "the tally of {}, {}, {}", None, ()),
    _Table("meta", "the fact {}", None, ()),
)


class _Column(NamedTuple):
    """A column, as the schema has it."""

    name: str
    kind: str
    not_null: int


_SCHEMA = "SELECT type, name, sql FROM sqlite_master"
_COLUMNS = 'SELECT name, type, "notnull" FROM pragma_table_info(:name)'

# What stands in braces are names of tables and columns, and constants.
_GLANCE = "SELECT {wrong}, * FROM {name}"
_ALL = "SELECT * FROM {name}"
_BEHIND = "SELECT * FROM {name} WHERE ({key}) > ({after}) ORDER BY {key}"
_NEXT_KEY = "SELECT {key} FROM {name} WHERE ({key}) > ({after}) ORDER BY {key} LIMIT 1"

_LEAST = -(2**63)

TIME = "2000-00-00T00:00:00.000Z".translate(dict.fromkeys(map(ord, "02"), "[0-9]"))
"""What a time looks like, for GLOB."""

_KINDS: Mapping[str, type] = MappingProxyType({"TEXT": str, "INTEGER": int, "REAL": float, "BLOB": bytes})


def looks_sound(connection: sqlite3.Connection) -> bool:
    """Whether SQL finds nothing wrong: with the schema, states and the like, times, JSON, and what must be text.

    It reads every row, too, but faster than :func:`problems`, which sees more.
    """
    try:
        if any(_changed(connection)):
            return False
        return not any(row[0] for table in _TABLES for row in connection.execute(_glance(table)))
    except sqlite3.OperationalError as error:
        if not is_no_text(error):
            raise
        return False


def _glance(table: _Table) -> str:
    wrong = [f"{name} NOT GLOB '{TIME}' OR {name} IS NOT NULL AND julianday({name}) IS NULL" for name in table.times]
    wrong += [f"{name} NOT IN {choices}" for name, choices in table.choices.items()]
    wrong += [f"{name} IS NOT NULL AND NOT json_valid({name})" for name in table.documents]
    return _GLANCE.format(wrong=" OR ".join(wrong) or "0", name=table.name)


def problems(connection: sqlite3.Connection, digest: Digest | None = None) -> Iterator[str]:
    """Each row that cannot be what it says, and why. With ``digest`` tasks and rejects are held against theirs.

    Every row is read once, and let go before the next; none where the schema itself was changed.
    """
    if changed := list(_changed(connection)):
        yield from changed
        return
    for table in _TABLES:
        columns = tuple(_Column(*row) for row in connection.execute(_COLUMNS, {"name": table.name}))
        sound: set[tuple[type, ...]] = set()  # the same few again and again
        for row, error in _rows(connection, table):
            try:
                if error:
                    raise error
                if (kinds := tuple(map(type, row))) not in sound:
                    _require(columns, kinds)
                    sound.add(kinds)
                _judge(table, {column.name: value for column, value in zip(columns, row, strict=True)}, digest)
            except rows.UNREADABLE as wrong:
                called = table.called.format(*row).rstrip() if row else f"the table {table.name}"
                yield f"{called}: {wrong}"


def _changed(connection: sqlite3.Connection) -> Iterator[str]:
    """What is not as the newest schema has it, which a ledger of an older one has not yet. Others may add to it."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == schema.SCHEMA_VERSION:
        found = set(connection.execute(_SCHEMA))
        with closing(schema.empty()) as made:
            for kind, name, sql in made.execute(_SCHEMA):
                if (kind, name, sql) not in found:
                    yield f"the {kind} {name} is not as it was made"


def _rows(connection: sqlite3.Connection, table: _Table) -> Iterator[tuple[tuple[Any, ...], Exception | None]]:
    """Each row of a table; where its text is none, what is known of its key, and an error."""
    after = (_LEAST,) * (table.key or "").count(",") + (_LEAST,) if table.key else ()
    place = {"name": table.name, "key": table.key, "after": ", ".join("?" * len(after))}
    while True:
        try:
            for row in connection.execute((_BEHIND if table.key else _ALL).format_map(place), after):
                yield row, None
                after = row[: len(after)]
            return
        except sqlite3.OperationalError as error:
            if not is_no_text(error):
                raise
            if table.key:
                after = connection.execute(_NEXT_KEY.format_map(place), after).fetchone()
            yield after, ValueError("it holds text that is no UTF-8")
            if not table.key:
                return


def _judge(table: _Table, values: Mapping[str, Any], digest: Digest | None) -> None:
    for name, choices in table.choices.items():
        rows.a_choice(name, values[name], choices)
    for name in table.times:
        _require_time(name, values[name])
    read = {name: None if values[name] is None else read_as(values[name]) for name, read_as in table.documents.items()}
    if digest and table.name == "tasks":
        asked = Spec._make(read[name] if name in read else values[name] for name in Spec._fields)
        if digest(asked) != values["digest"]:
            raise ValueError("what it asks for has another digest than the one that stands with it")
    if digest and table.name == "rejects" and len(values["raw"]) == values["length"]:
        _require_digest(values["raw"], values["sha256"])


def _require(columns: Sequence[_Column], kinds: Sequence[type]) -> None:
    """See that values of these ``kinds`` can stand in ``columns``."""
    for column, kind in zip(columns, kinds, strict=True):
        if kind is not _KINDS[column.kind] and not (kind is NoneType and not column.not_null):
            raise ValueError(f"{column.name} is no {column.kind}")


def _require_time(name: str, text: str | None) -> None:
    # Times are compared as text: what is written in another way would be out of order.
    if text is not None and to_text(from_text(text)) != text:
        raise ValueError(f"{name} {text!r} is not as the ledger writes times")


def _require_digest(raw: bytes, known: str) -> None:
    if sha256(raw).hexdigest() != known:
        raise ValueError("its bytes have another SHA-256 than the one that stands with them")
