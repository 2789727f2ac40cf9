"""``jira``: Jira Cloud (API v3, descriptions in ADF) and Jira Data Center (API v2, descriptions in wiki markup).

Neither has a place for hidden text, so an issue is found again by its label ``ic-<event id>``, through JQL: an index
that lags, and that answers "none" to those whom it does not know. An empty answer counts only after the credentials
and the project are proven, and an absence is asked for more than once.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from issue_core.backends.base import Backend, Finding, Issue, Target, Traits
from issue_core.backends.http import (
    COMMON_KEYS,
    Client,
    Reply,
    error_of,
    is_limit,
    project_for,
    require_known,
    require_url,
    token_of,
    tracker_time,
)
from issue_core.backends.jira_draft import FLAVOURS, Draft, Flavour, draft_of, type_of
from issue_core.backends.replies import clock
from issue_core.errors import (
    BackendError,
    ConfigError,
    CredentialsRefused,
    OutcomeUnknown,
    ProjectClosed,
    Refused,
    TryLater,
)
from issue_core.task import Task

if TYPE_CHECKING:
    from pathlib import Path

KEYS: Mapping[str, str] = {**COMMON_KEYS, "api": "text", "email": "text", "issue_type": "text", "site": "text"}

TRAITS = Traits(max_in_flight=2, settle=30.0, looks=2, look_interval=60.0)

LABELS_A_QUERY = 40
"""So many event IDs are in one JQL query: a longer one is refused by some proxies and is slow."""

PAGE = 100
"""Issues a page; both kinds of Jira give fewer when they want to."""

SCOPED = "api.atlassian.com"
"""Where tokens with scopes go; people do not."""


def open_backend(name: str, options: Mapping[str, Any], *, home: Path, request_timeout: float) -> Backend:
    """The backend called ``name``; ``request_timeout`` is in seconds.

    Raises:
        ConfigError: there is no url, ``api`` is neither ``cloud`` nor ``dc``, or Cloud has no email.
    """
    url = require_url(name, options)
    host = (urlsplit(url).hostname or "").lower()
    cloud = host == SCOPED or host.endswith(".atlassian.net")
    api = options.get("api", "cloud" if cloud else "dc")
    if api not in FLAVOURS:
        raise ConfigError(f"Backend {name!r}: there is no api {api!r}.", hint='set api = "cloud" or "dc"')
    if api == "cloud" and host != SCOPED and not options.get("email"):
        raise ConfigError(
            f"Backend {name!r} has no email: Jira Cloud wants it beside the token.",
            hint=f'set email = "…", the account that the token belongs to, in [backends.{name}]',
        )
    client = Client(
        url + FLAVOURS[api].path,
        _auth(token_of(name, options), options.get("email")),
        request_timeout=request_timeout,
        ca=options.get("ca"),
        headers={"X-Atlassian-Token": "no-check"},
    )
    return Jira(name, url, FLAVOURS[api], client, options)


class Jira:
    """One Jira, at ``url`` (with its context path), as one account."""

    def __init__(self, name: str, url: str, flavour: Flavour, client: Client, options: Mapping[str, Any]) -> None:
        self.name = name
        self.traits = TRAITS
        self._url = url
        self._flavour = flavour
        self._client = client
        self._options = options
        self._account: str | None = None
        self._unwanted: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def target(self, target_repo: str) -> Target:
        """The project key for this repository."""
        return Target(self.name, self._url, project_for(target_repo, self._options))

    def account(self) -> str:
        """The account's ID (Cloud) or name (Data Center)."""
        if self._account is None:
            self._account, _ = self._who(self._client)
        return self._account

    def create(self, task: Task, target: Target, *, timeout: float, before_send: Callable[[], None]) -> Issue:
        """Make the issue, without the fields that this project is known not to take.

        A field that it refuses now is left out in a second request; the first one made nothing, and says so.

        Raises:
            BackendError: what :func:`error_of_create` says; ``Refused`` where labels cannot be set at all.
        """
        deadline = time.monotonic() + timeout
        client = self._at(target)
        dropped = self._unwanted.get(target.project, frozenset())
        while True:
            draft = draft_of(task, target.project, self._options, self._flavour, dropped)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TryLater(
                    f"{self._url} refused a field, and there was no time left to go without; nothing was made."
                )
            reply = client.post("/issue", draft.payload, timeout=left, before_send=before_send)
            if reply.status == 201:
                key = _key_of(reply)
                return Issue(key, self._page(target, key), target.project, self._author(deadline), draft.notes)
            refused = refused_fields(reply, draft) - dropped
            if not refused:
                raise error_of_create(reply)
            dropped |= refused
            self._remember(target.project, refused)

    def _author(self, deadline: float) -> str:
        """Who made the issue that stands by now: no failure to find that out is one of the create."""
        with suppress(BackendError):
            if self._account is None and (left := deadline - time.monotonic()) > 0:
                self._account, _ = self._who(self._client, timeout=left)
        return self._account or ""

    def _remember(self, project: str, refused: frozenset[str]) -> None:
        """Leave these fields out from now on; but labels, which are refused for what one of them says."""
        with self._lock:
            self._unwanted[project] = self._unwanted.get(project, frozenset()) | (refused - {"labels"})

    def look(
        self, target: Target, event_ids: Collection[str], since: datetime, *, keep_lease: Callable[[], None]
    ) -> dict[str, list[Issue]]:
        """The project's issues with these event IDs among their labels, made at ``since`` or later, the oldest first.

        Raises:
            BackendError: what :meth:`probe` raises; TryLater when the search did not come to its end.
        """
        client = self._at(target)
        _, reply = self._who(client)
        far_end = tracker_time(since, reply, clock.now())
        keep_lease()
        self._project(client, target.project)
        keep_lease()
        labels = {f"ic-{event_id}": event_id for event_id in sorted(event_ids)}
        rows: dict[str, dict[str, Any]] = {}
        for chunk in _chunks(list(labels), LABELS_A_QUERY):
            for page in self._search(client, jql_of(target.project, chunk)):
                rows |= {row["key"]: row for row in page}
                keep_lease()
        found: dict[str, list[Issue]] = {}
        for key, row in sorted(rows.items(), key=_age):
            made = _made_at(row)
            issue = Issue(key, self._page(target, key), target.project, _author(row, self._flavour.user))
            for label in labels.keys() & set(row["fields"].get("labels") or ()):
                if made is None or made >= far_end:
                    found.setdefault(labels[label], []).append(issue)
        return found

    def _search(self, client: Client, jql: str) -> Iterator[list[dict[str, Any]]]:
        """Each page of a query. Cloud gives a token for the next one, Data Center a total."""
        cloud = self._flavour.api == "cloud"
        asked: dict[str, Any] = {
            "jql": jql,
            "fields": ["labels", "creator", "reporter", "created", "project"],
            "maxResults": PAGE,
        }
        seen, tokens = 0, set[str]()
        while True:
            page, reply = _page_of(client, "/search/jql" if cloud else "/search", asked)
            yield page["issues"]
            seen += len(page["issues"])
            token = page.get("nextPageToken")
            total = page.get("total")
            if page.get("isLast") is True if cloud else type(total) is int and seen >= total:
                return
            if token in tokens or (not token if cloud else not page["issues"]):
                raise TryLater(f"{reply.host} ended its list before the last page")
            tokens.add(token or "")
            asked |= {"nextPageToken": token} if cloud else {"startAt": seen}

    def probe(self, target: Target) -> None:
        """Whether we are somebody there, and the project is open to us."""
        client = self._at(target)
        self._who(client)
        self._project(client, target.project)

    def check(self) -> list[Finding]:
        """Address and credentials, the project, the issue type, and where people find the issues."""
        found: list[Finding] = []
        try:
            found.append(Finding(True, f"{self._url} knows us as {self.account()!r}."))
            if project := self._options.get("project"):
                self._project(self._client, project)
                found += [Finding(True, f"The project {project} is open to us."), *self._type_finding(project)]
        except BackendError as error:
            found.append(Finding(False, error.message, error.hint or "look at the backend's url, email and token"))
        if urlsplit(self._url).hostname == SCOPED and "site" not in self._options:
            found.append(Finding(False, f"Links to {SCOPED} lead nowhere.", 'set site = "https://NAME.atlassian.net"'))
        return found

    def _type_finding(self, project: str) -> Iterator[Finding]:
        """Whether we may create issues of the type, where this Jira tells (Cloud, and Data Center from 8.4)."""
        reply = self._client.get(f"/issue/createmeta/{quote(project, safe='')}/issuetypes", {"maxResults": 200})
        told = reply.json() if reply.status == 200 else None
        types = (told.get("issueTypes") or told.get("values")) if isinstance(told, dict) else None
        if not isinstance(types, list):
            return
        names = [str(each.get("name")) for each in types if isinstance(each, dict)]
        wanted = type_of(self._options)
        may = f"may create in {project}: {', '.join(names) or 'nothing'}"
        hint = None if wanted in names else f"We {may}. Set issue_type to one of these, or give the account the right."
        yield Finding(wanted in names, f"Issues of the type {wanted!r} in {project}.", hint)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _at(self, target: Target) -> Client:
        require_known(target, self._url, self._options.get("former_urls", ()))
        return self._client.at(target.address + self._flavour.path)

    def _page(self, target: Target, key: str) -> str:
        """The issue's address for people."""
        site = str(self._options.get("site", "")).rstrip("/") if target.address == self._url else ""
        return f"{site or target.address}/browse/{quote(key)}"

    def _who(self, client: Client, *, timeout: float | None = None) -> tuple[str, Reply]:
        """Who we are there, and the answer that says so.

        It is asked before every look: a search answers those whom it does not know with an empty list.
        """
        reply = client.get("/myself", timeout=timeout)
        if reply.status == 403 and not is_limit(reply):
            hint = "may this account use Jira, and its token read who it is (scope read:jira-user)?"
            raise _denied(reply) or CredentialsRefused(_said(reply), hint=hint)
        if reply.status != 200:
            raise error_of(reply, words_of(reply), create=False)
        told = reply.json()
        account = told.get(self._flavour.user) if isinstance(told, dict) else None
        if not isinstance(account, str) or not account:
            hint = 'is this the right kind of Jira? set api = "cloud" or "dc"'
            raise CredentialsRefused(f"{reply.host} does not say who we are", hint=hint)
        return account, reply

    def _project(self, client: Client, project: str) -> None:
        reply = client.get(f"/project/{quote(project, safe='')}")
        if reply.status != 200:
            raise _denied(reply) or error_of(reply, words_of(reply), create=False)
        told = reply.json()
        if isinstance(told, dict) and told.get("archived") is True:
            raise ProjectClosed(f"The project {project} at {reply.host} is archived.")


