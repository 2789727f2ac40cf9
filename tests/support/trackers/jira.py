"""Jira, as its clients see it: Cloud (:class:`Server`, API v3) and Data Center (:class:`ServerDC`, API v2).

What is checked and answered follows Atlassian's description of API v3; Data Center's old search and wiki markup are as
its own pages tell. Search is an index that lags, and answers strangers with an empty list.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import unquote

from tests.support.trackers.server import Answer, Made, Request, TrackerServer

__all__ = ["Server", "ServerDC", "adf_problems"]

LIMIT = 32_767
FIELDS = {"project", "issuetype", "summary", "description", "labels", "priority", "duedate"}
MARK = re.compile(r"ic-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
JQL = re.compile(r'project = "(?P<project>[^"]+)" AND labels in \((?P<labels>"[^)]+")\) ORDER BY created ASC, key ASC')

BLOCKS = {"paragraph", "heading", "bulletList", "orderedList", "codeBlock", "blockquote", "rule", "table"}
INNER = {"paragraph", "bulletList", "orderedList", "codeBlock"}
CONTENT: dict[str, set[str]] = {
    "doc": BLOCKS,
    "paragraph": {"text", "hardBreak"},
    "heading": {"text", "hardBreak"},
    "bulletList": {"listItem"},
    "orderedList": {"listItem"},
    "listItem": INNER,
    "blockquote": INNER,
    "codeBlock": {"text"},
    "table": {"tableRow"},
    "tableRow": {"tableHeader", "tableCell"},
    "tableHeader": INNER,
    "tableCell": INNER,
    "rule": set(),
    "hardBreak": set(),
    "text": set(),
}
NEVER_EMPTY = {"bulletList", "orderedList", "listItem", "blockquote", "table", "tableRow", "tableHeader", "tableCell"}


class Server(TrackerServer):
    """Jira Cloud: Basic authentication, ADF, ``/search/jql`` with page tokens."""

    api: ClassVar[str] = "cloud"
    path: ClassVar[str] = "/rest/api/3"
    user_key: ClassVar[str] = "accountId"
    descriptions: ClassVar[tuple[str, ...]] = ("jira",)

    project = "WEB"
    other_project = "API"
    unknown_project = "NOWHERE"
    account = "5b10a2844c20165700ede21g"
    email = "bot@example.org"

    def __init__(self) -> None:
        super().__init__()
        self.issue_types = {"Task", "Bug"}
        self.priorities = {"Highest", "High", "Medium", "Low", "Lowest"}
        self.off_screen: set[str] = set()
        self.captcha = False

    # --- what the tests of every tracker use ----------------------------------------------------------------------

    def is_create(self, request: Request) -> bool:
        """Whether the request makes an issue."""
        return request.method == "POST" and request.path == f"{self.path}/issue"

    def event_ids(self) -> list[str]:
        """The event IDs among the labels of its issues."""
        return [found[1] for made in self.issues for label in made.labels if (found := MARK.fullmatch(label))]

    def plant(
        self, event_id: str, *, project: str | None = None, account: str | None = None, minutes_ago: float = 0
    ) -> Made:
        """Put an issue with this event ID's label there, as if ``account`` (``None``: the stranger) had made it."""
        labels, account = [f"ic-{event_id}"], account or self.stranger
        return self.make(
            project or self.project, "Planted", "", labels=labels, account=account, minutes_ago=minutes_ago
        )

    def limited(self) -> list[tuple[Answer, float | None]]:
        """A burst limit that tells seconds, a quota that tells an ISO time, and a proxy that tells nothing."""
        reset = (self.now().replace(microsecond=0) + timedelta(seconds=90)).isoformat().replace("+00:00", "Z")
        quota = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset, "RateLimit-Reason": "jira-quota-global"}
        burst = {"Retry-After": "17", "RateLimit-Reason": "jira-burst-based"}
        return [
            (Answer(429, {"errorMessages": ["Rate limit exceeded."]}, burst), 17.0),
            (Answer(429, None, quota), 90.0),
            (Answer(429, "slow down"), None),
        ]

    def options(self) -> dict[str, Any]:
        """The options with which the backend is opened."""
        return {**super().options(), "api": self.api, "email": self.email}

    def key(self, made: Made) -> str:
        """The issue's key."""
        return f"{made.project}-{made.number}"

    # --- the API --------------------------------------------------------------------------------------------------

    def route(self, request: Request) -> Answer:
        """One request, as Jira answers it."""
        if self.captcha:
            reason = {"X-Authentication-Denied-Reason": "CAPTCHA_CHALLENGE; login-url=https://jira/login.jsp"}
            return Answer(403, "<h1>Forbidden</h1>", reason)
        known = request.headers.get("authorization") == self.credentials()
        where = request.path.removeprefix(self.path)
        match request.method, [unquote(part) for part in where.strip("/").split("/")]:
            case "POST", search if "/".join(search) == self.search_path():
                return self.search(request) if known else Answer(200, self.results([], 0, 0))
            case _ if not known:
                return complaint(401, "Client must be authenticated to access this resource.")
            case "GET", ["myself"]:
                return Answer(200, self.user(self.account))
            case "GET", ["project", key]:
                return Answer(200, {"id": "10000", "key": key}) if self.is_open(key) else self.no_project(key)
            case "GET", ["issue", "createmeta", key, "issuetypes"]:
                return self.types() if self.is_open(key) else self.no_project(key)
            case "POST", ["issue"]:
                return self.create(request)
        return complaint(404, "There is no such resource.")

    def credentials(self) -> str:
        """The ``Authorization`` header of our account."""
        return "Basic " + b64encode(f"{self.email}:{self.token}".encode()).decode()

    def user(self, account: str) -> dict[str, Any]:
        """An account, as the API shows it."""
        return {self.user_key: account, "displayName": account.title(), "active": True}

    def is_open(self, project: str) -> bool:
        """Whether the project is there, and we may see it."""
        return project in self.projects - self.closed

    def no_project(self, key: str) -> Answer:
        """The answer about a project that is missing, or not for us."""
        return complaint(404, f"No project could be found with key '{key}'.")

    def types(self) -> Answer:
        """The issue types that we may create."""
        return Answer(200, {"issueTypes": [{"name": name} for name in sorted(self.issue_types)], "startAt": 0})

    def create(self, request: Request) -> Answer:
        """Make an issue, if all of the request is right."""
        if request.headers.get("x-atlassian-token") != "no-check":
            return Answer(403, b"XSRF check failed")
        asked = request.json()
        if unknown := asked.keys() - {"fields", "properties", "update", "transition"}:
            return complaint(400, f"Unrecognized field {sorted(unknown)}")
        fields = asked["fields"]
        if errors := dict(self.field_errors(fields)) | property_errors(asked.get("properties", [])):
            return complaint(400, **errors)
        made = self.make(
            fields["project"]["key"],
            fields["summary"],
            self.text_of(fields.get("description")),
            labels=fields.get("labels", ()),
            properties=asked.get("properties", []),
            fields=fields,
        )
        number = 10_000 + len(self.issues)
        return Answer(201, {"id": str(number), "key": self.key(made), "self": f"{self.url}{self.path}/issue/{number}"})

    def field_errors(self, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What is wrong with the fields: name and text."""
        for name in fields.keys() & self.off_screen | fields.keys() - FIELDS:
            yield name, f"Field '{name}' cannot be set. It is not on the appropriate screen, or unknown."
        if not self.is_open(fields["project"]["key"]):
            yield "project", "valid project is required"
        if fields["issuetype"]["name"] not in self.issue_types:
            yield "issuetype", "Specify a valid issue type"
        summary = fields["summary"]
        if not summary.strip() or "\n" in summary or units(summary) > 255:
            yield "summary", "Summary can't exceed 255 characters."
        if "priority" in fields and fields["priority"]["name"] not in self.priorities:
            yield "priority", "The priority selected is invalid."
        if "duedate" in fields and not re.fullmatch(r"\d{4}-\d\d-\d\d", fields["duedate"]):
            yield "duedate", "Error parsing date string"
        for label in fields.get("labels", ()):
            if re.search(r"\s", label) or len(label) > 255:
                yield "labels", f"The label '{label}' contains spaces which is invalid."
        if problem := self.description_problem(fields.get("description")):
            yield "description", problem

    def description_problem(self, description: Any) -> str | None:
        """What is wrong with a description: here, it is an ADF document or nothing."""
        if description is None:
            return None
        if not isinstance(description, dict) or next(adf_problems(description), None):
            return "Operation value must be an Atlassian Document (see the Atlassian Document Format)"
        return too_long(self.text_of(description))

    def text_of(self, description: Any) -> str:
        """The words of a description."""
        return "".join(texts(description)) if description else ""

    def search_path(self) -> str:
        """Where JQL is asked."""
        return "search/jql"

    def search(self, request: Request) -> Answer:
        """One page of a search."""
        asked = request.json()
        query = JQL.fullmatch(asked["jql"])
        if query is None:
            return complaint(400, f"Error in the JQL Query: {asked['jql']}")
        if not self.is_open(query["project"]):
            return complaint(400, f"The value '{query['project']}' does not exist for the field 'project'.")
        wanted = {label.casefold() for label in re.findall(r'"([^"]+)"', query["labels"])}
        found = [
            made
            for made in reversed(self.listed(query["project"]))
            if wanted & {label.casefold() for label in made.labels}
        ]
        start = self.start_of(asked)
        size = self.size(str(asked.get("maxResults", "")), default=50, most=100)
        rows = [self.row(made, asked.get("fields", [])) for made in found[start : start + size]]
        return Answer(200, self.results(rows, start, len(found)))

    def start_of(self, asked: Mapping[str, Any]) -> int:
        """Where the page begins."""
        return int(asked.get("nextPageToken", "page-0").removeprefix("page-"))

    def results(self, rows: list[dict[str, Any]], start: int, total: int) -> dict[str, Any]:
        """A page of a search."""
        end = start + len(rows)
        return {"issues": rows, "isLast": end >= total} | ({"nextPageToken": f"page-{end}"} if end < total else {})

    def row(self, made: Made, fields: list[str]) -> dict[str, Any]:
        """An issue in a search: its ID, and what was asked for."""
        there = {
            "labels": made.labels,
            "creator": self.user(made.account),
            "reporter": self.user(made.raw.get("reporter", made.account)),
            "created": f"{made.made_at:%Y-%m-%dT%H:%M:%S}.{made.made_at.microsecond // 1000:03}+0000",
            "project": {"key": made.project},
        }
        number = str(10_001 + self.issues.index(made))
        return (
            {"id": number, "key": self.key(made), "fields": {name: there[name] for name in fields}}
            if fields
            else {"id": number}
        )


class ServerDC(Server):
    """Jira Data Center: a personal access token, wiki markup, ``/search`` with ``startAt`` and ``total``."""

    api = "dc"
    path = "/rest/api/2"
    user_key = "name"
    descriptions = ()  # Atlassian describes API v2 of Data Center in words alone
    account = "our-bot"

    def options(self) -> dict[str, Any]:
        """The options with which the backend is opened: no email, and the kind is the default."""
        return {name: value for name, value in super().options().items() if name not in ("api", "email")}

    def limited(self) -> list[tuple[Answer, float | None]]:
        """The token bucket's answer, and a proxy that tells nothing."""
        bucket = {"Retry-After": "5", "X-RateLimit-Remaining": "0", "X-RateLimit-Interval-Seconds": "5"}
        return [(Answer(429, {"message": "Rate limit exceeded."}, bucket), 5.0), (Answer(429, "slow down"), None)]

    def credentials(self) -> str:
        return f"Bearer {self.token}"

    def types(self) -> Answer:
        return Answer(200, {"values": [{"name": name} for name in sorted(self.issue_types)], "isLast": True})

    def description_problem(self, description: Any) -> str | None:
        if description is not None and not isinstance(description, str):
            return "Operation value must be a string"
        return too_long(description or "")

    def text_of(self, description: Any) -> str:
        return description or ""

    def search_path(self) -> str:
        return "search"

    def start_of(self, asked: Mapping[str, Any]) -> int:
        return int(asked.get("startAt", 0))

    def results(self, rows: list[dict[str, Any]], start: int, total: int) -> dict[str, Any]:
        return {"issues": rows, "startAt": start, "maxResults": 100, "total": total}


def complaint(status: int, *messages: str, **errors: str) -> Answer:
    """An error as Jira tells it."""
    return Answer(status, {"errorMessages": list(messages), "errors": errors})


def property_errors(properties: list[dict[str, Any]]) -> dict[str, str]:
    """What is wrong with the issue properties."""
    sound = all(each.keys() == {"key", "value"} and len(each["key"]) <= 255 for each in properties)
    return {} if sound and len(str(properties)) <= 32_768 else {"properties": "invalid property"}


def too_long(text: str) -> str | None:
    """Jira's words for a description that is too long."""
    long = units(text) > LIMIT
    return "The entered text is too long. It exceeds the allowed limit of 32,767 characters." if long else None


def units(text: str) -> int:
    """The length of a text as Java counts it."""
    return len(text.encode("utf-16-le")) // 2


def texts(node: Mapping[str, Any]) -> Iterator[str]:
    """All texts in a node."""
    yield node.get("text", "")
    for child in node.get("content", ()):
        yield from texts(child)


def adf_problems(node: Mapping[str, Any], *, within: str = "") -> Iterator[str]:
    """What Jira refuses in an ADF node: kinds that may not stand where they do, and texts that are none."""
    kind = node.get("type", "")
    children = node.get("content", [])
    if kind not in CONTENT:
        yield f"there is no node {kind!r}"
        return
    if unknown := node.keys() - {"type", "content", "attrs", "marks", "text", "version"}:
        yield f"{kind} has no {unknown}"
    if kind in NEVER_EMPTY and not children:
        yield f"{kind} is empty"
    if kind == "listItem" and children and children[0].get("type") not in ("paragraph", "codeBlock"):
        yield f"an item begins with {children[0]}"
    if kind == "text":
        yield from text_problems(node, within)
    for child in children:
        if child.get("type") not in CONTENT[kind]:
            yield f"{child.get('type')} in {kind}"
        yield from adf_problems(child, within=kind)


def text_problems(node: Mapping[str, Any], within: str) -> Iterator[str]:
    """What is wrong with one text node."""
    text, marks = node.get("text"), node.get("marks", [])
    kinds = [mark["type"] for mark in marks]
    if not isinstance(text, str) or not text or ("\n" in text and within != "codeBlock"):
        yield f"text {text!r}"
    if len(set(kinds)) < len(kinds) or set(kinds) - {"strong", "em", "strike", "code", "link"}:
        yield f"marks {kinds}"
    if ("code" in kinds and set(kinds) - {"code", "link"}) or (kinds and within == "codeBlock"):
        yield f"marks {kinds} together"
    for mark in marks:
        if mark["type"] == "link" and not re.match(r"(?:https?://|mailto:)", mark["attrs"]["href"], re.IGNORECASE):
            yield f"a link to {mark['attrs']['href']}"
