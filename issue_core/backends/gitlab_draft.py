"""What is sent to GitLab for a task, and what of it GitLab dropped.

GitLab carries out quick actions that stand in a description, with the rights of whoever sends it: no line that could
be one leaves here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from issue_core.backends.labels import PRIORITY_LABELS, distinct
from issue_core.backends.markup import markdown
from issue_core.task import Task

DESCRIPTION = 1_048_576
"""Characters of a description (GitLab docs, "Issues API")."""

LABELS = 100
"""Labels of an issue; a cap that an instance can have (``limit_labels_per_work_item``)."""


def payload(task: Task, priorities: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """What is sent for ``task``, and notes on what is not sent as it stands in the task."""
    labels, notes = _labels(task, priorities)
    kept, rest = labels[:LABELS], labels[LABELS:]
    facts = markdown.facts_of(task, priority=False, due=False, labels=rest)
    description = markdown.body(
        task, text=markdown.safe(task.description, commands=True), facts=facts, most=DESCRIPTION
    )
    fields: dict[str, Any] = {"title": task.title, "description": description}
    if kept:
        fields["labels"] = ",".join(kept)
    if task.due_date:
        fields["due_date"] = task.due_date
    notes += [f"the label {label!r} is one too many: it is in the description" for label in rest]
    return fields, notes


def _labels(task: Task, priorities: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The names to send, each once whatever its case, the priority's first; and notes on those that are changed.

    A label's name cannot hold a comma (``app/models/label.rb``).
    """
    priority = priorities.get(task.priority) or PRIORITY_LABELS.get(task.priority)
    wanted = [priority, *task.labels] if priority else task.labels
    names = []
    notes = []
    for label in wanted:
        name = " ".join(label.replace(",", " ").split()) if "," in label else label
        if name != label:
            notes.append(f"the label {label!r} is {name!r} there: no comma can be in a name")
        names.append(name)
    return distinct(names), notes


def dropped(task: Task, fields: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    """What was sent and is not in the issue: GitLab drops without a word what the account may not set."""
    labels = answer.get("labels")
    there = {str(label).casefold() for label in labels} if isinstance(labels, list) else set()
    for label in filter(None, fields.get("labels", "").split(",")):
        if label.casefold() not in there:
            yield f"the tracker dropped the label {label!r}: the account may not set or make it"
    if task.due_date and answer.get("due_date") != task.due_date:
        yield f"the tracker dropped the due date {task.due_date}: the account may not set it"
    if task.event_id not in events_of(answer):
        yield "the tracker dropped the event ID from the description: the issue cannot be found by it"


def events_of(entry: Mapping[str, Any]) -> list[str]:
    """The event IDs that an issue carries; ``entry`` describes it as the API does."""
    description = entry.get("description")
    return markdown.events_in(description) if isinstance(description, str) else []
