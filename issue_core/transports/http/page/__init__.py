"""``GET /``: the ledger for people, as one HTML document with no script and nothing to fetch.

It reads what it shows and no more, changes nothing, and says which commands do.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from issue_core.errors import NotFound, UsageError
from issue_core.ledger import glances, limits, queries, rejects
from issue_core.ledger.glances import Glance
from issue_core.task import STATES, FieldProblem, TaskState, to_text
from issue_core.transports.http.page.first import first_steps
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
    table,
    text,
    to_task,
    until,
    void,
)
from issue_core.transports.http.page.style import CONTENT_SECURITY_POLICY, ICON, STYLE
from issue_core.transports.http.page.task import one_task, state_of

if TYPE_CHECKING:
    from issue_core.config.settings import Settings
    from issue_core.ledger import Ledger
    from issue_core.ledger.queries import Counts
    from issue_core.ledger.rejects import Reject

__all__ = ["CONTENT_SECURITY_POLICY", "page"]

FAILED = 20
REJECTS = 20
NEWEST = 50
PARKED = 50
"""At most so many rows of each."""

_PROBLEMS = 3  # of one reject, each with so many fields; `issue rejects show` has the rest
_FIELDS = 6
_LONG = 300  # characters of one thing in a row
_SEARCH = 64  # characters that can stand in the search field; the longest spelling of an event ID has 47


def page(ledger: Ledger, settings: Settings, *, find: str = "", now: datetime) -> str:
    """The page, as seen at ``now``; with ``find`` (an event ID, the beginning of one, or a seq) the task it names.

    Serve it with :data:`CONTENT_SECURITY_POLICY`. What was looked for and is not there is said on the page.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    wanted = find.strip()
    # What is read within this block sees one state of the ledger.
    with ledger.read() as connection:
        counts = queries.counts(connection, to_text(now))
        n_rejects = rejects.count_open(connection)
        body = _body(ledger, settings, counts, n_rejects, wanted, now)
    title = _title(counts, n_rejects)
    return _document(title, _header(str(ledger.path), wanted, now), element("main", body), _footer())


def _body(ledger: Ledger, settings: Settings, counts: Counts, n_rejects: int, wanted: str, now: datetime) -> Html:
    notice = NOTHING
    if wanted:
        try:
            with ledger.read() as connection:
                return one_task(ledger, queries.find(connection, wanted), now)
        except (NotFound, UsageError) as error:
            notice = _not_found(error)
    if not (counts.total or n_rejects or any(counts.received.values())):
        return join((notice, first_steps(settings)))
    parts = (
        notice,
        _counts(counts, now),
        _waits(ledger, settings, now),
        _failed(ledger, counts.states["failed"], now),
        _rejects(ledger, n_rejects, now),
        _newest(ledger, counts.total, now),
    )
    return join(parts)


# --- the frame -------------------------------------------------------------------------------------------------------


def _document(title: str, header: Html, main: Html, footer: Html) -> str:
    head = (
        void("meta", charset="utf-8"),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", name="color-scheme", content="light dark"),
        void("meta", name="referrer", content="no-referrer"),
        void("meta", name="robots", content="noindex"),
        element("title", text(title)),
        void("link", rel="icon", href=ICON),
        element("style", Html(STYLE)),
    )
    document = element("html", element("head", *head), element("body", header, main, footer), lang="en")
    return f"<!DOCTYPE html>\n{document}\n"


def _title(counts: Counts, n_rejects: int) -> str:
    told = [f"{counts.states[state]:,} {state}" for state in ("failed", "pending") if counts.states[state]]
    if n_rejects:
        told.insert(1 if counts.states["failed"] else 0, _number(n_rejects, "reject"))
    told.append(f"{counts.states['synced']:,} synced")
    return f"{', '.join(told)} · issue-core"


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _header(path: str, wanted: str, now: datetime) -> Html:
    exactly = element("time", text(f"{now:%Y-%m-%d %H:%M:%S} UTC"), datetime=f"{now:%Y-%m-%dT%H:%M:%SZ}")
    name = element("h1", element("a", text("issue-core"), href="./"))
    where = element("p", foreign(cut(path, _LONG)), text(" · as of "), exactly, class_="soft")
    field = void(
        "input",
        type="search",
        name="find",
        id="find",
        value=cut(wanted, _SEARCH) or None,
        maxlength=str(_SEARCH),
        placeholder="0190c7a4… or 12",
        autocomplete="off",
        autocapitalize="none",
        spellcheck="false",
    )
    label = element("label", text("Find a task by event ID, its beginning, or seq"), for_="find")
    search = element("form", label, field, element("button", text("Find")), method="get", role="search")
    return element("header", element("div", name, where), search)


