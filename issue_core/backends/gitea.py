"""``gitea``: issues of a Gitea or Forgejo repository (Codeberg is one), over the API that both share (``/api/v1``).

A task without labels and of medium priority takes one request. Labels are sent as numbers, so the first task with
labels reads what labels its repository has, once, and makes those that are missing.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from issue_core.backends import http, issue_rows, marks
from issue_core.backends.base import Backend, Finding, Issue, Target, Traits
from issue_core.backends.http import Client, Reply
from issue_core.backends.labels import PRIORITY_LABELS as PRIORITY_LABELS
from issue_core.backends.labels import distinct
from issue_core.backends.markup import markdown
from issue_core.errors import BackendError, OutcomeUnknown, ProjectClosed, Refused, TryLater
from issue_core.task import Task

KEYS: Mapping[str, str] = http.COMMON_KEYS

TRAITS = Traits(max_in_flight=4, settle=30.0, looks=1)

API = "/api/v1"

PAGE = 50
"""Entries of a page: the most that is given unless the administrator allows more (``[api] MAX_RESPONSE_ITEMS``)."""

TITLE_BYTES = 255
"""A title of more bytes is cut silently by Forgejo, and by Gitea up to 1.23; from 1.24 on by its width, if longer."""

LISTED: Mapping[str, str] = {"state": "all", "type": "issues"}
"""Which issues are listed, newest first: open or closed, but no pull requests."""

LABEL_COLOUR = "#8c959f"
"""What a label looks like that was missing; its repository's people may give it another one."""

# What the owner of a repository and a repository may be called: modules/validation and models/repo of both products.
_PROJECT = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9._-]+/(?!\.{1,2}$)[A-Za-z0-9._-]+")

_HINTS: Mapping[int, str] = {
    403: "the token needs the scope write:issue, and its account must be allowed to make issues there",
    404: "is the repository there, has it issues, and may the token's account see it?",
    423: "the repository is archived: open it again, or send its tasks elsewhere with `projects`",
}


def open_backend(name: str, options: Mapping[str, Any], *, home: Path, request_timeout: float) -> Backend:
    """The backend called ``name``; ``request_timeout`` in seconds is for each reading request. ``home`` is not used.

    Raises:
        ConfigError: ``url`` is missing or no http(s) address.
    """
    url = http.require_url(name, options)
    token = http.token_of(name, options)
    ca = Path(options["ca"]) if "ca" in options else None
    client = Client(url + API, lambda: {"Authorization": f"token {token()}"}, request_timeout, ca)
    return Gitea(name, url, client, options)


class Gitea:
    """One Gitea or Forgejo at ``url``, as the account of one token."""

    def __init__(self, name: str, url: str, client: Client, options: Mapping[str, Any]) -> None:
        self.name = name
        self.traits = TRAITS
        self._url = url
        self._client = client
        self._options = options
        self._priorities: Mapping[str, str] = {**PRIORITY_LABELS, **options.get("priorities", {})}
        self._labels: dict[Target, _Labels] = {}
        self._account: str | None = None

    def target(self, target_repo: str) -> Target:
        """The repository ``owner/name`` for this ``target_repo``; whether it is one is seen when it is used."""
        return Target(self.name, self._url, http.project_for(target_repo, self._options))

    def account(self) -> str:
        """The login of the token's account; empty where the token's scopes do not let it ask (``read:user``)."""
        if self._account is None:
            reply = self._client.get("/user")
            if reply.status == 200:
                with reply.understood():
                    self._account = str(reply.json()["login"])
            elif reply.status == 403 and not http.is_limit(reply):
                self._account = ""
            else:
                error = _error(reply, create=False)
                error.hint = http.NO_TRACKER if reply.status == 404 else error.hint
                raise error
        return self._account

    def create(self, task: Task, target: Target, *, timeout: float, before_send: Callable[[], None]) -> Issue:
        """Make the issue with one request, after those that its labels may need; ``timeout`` is for all of them."""
        deadline = time.monotonic() + timeout
        client = self._client_for(target)
        labels = GivenLabels()
        if wanted := labels_of(task, self._priorities):
            labels = self._labels.setdefault(target, _Labels()).give(client, target.project, wanted, deadline)
        sent = fields_of(task, labels, self._priorities)
        reply = client.post(_issues(target.project), sent, timeout=_left(deadline), before_send=before_send)
        if reply.status != 201:
            raise _error(reply, create=True)
        with reply.understood():
            made = reply.json()
            return _issue(made, target, notes_on(made, sent, labels, target.project))

    def look(
        self, target: Target, event_ids: Collection[str], since: datetime, *, keep_lease: Callable[[], None]
    ) -> dict[str, list[Issue]]:
        """The issues made since then whose text has one of the markers, the oldest first.

        The list without ``q`` comes straight from the tracker's database; a search would ask an index, which lags.
        """
        return marks.of_events(self.marked(target, since, keep_lease=keep_lease), event_ids)

    def marked(self, target: Target, since: datetime, *, keep_lease: Callable[[], None]) -> Iterator[tuple[str, Issue]]:
        """Every issue made since then whose text has a marker, with its event ID."""
        pages = _pages(self._client_for(target), _issues(target.project), LISTED)
        return issue_rows.marked(pages, since, partial(_issue, target=target), keep_lease=keep_lease)

    def probe(self, target: Target) -> None:
        """Whether the repository is there, takes issues, and lets us list them."""
        _require_open(self._client_for(target), target.project)

    def check(self) -> list[Finding]:
        """Who we are there, and whether each repository that the configuration names takes our issues."""
        try:
            login = self.account()
        except BackendError as error:
            return [Finding(False, error.message, error.hint or http.NOT_REACHED)]
        who = f"signed in as {login}" if login else "signed in, but the token lacks read:user, which tells as whom"
        named = http.named_projects(self._options)
        return [Finding(True, f"{self._url}: {who}."), *(self._check_project(project) for project in named)]

    def _check_project(self, project: str) -> Finding:
        target = Target(self.name, self._url, project)
        try:
            repository = _require_open(self._client_for(target), project)
        except BackendError as error:
            return Finding(False, f"{project}: {error.message}", error.hint or http.NOT_REACHED)
        may_write = (repository.get("permissions") or {}).get("push", True)
        drops = "" if may_write else "; without the right to write there, it drops labels and due dates"
        return Finding(True, f"{project}: takes issues{drops}.")

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _client_for(self, target: Target) -> Client:
        """The client for the place that ``target`` names, if its project can be one."""
        http.require_known(target, self._url, self._options.get("former_urls", ()))
        if not _PROJECT.fullmatch(target.project):
            raise ProjectClosed(
                f"{target.project!r} is no repository of Gitea or Forgejo: those are called owner/name.",
                hint=f"name the repository for it in [backends.{self.name}.projects], or one for all as `project`",
            )
        return self._client.at(target.address + API)


