"""Redmine, as its clients see it: REST API with JSON, as its own source answers (IssuesController, Issue, query.rb).

It says nothing when it drops what an account may not set, refuses without a word but for a 422, and tells that in its
user's language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, ClassVar
from urllib.parse import unquote

from tests.support.trackers.server import Answer, Made, Request, TrackerServer

__all__ = ["Field", "Server"]

# The fields of a new issue in the API's description, and the types that JSON may have for them.
FIELDS: Mapping[str, tuple[type, ...]] = {
    "project_id": (int, str),
    "tracker_id": (int,),
    "status_id": (int,),
    "priority_id": (int,),
    "subject": (str,),
    "description": (str, type(None)),
    "start_date": (str, type(None)),
    "due_date": (str, type(None)),
    "category_id": (int, type(None)),
    "parent_issue_id": (int, type(None)),
    "custom_fields": (list,),
    "is_private": (bool,),
}
SUBJECT = 255
TRACKERS = {1: "Fehler", 2: "Feature", 3: "Unterstützung"}
PRIORITIES = {1: "Niedrig", 2: "Normal", 3: "Hoch", 4: "Dringend", 5: "Sofort"}


@dataclass(slots=True)
class Field:
    """A custom field: whether it takes several values, which (``None``: any), and whether accounts may set it."""

    multiple: bool = False
    possible: set[str] | None = None
    locked: bool = False


class Server(TrackerServer):
    """A Redmine whose users have to log in; ``account`` is the ID of the key's user, ``stranger`` another's."""

    descriptions: ClassVar[tuple[str, ...]] = ("redmine",)

    project = "web"
    other_project = "api"
    unknown_project = "nowhere"
    account = "5"
    stranger = "6"

    def __init__(self) -> None:
        super().__init__()
        self.rest_on = True
        self.may_add = True
        self.archived: set[str] = set()
        self.without_issues: set[str] = set()
        self.parents: dict[str, str] = {}
        self.trackers = {1, 2}
        self.priorities: dict[int, str] = dict(PRIORITIES)
        self.default_priority: int | None = 2
        self.fields: dict[int, Field] = {}
        self.days_ahead = 0
        self.start_today = True
        self.start_required = False
        self.due_dates = True

    def is_create(self, request: Request) -> bool:
        """Whether the request makes an issue."""
        return request.method == "POST" and request.path == "/issues.json"

    def next_number(self, project: str) -> int:
        """Issues are numbered over all projects."""
        return 1 + len(self.issues)

    def route(self, request: Request) -> Answer:
        """One request, as Redmine answers it."""
        if not self.rest_on:
            return Answer(403)
        if request.headers.get("x-redmine-api-key") != self.token:
            return Answer(401)
        if not request.path.endswith(".json"):
            return Answer(406)
        match request.method, unquote(request.path.removesuffix(".json")).split("/")[1:]:
            case "GET", ["users", "current"]:
                return Answer(200, {"user": self.user(request)})
            case "GET", ["roles", "3"]:
                permissions = ["view_issues", *(["add_issues"] if self.may_add else [])]
                return Answer(200, {"role": {"id": 3, "name": "Melder", "permissions": permissions}})
            case "GET", ["projects", *names]:
                return self.show_project("/".join(names), request)
            case "GET", ["trackers"]:
                return Answer(200, {"trackers": [named(number, TRACKERS) for number in TRACKERS]})
            case "GET", ["enumerations", "issue_priorities"]:
                return Answer(200, {"issue_priorities": self.levels()})
            case "GET", ["issues"]:
                return self.list_issues(request)
            case "POST", ["issues"]:
                return self.create(request)
        return Answer(404)

    # --- what there is ------------------------------------------------------------------------------------------

    def user(self, request: Request) -> dict[str, Any]:
        """The key's user, a member of every project."""
        user: dict[str, Any] = {"id": int(self.account), "login": "our-bot", "admin": False}
        if "memberships" in request.first("include"):
            user["memberships"] = [
                {
                    "id": at,
                    "project": {"id": self.project_id(name), "name": name},
                    "roles": [{"id": 3, "name": "Melder"}],
                }
                for at, name in enumerate(sorted(self.projects))
            ]
        return user

    def levels(self) -> list[dict[str, Any]]:
        """The priorities, lowest first, and one that is not used any more."""
        levels = [
            {"id": number, "name": name, "is_default": number == self.default_priority, "active": True}
            for number, name in self.priorities.items()
        ]
        return [*levels, {"id": 99, "name": "Früher", "is_default": False, "active": False}]

    def project_id(self, name: str) -> int:
        """The number of a project."""
        return 1 + sorted(self.projects | {self.project, self.other_project}).index(name)

    def known(self, name: str) -> str | None:
        """The identifier of the project with this identifier or number."""
        return next((each for each in self.projects if name in (each, str(self.project_id(each)))), None)

    def show_project(self, name: str, request: Request) -> Answer:
        """A project with its status and, if asked for, its modules."""
        project = self.known(name)
        if project is None:
            return Answer(404)
        if project in self.archived:
            return Answer(403)
        status = 5 if project in self.closed else 1
        shown = {"id": self.project_id(project), "name": project.title(), "identifier": project, "status": status}
        if "enabled_modules" in request.first("include"):
            modules = ["wiki", *(["issue_tracking"] if project not in self.without_issues else [])]
            shown["enabled_modules"] = [{"id": at, "name": each} for at, each in enumerate(modules)]
        return Answer(200, {"project": shown})

    def is_open(self, project: str) -> bool:
        """Whether our user may add issues to it."""
        return self.may_add and project not in self.closed | self.archived | self.without_issues

    # --- lists --------------------------------------------------------------------------------------------------

    def list_issues(self, request: Request) -> Answer:
        """A page of the issues; a filter that is none is ignored, as Redmine does."""
        project = self.known(request.first("project_id"))
        if project is None:
            return Answer(404)
        if project in self.archived | self.without_issues:
            return Answer(403)
        assert request.first("sort") == "created_on:desc,id:desc", "this fake sorts in one way"
        names = {project}
        if request.first("subproject_id") != "!*":
            names |= {child for child, parent in self.parents.items() if parent == project}
        found = [made for name in names for made in self.listed(name) if self.passes(made, request)]
        found.sort(key=lambda made: (made.made_at, made.number), reverse=True)
        offset, limit = int(request.first("offset", "0")), self.size(request.first("limit"), default=25, most=100)
        rows = [self.shown(made) for made in found[offset : offset + limit]]
        return Answer(200, {"issues": rows, "total_count": len(found), "offset": offset, "limit": limit})

    def passes(self, made: Made, request: Request) -> bool:
        """Whether the issue passes the filter for its status: only open ones do unless more are asked for."""
        return request.first("status_id", "o") == "*" or made.raw.get("state") != "closed"

    def shown(self, made: Made) -> dict[str, Any]:
        """The issue as the API tells it."""
        stamp = made.made_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        shown = {
            "id": made.number,
            "project": {"id": self.project_id(made.project), "name": made.project.title()},
            "tracker": named(made.raw.get("tracker_id", 1), TRACKERS),
            "status": {"id": 1, "name": "Neu", "is_closed": made.raw.get("state") == "closed"},
            "priority": named(made.raw.get("priority_id") or 2, {**PRIORITIES, **self.priorities}),
            "author": {"id": int(made.account), "name": "Somebody"},
            "subject": made.title,
            "description": stored(made.body),
            "start_date": made.raw.get("start_date"),
            "due_date": made.raw.get("due_date"),
            "created_on": stamp,
            "updated_on": stamp,
        }
        if self.fields:
            values = made.raw.get("custom_fields", {})
            shown["custom_fields"] = [
                {"id": number, "name": f"Feld {number}", "value": values.get(number, [] if field.multiple else None)}
                | ({"multiple": True} if field.multiple else {})
                for number, field in self.fields.items()
            ]
        return shown

    # --- a new issue --------------------------------------------------------------------------------------------

    def create(self, request: Request) -> Answer:
        """Make an issue: the project of the path or query decides first, then that of the body."""
        if asked := request.first("project_id"):
            project = self.known(asked)
            if project is None:
                return Answer(404)
            if not self.is_open(project):
                return Answer(403)
        if request.headers.get("content-type") != "application/json":
            return Answer(422, {"errors": ["Projekt muss ausgefüllt werden"]})
        issue = request.json()["issue"]
        check_types(issue)
        project = self.known(str(issue["project_id"]))
        if project is None or not self.is_open(project):
            return Answer(422, {"errors": ["Projekt muss ausgefüllt werden", "Tracker muss ausgefüllt werden"]})
        attributes = self.attributes(issue)
        if errors := self.errors(issue, attributes):
            return Answer(422, {"errors": errors})
        made = self.make(project, issue["subject"], issue.get("description") or "", **attributes)
        where = f"{self.url}/issues/{made.number}"
        return Answer(201, {"issue": self.shown(made)}, {"Location": where})

    def attributes(self, issue: Mapping[str, Any]) -> dict[str, Any]:
        """What Redmine takes of an issue's fields; the rest is dropped without a word."""
        today = (self.now() + timedelta(days=self.days_ahead)).date().isoformat()
        tracker = issue.get("tracker_id")
        taken = {
            "tracker_id": tracker if tracker in self.trackers else min(self.trackers),
            "priority_id": issue.get("priority_id", self.default_priority),
            "start_date": issue.get("start_date", today if self.start_today else None),
            "due_date": issue.get("due_date") if self.due_dates else None,
        }
        open_fields = {number for number, field in self.fields.items() if not field.locked}
        custom = {each["id"]: each["value"] for each in issue.get("custom_fields", []) if each["id"] in open_fields}
        return {**taken, "custom_fields": custom}

    def errors(self, issue: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[str]:
        """What is wrong with it, in the language of the user."""
        errors = []
        start, due = (attributes[name] and date.fromisoformat(attributes[name]) for name in ("start_date", "due_date"))
        if not issue["subject"].strip():
            errors.append("Thema muss ausgefüllt werden")
        if len(issue["subject"]) > SUBJECT:
            errors.append("Thema ist zu lang (mehr als 255 Zeichen)")
        if attributes["priority_id"] not in self.priorities:
            errors.append("Priorität muss ausgefüllt werden")
        if self.start_required and start is None:
            errors.append("Beginn muss ausgefüllt werden")
        if start and due and due < start:
            errors.append("Abgabedatum muss größer sein als Beginn")
        for number, value in attributes["custom_fields"].items():
            field = self.fields[number]
            values = value if isinstance(value, list) else [value]
            if isinstance(value, list) and not field.multiple:
                errors.append(f"Feld {number} ist nicht gültig")
            elif field.possible is not None and not field.possible.issuperset(values):
                errors.append(f"Feld {number} ist kein gültiger Wert")
        return errors


def stored(text: str) -> str:
    """A text as the API gives it back: Redmine's issues have CR LF at the end of each line, whatever was sent."""
    return re.sub(r"\r\n|\n|\r", "\r\n", text)


def named(number: int, names: Mapping[int, str]) -> dict[str, Any]:
    """A reference as the API gives it."""
    return {"id": number, "name": names[number]}


def check_types(issue: Mapping[str, Any]) -> None:
    """Fail where a field is none of the API's description, or of another type."""
    for name, value in issue.items():
        assert name in FIELDS, f"the API's description has no field {name!r}"
        assert isinstance(value, FIELDS[name]), f"{name} is {value!r}"
        assert not (isinstance(value, bool) and bool not in FIELDS[name]), f"{name} is {value!r}"
    for name in ("start_date", "due_date"):
        if issue.get(name) is not None:
            date.fromisoformat(issue[name])