def _footer() -> Html:
    words = (text("This page changes nothing. The same in a terminal: "), code("issue status"), text(", "))
    return element("footer", *words, code("issue list"), text(", "), code("issue rejects list"), text("."))


def _section(heading: str, n: int, *inner: Html, id_: str) -> Html:
    shown = element("h2", text(heading), text(" "), element("span", text(f"{n:,}"), class_="n"), id=id_)
    return element("section", shown, *inner, aria_labelledby=id_)


def _most(shown: int, n: int, command: str) -> Html:
    """Says that a table does not show all of ``n``, and what does."""
    if shown >= n:
        return NOTHING
    return element("p", text(f"The newest {shown:,} of {n:,}; "), code(command), text(" has them all."), class_="note")


def _not_found(error: NotFound | UsageError) -> Html:
    hint = (element("p", text(cut(error.hint, _LONG)), class_="soft"),) if error.hint else ()
    message = element("p", foreign(error.message[:1].upper() + cut(error.message[1:], _LONG)), text("."))
    return element("div", message, *hint, class_="notice bad", role="status")


# --- counters --------------------------------------------------------------------------------------------------------


def _counts(counts: Counts, now: datetime) -> Html:
    states = (_count(counts, state, now) for state in STATES)
    received = {"received": sum(counts.received.values()), **counts.received}
    return element(
        "section",
        element("dl", *states, class_="counts"),
        pairs(((name, text(f"{n:,}")) for name, n in received.items()), kind="received"),
        aria_label="Tasks by state, and what was received by outcome",
    )


def _count(counts: Counts, state: TaskState, now: datetime) -> Html:
    n = counts.states[state]
    name = element("dt", state_of(state) if n else element("span", text(state), class_="zero"))
    shown = [name, element("dd", text(f"{n:,}"), class_=None if n else "zero")]
    if state == "pending" and counts.oldest_pending_at:
        shown.append(element("dd", text("oldest "), ago(counts.oldest_pending_at, now), class_="oldest"))
    return element("div", *shown)


# --- what waits ------------------------------------------------------------------------------------------------------


def _waits(ledger: Ledger, settings: Settings, now: datetime) -> Html:
    with ledger.read() as connection:
        parked = limits.all_parked(connection)
        limited = [(name, limits.limited(connection, name, now)) for name in settings.backends]
    rows = [_parked(each, now) for each in parked[:PARKED]]
    rows += [
        (foreign(name), text("all of it"), foreign(cut(wait.reason, _LONG)), NOTHING, until(wait.until, now))
        for name, wait in limited
        if wait
    ]
    if not rows:
        return NOTHING
    columns = (("where", "Backend"), ("place", "Project"), ("why", "Why"), ("when", "Since"), ("when late", "Next try"))
    caption = join(
        (
            text("Tasks for these wait, and lose no try. "),
            code("issue config check"),
            text(" says what is wrong; "),
            code("issue retry --all"),
            text(" tries what is parked at once."),
        )
    )
    more = len(parked) - PARKED
    note = (element("p", text(f"And {more:,} more."), class_="note"),) if more > 0 else ()
    return _section("Waiting", len(rows), table(caption, columns, rows, kind="waits"), *note, id_="waiting")


def _parked(parked: limits.Parked, now: datetime) -> tuple[Html, ...]:
    since = ago(to_text(parked.since), now)
    why = (element("strong", text("parked")), text(": "), foreign(cut(parked.reason, _LONG)))
    till = until(parked.until, now) if parked.until > now else text("with the next sync")
    project = foreign(parked.project) if parked.project else text("all of it")
    return foreign(parked.backend), project, join(why), since, till


# --- what needs a person ---------------------------------------------------------------------------------------------


