"""One task on the page for people: all that the ledger knows of it, and what happened to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from issue_core.ledger import history, queries
from issue_core.task import HistoryEntry, Task, TaskState, from_text
from issue_core.transports.http.page.parts import (
    NOTHING,
    Html,
    ago,
    code,
    cut,
    element,
    foreign,
    join,
    link,
    pairs,
    preformatted,
    table,
    text,
    until,
)

if TYPE_CHECKING:
    from issue_core.ledger import Ledger

HISTORY = 100
"""At most so many entries of a task's history are shown, the last ones."""

_LONG = 600  # characters of one detail of the history
_EXTRA = 10_000  # characters of the fields that no release knows


def state_of(
    state: TaskState, *, in_doubt: str | None = None, next_at: str | None = None, now: datetime | None = None
) -> Html:
    """A state as a word with a mark of its own shape; beside it, seen from ``now``, what a pending task waits for."""
    mark = element("span", class_=f"mark m-{state}", aria_hidden="true")
    word = element("span", mark, text(state), class_=f"s-{state}")
    if in_doubt:
        return join((word, text(" "), element("small", text("in doubt"))))
    if state == "pending" and next_at and now and from_text(next_at) > now:
        return join((word, text(" "), element("small", text("next try "), until(from_text(next_at), now))))
    return word


def one_task(ledger: Ledger, seq: int, now: datetime) -> Html:
    """All of task ``seq``.

    Raises:
        NotFound: there is none.
    """
    with ledger.read() as connection:
        task = queries.task(connection, seq)
        # One more than is shown tells whether there are more.
        entries = history.latest(connection, seq, limit=HISTORY + 1)
    return element(
        "section",
        element("p", element("a", text("Overview"), href="./"), text(f" / task {seq}"), class_="soft"),
        element("h2", foreign(task.title), id="task"),
        pairs(_facts(task, now), kind="facts"),
        _needs(task),
        _labels(task.labels),
        _description(task.description),
        _extra(task),
        _history(entries, now),
        class_="task",
        aria_labelledby="task",
    )


def _facts(task: Task, now: datetime) -> Iterator[tuple[str, Html]]:
    yield "State", state_of(task.state, next_at=task.next_attempt_at, now=now)
    if task.remote:
        yield "Issue", _issue(task)
    yield "Event ID", code(task.event_id)
    yield "Repo", foreign(task.target_repo)
    yield "Priority", text(task.priority)
    if task.due_date:
        yield "Due", text(task.due_date)
    yield "Source", join((text(f"{task.source_type} "), foreign(task.source_id)))
    if task.activity_definition_id:
        yield "Activity definition", foreign(task.activity_definition_id)
    yield "Backend", foreign(task.backend) if task.backend else text("not routed yet")
    yield "Attempts", text(f"{task.attempts:,}")
    if task.in_doubt_since:
        yield "In doubt since", ago(task.in_doubt_since, now)
    yield "Received", ago(task.created_at, now)
    yield "Last change", ago(task.updated_at, now)
    yield "Seen", text(", ".join(f"{n:,}\u00d7 by {transport}" for transport, n in task.sightings.items()))


def _issue(task: Task) -> Html:
    remote = task.remote
    if remote is None:
        return NOTHING
    shown = join((foreign(cut(remote.url or remote.id, _LONG)),))
    return join((link(remote.url, shown), text(" in "), foreign(remote.project))) if remote.project else shown


def _needs(task: Task) -> Html:
    """The last error, and what a person can do about it."""
    if not task.last_error:
        return NOTHING
    words = element("p", foreign(cut(task.last_error, 10 * _LONG)))
    if task.state != "failed":
        return element("div", element("p", text("The last error"), class_="soft"), words, class_="notice")
    retry = element("span", code(f"issue retry {task.seq}"), class_="do")
    todo = element("p", text("When that is mended: "), retry, class_="soft")
    return element(
        "div", element("p", text("Failed. The tracker's words:"), class_="soft"), words, todo, class_="notice bad"
    )


def _labels(labels: list[str]) -> Html:
    if not labels:
        return NOTHING
    return join((element("h3", text("Labels")), element("ul", *(_label(each) for each in labels), class_="labels")))


def _label(label: str) -> Html:
    return element("li", foreign(label))


def _description(description: str) -> Html:
    if not description:
        return NOTHING
    return join((element("h3", text("Description")), preformatted(description, "Description")))


def _extra(task: Task) -> Html:
    if not task.extra:
        return NOTHING
    shown = cut(json.dumps(task.extra, ensure_ascii=False, indent=2), _EXTRA)
    return join((element("h3", text("Fields that this release does not know")), preformatted(shown, "Unknown fields")))


def _history(entries: list[HistoryEntry], now: datetime) -> Html:
    shown = entries[-HISTORY:]
    rows = ((text(entry.kind), _details(entry), ago(entry.at, now)) for entry in reversed(shown))
    columns = (("what", "What"), ("detail", "Details"), ("when", "When"))
    last = f"The last {HISTORY}; issue show has them all." if len(entries) > HISTORY else "The last one first."
    return join((element("h3", text("History")), table(text(last), columns, rows, kind="history")))


def _details(entry: HistoryEntry) -> Html:
    return join((_detail(name, value) for name, value in entry.detail.items()), " ")


def _detail(name: str, value: object) -> Html:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return element("span", element("i", text(name)), text(" "), foreign(cut(shown, _LONG)))