def _key_of(reply: Reply) -> str:
    """The key of the issue that was made."""
    told = reply.json()
    key = told.get("key") if isinstance(told, dict) else None
    if not isinstance(key, str) or not key:
        raise reply.nonsense("no key of an issue")
    return key


def refused_fields(reply: Reply, draft: Draft) -> frozenset[str]:
    """The optional fields of the draft that a 400 names: nothing was made, and it may be asked again without them."""
    if reply.status != 400:
        return frozenset()
    named = _errors(reply).keys()
    return frozenset(name for name in draft.optional if name.partition(" ")[0] in named)


def error_of_create(reply: Reply) -> BackendError:
    """What an answer to a create means that is not 201."""
    named = _errors(reply) if reply.status == 400 else {}
    if {"project", "pid"} & named.keys():
        return ProjectClosed(_said(reply), hint="is the project's key right, and may the account create issues there?")
    if "labels" in named:
        hint = "put the field Labels on the create screen of this issue type: by its label an issue is found again"
        return Refused(_said(reply), hint=hint)
    if "issuetype" in named:
        return Refused(_said(reply), hint="set issue_type to a type that this project has")
    return _denied(reply) or error_of(reply, words_of(reply), create=True)


def words_of(reply: Reply) -> str:
    """What Jira says is wrong: its messages, then those of each field."""
    try:
        told = json.loads(reply.body)
    except (ValueError, RecursionError):
        return reply.text()
    messages = told.get("errorMessages") if isinstance(told, dict) else None
    words = [str(each) for each in messages] if isinstance(messages, list) else []
    words += [f"{name}: {text}" for name, text in _errors(reply).items()]
    return "; ".join(words) or reply.text()