def _failed(ledger: Ledger, n: int, now: datetime) -> Html:
    if not n:
        return NOTHING
    with ledger.read() as connection:
        found = glances.newest(connection, state="failed", limit=FAILED)
    columns = (
        ("id", "Seq"),
        ("title", "Title"),
        ("repo", "Repo"),
        ("why", "What the tracker said"),
        ("when", "Last change"),
        ("do", "What to do"),
    )
    rows = (
        (
            to_task(task.seq, text(task.seq)),
            _clamped(task.title),
            foreign(task.target_repo),
            _clamped(task.last_error or "nothing"),
            ago(task.updated_at, now),
            _commands(f"issue show {task.seq}", f"issue retry {task.seq}"),
        )
        for task in found
    )
    caption = text("These need a person: mend what the tracker objects to, then make them pending again.")
    more = _most(len(found), n, "issue list --state failed")
    return _section("Failed", n, table(caption, columns, rows, kind="failed"), more, id_="failed")


def _clamped(shown: str) -> Html:
    return element("span", foreign(shown), class_="clamp")


def _commands(*commands: str) -> Html:
    return join(map(code, commands), " ")


def _rejects(ledger: Ledger, n: int, now: datetime) -> Html:
    if not n:
        return NOTHING
    with ledger.read() as connection:
        found = rejects.page(connection, state="open", limit=REJECTS)
    columns = (
        ("id", "ID"),
        ("kind", "Kind"),
        ("why", "Why"),
        ("place", "Place"),
        ("times", "Count"),
        ("when", "Last seen"),
        ("do", "What to do"),
    )
    caption = text("Input that became no task. It is kept as it came, until a person replays or drops it.")
    rows = (_reject(each, now) for each in found)
    more = _most(len(found), n, "issue rejects list --limit 0")
    return _section("Rejects", n, table(caption, columns, rows, kind="rejects"), more, id_="rejects")


def _reject(reject: Reject, now: datetime) -> tuple[Html, ...]:
    kind = text(reject.kind)
    if reject.kind != "invalid" and reject.event_id:
        kind = join((kind, text(" with "), to_task(reject.event_id, code(reject.event_id[:8]))))
    return (
        text(reject.id),
        kind,
        _problems(reject.errors),
        foreign(cut(reject.place.shown(reject.transport), _LONG)),
        text(f"{reject.count:,}\u00d7"),
        ago(reject.last_at, now),
        _commands(f"issue rejects show {reject.id}"),
    )


def _problems(errors: tuple[FieldProblem, ...]) -> Html:
    """What is wrong, and with which fields: a problem that several have is told once."""
    fields: dict[str, list[str]] = {}
    for error in errors:
        fields.setdefault(error.problem, []).append(error.field)
    told = [join((_fields(names), text(" "), foreign(cut(problem, _LONG)))) for problem, names in fields.items()]
    more = (text(f"and {len(told) - _PROBLEMS:,} more"),) if len(told) > _PROBLEMS else ()
    return element("span", join((*told[:_PROBLEMS], *more), "; "), class_="clamp")


def _fields(names: list[str]) -> Html:
    shown = join((code(cut(name, 80)) for name in names[:_FIELDS]), ", ")
    more = len(names) - _FIELDS
    return join((shown, text(f" and {more:,} more" if more > 0 else ""), text(":"))) if len(names) > 1 else shown


# --- the newest ------------------------------------------------------------------------------------------------------


def _newest(ledger: Ledger, n: int, now: datetime) -> Html:
    with ledger.read() as connection:
        found = glances.newest(connection, state=None, limit=NEWEST)
    if not found:
        return NOTHING
    columns = (
        ("id", "Seq"),
        ("state", "State"),
        ("title", "Title"),
        ("repo", "Repo"),
        ("issue", "Issue"),
        ("when", "Received"),
    )
    more = _most(len(found), n, "issue list --limit 0")
    caption = text("In the order they came, the last one first.")
    shown = table(caption, columns, _rows(found, now), kind="tasks")
    return _section("Newest tasks", n, shown, more, id_="newest")


def _rows(found: Iterable[Glance], now: datetime) -> Iterable[tuple[Html, ...]]:
    for task in found:
        high = (element("strong", text("high"), class_="high"), text(" ")) if task.priority == "high" else ()
        yield (
            to_task(task.seq, text(task.seq)),
            state_of(task.state, in_doubt=task.in_doubt_since, next_at=task.next_attempt_at, now=now),
            element("span", *high, foreign(task.title), class_="clamp"),
            foreign(task.target_repo),
            _issue(task),
            ago(task.created_at, now),
        )


def _issue(task: Glance) -> Html:
    if task.remote_id is None:
        return NOTHING
    shown = foreign(cut(f"#{task.remote_id}" if task.remote_id.isdigit() else task.remote_id, 40))
    return link(task.remote_url or "", shown)
