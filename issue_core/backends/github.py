"""``github``: issues of a repository on github.com or a GitHub Enterprise Server, over its REST API.

A task takes one request. Labels go by name, and GitHub makes those that are missing; who has no push access loses
them without a word, so the answer is compared with what was sent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from issue_core.backends import http, issue_rows, marks
from issue_core.backends.base import Backend, Finding, Issue, Target, Traits
from issue_core.backends.http import Client, Reply
from issue_core.backends.labels import PRIORITY_LABELS, distinct
from issue_core.backends.markup import markdown
from issue_core.errors import BackendError, Limited, ProjectClosed, TryLater
from issue_core.task import Task

KEYS: Mapping[str, str] = http.COMMON_KEYS

# "Make requests serially", "at least one second between each" (best practices for the REST API); 80 requests that make
# content a minute and 500 an hour (rate limits for the REST API). The list may lag behind its replicas: two looks.
TRAITS = Traits(
    max_in_flight=1, min_interval=1.0, settle=30.0, looks=2, look_interval=60.0, per_minute=80, per_hour=500
)

URL = "https://api.github.com"

PAGE = 100
"""Entries of a page: the most that is given."""

BODY = 65_536
"""Characters of a body ("body is too long (maximum is 65536 characters)")."""

LABELS = 100
"""Labels of an issue, at most."""

LABEL = 50
"""Characters of a label's name, at most."""

PATIENCE = 60.0
"""Seconds to wait for a secondary limit that does not say how long ("wait for at least one minute")."""

HEADERS: Mapping[str, str] = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}

LISTED: Mapping[str, str] = {"state": "all", "sort": "created", "direction": "desc"}
"""Which issues are listed: open and closed ones, newest first. A search would ask an index, which lags far more."""

_PROJECT = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9._-]+/(?!\.{1,2}$)[A-Za-z0-9._-]+")

_HINTS: Mapping[int, str] = {
    403: "the token needs the right to write issues there; in an organisation with single sign-on it must be allowed",
    404: "is the repository there, and may the token's account see it? GitHub hides what it may not",
    410: "the repository has its issues switched off",
}


def open_backend(name: str, options: Mapping[str, Any], *, home: Path, request_timeout: float) -> Backend:
    """The backend called ``name``; ``request_timeout`` in seconds is for each reading request. ``home`` is not used.

    Raises:
        ConfigError: ``url`` is no http(s) address.
    """
    url = http.require_url(name, options, URL)
    token = http.token_of(name, options)
    ca = Path(options["ca"]) if "ca" in options else None
    client = Client(url, lambda: {"Authorization": f"Bearer {token()}"}, request_timeout, ca, HEADERS)
    return GitHub(name, url, client, options)


class GitHub:
    """One GitHub at ``url`` (the API's), as the account of one token."""

    def __init__(self, name: str, url: str, client: Client, options: Mapping[str, Any]) -> None:
        self.name = name
        self.traits = TRAITS
        self._url = url
        self._client = client
        self._options = options
        self._priorities: Mapping[str, str] = {**PRIORITY_LABELS, **options.get("priorities", {})}
        self._account: str | None = None

    def target(self, target_repo: str) -> Target:
        """The repository ``owner/name`` for this ``target_repo``; whether it is one is seen when it is used."""
        return Target(self.name, self._url, http.project_for(target_repo, self._options))

    def account(self) -> str:
        """The login of the token's account; empty for a GitHub App's token, which is no user's and may not ask."""
        if self._account is None:
            reply = self._client.get("/user")
            if reply.status == 200:
                with reply.understood():
                    self._account = str(reply.json()["login"])
            else:
                error = _error(reply, create=False)
                if reply.status != 403 or isinstance(error, Limited):
                    error.hint = http.NO_TRACKER if reply.status == 404 else error.hint
                    raise error
                self._account = ""
        return self._account

    def create(self, task: Task, target: Target, *, timeout: float, before_send: Callable[[], None]) -> Issue:
        """Make the issue with one request."""
        deadline = time.monotonic() + timeout
        client = self._client_for(target)
        sent, notes = fields_of(task, self._priorities)
        left = deadline - time.monotonic()
        reply = client.post(_issues(target.project), sent, timeout=left, before_send=before_send)
        if reply.status != 201:
            raise _error(reply, create=True)
        with reply.understood():
            made = reply.json()
            return issue_rows.issue_of(made, target, (*notes, *notes_on(made, sent, target.project)))

    def look(
        self, target: Target, event_ids: Collection[str], since: datetime, *, keep_lease: Callable[[], None]
    ) -> dict[str, list[Issue]]:
        """The issues made since then whose body has one of the markers, the oldest first; pull requests are none."""
        return marks.of_events(self.marked(target, since, keep_lease=keep_lease), event_ids)

    def marked(self, target: Target, since: datetime, *, keep_lease: Callable[[], None]) -> Iterator[tuple[str, Issue]]:
        """Every issue made since then whose body has a marker, with its event ID."""
        pages = _pages(self._client_for(target), _issues(target.project))
        return issue_rows.marked(pages, since, partial(issue_rows.issue_of, target=target), keep_lease=keep_lease)

    def probe(self, target: Target) -> None:
        """Whether the repository is there, takes issues, and lets us list them."""
        _require_open(self._client_for(target), target.project)

    def check(self) -> list[Finding]:
        """Who we are there, and whether each repository that the configuration names takes our issues."""
        try:
            login = self.account()
        except BackendError as error:
            return [Finding(False, error.message, error.hint or "look at the backend's url and token")]
        named = http.named_projects(self._options)
        who = f"signed in as {login}" if login else "signed in with a token that may not ask as whom, as a GitHub App's"
        return [Finding(True, f"{self._url}: {who}."), *(self._check_project(project) for project in named)]

    def _check_project(self, project: str) -> Finding:
        target = Target(self.name, self._url, project)
        try:
            repository = _require_open(self._client_for(target), project)
        except BackendError as error:
            return Finding(False, f"{project}: {error.message}", error.hint or "look at the backend's project")
        # These are the rights of a user; an App's token has its own, which are not told.
        may_push = not self._account or (repository.get("permissions") or {}).get("push", True)
        drops = "" if may_push else "; without push access, it drops labels"
        return Finding(True, f"{project}: takes issues{drops}.")

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _client_for(self, target: Target) -> Client:
        """The client for the place that ``target`` names, if its project can be one."""
        http.require_known(target, self._url, self._options.get("former_urls", ()))
        if not _PROJECT.fullmatch(target.project):
            raise ProjectClosed(
                f"{target.project!r} is no repository of GitHub: those are called owner/name.",
                hint=f"name the repository for it in [backends.{self.name}.projects], or one for all as `project`",
            )
        return self._client.at(target.address)


