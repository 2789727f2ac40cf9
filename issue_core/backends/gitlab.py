"""``gitlab``: issues of GitLab, on gitlab.com or an instance of one's own, by the REST API v4.

The event ID is in a comment at the end of the description; what GitLab answers names what it dropped of the rest.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from issue_core.backends import marks, replies
from issue_core.backends.base import Backend, Finding, Issue, Target, Traits
from issue_core.backends.gitlab_draft import dropped, events_of, payload
from issue_core.backends.http import (
    COMMON_KEYS,
    Client,
    Reply,
    error_of,
    named_projects,
    project_for,
    require_known,
    require_url,
    token_of,
    tracker_time,
)
from issue_core.errors import BackendError, CredentialsRefused, Limited, ProjectClosed, Refused, TryLater
from issue_core.task import Task

KEYS: Mapping[str, str] = COMMON_KEYS

TRAITS = Traits(
    max_in_flight=4,
    settle=30.0,
    looks=1,  # A list is read from the database, on a replica that has this account's own writes.
)

URL = "https://gitlab.com"
API = "/api/v4"

PAGE = 100
"""Issues on a page, the most that there can be (GitLab docs, REST API, "Pagination")."""

LIMIT_WAIT = 60.0
"""Seconds to wait for a limit that does not say how long: the one on new issues counts by the minute
(GitLab docs, "Rate limits on issue and epic creation")."""

PLANNER = 15
"""The least role that may make labels (GitLab docs, "Members API", "Roles"); Guest is 10, Reporter 20."""

_NEWEST_FIRST: Mapping[str, str | int] = {
    "scope": "all",
    "state": "all",
    "order_by": "created_at",
    "sort": "desc",
    "per_page": PAGE,
}

_PROJECT_PART = re.compile(r"[^\s/?#%\\\x00-\x1f\x7f]+")


def open_backend(name: str, options: Mapping[str, Any], *, home: Path, request_timeout: float) -> Backend:
    """The backend called ``name``; ``request_timeout`` in seconds. ``home`` has no meaning here.

    Raises:
        ConfigError: its ``url`` is no http or https address.
    """
    url = require_url(name, options, URL)
    token = token_of(name, options)
    client = Client(url + API, lambda: {"PRIVATE-TOKEN": token()}, request_timeout, ca=options.get("ca"))
    return GitLab(name, url, client, options)


class GitLab:
    """One account at one instance of GitLab; ``options`` as they are configured."""

    def __init__(self, name: str, url: str, client: Client, options: Mapping[str, Any]) -> None:
        self.name = name
        self.traits = TRAITS
        self._url = url
        self._client = client
        self._options = options
        self._account: str | None = None
        self._moved: dict[Target, str] = {}

    def target(self, target_repo: str) -> Target:
        """The project for this repository: a number, or a full path."""
        return Target(self.name, self._url, project_for(target_repo, self._options))

    def account(self) -> str:
        """The user name that the token belongs to (a project's or group's token has one of its own)."""
        if self._account is None:
            self._account = _user(self._client)
        return self._account

    def create(self, task: Task, target: Target, *, timeout: float, before_send: Callable[[], None]) -> Issue:
        """Make the issue with one request; with two more, once, when the project has moved.

        Raises:
            BackendError: as :meth:`Backend.create` says.
        """
        left = partial(_left, time.monotonic() + timeout)
        client = self._at(target)
        fields, notes = payload(task, self._options.get("priorities", {}))
        where = self._moved.get(target) or _path(target)
        reply = client.post(f"{where}/issues", fields, timeout=left(), before_send=before_send)
        if reply.status == 405:
            # Only a GET is redirected to where a project has moved; nothing was made (GitLab docs, "REST API").
            where = self._find_moved(client, target, reply, timeout=left())
            reply = client.post(f"{where}/issues", fields, timeout=left(), before_send=before_send)
        if reply.status in (404, 405):
            self._moved.pop(target, None)
        if reply.status != 201:
            raise _error(reply, create=True)
        answer = reply.json()
        if (issue := _issue(answer, target)) is None:
            raise reply.nonsense("something that is no issue")
        return replace(issue, notes=(*notes, *dropped(task, fields, answer)))

    def look(
        self, target: Target, event_ids: Collection[str], since: datetime, *, keep_lease: Callable[[], None]
    ) -> dict[str, list[Issue]]:
        """The issues of these events, whoever made them and whether open or closed, the oldest first.

        An issue that is deleted while the pages are turned moves another one past them: what is absent from a list
        of several pages is looked for a second time.

        Raises:
            BackendError: as :meth:`Backend.look` says.
        """
        found: list[tuple[str, Issue]] = []
        wanted = frozenset(event_ids)
        for _ in range(2):
            turned = 0
            for page in self._marked_pages(target, since, keep_lease):
                turned += 1
                found += [(event_id, issue) for event_id, issue in page if event_id in wanted]
            if turned < 2 or {event_id for event_id, _ in found} >= wanted:
                break
        return marks.of_events(found, wanted)

    def marked(self, target: Target, since: datetime, *, keep_lease: Callable[[], None]) -> Iterator[tuple[str, Issue]]:
        """Every issue made since then whose description has a marker, with its event ID.

        Raises:
            BackendError: as :meth:`look` does.
        """
        return chain.from_iterable(self._marked_pages(target, since, keep_lease))

    def _marked_pages(
        self, target: Target, since: datetime, keep_lease: Callable[[], None]
    ) -> Iterator[list[tuple[str, Issue]]]:
        client = self._at(target)
        reply, project = _project(client, target)
        far_end = tracker_time(since, reply, replies.clock.now())
        for page in _pages(client, f"/projects/{project['id']}/issues", far_end):
            yield [mark for entry in page for mark in _marks(entry, target, far_end)]
            keep_lease()

    def probe(self, target: Target) -> None:
        """Find out whether the account is let in, and the project is there, has issues, and is not archived.

        Raises:
            BackendError: as :meth:`Backend.probe` says.
        """
        client = self._at(target)
        _user(client)
        _, project = _project(client, target)
        if project.get("archived"):
            raise ProjectClosed(f"{target.project} is archived: nobody can make an issue there")

    def check(self) -> list[Finding]:
        """The address and the account, the token's scope, and each project that the configuration names."""
        try:
            who = _user(self._client)
        except BackendError as error:
            return [Finding(False, error.message, error.hint or f"look at url and token in [backends.{self.name}]")]
        projects = [self._check_project(project) for project in named_projects(self._options)]
        return [Finding(True, f"{self._url} takes the token for {who}"), *_check_scope(self._client), *projects]

    def close(self) -> None:
        """Let go of every connection."""
        self._client.close()

    def _check_project(self, name: str) -> Finding:
        target = Target(self.name, self._url, name)
        try:
            self.probe(target)
            _, project = _project(self._client, target)
        except BackendError as error:
            hint = error.hint or "look at the project's name, and at the account's role there"
            return Finding(False, f"{name}: {error.message}", hint)
        if _role(project) >= PLANNER:
            return Finding(True, f"{name} can be read, has issues, and takes new labels")
        hint = "give the account the role Planner or Reporter, or make the labels beforehand"
        return Finding(True, f"{name} can be read and has issues; a label that it lacks is dropped", hint)

    def _at(self, target: Target) -> Client:
        require_known(target, self._url, self._options.get("former_urls", ()))
        return self._client.at(target.address + API)

    def _find_moved(self, client: Client, target: Target, refusal: Reply, *, timeout: float) -> str:
        """The path of the project's number, under which it takes a POST wherever it has moved."""
        reply = client.get(_path(target), timeout=timeout)
        if reply.status != 200:
            raise _error(reply, create=False)
        where = f"/projects/{_record(reply)['id']}"
        if where == _path(target):
            raise _error(refusal, create=True)
        self._moved[target] = where
        return where


