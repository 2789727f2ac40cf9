"""What Redmine says: its user, projects and lists, and what its refusals mean, most of which are empty."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from issue_core.backends import http
from issue_core.backends.base import Issue, Target
from issue_core.backends.http import Client, Reply
from issue_core.backends.redmine_draft import Draft, dropped, words_of
from issue_core.errors import BackendError, CredentialsRefused, ProjectClosed

ISSUE_TRACKING = "issue_tracking"
"""The module of a project that has issues."""

NO_PROJECT = "`project` or `projects` names it by its identifier, as in its address; the key's user must be a member"
NO_RIGHT = "give the key's user a role in the project with the permission to add issues, and look whether it is closed"
"""What to do where a project is not seen, and where it is but takes no issue."""

# app/models/project.rb: STATUS_ACTIVE. 5 is closed, 9 archived, 10 about to be deleted.
_ACTIVE = 1

_REST_OFF = "is the REST API on? (Administration → Settings → API → Enable REST web service)"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Project:
    """A project, by its number: whether it is active (not closed or archived), and whether it has issues."""

    number: int
    active: bool
    has_issues: bool


def user_of(client: Client, *, timeout: float | None = None) -> dict[str, Any]:
    """The user of the key.

    Raises:
        CredentialsRefused: the key is bad, the REST API is off (403), or there is no Redmine (404).
    """
    reply = client.get("/users/current.json", timeout=timeout)
    if reply.status == 200:
        return read(reply, lambda answer: {**answer["user"], "id": int(answer["user"]["id"])})
    error = http.error_of(reply, words_of(reply), create=False)
    if isinstance(error, ProjectClosed):
        hint = _REST_OFF if reply.status == 403 else "the backend's url must be that of Redmine's start page"
        raise CredentialsRefused(error.message, hint=hint)
    raise error


def project_of(client: Client, project: str, *, timeout: float | None = None) -> Project:
    """What the project allows.

    Raises:
        ProjectClosed: it is not there, archived, or not to be seen by this account.
    """
    reply = client.get(f"/projects/{quote(project, safe='')}.json", {"include": "enabled_modules"}, timeout=timeout)
    if reply.status != 200:
        raise read_error(reply, project)
    return read(reply, lambda answer: _as_project(answer["project"]))


def _as_project(told: Mapping[str, Any]) -> Project:
    modules = told.get("enabled_modules")
    names = None if modules is None else frozenset(str(module["name"]) for module in modules)
    return Project(int(told["id"]), told.get("status", _ACTIVE) == _ACTIVE, names is None or ISSUE_TRACKING in names)


def require_open(found: Project, project: str) -> None:
    """Let a project pass that takes issues.

    Raises:
        ProjectClosed: it is closed, or has its issue tracking off.
    """
    if not found.active:
        raise ProjectClosed(f"The project {project!r} is closed or archived in Redmine.", hint="open it again there")
    if not found.has_issues:
        raise ProjectClosed(
            f"The project {project!r} has no issues in Redmine.", hint="switch its module “Issue tracking” on"
        )


def read_error(reply: Reply, project: str) -> BackendError:
    """What a refusal to show a project means."""
    error = http.error_of(reply, words_of(reply), create=False)
    if isinstance(error, ProjectClosed):
        why = "there is none of this name" if reply.status == 404 else "it is archived, or this account may not see it"
        return ProjectClosed(f"{error.message} (project {project!r}: {why})", hint=NO_PROJECT)
    return error


def refused(reply: Reply, client: Client, target: Target, deadline: float) -> BackendError:
    """What it means that no issue was made. Redmine's refusals are empty, so it is asked what is the matter.

    Raises:
        CredentialsRefused, ProjectClosed: that is what it says then. Unreachable, TryLater: it cannot be asked.
    """
    error = http.error_of(reply, words_of(reply), create=True)
    if not isinstance(error, ProjectClosed) and reply.status != 422:
        return error
    user_of(client, timeout=left(deadline))
    require_open(project_of(client, target.project, timeout=left(deadline)), target.project)
    if isinstance(error, ProjectClosed):
        return ProjectClosed(f"{error.message} (project {target.project!r})", hint=NO_RIGHT)
    return error


def made_of(reply: Reply, target: Target, draft: Draft, refusals: Sequence[Reply]) -> Issue:
    """The issue that Redmine says it made, and what of it is not as it was asked."""
    notes = list(draft.notes)
    if draft.plain:
        said = refusals[0].clean(words_of(refusals[0]))
        notes.append(f"due date and labels, if any, stand in the text, for Redmine refused them as fields: {said}")
    return read(reply, lambda made: issue_of(made["issue"], target, [*notes, *dropped(made["issue"], draft.issue)]))


def issue_of(made: Mapping[str, Any], target: Target, notes: Collection[str] = ()) -> Issue:
    """An issue as the API tells it; its account is the ID of its author, empty where it has none."""
    number = int(made["id"])
    author = made.get("author") or {}
    url = f"{target.address}/issues/{number}"
    return Issue(str(number), url, target.project, str(author.get("id", "")), tuple(notes))


def entries_of(answer: Any) -> list[dict[str, Any]]:
    """The active entries of the one list in an answer."""
    (entries,) = (value for value in answer.values() if isinstance(value, list))
    return [
        {**entry, "id": int(entry["id"]), "name": str(entry["name"])} for entry in entries if entry.get("active", True)
    ]


def read(reply: Reply, take: Callable[[Any], T]) -> T:
    """What ``take`` finds in the answer; an answer without it makes no sense."""
    with reply.understood():
        return take(reply.json())


def time_of(text: str) -> datetime:
    """A time as Redmine tells it (RFC 3339); one without a zone is none."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at


def left(deadline: float) -> float:
    """The seconds until then, for a request that must not take longer; where there are none, too few for any."""
    return max(0.001, deadline - time.monotonic())


def may_add(client: Client, project: int) -> bool | None:
    """Whether one of the user's roles in the project has the permission; None for who is no member of it."""
    reply = client.get("/users/current.json", {"include": "memberships"})
    if reply.status != 200:
        return None
    admin, roles = read(reply, lambda answer: _roles(answer["user"], project))
    if admin:
        return True
    answers = [client.get(f"/roles/{role}.json") for role in roles]
    if not answers or any(each.status != 200 for each in answers):
        return None
    return any("add_issues" in read(each, lambda answer: answer["role"]["permissions"]) for each in answers)


def _roles(user: Mapping[str, Any], project: int) -> tuple[bool, list[int]]:
    """Whether the user is an administrator, and the IDs of the user's roles in the project."""
    mine = [each for each in user.get("memberships") or () if each["project"]["id"] == project]
    return bool(user.get("admin")), [int(role["id"]) for each in mine for role in each["roles"]]
