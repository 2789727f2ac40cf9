"""What Redmine is asked to make of a task, and what it dropped of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from issue_core.backends.http import Reply
from issue_core.backends.markup import markdown
from issue_core.task import Task

LabelsForm = Literal["text", "list"]
"""How the labels' custom field takes them: one text, or several values. Only an administrator could ask which."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was looked up for a task: the numbers of its tracker and its priority (``None``: Redmine's default).

    ``told``: the priority has no number and has to stand in the text; ``notes`` say why, where that is no matter of
    course.
    """

    tracker: int | None = None
    priority: int | None = None
    told: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """What is sent. ``labels`` is the form in which the labels' field has them, if it does.

    ``plain``: a due date and labels that could have had fields of their own stand in the text.
    """

    issue: Mapping[str, Any]
    labels: LabelsForm | None
    plain: bool
    notes: tuple[str, ...]


def drafts_of(
    task: Task, project: str, choice: Choice, options: Mapping[str, Any], likely: LabelsForm
) -> Iterator[Draft]:
    """The ways to ask for the issue, one after another: the next is for when a field of the one before was refused."""
    forms: list[LabelsForm | None] = [None]
    if task.labels and options.get("labels_field"):
        forms = ["text", "list"] if likely == "text" else ["list", "text"]
    for form in forms:
        yield _draft(task, project, choice, options, form, due=task.due_date is not None)
    if forms != [None] or task.due_date is not None:
        yield _draft(task, project, choice, options, None, due=False, plain=True)


def _draft(
    task: Task,
    project: str,
    choice: Choice,
    options: Mapping[str, Any],
    labels: LabelsForm | None,
    *,
    due: bool,
    plain: bool = False,
) -> Draft:
    facts = markdown.facts_of(
        task,
        priority=choice.told,
        due=not due and task.due_date is not None,
        labels=[] if labels else task.labels,
    )
    issue: dict[str, Any] = {"project_id": project, "subject": task.title, "description": text_of(task, facts, options)}
    if choice.tracker is not None:
        issue["tracker_id"] = choice.tracker
    if choice.priority is not None:
        issue["priority_id"] = choice.priority
    if due:
        # No start date, which may default to today where the site is: a due date before it would be refused.
        issue |= {"due_date": task.due_date, "start_date": None}
    custom: list[dict[str, Any]] = []
    if field := options.get("event_field"):
        custom.append({"id": field, "value": task.event_id})
    if labels:
        custom.append({"id": options["labels_field"], "value": task.labels if labels == "list" else _text(task.labels)})
    if custom:
        issue["custom_fields"] = custom
    return Draft(issue, labels, plain, choice.notes)


def text_of(task: Task, facts: Sequence[str], options: Mapping[str, Any]) -> str:
    """The description with the facts and the marker, in the format that the site is set to."""
    if options.get("format", "markdown") == "markdown":
        return markdown.body(task, text=markdown.safe(task.description), facts=facts, most=None)
    from issue_core.backends.markup import textile

    tail = "---\n\n" + "".join(f"- {fact}\n" for fact in facts) if facts else ""
    return "\n\n".join(part for part in (textile.markup(task.description, tail), markdown.marker(task)) if part)


def _text(labels: Sequence[str]) -> str:
    return ", ".join(labels)


def priority_of(task: Task, wanted: str | None, levels: Sequence[Mapping[str, Any]]) -> int | None:
    """The number of the task's priority among the active ones, lowest first; ``wanted`` is its configured name or ID.

    Without one, high and low are the next ones above and below the default (below and above the middle where there is
    no default), for names are each site's own.
    """
    if wanted is not None:
        return id_named(wanted, levels)
    defaults = [at for at, level in enumerate(levels) if level.get("is_default")]
    at = defaults[0] if defaults else (len(levels) - 1) // 2
    at += {"high": 1, "low": -1}.get(task.priority, 0)
    return int(levels[at]["id"]) if 0 <= at < len(levels) else None


def id_named(wanted: str, entries: Sequence[Mapping[str, Any]]) -> int | None:
    """The ID of the entry with this name (whatever its case) or this ID."""
    named = [entry for entry in entries if str(entry["name"]).casefold() == wanted.casefold()]
    named += [entry for entry in entries if str(entry["id"]) == wanted]
    return int(named[0]["id"]) if named else None


def dropped(made: Mapping[str, Any], sent: Mapping[str, Any]) -> list[str]:
    """What the answer lacks of what was sent: Redmine says nothing when it leaves out what an account may not set."""
    notes = []
    for name in ("tracker", "priority"):
        given = made.get(name)
        if isinstance(given, dict) and f"{name}_id" in sent and given.get("id") != sent[f"{name}_id"]:
            notes.append(
                f"Redmine chose the {name} {given.get('name')!r}: the account may not set the one that was asked for"
            )
    if "due_date" in sent and made.get("due_date", sent["due_date"]) != sent["due_date"]:
        notes.append(f"Redmine dropped the due date {sent['due_date']}: the tracker has none, or it may not be set")
    has = {field["id"]: _values(field.get("value")) for field in made.get("custom_fields") or []}
    for field in sent.get("custom_fields", ()):
        if has.get(field["id"]) != _values(field["value"]):
            notes.append(
                f"Redmine dropped the custom field {field['id']} ({_text(_values(field['value']))}): "
                "the project or the tracker has none, or the account may not set it"
            )
    return notes


def _values(value: object) -> list[str]:
    return sorted(map(str, value)) if isinstance(value, list) else [str(value)]


def words_of(reply: Reply) -> str:
    """What Redmine says is wrong: the errors of a 422; its other refusals are empty."""
    with suppress(ValueError, RecursionError):
        told = json.loads(reply.body)
        if isinstance(told, dict) and isinstance(told.get("errors"), list):
            return "; ".join(map(str, told["errors"]))
    return "" if "html" in reply.headers.get("content-type", "") else reply.text()