@dataclass(frozen=True, slots=True)
class GivenLabels:
    """The labels of one issue: those it gets with their numbers, and those it cannot get with the reason."""

    numbers: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Labels:
    """The labels that a repository can use, read when the first are wanted. A name counts whatever its case."""

    known: dict[str, int] | None = None
    refused: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def give(self, client: Client, project: str, wanted: Sequence[str], deadline: float) -> GivenLabels:
        """The numbers of the wanted labels; a label that is not there is made, if we may.

        Raises:
            BackendError: the labels cannot be had now; never ``OutcomeUnknown``, for no issue was sent.
        """
        if not self.lock.acquire(timeout=_left(deadline)):
            raise TryLater(f"The labels of {project} were still being read when the time was over; no issue was sent.")
        try:
            known = self._complete(client, project, wanted, deadline)
        except OutcomeUnknown as error:
            self.known = None  # It may be there by now: read again before it is made a second time.
            raise TryLater(error.message, retry_after=error.retry_after) from None
        finally:
            self.lock.release()
        keys = {name: name.casefold() for name in wanted}
        return GivenLabels(
            {name: known[key] for name, key in keys.items() if key in known},
            {name: self.refused[key] for name, key in keys.items() if key not in known},
        )

    def _complete(self, client: Client, project: str, wanted: Sequence[str], deadline: float) -> dict[str, int]:
        if self.known is None:
            self.known = _read_labels(client, project, deadline)
        for name in wanted:
            key = name.casefold()
            if key not in self.known and key not in self.refused:
                made = _make_label(client, project, name, deadline)
                if isinstance(made, int):
                    self.known[key] = made
                else:
                    self.refused[key] = made
        return self.known


def _read_labels(client: Client, project: str, deadline: float) -> dict[str, int]:
    """Name → number of the repository's own labels, and of its organisation's, where there is one that we may read."""
    owner = project.partition("/")[0]
    known: dict[str, int] = {}
    for where, may_lack in ((f"/repos/{project}/labels", ()), (f"/orgs/{owner}/labels", (403, 404))):
        for reply, rows in _pages(client, where, {}, deadline=deadline, may_lack=may_lack):
            with reply.understood():
                for row in rows:
                    known.setdefault(row["name"].casefold(), row["id"])
    return known


def _make_label(client: Client, project: str, name: str, deadline: float) -> int | str:
    """The new label's number; or why we may not make it."""
    fields = {"name": name, "color": LABEL_COLOUR}
    reply = client.send("POST", f"/repos/{project}/labels", fields, timeout=_left(deadline))
    if reply.status == 201:
        with reply.understood():
            return int(reply.json()["id"])
    error = _error(reply, create=True)
    if isinstance(error, Refused | ProjectClosed) and reply.status != 423:
        return error.message
    raise error


def labels_of(task: Task, priorities: Mapping[str, str]) -> list[str]:
    """The labels that the task's issue should have, each once: its own, and the one that says its priority."""
    return distinct((*task.labels, priorities.get(task.priority)))


