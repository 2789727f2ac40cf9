"""What is asked for: one task, or a page of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from tempfile import SpooledTemporaryFile
from typing import Any
from urllib.parse import parse_qsl

from issue_core.ledger import Ledger, queries
from issue_core.task import STATES, TaskState
from issue_core.transports.http.answers import JSON, Answer, HttpError, encoded

PAGE = 100
"""Tasks of a page where nobody says how many."""

LARGEST_PAGE = 500
LARGEST_SEQ = 2**63 - 1

_IN_MEMORY = 1024 * 1024


def one_task(ledger: Ledger, wanted: str) -> Answer:
    """The task with the event ID ``wanted``, in whatever spelling of a UUID, as it stands in the ledger.

    Raises:
        HttpError: 404: there is none.
    """
    from issue_core.taskspec import parse_event_id

    try:
        event_id = parse_event_id(wanted)
    except ValueError:
        raise HttpError(404, "no task has this event ID: it is no UUID") from None
    with ledger.read() as connection:
        seq = queries.seq_of(connection, event_id)
        if seq is None:
            raise HttpError(404, f"no task with the event ID {event_id} in the ledger")
        task = queries.task(connection, seq)
    return Answer(200, encoded(task.to_json()))


def page_of_tasks(ledger: Ledger, query: str) -> Answer:
    """Tasks by rising ``seq``, at most ``limit`` of those that ``state`` and ``repo`` choose, behind ``after``.

    Raises:
        HttpError: 400: a parameter is unknown, given twice, or has a value that it cannot have.
    """
    asked = parameters(query, {"state": _state, "repo": _repo, "limit": _limit, "after": _seq})
    limit = asked.pop("limit", PAGE)
    chosen = queries.Filter(**asked)
    written = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - whoever sends the answer closes it
    try:
        last = None
        more = False
        written.write(b'{"tasks":[')
        with ledger.read() as connection:
            for n, task in enumerate(queries.tasks(connection, chosen, limit=limit + 1, newest_first=False)):
                if n == limit:
                    more = True
                    break
                written.write((b"," if n else b"") + encoded(task.to_json()))
                last = task.seq
        written.write(b'],"next":' + encoded(last if more else None) + b"}")
    except BaseException:
        written.close()
        raise
    return Answer(200, written, JSON, length=written.tell())


def parameters(query: str, known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The parameters of a query, each made what it should be.

    Raises:
        HttpError: 400: one is unknown, given twice, or has a value that it cannot have.
    """
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=50)
    except ValueError:
        raise HttpError(400, "the query is malformed") from None
    values: dict[str, Any] = {}
    for name, value in given:
        if name not in known:
            raise HttpError(400, f"there is no parameter {name!r}; there is: {', '.join(known)}")
        if name in values:
            raise HttpError(400, f"the parameter {name!r} is given twice")
        try:
            values[name] = known[name](value)
        except ValueError as wrong:
            raise HttpError(400, f"{name} {wrong}") from None
    return values


def _state(value: str) -> TaskState:
    if value not in STATES:
        raise ValueError(f"is one of {', '.join(STATES)}")
    return value


def _repo(value: str) -> str:
    if not 1 <= len(value) <= 200:
        raise ValueError("is the target_repo of the tasks, of 1 to 200 characters")
    return value


def _limit(value: str) -> int:
    return _whole(value, 1, LARGEST_PAGE)


def _seq(value: str) -> int:
    return _whole(value, 0, LARGEST_SEQ)


def _whole(value: str, least: int, most: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 19 and least <= int(value) <= most):
        raise ValueError(f"is a whole number from {least} to {most}")
    return int(value)
