"""Issues as GitHub's API tells them, whose form Gitea's took over: the rows of a list, and what is read from one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from issue_core.backends import http, replies
from issue_core.backends.base import Issue, Target
from issue_core.backends.http import Reply
from issue_core.backends.markup import markdown


def issue_of(row: Mapping[str, Any], target: Target, notes: tuple[str, ...] = ()) -> Issue:
    """The issue that a row describes.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it describes none; see :meth:`Reply.understood`.
    """
    number = row["number"]
    if type(number) is not int:
        raise TypeError(number)
    account = (row.get("user") or {}).get("login") or ""
    return Issue(str(number), str(row["html_url"]), target.project, str(account), notes)


def marked(
    pages: Iterable[tuple[Reply, list[Any]]],
    since: datetime,
    issue: Callable[[Mapping[str, Any]], Issue],
    *,
    keep_lease: Callable[[], None],
) -> Iterator[tuple[str, Issue]]:
    """Every issue with a marker that was made at ``since`` (our clock) or later, with its event ID.

    ``pages`` are not empty and newest first, each with the answer it came in; ``issue`` reads a row.
    ``keep_lease`` is called between two of them.
    """
    far_end = None
    for reply, rows in pages:
        far_end = far_end or http.tracker_time(since, reply, replies.clock.now())
        with reply.understood():
            page = [(event_id, issue(row)) for row in rows for event_id in _event_ids(row, far_end)]
            is_last = _made_at(rows[-1]) < far_end
        yield from page
        if is_last:
            return
        keep_lease()


def _event_ids(row: Mapping[str, Any], far_end: datetime) -> list[str]:
    """The event IDs of an issue made at ``far_end`` or later; of what is older, or a pull request, there are none."""
    if row.get("pull_request") or _made_at(row) < far_end:
        return []
    return markdown.events_in(row["body"] or "")


def _made_at(row: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(row["created_at"])