def fields_of(task: Task, labels: GivenLabels, priorities: Mapping[str, str]) -> dict[str, Any]:
    """The body of the request that makes the issue (``CreateIssueOption``); what has no field stands in the text."""
    unsaid = priorities.get(task.priority) in labels.refused
    lost = [name for name in task.labels if name in labels.refused]
    facts = markdown.facts_of(task, priority=unsaid, due=False, labels=lost)
    title = short_title(task.title)
    if title != task.title:
        facts.append(f"**Full title:** {markdown.as_text(task.title)}")
    text = markdown.safe(task.description)
    fields: dict[str, Any] = {"title": title, "body": markdown.body(task, text=text, facts=facts, most=None)}
    if labels.numbers:
        fields["labels"] = list(labels.numbers.values())
    if task.due_date:
        fields["due_date"] = f"{task.due_date}T12:00:00Z"
    return fields


def short_title(title: str) -> str:
    """The title, or as much of it as no release cuts silently, with ``…`` at its end."""
    if len(title.encode()) <= TITLE_BYTES:
        return title
    return title.encode()[: TITLE_BYTES - len("…".encode())].decode(errors="ignore").rstrip() + "…"


def notes_on(made: Mapping[str, Any], sent: Mapping[str, Any], labels: GivenLabels, project: str) -> tuple[str, ...]:
    """What the issue lacks of what it should have, and a new name of its repository."""
    notes = [f"the label {name!r} was not given: {why}" for name, why in labels.refused.items()]
    has = {label["id"] for label in made.get("labels") or ()}
    dropped = [name for name, number in labels.numbers.items() if number not in has]
    notes += [f"the tracker dropped the label {name!r}: the account has no right to set labels" for name in dropped]
    if "due_date" in sent and not made.get("due_date"):
        notes.append("the tracker dropped the due date: the account has no right to set one")
    if made.get("title", sent["title"]) != sent["title"]:
        notes.append("the tracker changed the title")
    now = (made.get("repository") or {}).get("full_name") or project
    if now.casefold() != project.casefold():
        notes.append(f"the repository {project} is called {now} now")
    return tuple(notes)


def _issue(row: Mapping[str, Any], target: Target, notes: tuple[str, ...] = ()) -> Issue:
    url = row.get("html_url") or f"{target.address}/{target.project}/issues/{row['number']}"
    return issue_rows.issue_of({**row, "html_url": url}, target, notes)


def _issues(project: str) -> str:
    return f"/repos/{project}/issues"


def _require_open(client: Client, project: str) -> Mapping[str, Any]:
    """What the tracker tells of the repository; empty where the token lacks the scope ``read:repository``.

    Raises:
        BackendError: it would not take an issue of ours.
    """
    repository: Mapping[str, Any] = {}
    reply = client.get(f"/repos/{project}")
    if reply.status == 200:
        with reply.understood():
            repository = dict(reply.json())
    elif reply.status != 403 or http.is_limit(reply):
        raise _error(reply, create=False)
    if repository.get("archived"):
        raise ProjectClosed(f"The repository {project} is archived.", hint=_HINTS[423])
    if not repository.get("has_issues", True):
        raise ProjectClosed(f"The repository {project} has its issues switched off.", hint=_HINTS[404])
    listed = client.get(_issues(project), {**LISTED, "limit": 1})
    if listed.status != 200:
        raise _error(listed, create=False)
    return repository


def _pages(
    client: Client,
    where: str,
    params: Mapping[str, str],
    *,
    deadline: float | None = None,
    may_lack: Sequence[int] = (),
) -> Iterator[tuple[Reply, list[Any]]]:
    """Every page of a list that is not empty, and the answer it came in; none at all for a status of ``may_lack``.

    Raises:
        TryLater: an entry was deleted meanwhile, which moved another one to a page that was read already.
        BackendError: the list could not be read to its end.
    """
    page, total, seen = 1, 0, 0
    while True:
        timeout = None if deadline is None else _left(deadline)
        reply = client.get(where, {**params, "limit": PAGE, "page": page}, timeout=timeout)
        if reply.status in may_lack and not http.is_limit(reply):
            return
        if reply.status != 200:
            raise _error(reply, create=False)
        rows, counted = reply.json(), reply.headers.get("x-total-count", "")
        if not isinstance(rows, list):
            raise reply.nonsense("something that is no list")
        if counted.isdecimal():
            if int(counted) < total:
                raise TryLater(f"{reply.host}: something was deleted from {where} while it was read")
            total = int(counted)
        if rows:
            yield reply, rows
        seen += len(rows)
        if not rows or (seen >= total and len(rows) < PAGE and "next" not in reply.links):
            return
        page += 1


def _error(reply: Reply, *, create: bool) -> BackendError:
    error = http.error_of(reply, _words(reply), create=create)
    error.hint = error.hint or _HINTS.get(reply.status)
    return error


def _words(reply: Reply) -> str:
    """What the tracker says to it (``message``), not the page that a proxy, or ``[qos]`` under load, shows browsers."""
    if "html" in reply.headers.get("content-type", ""):
        return "a page for browsers"
    try:
        return str(reply.json()["message"])
    except (BackendError, LookupError, TypeError):
        return reply.text()


def _left(deadline: float) -> float:
    """The seconds that are left before an issue is sent."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TryLater("The tracker took so long before the issue could be sent that no time was left; none was sent.")
    return left