def labels_of(task: Task, priorities: Mapping[str, str]) -> list[str]:
    """The labels that the task's issue should have, each once: the one that says its priority, and its own."""
    return distinct((priorities.get(task.priority), *task.labels))


def fields_of(task: Task, priorities: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The request that makes the issue, and notes on what could not be sent; what has no field stands in the text."""
    wanted = labels_of(task, priorities)
    sent = [name for name in wanted if len(name) <= LABEL][:LABELS]
    rest = [name for name in wanted if name not in sent]
    facts = markdown.facts_of(task, priority=False, due=True, labels=rest)
    body = markdown.body(task, text=markdown.safe(task.description), facts=facts, most=BODY)
    fields: dict[str, Any] = {"title": task.title, "body": body}
    if sent:
        fields["labels"] = sent
    return fields, [f"the label {name!r} is in the text: GitHub takes {LABELS} of {LABEL} characters" for name in rest]


def notes_on(made: Mapping[str, Any], sent: Mapping[str, Any], project: str) -> Iterator[str]:
    """What the issue lacks of what it should have, and a new name of its repository."""
    names = (label["name"] if isinstance(label, dict) else label for label in made.get("labels") or ())
    has = {str(name).casefold() for name in names}
    for name in sent.get("labels", ()):
        if name.casefold() not in has:
            yield f"the tracker dropped the label {name!r}: without push access an account sets none"
    now = str(made.get("repository_url") or "").rpartition("/repos/")[2] or project
    if now.casefold() != project.casefold():
        yield f"the repository {project} is called {now} now"


def _issues(project: str) -> str:
    return f"/repos/{project}/issues"


def _require_open(client: Client, project: str) -> Mapping[str, Any]:
    """What GitHub tells of the repository.

    Raises:
        BackendError: it would not take an issue of ours.
    """
    reply = client.get(f"/repos/{project}")
    if reply.status != 200:
        raise _error(reply, create=False)
    with reply.understood():
        repository = dict(reply.json())
    if repository.get("archived"):
        raise ProjectClosed(f"The repository {project} is archived.", hint="open it again, or send its tasks elsewhere")
    if not repository.get("has_issues", True):
        raise ProjectClosed(f"The repository {project} has its issues switched off.", hint=_HINTS[410])
    listed = client.get(_issues(project), {**LISTED, "per_page": 1})
    if listed.status != 200:
        raise _error(listed, create=False)
    return repository


def _pages(client: Client, where: str) -> Iterator[tuple[Reply, list[Any]]]:
    """Every page of the list that is not empty, and the answer it came in.

    Raises:
        BackendError: the list could not be read to its end.
    """
    number = 1
    reply = client.get(where, {**LISTED, "per_page": PAGE})
    while True:
        if reply.status != 200:
            raise _error(reply, create=False)
        rows = reply.json()
        if not isinstance(rows, list):
            raise reply.nonsense("something that is no list")
        if rows:
            yield reply, rows
        number += 1
        following = reply.links.get("next")
        if following == reply.url:
            raise TryLater(f"{reply.host} names the page itself as the one behind it")
        if following is not None and rows:
            reply = client.get(following)
        elif len(rows) >= PAGE:
            # A full page with no next one: a proxy may have lost the header.
            reply = client.get(where, {**LISTED, "per_page": PAGE, "page": number})
        else:
            return


def _error(reply: Reply, *, create: bool) -> BackendError:
    words = _words(reply)
    error = http.error_of(reply, words, create=create)
    if isinstance(error, Limited) or (reply.status == 403 and "rate limit" in words.lower()):
        # In the order of the documentation: what a header tells, else a minute.
        wait = http.wait_of(reply)
        return Limited(error.message, retry_after=PATIENCE if wait is None else wait)
    error.hint = error.hint or _HINTS.get(reply.status)
    return error


def _words(reply: Reply) -> str:
    """What GitHub says to it: ``message``, and each of ``errors``; not the page that a browser would show."""
    if "html" in reply.headers.get("content-type", ""):
        return "a page for browsers"
    try:
        told = reply.json()
        parts = [str(told["message"]), *(_one(error) for error in told.get("errors") or ())]
    except (BackendError, LookupError, TypeError, AttributeError):
        return reply.text()
    return "; ".join(parts)


def _one(error: object) -> str:
    if not isinstance(error, dict):
        return str(error)
    named = " ".join(str(error[key]) for key in ("resource", "field", "code") if key in error)
    return str(error.get("message") or named)