def _issue(entry: object, target: Target) -> Issue | None:
    """The issue that ``entry`` of an answer describes; None: it does not describe one."""
    match entry:
        case {"iid": int(number), "web_url": str(url), "author": {"username": str(account)}} if number > 0:
            return Issue(str(number), url, target.project, account)
    return None


def _pages(client: Client, where: str, far_end: datetime) -> Iterator[list[dict[str, Any]]]:
    """The pages of the list at ``where``, newest first, to the one whose last issue was made before ``far_end``."""
    params = _NEWEST_FIRST
    while True:
        reply = client.get(where, params)
        if reply.status != 200:
            raise _error(reply, create=False)
        page = reply.json()
        if not isinstance(page, list) or not all(_made_at(entry) for entry in page):
            raise reply.nonsense("something that is no list of issues")
        yield page
        following = reply.links.get("next")
        is_full = len(page) >= PAGE
        if not page or not (following or is_full) or (_made_at(page[-1]) or far_end) < far_end:
            return
        # Of the next address only the query: behind a proxy GitLab may not know what it is called outside. A proxy may
        # lose the header, too: behind a full page there may be another.
        asked, params = params, {**params, "page": str(int(params.get("page", "1")) + 1)}
        if following:
            params = dict(parse_qsl(urlsplit(following).query))
        if params == asked:
            raise reply.nonsense("a page that is its own next one")


def _marks(entry: Mapping[str, Any], target: Target, far_end: datetime) -> list[tuple[str, Issue]]:
    """Each event ID that an issue made at ``far_end`` or later carries, with the issue."""
    event_ids = events_of(entry)
    if not event_ids or (_made_at(entry) or far_end) < far_end:
        return []
    issue = _issue(entry, target)
    if issue is None:
        raise TryLater(f"{target.address} lists an issue with no number, address or author")
    return [(event_id, issue) for event_id in event_ids]


def _made_at(entry: object) -> datetime | None:
    match entry:
        case {"created_at": str(text)}:
            try:
                at = datetime.fromisoformat(text)
            except ValueError:
                return None
            return at if at.tzinfo else None
    return None


