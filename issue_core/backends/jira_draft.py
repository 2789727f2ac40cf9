"""What Jira is asked to make of a task: the fields of the issue, in the form of Cloud or of Data Center."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from issue_core.backends.markup import adf, wiki
from issue_core.backends.markup.markdown import as_text, cut, cut_note, facts_of
from issue_core.task import Task

SUMMARY = 255
"""UTF-16 units of a summary: "Summary can't exceed 255 characters." """

DESCRIPTION = 32_767
"""UTF-16 units of a description, unless an administrator allows more (``jira.text.field.character.limit``)."""

PROPERTY = "issue-core"
"""The issue property that says where the task came from. Clients cannot search it; people do not see it."""

_PRIORITIES = {"high": "High", "low": "Low"}
_MARK = re.compile(r"ic-(?=[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Flavour:
    """What differs: the API's path, a user's lasting name, how the description is written and measured."""

    api: str
    path: str
    user: str
    render: Callable[[str, str], Any]
    size: Callable[[Any], int]


FLAVOURS = {
    "cloud": Flavour("cloud", "/rest/api/3", "accountId", adf.document, adf.size),
    "dc": Flavour("dc", "/rest/api/2", "name", wiki.markup, wiki.size),
}


@dataclass(frozen=True, slots=True)
class Draft:
    """What is sent, the optional fields in it (a priority with its name), and what will not be as it was asked."""

    payload: Mapping[str, Any]
    optional: frozenset[str]
    notes: tuple[str, ...]


def draft_of(
    task: Task, project: str, options: Mapping[str, Any], flavour: Flavour, dropped: frozenset[str] = frozenset()
) -> Draft:
    """The request that makes the issue, without the optional fields that are ``dropped``."""
    priority = options.get("priorities", {}).get(task.priority) or _PRIORITIES.get(task.priority)
    labels, notes = labels_of(task.labels)
    offered = {f"priority {priority}": priority, "duedate": task.due_date, "labels": labels}
    sent = {name for name, value in offered.items() if value} - dropped
    lost = [name for name, value in offered.items() if value and name in dropped]
    notes += [f"Jira does not take the field {name.partition(' ')[0]!r} here; it stands in the text" for name in lost]
    fields: dict[str, Any] = {
        "project": {"key": project},
        "issuetype": {"name": type_of(options)},
        "summary": _summary(task.title),
        "description": description_of(task, _facts(task, lost), flavour),
        "labels": [f"ic-{task.event_id}", *(labels if "labels" in sent else [])],
    }
    if f"priority {priority}" in sent:
        fields["priority"] = {"name": priority}
    if "duedate" in sent:
        fields["duedate"] = task.due_date
    value = {**task.ingestion, "event_id": task.event_id}
    return Draft({"fields": fields, "properties": [{"key": PROPERTY, "value": value}]}, frozenset(sent), tuple(notes))


def type_of(options: Mapping[str, Any]) -> str:
    """The name of the issue type that is made."""
    return str(options.get("issue_type") or "Task")


def labels_of(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """The labels as Jira takes them, without white space and without what looks like a mark of ours; and the notes."""
    taken, notes = [], []
    for label in labels:
        made = _MARK.sub("ic_", re.sub(r"\s+", "_", label))
        taken.append(made)
        if made != label:
            notes.append(f"the label {label!r} is {made!r} in Jira")
    return list(dict.fromkeys(taken)), notes


def description_of(task: Task, facts: Sequence[str], flavour: Flavour) -> Any:
    """The description in the tracker's own form, with the facts and the event ID under it; cut where it is too long."""
    tail = "---\n\n" + "".join(f"{fact}\n\n" for fact in facts) + f"*issue-core event {task.event_id}*\n"
    text, keep = task.description, len(task.description)
    note = cut_note(task)
    while (size := flavour.size(form := flavour.render(text, tail))) > DESCRIPTION and keep > len(note):
        # The tracker's form is about as much longer everywhere; a few rounds bring it under the limit.
        keep = max(len(note), min(keep * DESCRIPTION // size, keep - 500))
        text = cut(task.description, keep, note)
    return form


def _facts(task: Task, lost: Collection[str]) -> list[str]:
    """What the issue has no field for, as lines of Markdown."""
    facts = facts_of(
        task,
        priority=any(name.startswith("priority") for name in lost),
        due="duedate" in lost,
        labels=task.labels if "labels" in lost else (),
    )
    full = [] if _summary(task.title) == task.title else [f"**Full title:** {as_text(task.title)}"]
    return [*full, *facts]


def _summary(title: str) -> str:
    """The title within :data:`SUMMARY` UTF-16 units."""
    if wiki.size(title) <= SUMMARY:
        return title
    return title.encode("utf-16-le")[: 2 * (SUMMARY - 1)].decode("utf-16-le", errors="ignore") + "…"
