"""A fake GitHub: the part of the REST API that a client of issues uses, with its silences and its many limits.

Labels of an account without push access are dropped without a word, pull requests are among the issues, a renamed
repository answers 301 to GET and 307 to POST, and what one may not see is 404.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from tests.support.trackers.server import Answer, Made, Request, TrackerServer

_REPOSITORY = re.compile(r"/repos/([^/]+/[^/]+)(/issues|)")
_BY_NUMBER = re.compile(r"/repositories/(\d+)(/issues|)")

# The fields of "issues/create" in GitHub's API description, as JSON types.
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "title": (str, int), "body": str, "assignee": str, "milestone": (str, int), "labels": list, "assignees": list,
    "type": str,
}  # fmt: skip

_DOCS = {"documentation_url": "https://docs.github.com/rest"}


class Server(TrackerServer):
    """``pushes``: whether the account has push access; ``no_issues``: repositories that have issues switched off.

    ``is_app``: the token is a GitHub App's, which is no user.
    """

    redirects: ClassVar[bool] = True
    descriptions: ClassVar[tuple[str, ...]] = ("github",)

    def __init__(self) -> None:
        super().__init__()
        self.pushes = True
        self.is_app = False
        self.no_issues: set[str] = set()

    def is_create(self, request: Request) -> bool:
        """A POST to the issues of a repository."""
        return request.method == "POST" and request.path.endswith("/issues")

    def limited(self) -> list[tuple[Answer, float | None]]:
        """Both statuses, and each way to tell the wait (or not to): the documented order decides."""
        reset = str(int((self.now() + timedelta(seconds=40)).timestamp()))
        used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
        secondary = {"message": "You have exceeded a secondary rate limit.", **_DOCS}
        return [
            (Answer(429, secondary, {"Retry-After": "17"}), 17.0),
            (Answer(403, secondary, {"Retry-After": "17", "X-RateLimit-Remaining": "4000"}), 17.0),
            (Answer(403, {"message": "API rate limit exceeded", **_DOCS}, used_up), 40.0),
            (Answer(429, {"message": "API rate limit exceeded", **_DOCS}, used_up), 40.0),
            (Answer(403, secondary, {"X-RateLimit-Remaining": "4000"}), 60.0),
            (Answer(429, secondary), 60.0),
        ]

    def route(self, request: Request) -> Answer:
        """Who is it, then what was asked."""
        if not request.headers.get("user-agent"):
            return _said(403, "Request forbidden by administrative rules.")
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _said(401, "Bad credentials")
        if (request.method, request.path) == ("GET", "/user"):
            is_app = _said(403, "Resource not accessible by integration")
            return is_app if self.is_app else Answer(200, _user(self.account))
        if found := _BY_NUMBER.fullmatch(request.path):
            return self._in_repository(request, self._named(int(found[1])), found[2])
        if found := _REPOSITORY.fullmatch(request.path):
            return self._in_repository(request, found[1], found[2])
        return _said(404, "Not Found")

    def _in_repository(self, request: Request, name: str, part: str) -> Answer:
        if name in self.renamed:
            place = f"{self.url}/repositories/{self._id_of(self.renamed[name])}{part}"
            status = 301 if request.method == "GET" else 307
            return Answer(status, {"message": "Moved Permanently", "url": place, **_DOCS}, {"Location": place})
        known = {each.lower(): each for each in self.projects | set(self.renamed.values())}
        project = known.get(name.lower())
        if project is None:
            return _said(404, "Not Found")
        if part and project in self.no_issues:
            return _said(410, "Issues has been disabled in this repository.")
        if request.method == "POST" and project in self.closed:
            return _said(403, "Repository was archived so is read-only.")
        handlers: dict[tuple[str, str], Callable[[Request, str], Answer]] = {
            ("GET", ""): self._show,
            ("GET", "/issues"): self._list,
            ("POST", "/issues"): self._create,
        }
        handler = handlers.get((request.method, part))
        return handler(request, project) if handler else _said(404, "Not Found")

    def _show(self, request: Request, project: str) -> Answer:
        permissions = {"admin": False, "push": self.pushes, "pull": True}
        told = {"archived": project in self.closed, "has_issues": project not in self.no_issues}
        return Answer(200, {"id": self._id_of(project), "full_name": project, "permissions": permissions, **told})

    def _list(self, request: Request, project: str) -> Answer:
        wanted = (request.first("state"), request.first("sort"), request.first("direction"))
        if wanted != ("all", "created", "desc"):
            raise AssertionError(f"a list that may lack issues was asked for: {wanted}")
        page, headers = self.page(request, self.listed(project), default=30, most=100)
        return Answer(200, [self._issue(made) for made in page], headers)

    def _create(self, request: Request, project: str) -> Answer:
        fields = request.json()
        for name, value in fields.items():
            if name not in _FIELDS or not isinstance(value, _FIELDS[name]):
                return _invalid("Issue", name, "invalid")
        if not fields.get("title"):
            return _invalid("Issue", "title", "missing_field")
        if len(fields.get("body", "")) > 65_536:
            return _said(422, "Validation Failed", errors=["body is too long (maximum is 65536 characters)"])
        labels = fields.get("labels", [])
        if len(labels) > 100 or any(len(label) > 50 for label in labels):
            return _invalid("Label", "name", "invalid")
        made = self.make(project, fields["title"], fields.get("body", ""), labels=labels if self.pushes else [])
        return Answer(201, self._issue(made), {"Location": self._issue(made)["url"]})

    def _issue(self, made: Made) -> dict[str, Any]:
        at = _stamp(made.made_at)
        issue = {
            "id": 9000 + self.issues.index(made),
            "number": made.number,
            "title": made.title,
            "body": made.body or None,
            "state": made.raw.get("state", "open"),
            "url": f"{self.url}/repos/{made.project}/issues/{made.number}",
            "html_url": f"{self.url}/{made.project}/issues/{made.number}",
            "repository_url": f"{self.url}/repos/{made.project}",
            "user": _user(made.account),
            "labels": [{"name": name, "color": "ededed"} for name in made.labels],
            "created_at": at,
            "updated_at": at,
        }
        return {**issue, "pull_request": {"url": "…"}} if made.raw.get("pull_request") else issue

    def _id_of(self, project: str) -> int:
        return 1000 + sum(project.lower().encode())

    def _named(self, number: int) -> str:
        names = self.projects | set(self.renamed.values())
        return next((name for name in names if self._id_of(name) == number), "")


def _said(status: int, message: str, **more: object) -> Answer:
    return Answer(status, {"message": message, "status": str(status), **_DOCS, **more})


def _invalid(resource: str, field: str, code: str) -> Answer:
    return _said(422, "Validation Failed", errors=[{"resource": resource, "field": field, "code": code}])


def _user(login: str) -> dict[str, Any]:
    return {"login": login, "id": sum(login.encode()), "type": "User"}


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
