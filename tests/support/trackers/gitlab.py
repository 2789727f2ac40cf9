"""GitLab, as far as issues go: REST API v4, its quick actions, its silence about what it drops.

The fields of requests and answers are those of the API's description; what it does not know is refused here, where
GitLab itself would not care.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any, ClassVar
from urllib.parse import unquote, urlencode

from tests.support.trackers.server import Answer, Made, Request, TrackerServer

API = "/api/v4"

GUEST, PLANNER, REPORTER = 10, 15, 20
"""Roles: what a person may do in a project."""

MOVED = "405 Non GET methods are not allowed for moved projects"
REPEATED = "This endpoint has been requested too many times. Try again later."

_CREATE_FIELDS = {
    "assignee_ids", "confidential", "created_at", "description", "discussion_to_resolve", "due_date", "epic_id",
    "epic_iid", "iid", "issue_type", "labels", "merge_request_to_resolve_discussions_of", "milestone_id", "title",
    "weight",
}  # fmt: skip
_LIST_PARAMETERS = {
    "scope": {"all", "created_by_me", "assigned_to_me"},
    "state": {"all", "opened", "closed"},
    "order_by": {"created_at"},
    "sort": {"desc"},
}
_PROJECT = re.compile(rf"{API}/projects/([^/]+)(/issues)?")

_ACTIONS = ("close", "confidential", "due", "label", "title")
"""The quick actions that this GitLab knows; one of them stands for all that do harm."""

# What lib/gitlab/quick_actions/extractor.rb leaves alone, and what it takes for an action.
_EXTRACTED = re.compile(
    rf"""
      ^```.+?\n```$                    # code, by no other fence than this
    | ^<[^>]+?>\n.+?\n</[^>]+?>$       # an HTML block
    | ^>>>.+?\n>>>$                    # a quotation
    | `[^`\n]+`                        # code within a line
    | ^/(?P<action>{"|".join(_ACTIONS)})(?:[ ](?P<words>[^\n]*))?(?:\s*\n|\Z)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL | re.IGNORECASE,
)


class Server(TrackerServer):
    """A GitLab whose account has a token with ``scopes`` and, in every project, the ``role``.

    ``closed`` projects have their issues turned off; ``archived`` ones take none. ``project_labels`` are there before.
    """

    redirects: ClassVar[bool] = True
    descriptions: ClassVar[tuple[str, ...]] = ("gitlab",)

    def __init__(self) -> None:
        super().__init__()
        self.scopes = ["api"]
        self.role = REPORTER
        self.archived: set[str] = set()
        self.project_labels: set[str] = set()
        self.blocked = False
        self._ids: dict[str, int] = {}
        self.outside: str | None = None
        """The address that it takes for its own, where a proxy hides the one that it has."""

    def route(self, request: Request) -> Answer:
        if request.headers.get("private-token") != self.token:
            return _message(401, "401 Unauthorized")
        if self.blocked:
            return _message(403, "403 Forbidden - Your account has been blocked.")
        if not {"api", "read_api" if request.method == "GET" else "api"} & set(self.scopes):
            return _insufficient()
        if (request.method, request.path) == ("GET", f"{API}/user"):
            return Answer(200, self._person(self.account))
        if (request.method, request.path) == ("GET", f"{API}/personal_access_tokens/self"):
            return Answer(200, {"id": 1, "name": "sync", "active": True, "scopes": self.scopes, "expires_at": None})
        found = _PROJECT.fullmatch(request.path)
        if found is None:
            return Answer(404, {"error": "404 Not Found"})
        return self._in_project(request, unquote(found[1]), found[2])

    def is_create(self, request: Request) -> bool:
        found = _PROJECT.fullmatch(request.path)
        return request.method == "POST" and found is not None and found[2] is not None

    def limited(self) -> list[tuple[Answer, float | None]]:
        headers = {"Content-Type": "text/plain", "RateLimit-Limit": "60", "RateLimit-Remaining": "0"}
        told = {**headers, "Retry-After": "17", "RateLimit-Reset": str(int(self.now().timestamp()) + 17)}
        return [
            (Answer(429, "Retry later\n", told), 17.0),
            # The limit on new issues says nothing; it is one for a minute.
            (Answer(429, {"message": {"error": REPEATED}}), 60.0),
        ]

    def id_of(self, project: str) -> int:
        """The project's number."""
        return self._ids.setdefault(project, 101 + len(self._ids))

    def _in_project(self, request: Request, asked: str, issues: str | None) -> Answer:
        project = self._named(asked)
        if project in self.renamed:
            return self._moved(request, self.renamed[project], issues or "")
        if project is None:
            return _message(404, "404 Project Not Found")
        if issues is None:
            return Answer(200, self._project(project)) if request.method == "GET" else _message(405, "405 Not Allowed")
        if project in self.closed:
            return _message(403, "403 Forbidden")
        if request.method == "GET":
            return self._list(request, project)
        return _message(403, "403 Forbidden") if project in self.archived else self._create(request, project)

    def _named(self, asked: str) -> str | None:
        known = {*self.projects, *self.renamed, *self.renamed.values()}
        if asked.isdecimal():
            return next((each for each in known if self.id_of(each) == int(asked)), None)
        return asked if asked in known else None

    def _moved(self, request: Request, project: str, rest: str) -> Answer:
        if request.method != "GET":
            return _message(405, MOVED)
        query = f"?{urlencode(request.query, doseq=True)}" if request.query else ""
        place = f"{self.url}{API}/projects/{self.id_of(project)}{rest}{query}"
        return Answer(301, {"message": "Moved Permanently"}, {"Location": place})

    def _project(self, project: str) -> dict[str, Any]:
        member = {"access_level": self.role, "notification_level": 3} if self.role else None
        return {
            "id": self.id_of(project),
            "path_with_namespace": project,
            "archived": project in self.archived,
            "issues_enabled": project not in self.closed,
            "issues_access_level": "disabled" if project in self.closed else "enabled",
            "permissions": {"project_access": member, "group_access": None},
            "web_url": f"{self.url}/{project}",
        }

    def _list(self, request: Request, project: str) -> Answer:
        for name, values in _LIST_PARAMETERS.items():
            if name in request.query and request.first(name) not in values:
                return Answer(400, {"error": f"{name} does not have a valid value"})
        if unknown := request.query.keys() - {*_LIST_PARAMETERS, "page", "per_page"}:
            return Answer(400, {"error": f"this fake knows no {', '.join(sorted(unknown))}"})
        mine = request.first("scope", "created_by_me") == "created_by_me"
        state = request.first("state", "all")
        seen = [made for made in self.listed(project) if not mine or made.account == self.account]
        seen = [made for made in seen if state in ("all", made.raw.get("state", "opened"))]
        page, headers = self.page(request, seen, default=20, most=100)
        if self.outside:
            headers = {name: value.replace(self.url, self.outside) for name, value in headers.items()}
        return Answer(200, [self._issue(made) for made in page], headers)

    def _create(self, request: Request, project: str) -> Answer:
        fields = request.json()
        if refused := _refused(fields):
            return refused
        description, actions = quick_actions(fields.get("description") or "")
        labels = [label.strip() for label in fields.get("labels", "").split(",") if label.strip()]
        raw: dict[str, Any] = {"state": "opened", "due_date": fields.get("due_date"), "actions": actions}
        if self.role < PLANNER:
            labels = [label for label in labels if label in self.project_labels]
        if self.role < GUEST:
            labels, raw["due_date"] = [], None
        for action, words in actions:
            _carry_out(action, words, labels, raw)
        self.project_labels |= set(labels)
        made = self.make(project, raw.pop("title", fields["title"]), description, labels=labels, **raw)
        return Answer(201, self._issue(made))

    def _issue(self, made: Made) -> dict[str, Any]:
        at = _time(made.made_at)
        return {
            "id": 9000 + self.issues.index(made),
            "iid": made.number,
            "project_id": self.id_of(made.project),
            "title": made.title,
            "description": made.body,
            "state": made.raw.get("state", "opened"),
            "created_at": at,
            "updated_at": at,
            "labels": sorted(made.labels),
            "author": self._person(made.account),
            "due_date": made.raw.get("due_date"),
            "confidential": made.raw.get("confidential", False),
            "issue_type": "issue",
            "type": "ISSUE",
            "web_url": f"{self.url}/{made.project}/-/issues/{made.number}",
        }

    def _person(self, account: str) -> dict[str, Any]:
        return {"id": 7, "username": account, "name": account.title(), "state": "active", "web_url": f"/{account}"}


def quick_actions(text: str) -> tuple[str, list[tuple[str, str]]]:
    """What GitLab keeps of a description, and the actions in it, each with its words."""
    actions: list[tuple[str, str]] = []

    def extract(found: re.Match[str]) -> str:
        if found["action"] is None:
            return found[0]
        actions.append((found["action"].lower(), found["words"] or ""))
        return ""

    return _EXTRACTED.sub(extract, text.replace("\r", "")).rstrip(), actions


def _carry_out(action: str, words: str, labels: list[str], raw: dict[str, Any]) -> None:
    match action:
        case "close":
            raw["state"] = "closed"
        case "confidential":
            raw["confidential"] = True
        case "due":
            raw["due_date"] = words
        case "label":
            labels += [label.strip('"') for label in words.split("~") if label]
        case "title":
            raw["title"] = words


def _refused(fields: dict[str, Any]) -> Answer | None:
    if unknown := fields.keys() - _CREATE_FIELDS:
        return Answer(400, {"error": f"there is no {', '.join(sorted(unknown))}"})
    if not fields.get("title"):
        return Answer(400, {"error": "title is missing"})
    lengths = {"title": 255, "description": 1_048_576}
    for name, most in lengths.items():
        if len(fields.get(name) or "") > most:
            return Answer(400, {"message": {name: [f"is too long (maximum is {most} characters)"]}})
    if "due_date" in fields and not _is_date(fields["due_date"]):
        return Answer(400, {"error": "due_date is invalid"})
    return None


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(status: int, words: str) -> Answer:
    return Answer(status, {"message": words})


def _insufficient() -> Answer:
    body = {
        "error": "insufficient_scope",
        "error_description": "The request requires higher privileges than provided by the access token.",
        "scope": "api",
    }
    return Answer(403, body)
