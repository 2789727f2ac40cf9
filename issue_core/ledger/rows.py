"""Many rows in one statement; and what stands in a row, read as what it must be."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from typing import Any

from issue_core.errors import LedgerCorrupt
from issue_core.task import from_text

FEW = 64
"""So many rows go in one statement; more are given to SQLite one by one, which then costs no more."""

UNREADABLE = (ValueError, TypeError, RecursionError, LedgerCorrupt)
"""What the reading of a row raises when its values are not what issue-core has written there."""


def put(connection: sqlite3.Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> sqlite3.Cursor | None:
    """Run an ``INSERT`` whose ``VALUES`` are one row of question marks for all of ``rows``; None when there are none.

    The cursor's ``rowcount`` says how many were written.

    Few rows go in one statement: each call of SQLite's lets go of Python's lock, and in a process with many threads
    it takes longer to get it back than to write a row.
    """
    given = list(rows)
    if not given:
        return None
    if len(given) > FEW:
        return connection.executemany(statement, given)
    return connection.execute(_for(statement, len(given)), list(chain.from_iterable(given)))


@lru_cache(maxsize=512)
def _for(statement: str, n: int) -> str:
    before, values, after = statement.partition("VALUES ")
    row = after[: after.index(")") + 1]
    return before + values + ", ".join([row] * n) + after[len(row) :]


def damaged(row: str, error: Exception) -> LedgerCorrupt:
    """``row`` (such as ``task 1``) cannot be read. Which ledger's it is, and a hint, are added where that is known."""
    return LedgerCorrupt(f"{row} is damaged: {error}")


def a_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """See that ``value`` is one of ``choices``; raises one of :data:`UNREADABLE`."""
    if value not in choices:
        raise ValueError(f"{name} {value!r:.60} is none of {', '.join(choices)}")


def times(*texts: str | None) -> None:
    """See that each text that is there is a time; raises one of :data:`UNREADABLE`."""
    for text in texts:
        if text is not None:
            from_text(text)


def an_object(text: str | None) -> dict[str, Any]:
    """A JSON object, where there is one; raises one of :data:`UNREADABLE`."""
    if text is None:
        return {}
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text!r:.60} is no JSON object")  # noqa: TRY004 - no mistake of a program's
    return value


def numbers(text: str) -> dict[str, int]:
    """A JSON object of whole numbers; raises one of :data:`UNREADABLE`."""
    value = an_object(text)
    if not all(type(n) is int for n in value.values()):
        raise ValueError(f"{text!r:.60} is no JSON object of numbers")
    return value


def strings(text: str) -> list[str]:
    """A JSON list of strings; raises one of :data:`UNREADABLE`."""
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{text!r:.60} is no JSON list of strings")
    return value


def pairs(text: str) -> list[tuple[str, str]]:
    """A JSON list of pairs of strings; raises one of :data:`UNREADABLE`."""
    value = json.loads(text)
    if not isinstance(value, list) or not all(
        isinstance(each, list) and [type(part) for part in each] == [str, str] for each in value
    ):
        raise ValueError(f"{text!r:.60} is no JSON list of pairs")
    return [(first, second) for first, second in value]