def _user(client: Client) -> str:
    """The user name of the account.

    Raises:
        CredentialsRefused: the account is blocked, or there is no GitLab that would know one.
    """
    reply = client.get("/user")
    if reply.status in (403, 404, 410):
        hint = "look at the backend's url, and whether the account is blocked or its token has the scope api"
        raise CredentialsRefused(_error(reply, create=False).message, hint=hint)
    if reply.status != 200:
        raise _error(reply, create=False)
    match reply.json():
        case {"username": str(name)} if name:
            return name
    raise reply.nonsense("something that is no user")


def _project(client: Client, target: Target) -> tuple[Reply, Mapping[str, Any]]:
    """The project, readable and with issues that this account sees; without that an empty list proves nothing.

    Raises:
        ProjectClosed: it is not.
    """
    reply = client.get(_path(target))
    if reply.status != 200:
        raise _error(reply, create=False)
    project = _record(reply)
    if project.get("issues_enabled") is False or project.get("issues_access_level") == "disabled":
        raise ProjectClosed(
            f"{target.project} has its issues turned off, or does not show them to this account",
            hint="turn them on in the project's settings, or make the account a member",
        )
    return reply, project


def _record(reply: Reply) -> Mapping[str, Any]:
    record = reply.json()
    if isinstance(record, dict) and isinstance(record.get("id"), int):
        return record
    raise reply.nonsense("something that is no project")


def _path(target: Target) -> str:
    """Where the API has the project.

    Raises:
        ProjectClosed: this can be the name of none.
    """
    parts = target.project.split("/")
    sound = all(_PROJECT_PART.fullmatch(part) and part not in (".", "..") for part in parts)
    if not sound or (len(parts) < 2 and not re.fullmatch("[0-9]+", target.project)):
        raise ProjectClosed(
            f"{target.project!r} is no project of GitLab: that has a number, or a path with its group",
            hint=f"name the project in [backends.{target.backend}.projects]",
        )
    return f"/projects/{quote(target.project, safe='')}"


def _role(project: Mapping[str, Any]) -> int:
    """The account's role in the project or its group, as a number; 0: it is no member."""
    permissions = project.get("permissions") or {}
    accesses = [permissions.get("project_access") or {}, permissions.get("group_access") or {}]
    return max(int(access.get("access_level") or 0) for access in accesses)


def _check_scope(client: Client) -> list[Finding]:
    """Whether the token may write, as far as this GitLab tells (since 15.5, and not for OAuth tokens)."""
    try:
        reply = client.get("/personal_access_tokens/self")
        told = reply.json() if reply.status == 200 else None
    except BackendError:
        return []
    match told:
        case {"scopes": list(scopes)} if "api" in scopes:
            return [Finding(True, "the token has the scope api")]
        case {"scopes": list()}:
            return [Finding(False, "the token lacks the scope api: it cannot make issues", "make one that has it")]
    return []


def _error(reply: Reply, *, create: bool) -> BackendError:
    """What an answer other than the expected one means at GitLab."""
    told = _told(reply)
    words = reply.text() if told is None else _words(told)
    error = error_of(reply, words, create=create)
    if isinstance(error, Limited) and error.retry_after is None:
        return Limited(error.message, retry_after=LIMIT_WAIT)
    if reply.status == 403 and _has(told, "error", "insufficient_scope"):
        return CredentialsRefused(error.message, hint="the backend's token needs the scope api")
    if isinstance(error, Refused) and (_has(told, "needs_captcha_response", True) or _has(told, "spam_log_id")):
        return Refused(
            f"{error.message}; GitLab takes it for spam, and a person must say that it is none",
            hint="let an administrator mark the account as trusted, or make the issue by hand and use: issue link",
        )
    return error


def _told(reply: Reply) -> Any:
    try:
        return reply.json()
    except BackendError:  # An answer of a limit or a proxy is plain text.
        return None


def _has(told: object, key: str, value: object = None) -> bool:
    """Whether an error's JSON has ``key`` (with ``value``), beside its message or in it."""
    if not isinstance(told, dict):
        return False
    if key in told and (value is None or told[key] == value):
        return True
    return _has(told.get("message"), key, value)


def _words(told: object) -> str:
    """The words of an error's JSON: a text, a list, or fields with what is wrong with each, however nested."""
    match told:
        case {"message": message} if message:
            return _words(message)
        case {"error": error, "error_description": str(description)}:
            return f"{_words(error)}: {description}"
        case {"error": error}:
            return _words(error)
        case dict():
            return "; ".join(f"{field} {_words(what)}" for field, what in told.items())
        case list():
            return ", ".join(map(_words, told))
    return str(told)


def _left(deadline: float) -> float:
    """The seconds until ``deadline``.

    Raises:
        TryLater: there are none, and what is still to be sent was not sent.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TryLater("there was no time left to send the issue to where its project has moved")
    return seconds
