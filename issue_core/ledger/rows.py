"""Many rows in one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from typing import Any

FEW = 64
"""So many rows go in one statement; more are given to SQLite one by one, which then costs no more."""


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
