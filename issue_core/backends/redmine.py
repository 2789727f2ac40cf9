"""``redmine``: issues of a Redmine project, over its REST API.

A task takes one request; the first one that needs a priority or a tracker reads what there is, once. Redmine drops
silently what an account may not set, so its answer is compared with what was sent. Accounts are told apart by the
user's ID, for an issue tells of its author nothing else that is certain.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from issue_core.backends import http, marks, replies
from issue_core.backends.base import Backend, Finding, Issue, Target, Traits
from issue_core.backends.http import Client, Reply
from issue_core.backends.markup import markdown
from issue_core.backends.redmine_draft import Choice, LabelsForm, drafts_of, id_named, priority_of, words_of
from issue_core.backends.redmine_reading import (
    NO_PROJECT,
    NO_RIGHT,
    entries_of,
    issue_of,
    left,
    made_of,
    may_add,
    project_of,
    read,
    read_error,
    refused,
    require_open,
    time_of,
    user_of,
)
from issue_core.errors import BackendError, ConfigError, ProjectClosed, TryLater
from issue_core.task import Task

KEYS: Mapping[str, str] = {
    **http.COMMON_KEYS,
    "tracker": "text",
    "event_field": "count",
    "labels_field": "count",
    "format": "text",
}

TRAITS = Traits(max_in_flight=2, settle=30.0, looks=1)

PAGE = 100
"""Issues of a page: the most that is given (``api_offset_and_limit``, Redmine's ``ApplicationController``)."""

SECOND = timedelta(seconds=1)
"""Redmine tells times in whole seconds."""

RESTARTS = 5
"""So often a list is read anew that lost issues while it was read."""

FORMATS = ("markdown", "textile")
"""What a site can be set to (``text_formatting``); the API does not tell."""

PRIORITIES = "/enumerations/issue_priorities.json"
TRACKERS = "/trackers.json"


@dataclass(frozen=True, slots=True)
class _Row:
    """An issue of a list: when it was made, by the tracker's clock, and the event IDs that it carries."""

    made_at: datetime
    number: int
    marks: frozenset[str]
    issue: Issue


def open_backend(name: str, options: Mapping[str, Any], *, home: Path, request_timeout: float) -> Backend:
    """The backend called ``name``; ``request_timeout`` in seconds is for each reading request. ``home`` is not used.

    Raises:
        ConfigError: ``url`` is missing or no http(s) address, or ``format`` is none that Redmine has.
    """
    url = http.require_url(name, options)
    if options.get("format", FORMATS[0]) not in FORMATS:
        raise ConfigError(
            f"Backend {name!r}: Redmine has no text format {options['format']!r}.", hint='"markdown" or "textile"'
        )
    token = http.token_of(name, options)
    ca = Path(options["ca"]) if "ca" in options else None
    client = Client(url, lambda: {"X-Redmine-API-Key": token()}, request_timeout, ca)
    return Redmine(name, url, client, options)


class Redmine:
    """One Redmine at ``url``, as the account of one API key."""

    def __init__(self, name: str, url: str, client: Client, options: Mapping[str, Any]) -> None:
        self.name = name
        self.traits = TRAITS
        self._url = url
        self._client = client
        self._options = options
        self._account: str | None = None
        self._lists: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._labels_form: LabelsForm = "text"

    def target(self, target_repo: str) -> Target:
        """The project, by its identifier or ID, for this ``target_repo``; whether it is one is seen when it is used."""
        return Target(self.name, self._url, http.project_for(target_repo, self._options))

    def account(self) -> str:
        """The ID of the key's user."""
        if self._account is None:
            self._account = str(user_of(self._client)["id"])
        return self._account

    def create(self, task: Task, target: Target, *, timeout: float, before_send: Callable[[], None]) -> Issue:
        """Make the issue; ``timeout`` is for all of it. A due date or labels that are refused go into the text."""
        deadline = time.monotonic() + timeout
        client = self._place(target)
        choice = self._choice(task, client, deadline)
        # The project is in the query as well: there an unknown one is a 404 and a closed one a 403; in the body both
        # are a 422 in the user's language (IssuesController: find_optional_project, build_new_issue_from_params).
        where = f"/issues.json?project_id={quote(target.project, safe='')}"
        refusals: list[Reply] = []
        for draft in drafts_of(task, target.project, choice, self._options, self._labels_form):
            reply = client.post(where, {"issue": draft.issue}, timeout=left(deadline), before_send=before_send)
            if reply.status == 201:
                self._labels_form = draft.labels or self._labels_form
                return made_of(reply, target, draft, refusals)
            if reply.status != 422:
                raise refused(reply, client, target, deadline)
            refusals.append(reply)
        raise refused(refusals[0], client, target, deadline)

    def look(
        self, target: Target, event_ids: Collection[str], since: datetime, *, keep_lease: Callable[[], None]
    ) -> dict[str, list[Issue]]:
        """Every issue of the project, open or closed, that was made since then and carries one of the markers.

        No filter is asked for a marker: Redmine ignores one that it does not know, and an ``event_field`` that it
        dropped would hide the issue.
        """
        return marks.of_events(self.marked(target, since, keep_lease=keep_lease), event_ids)

    def marked(self, target: Target, since: datetime, *, keep_lease: Callable[[], None]) -> Iterator[tuple[str, Issue]]:
        """Every issue of the project made since then that carries a marker, with its event ID; some may come twice."""
        client = self._place(target)
        user_of(client)
        project_of(client, target.project)
        far_end: datetime | None = None
        for reply, rows in self._pages(client, target, keep_lease):
            far_end = far_end or http.tracker_time(since, reply, replies.clock.now()) - SECOND
            for row in rows:
                if row.made_at >= far_end:
                    yield from ((event_id, row.issue) for event_id in row.marks)
            if rows and rows[-1].made_at < far_end:
                return

    def probe(self, target: Target) -> None:
        """Whether the key is good and the project takes issues, as far as Redmine tells; rights it does not."""
        client = self._place(target)
        user_of(client)
        require_open(project_of(client, target.project), target.project)

    def check(self) -> list[Finding]:
        """The address, the key, the project and the right to add issues to it, the tracker and the priorities."""
        try:
            user = user_of(self._client)
        except BackendError as error:
            return [_bad(error, "look at the backend's url and token")]
        who = f"{user.get('login') or 'a user'} (user ID {user['id']})"
        findings = [Finding(True, f"{self._url} takes the key; it is that of {who}.")]
        if project := self._options.get("project"):
            findings.append(_project_finding(self._client, project))
        return [*findings, *self._names_that_are_missing()]

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _place(self, target: Target) -> Client:
        http.require_known(target, self._url, self._options.get("former_urls", ()))
        return self._client.at(target.address)

    def _choice(self, task: Task, client: Client, deadline: float) -> Choice:
        """The numbers of the task's tracker and priority."""
        tracker = self._tracker(client, deadline)
        wanted = self._options.get("priorities", {}).get(task.priority)
        if wanted is None and task.priority == "medium":
            return Choice(tracker)
        priority = priority_of(task, wanted, self._list(client, PRIORITIES, deadline))
        if priority is not None:
            return Choice(tracker, priority)
        notes = () if wanted is None else (f"Redmine has no active priority {wanted!r}; it stands in the text",)
        return Choice(tracker, told=True, notes=notes)

    def _tracker(self, client: Client, deadline: float) -> int | None:
        """The number of the configured tracker, if one is."""
        wanted: str | None = self._options.get("tracker")
        if wanted is None or wanted.isdecimal():
            return None if wanted is None else int(wanted)
        number = id_named(wanted, self._list(client, TRACKERS, deadline))
        if number is None:
            raise ProjectClosed(
                f"{self._url} has no tracker {wanted!r}.", hint=f"set `tracker` in [backends.{self.name}] to one it has"
            )
        return number

    def _list(self, client: Client, where: str, deadline: float | None = None) -> list[dict[str, Any]]:
        """The active entries of one of Redmine's lists, in its order; read once."""
        key = (client.base, where)
        if key not in self._lists:
            reply = client.get(where, timeout=None if deadline is None else left(deadline))
            if reply.status != 200:
                raise http.error_of(reply, words_of(reply), create=False)
            self._lists[key] = read(reply, entries_of)
        return self._lists[key]

    def _pages(
        self, client: Client, target: Target, keep_lease: Callable[[], None]
    ) -> Iterator[tuple[Reply, list[_Row]]]:
        """The pages of a project's list, newest first, to its end.

        Each page begins with the last issue of the one before. If it does not, because issues were deleted or moved
        away meanwhile, others slipped past: then the list is read from its beginning.
        """
        seen: set[int] = set()
        offset = restarts = overlap = 0
        while True:
            reply, rows, total = self._page(client, target, offset)
            if offset and (not rows or (overlap and rows[0].number not in seen)):
                restarts += 1
                if restarts > RESTARTS:
                    raise TryLater(f"The issues of project {target.project!r} change too fast to be listed.")
                seen.clear()
                offset = overlap = 0
                continue
            yield reply, rows
            if offset + len(rows) >= total:
                return
            seen.update(row.number for row in rows)
            overlap = 1 if len(rows) > 1 else 0
            offset += len(rows) - overlap
            keep_lease()

    def _page(self, client: Client, target: Target, offset: int) -> tuple[Reply, list[_Row], int]:
        params: dict[str, str | int] = {
            "project_id": target.project,
            "subproject_id": "!*",
            "status_id": "*",
            "sort": "created_on:desc,id:desc",
            "limit": PAGE,
            "offset": offset,
        }
        reply = client.get("/issues.json", params)
        if reply.status != 200:
            raise read_error(reply, target.project)
        rows, total = read(reply, lambda answer: self._rows(answer, target))
        if not rows and total > offset == 0:
            raise reply.nonsense("an empty list of several issues")
        return reply, rows, total

    def _rows(self, answer: Any, target: Target) -> tuple[list[_Row], int]:
        rows = [
            _Row(time_of(row["created_on"]), int(row["id"]), self._marks(row), issue_of(row, target))
            for row in answer["issues"]
        ]
        return rows, int(answer["total_count"])

    def _marks(self, row: Mapping[str, Any]) -> frozenset[str]:
        """The event IDs that an issue carries, in its text or in the field for them."""
        field = self._options.get("event_field")
        values = [str(each["value"]).strip() for each in row.get("custom_fields") or () if each["id"] == field]
        return frozenset([*markdown.events_in(row.get("description") or ""), *map(str.lower, values)])

    def _names_that_are_missing(self) -> list[Finding]:
        """What the configuration names and Redmine has not."""
        findings = []
        try:
            levels = self._list(self._client, PRIORITIES)
            self._tracker(self._client, time.monotonic() + self._client.request_timeout)
        except BackendError as error:
            return [_bad(error, "Redmine should tell its priorities and trackers to every user of the API")]
        priorities: Mapping[str, str] = self._options.get("priorities", {})
        for priority, wanted in priorities.items():
            if id_named(wanted, levels) is None:
                names = ", ".join(str(level["name"]) for level in levels)
                what = f"{self._url} has no active priority {wanted!r}, which is to stand for {priority}."
                findings.append(Finding(False, what, f"it has: {names}"))
        if "medium" not in priorities and not any(level.get("is_default") for level in levels):
            what = f"{self._url} has no default priority, which issues of medium priority would get."
            findings.append(Finding(False, what, f'set medium = "…" in [backends.{self.name}.priorities]'))
        return findings


# --- the check ------------------------------------------------------------------------------------------------------


def _bad(error: BackendError, hint: str) -> Finding:
    return Finding(False, error.message, error.hint or hint)


def _project_finding(client: Client, project: str) -> Finding:
    """Whether the project takes issues, and whether this account may add them, where Redmine tells."""
    try:
        found = project_of(client, project)
        require_open(found, project)
        may = may_add(client, found.number)
    except BackendError as error:
        return _bad(error, NO_PROJECT)
    if may is False:
        return Finding(False, f"No role of the key's user in the project {project!r} may add issues.", NO_RIGHT)
    told = "and this account may add some" if may else "but whether this account may add some, Redmine does not tell"
    return Finding(True, f"The project {project!r} has issues, {told}.")
