"""A fake Gitea, or Forgejo: what both have in common of ``/api/v1``, with the silences that they are known for.

Labels are taken by number and foreign ones dropped without a word; so are labels and due dates of an account that may
not write. A title of more than 255 bytes is cut. A repository that was renamed answers 301, to POST too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, ClassVar

from tests.support.trackers.server import Answer, Made, Request, TrackerServer

SCOPES = frozenset({"write:issue", "read:user", "read:repository", "read:organization"})

_REPOSITORY = re.compile(r"/api/v1/repos/([^/]+/[^/]+)(/issues|/labels|)")
_ORGANISATION = re.compile(r"/api/v1/orgs/([^/]+)/labels")
_COLOUR = re.compile(r"#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")

# CreateIssueOption and CreateLabelOption: the fields that Gitea and Forgejo both take, as JSON types.
_ISSUE_FIELDS: Mapping[str, type] = {
    "title": str, "body": str, "labels": list, "due_date": str, "assignee": str, "assignees": list,
    "milestone": int, "closed": bool, "ref": str,
}  # fmt: skip
_LABEL_FIELDS: Mapping[str, type] = {
    "name": str, "color": str, "description": str, "exclusive": bool, "is_archived": bool,
}  # fmt: skip

_NOT_FOUND = Answer(404, {"message": "The target couldn't be found.", "url": "https://example.org/api/swagger"})


class Server(TrackerServer):
    """``scopes`` are the token's, ``writes`` is whether its account may write, ``no_issues`` have issues switched off.

    ``labels`` of repositories and ``org_labels`` of organisations: whose → number → name; names can be there twice.
    """

    redirects: ClassVar[bool] = True
    descriptions: ClassVar[tuple[str, ...]] = ("gitea", "forgejo")

    def __init__(self) -> None:
        super().__init__()
        self.scopes = set(SCOPES)
        self.writes = True
        self.no_issues: set[str] = set()
        self.labels: dict[str, dict[int, str]] = {}
        self.org_labels: dict[str, dict[int, str]] = {}
        self._label_numbers = count(100)

    def add_label(self, name: str, *, project: str | None = None, org: str | None = None) -> int:
        """A label that somebody made, in the repository or in the organisation; its number."""
        number = next(self._label_numbers)
        labels = self.org_labels.setdefault(org, {}) if org else self.labels.setdefault(project or self.project, {})
        labels[number] = name
        return number

    def is_create(self, request: Request) -> bool:
        """A POST to the issues of a repository."""
        return request.method == "POST" and request.path.endswith("/issues")

    def route(self, request: Request) -> Answer:
        """Who is it, may they, and then what was asked."""
        if refused := self._unauthorised(request):
            return refused
        if request.path == "/api/v1/user" and request.method == "GET":
            return self._scoped("user", request) or Answer(200, _user(self.account))
        if (found := _ORGANISATION.fullmatch(request.path)) and request.method == "GET":
            return self._scoped("organization", request) or self._list_org_labels(request, found[1])
        if found := _REPOSITORY.fullmatch(request.path):
            category = "issue" if found[2] else "repository"
            return self._scoped(category, request) or self._in_repository(request, found[1], found[2])
        return _NOT_FOUND

    def _unauthorised(self, request: Request) -> Answer | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            return Answer(401, {"message": "token is required", "url": ""})
        if scheme.lower() not in ("token", "bearer") or token != self.token:
            return Answer(401, {"message": "invalid username, password or token", "url": ""})
        return None

    def _scoped(self, category: str, request: Request) -> Answer | None:
        level = ("write",) if request.method != "GET" else ("read", "write")
        if self.scopes.intersection(f"{each}:{category}" for each in level):
            return None
        words = f"token does not have at least one of required scope(s), required=[{level[0]}:{category}]"
        return Answer(403, {"message": words, "url": ""})

    def _in_repository(self, request: Request, name: str, part: str) -> Answer:
        if name in self.renamed:
            return Answer(301, None, {"Location": request.path.replace(name, self.renamed[name], 1)})
        known = {each.lower(): each for each in self.projects | set(self.renamed.values())}
        project = known.get(name.lower())
        if project is None or (part == "/issues" and project in self.no_issues):
            return _NOT_FOUND
        if request.method == "POST" and project in self.closed:
            return Answer(423, {"message": f"{project} is archived", "url": ""})
        handlers: dict[tuple[str, str], Callable[[Request, str], Answer]] = {
            ("GET", ""): self._show_repository,
            ("GET", "/issues"): self._list_issues,
            ("POST", "/issues"): self._create_issue,
            ("GET", "/labels"): self._list_labels,
            ("POST", "/labels"): self._create_label,
        }
        handler = handlers.get((request.method, part))
        return handler(request, project) if handler else Answer(405)

    def _show_repository(self, request: Request, project: str) -> Answer:
        permissions = {"admin": False, "push": self.writes, "pull": True}
        archived, has_issues = project in self.closed, project not in self.no_issues
        owner = _user(project.split("/")[0])
        repository = {**_repository(project), "owner": owner, "archived": archived, "has_issues": has_issues}
        return Answer(200, {**repository, "permissions": permissions})

    # --- issues -------------------------------------------------------------------------------------------------

    def _create_issue(self, request: Request, project: str) -> Answer:
        fields, wrong = _checked(request, _ISSUE_FIELDS, required=("title",))
        if wrong:
            return wrong
        if not all(type(number) is int for number in fields.get("labels", ())):
            return Answer(
                422, {"message": "json: cannot unmarshal string into Go struct field of type int64", "url": ""}
            )
        if "due_date" in fields and _moment(fields["due_date"]) is None:
            return Answer(422, {"message": f"parsing time {fields['due_date']!r}: cannot parse", "url": ""})
        usable = self._usable(project)
        numbers = [number for number in fields.get("labels", ()) if number in usable] if self.writes else []
        due = _moment(fields["due_date"]) if "due_date" in fields and self.writes else None
        made = self.make(
            project,
            _cut(fields["title"]),
            fields.get("body", ""),
            labels=[usable[number] for number in numbers],
            label_numbers=numbers,
            due_date=due.isoformat().replace("+00:00", "Z") if due else None,
        )
        return Answer(201, self._issue(made))

    def _usable(self, project: str) -> dict[int, str]:
        return {**self.labels.get(project, {}), **self.org_labels.get(project.split("/")[0], {})}

    def _list_issues(self, request: Request, project: str) -> Answer:
        state, kind = request.first("state", "open"), request.first("type")
        found = [made for made in self.listed(project) if state in ("all", made.raw.get("state", "open"))]
        if kind in ("issues", "pulls"):
            found = [made for made in found if ("pull_request" in made.raw) == (kind == "pulls")]
        page, headers = self.page(request, found, default=30, most=50, size="limit")
        return Answer(200, [self._issue(made) for made in page], {**headers, "X-Total-Count": str(len(found))})

    def _issue(self, made: Made) -> dict[str, Any]:
        at = made.made_at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
        place = f"{made.project}/issues/{made.number}"
        names = zip(made.raw.get("label_numbers", ()), made.labels, strict=False)
        return {
            "id": 9000 + self.issues.index(made),
            "number": made.number,
            "title": made.title,
            "body": made.body,
            "state": made.raw.get("state", "open"),
            "url": f"{self.url}/api/v1/repos/{place}",
            "html_url": f"{self.url}/{place}",
            "user": _user(made.account),
            "labels": [_label(number, name) for number, name in names],
            "created_at": at,
            "updated_at": at,
            "due_date": made.raw.get("due_date"),
            "pull_request": made.raw.get("pull_request"),
            "repository": _repository(made.project),
        }

    # --- labels -------------------------------------------------------------------------------------------------

    def _list_labels(self, request: Request, project: str) -> Answer:
        return self._label_page(request, self.labels.get(project, {}))

    def _list_org_labels(self, request: Request, org: str) -> Answer:
        return self._label_page(request, self.org_labels[org]) if org in self.org_labels else _NOT_FOUND

    def _label_page(self, request: Request, labels: Mapping[int, str]) -> Answer:
        found = [_label(number, name) for number, name in sorted(labels.items(), key=lambda label: label[1])]
        each = self.size(request.first("limit"), default=30, most=50)
        start = each * (max(1, int(request.first("page", "1"))) - 1)
        following = self._page_url(request, start // each + 2) if start + each < len(found) else None
        headers = {"Link": f'<{following}>; rel="next"'} if following else {}
        return Answer(200, found[start : start + each], {**headers, "X-Total-Count": str(len(found))})

    def _create_label(self, request: Request, project: str) -> Answer:
        if not self.writes:
            return Answer(403, {"message": "user should have a permission to write to a repo", "url": ""})
        fields, wrong = _checked(request, _LABEL_FIELDS, required=("name", "color"))
        if wrong:
            return wrong
        if not _COLOUR.fullmatch(fields["color"]):
            return Answer(422, {"message": "StyleError: bad colour", "url": ""})
        return Answer(201, _label(self.add_label(fields["name"], project=project), fields["name"]))


def _checked(
    request: Request, known: Mapping[str, type], *, required: Sequence[str]
) -> tuple[dict[str, Any], Answer | None]:
    """The fields of the request; or why it is refused. A field that the products do not have is a mistake of ours."""
    fields = request.json()
    for name, value in fields.items():
        if name not in known or not isinstance(value, known[name]):
            return {}, Answer(422, {"message": f"[{name}]: {value!r}", "url": ""})
    for name in required:
        if not fields.get(name):
            return {}, Answer(422, {"message": f"[{name.title()}]: Required", "url": ""})
    return fields, None


def _cut(title: str) -> str:
    """The title as Forgejo keeps it: 255 bytes."""
    raw = title.encode()
    return title if len(raw) <= 255 else raw[:252].decode(errors="ignore") + "…"


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _user(login: str) -> dict[str, Any]:
    return {"id": 1 + sum(login.encode()), "login": login, "full_name": "", "email": f"{login}@noreply.example.org"}


def _label(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "name": name, "color": "8c959f", "exclusive": False, "description": ""}


def _repository(project: str) -> dict[str, Any]:
    owner, name = project.split("/")
    return {"id": 1, "name": name, "owner": owner, "full_name": project}
