"""From a listing of marked issues to those of certain events."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from issue_core.backends.base import Issue


def of_events(marked: Iterable[tuple[str, Issue]], event_ids: Collection[str]) -> dict[str, list[Issue]]:
    """The issues of these events among ``marked``, each once and by rising number; their IDs are numbers."""
    wanted = frozenset(event_ids)
    found: dict[str, dict[int, Issue]] = {}
    for event_id, issue in marked:
        if event_id in wanted:
            found.setdefault(event_id, {})[int(issue.id)] = issue
    return {event_id: [issues[number] for number in sorted(issues)] for event_id, issues in found.items()}