def jql_of(project: str, labels: Sequence[str]) -> str:
    """The query for the issues of a project that have one of these labels, the oldest first."""
    listed = ", ".join(map(_quoted, labels))
    return f"project = {_quoted(project)} AND labels in ({listed}) ORDER BY created ASC, key ASC"


def _quoted(text: str) -> str:
    """A string of JQL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _errors(reply: Reply) -> dict[str, Any]:
    """The fields that the answer complains about."""
    try:
        told = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    errors = told.get("errors") if isinstance(told, dict) else None
    return errors if isinstance(errors, dict) else {}


def _said(reply: Reply) -> str:
    return f"{reply.host} answered {reply.status}: {reply.clean(words_of(reply))}"


def _denied(reply: Reply) -> BackendError | None:
    """A 403 that is about who we are: after some wrong log-ins Jira wants a person to solve a CAPTCHA."""
    reason = reply.headers.get("x-authentication-denied-reason", "")
    if reply.status != 403 or not (reason or "DENIED" in reply.headers.get("x-seraph-loginreason", "")):
        return None
    hint = "log in as this account with a browser once, and solve the CAPTCHA"
    return CredentialsRefused(f"{reply.host} answered 403: {reply.clean(reason) or 'the log-in is denied'}", hint=hint)


def _page_of(client: Client, where: str, asked: Mapping[str, Any]) -> tuple[dict[str, Any], Reply]:
    """One page of a search. It changes nothing, so whatever goes wrong can be tried again."""
    try:
        reply = client.send("POST", where, asked, timeout=client.request_timeout)
        if reply.status != 200:
            raise _denied(reply) or error_of(reply, words_of(reply), create=False)
        page = reply.json()
    except OutcomeUnknown as error:
        raise TryLater(error.message) from None
    issues = page.get("issues") if isinstance(page, dict) else None
    if not isinstance(issues, list) or not all(_is_issue(row) for row in issues):
        raise TryLater(f"{reply.host} answered a search with something that is no list of issues")
    return page, reply


def _is_issue(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("key"), str) and isinstance(row.get("fields"), dict)


def _made_at(row: Mapping[str, Any]) -> datetime | None:
    """When an issue was made, by the tracker's clock; None: it is hidden, or no time."""
    try:
        made = datetime.fromisoformat(str(row["fields"].get("created")))
    except ValueError:
        return None
    return made if made.tzinfo else None


def _age(item: tuple[str, Mapping[str, Any]]) -> tuple[float, int]:
    """Sorts issues by when they were made; the keys of a project count up."""
    key, row = item
    number = key.rpartition("-")[2]
    made = _made_at(row)
    return made.timestamp() if made else 0.0, int(number) if number.isdecimal() else 0


def _author(row: Mapping[str, Any], key: str) -> str:
    """The account that made an issue; the reporter is who asked for it, unless Jira hides the creator."""
    for role in ("creator", "reporter"):
        user = row["fields"].get(role)
        if isinstance(user, dict) and isinstance(user.get(key), str):
            return str(user[key])
    return ""


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _auth(token: Callable[[], str], email: str | None) -> Callable[[], Mapping[str, str]]:
    """Basic with the email (Cloud) or user name, else the personal access token of Data Center as a Bearer."""

    def headers() -> Mapping[str, str]:
        if not email:
            return {"Authorization": f"Bearer {token()}"}
        return {"Authorization": "Basic " + b64encode(f"{email}:{token()}".encode()).decode()}

    return headers
