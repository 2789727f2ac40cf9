"""The page for people: all of what it should say, and nothing from outside in it that is more than text."""

from __future__ import annotations

import re
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from issue_core.config import BackendSettings, Settings
from issue_core.config.settings import ServeSettings
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, history, limits, outcomes
from issue_core.task import Document, Place, from_text
from issue_core.transports.http.page import CONTENT_SECURITY_POLICY, FAILED, NEWEST, REJECTS, page, parts
from issue_core.transports.http.page.style import STYLE
from issue_core.transports.http.page.task import HISTORY
from issue_core.visible import escape
from tests.support import busy_ledger
from tests.support.clock import START, MovedClock
from tests.support.specs import a_spec, an_event_id, texts, written

VOID = {"meta", "link", "input"}
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "link",
        "style",
        "body",
        "header",
        "main",
        "footer",
        "section",
        "div",
        "h1",
        "h2",
    ),
    *("h3", "p", "a", "span", "bdi", "code", "pre", "strong", "small", "i", "time", "form", "label", "input", "button"),
    *("dl", "dt", "dd", "ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td"),
}
"""Every element that the page may hold."""

ATTRIBUTES = {
    *(
        "lang",
        "charset",
        "name",
        "content",
        "rel",
        "href",
        "class",
        "id",
        "title",
        "datetime",
        "scope",
        "role",
        "tabindex",
    ),
    *("aria-label", "aria-labelledby", "aria-hidden", "method", "for", "type", "value", "maxlength", "placeholder"),
    *("autocomplete", "autocapitalize", "spellcheck"),
}


@dataclass
class Read:
    """What a parser made of a page."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that is to be read, without the style."""
        return "".join(self.texts)

    def links(self) -> list[str]:
        """Where each link leads."""
        return [attributes["href"] or "" for tag, attributes in self.tags if tag == "a"]


class Parser(HTMLParser):
    """Reads a page, and fails where an element is not closed in its turn."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.read = Read()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        assert len(dict(attrs)) == len(attrs)
        self.read.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.read.cells.append([])
        if tag in ("td", "th"):
            self.read.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Close the element."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note the text."""
        if self.open and self.open[-1] == "style":
            assert data == STYLE
            return
        self.read.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.read.cells[-1][-1] += data

    def handle_comment(self, data: str) -> None:
        """There is none."""
        raise AssertionError(data)

    def handle_pi(self, data: str) -> None:
        """There is none."""
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        """There is none."""
        raise AssertionError(data)


def parsed(document: str) -> Read:
    """The page as a parser reads it: well-formed, and with no element or attribute that is not of its own."""
    parser = Parser()
    parser.feed(document)
    parser.close()
    assert parser.open == []
    read = parser.read
    assert {tag for tag, _ in read.tags} <= TAGS
    assert {name for _, attributes in read.tags for name in attributes} <= ATTRIBUTES
    assert [tag for tag, _ in read.tags].count("style") == 1
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    return read


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: MovedClock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock=clock) as opened:
        yield opened


@pytest.fixture
def busy(ledger: Ledger, clock: MovedClock) -> Ledger:
    busy_ledger.fill(ledger, clock)
    return ledger


def shown(ledger: Ledger, find: str = "", **settings: Any) -> Read:
    return parsed(page(ledger, Settings(ledger.path, **settings), find=find, now=ledger.clock.now()))


def store(ledger: Ledger, n: int = 1, **fields: Any) -> None:
    ingest(ledger, [written(a_spec(**fields)) for _ in range(n)])


def fail(ledger: Ledger, seq: int, error: str) -> None:
    with ledger.write() as tx:
        outcomes.fail(tx, seq, "refused", error, doubt_ends=True)


def link(ledger: Ledger, seq: int, url: str, issue_id: str = "7") -> None:
    with ledger.write() as tx:
        issue = {"id": issue_id, "url": url, "project": "acme/web"}
        outcomes.link(tx, seq, "work", issue=issue, notes=["a note"], adopted=False, attempt=None)


# --- nothing from outside is more than text ---------------------------------------------------------------------------

HOSTILE = (
    *("<script>alert(1)</script>", "</title><script>", '"><img src=x onerror=alert(1)>', "' onmouseover='x", "<!--"),
    *("]]>", "</pre><h1>", "</style>", "&lt;b&gt;", "&#0;", "&amp", "<", "javascript:alert(1)", "\u202egnp", "%3Cb%3E"),
    *("\u2066x", "\u200b", "<svg/onload=x>", "<a href='javascript:x'>", "{{7*7}}", "\ufeff", "\u2028", "\x85"),
)
hostile = st.lists(st.sampled_from(HOSTILE) | texts(0, 4), min_size=1, max_size=4).map("".join)


def one_line(longest: int) -> st.SearchStrategy[str]:
    """What a TaskSpec's fields of one line may hold."""
    cleaned = hostile.map(lambda given: re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]", "", given).strip()[:longest].strip())
    return cleaned.map(lambda given: given or "x")


HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    title=one_line(255),
    description=hostile,
    repo=one_line(200).map(lambda given: "".join(given.split()) or "x"),
    label=one_line(50),
    error=st.text(max_size=20) | hostile,
    url=hostile,
    issue_id=hostile,
    raw=hostile | st.text(st.characters(codec="utf-8"), max_size=20),
    file=hostile | st.just("caf\udce9.json"),
    find=hostile | st.text(max_size=20) | st.sampled_from(["1", "2", "\ud800" * 5]),
)
def test_nothing_from_outside_is_more_than_visible_text(
    title: str,
    description: str,
    repo: str,
    label: str,
    error: str,
    url: str,
    issue_id: str,
    raw: str,
    file: str,
    find: str,
) -> None:
    error = error.encode("utf-8", "replace").decode()
    fields = {"title": title, "description": description, "target_repo": repo, "labels": [label], "source_id": title}
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "ledger.db"), clock=MovedClock()) as ledger:
        store(ledger, 2, **fields, activity_definition_id=title, **{f"x{label}": {label: title}})
        fail(ledger, 1, error)
        link(ledger, 2, url, issue_id)
        ingest(ledger, [Document(b"!" + raw.encode(), Place(file, 3)), written({"title": raw, raw: raw})])
        with ledger.write() as tx:
            limits.park(tx, "work", repo, code="project", reason=error, until=START + timedelta(hours=1))
            limits.limit(tx, "work", START + timedelta(hours=1), error)
            history.add(tx, 2, "doubt", error=error, notes=[title])
        backends = {"work": BackendSettings("work", "gitea")}
        for wanted in ("", find, "1", "2"):
            document = page(ledger, Settings(ledger.path, backends=backends), find=wanted, now=ledger.clock.now())
            read = parsed(document)
            assert HIDDEN.search(document) is None
            assert escape(title) in read.text or find == wanted
            assert document.encode()
            assert all(urlsplit(each).scheme in ("", "http", "https") for each in read.links())


@given(st.text() | hostile)
def test_what_is_hidden_is_shown_and_all_else_stays(given_text: str) -> None:
    seen = escape(given_text)
    assert HIDDEN.search(seen) is None
    assert "\n" not in seen
    back = re.sub(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})", lambda m: chr(int(m[1] or m[2], 16)), seen)
    if "\\" not in given_text:
        assert back.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t") == given_text


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("https://git.example.org/acme/web/issues/7", True),
        ("http://localhost:3000/7", True),
        ("HTTPS://git.example.org/7", True),
        ("javascript:alert(1)", False),
        ("JavaScript:alert(1)", False),
        ("data:text/html,<script>", False),
        ("file:///home/ops/7.md", False),
        ("//git.example.org/7", False),
        ("https:///7", False),
        ("https://[", False),
        ("https://git.example.org/ 7", False),
        ("https://git.example.org/\u202e7", False),
        ("java\nscript:alert(1)", False),
        ("ftp://example.org/7", False),
        ("", False),
    ],
)
def test_only_web_addresses_are_links(ledger: Ledger, url: str, linked: bool) -> None:
    store(ledger)
    link(ledger, 1, url)
    for read in (shown(ledger), shown(ledger, "1")):
        assert (url in read.links()) == linked
    assert escape(url) in shown(ledger, "1").text


def test_a_link_tells_the_tracker_nothing_of_the_page(busy: Ledger) -> None:
    read = shown(busy)
    away = [each for tag, each in read.tags if tag == "a" and "://" in (each["href"] or "")]
    assert {each["rel"] for each in away} == {"noopener noreferrer"}
    assert ("meta", {"name": "referrer", "content": "no-referrer"}) in read.tags


# --- what it says ----------------------------------------------------------------------------------------------------


def test_the_counts_are_those_of_the_ledger(busy: Ledger) -> None:
    words = " ".join(shown(busy).text.split())
    for told in ("pending21oldest 4 h ago", "synced48", "failed3", "held0", "elsewhere0"):
        assert told in words
    assert "received87created72duplicate5conflict1invalid9" in words


def test_the_title_says_what_needs_a_person_first(busy: Ledger) -> None:
    document = page(busy, Settings(busy.path), now=busy.clock.now())
    assert "<title>3 failed, 4 rejects, 21 pending, 48 synced · issue-core</title>" in document


def test_what_failed_stands_with_the_trackers_words_and_what_to_do(busy: Ledger) -> None:
    row = next(row for row in shown(busy).cells if row[0] == "17")
    assert row[1:5] == [busy_ledger.TITLES[6], "acme/web", busy_ledger.REFUSAL, "5\u00a0min\u00a0ago"]
    assert row[5].split() == ["issue", "show", "17", "issue", "retry", "17"]


def test_rejects_stand_with_their_reasons_and_the_command_that_shows_them(busy: Ledger) -> None:
    rows = {row[0]: row[1:] for row in shown(busy).cells if row[-1].startswith("issue rejects show")}
    assert list(rows) == ["4", "3", "2", "1"]
    assert rows["2"] == [
        *("invalid", "document is not JSON: expecting value at column 1", "stdin:3", "7\u00d7", "1\u00a0min\u00a0ago"),
        "issue rejects show 2",
    ]
    assert rows["1"][2] == "/var/spool/activity/tasks-2026-03-01.ndjson:12"
    assert rows["4"][2] == "HTTP"
    kind, why, place, *_ = rows["3"]
    assert (kind, place) == (f"conflict with {an_event_id(3)[:8]}", "tasks.json[7]")
    assert why.startswith("title, description, target_repo, ")
    assert f"?find={an_event_id(3)}" in shown(busy).links()


def test_a_problem_that_many_fields_have_is_told_once(ledger: Ledger) -> None:
    ingest(ledger, [written(a_spec(labels=["", *["y" * 51] * 9]))])
    why = next(row for row in shown(ledger).cells if row[0] == "1")[2]
    assert why.count("50 are allowed") == 1
    assert "and 3 more:" in why


def test_what_is_parked_or_limited_says_why_and_until_when(busy: Ledger) -> None:
    read = shown(busy, backends={name: BackendSettings(name, "gitea") for name in ("desk", "work")})
    rows = [row for row in read.cells if row[0] in ("desk", "work")]
    ago = "5\u00a0min\u00a0ago"
    assert rows == [
        ["desk", "all of it", "parked: 401 Unauthorized: the token ended on 2026-02-28", ago, "in\u00a054\u00a0min"],
        ["work", "acme/gone", "parked: 404: no such repository", ago, "in\u00a054\u00a0min"],
        [
            "work",
            "all of it",
            "the tracker's limit: 5000 requests an hour (X-RateLimit-Reset)",
            "",
            "in\u00a012\u00a0min",
        ],
    ]


def test_what_was_parked_until_now_waits_for_the_next_sync(busy: Ledger, clock: MovedClock) -> None:
    clock.move(7200)
    read = shown(busy, backends={"work": BackendSettings("work", "gitea")})
    rows = [row for row in read.cells if row[0] in ("desk", "work")]
    assert [row[-1] for row in rows] == ["with the next sync"] * 2


def test_the_newest_tasks_stand_with_their_state_and_issue(busy: Ledger) -> None:
    read = shown(busy)
    rows = [row for row in read.cells if len(row) == 6 and row[0].isdigit() and "issue" not in row[-1]]
    assert [int(row[0]) for row in rows] == list(range(72, 72 - NEWEST, -1))
    states = {int(row[0]): row[1] for row in rows}
    assert states[72] == "pending"
    assert states[71] == "pending next try in\u00a017\u00a0min"
    assert states[70] == "pending in doubt"
    assert states[50] == "synced"
    assert states[51] == "failed"
    issues = {int(row[0]): row[4] for row in rows}
    assert (issues[50], issues[49], issues[72]) == ("#1050", "OPS-49", "")
    assert "https://git.example.org/acme/web/issues/1050" in read.links()


def test_a_state_is_a_word_beside_its_colour_and_its_mark_is_hidden_from_readers(busy: Ledger) -> None:
    marks = [attributes for _, attributes in shown(busy).tags if "mark" in (attributes.get("class") or "").split()]
    assert marks
    assert all(attributes["aria-hidden"] == "true" for attributes in marks)


def test_times_are_relative_with_the_exact_one_beside_them(busy: Ledger) -> None:
    stamps = [attributes for tag, attributes in shown(busy).tags if tag == "time"]
    exact = [each for each in stamps if "title" in each]
    assert len(exact) > NEWEST
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", each["datetime"] or "") for each in stamps)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", each["title"] or "") for each in exact)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "just now"),
        (0.2, "just now"),
        (1, "1 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3 * 3600 + 1, "3 h ago"),
        (86400 * 1234, "1,234 d ago"),
    ],
)
def test_an_age_is_told_in_one_figure(seconds: float, told: str) -> None:
    shown = parts.ago("2026-03-01T09:00:00.000Z", START + timedelta(seconds=seconds))
    assert f">{told.replace(' ', chr(0xA0))}</time>" in shown


def test_no_more_is_read_than_is_shown_and_the_rest_is_named(ledger: Ledger) -> None:
    store(ledger, NEWEST + 5, description="long " * 1000)
    ingest(ledger, [f"not JSON {n}".encode() for n in range(REJECTS + 3)])
    for seq in range(1, FAILED + 2):
        fail(ledger, seq, "no " * 3000)
    with ledger.read() as connection:
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        document = page(ledger, Settings(ledger.path), now=ledger.clock.now())
        connection.set_trace_callback(None)
    assert not any("raw FROM rejects" in each for each in asked)
    words = parsed(document).text
    assert "The newest 50 of 55; issue list --limit 0 has them all." in words
    assert "The newest 20 of 21; issue list --state failed has them all." in words
    assert "The newest 20 of 23; issue rejects list --limit 0 has them all." in words
    assert len(document) < 200_000


def test_the_page_changes_nothing(busy: Ledger) -> None:
    busy.close()
    before = busy.path.read_bytes()
    for find in ("", "17", "nothing"):
        shown(busy, find)
    busy.close()
    assert busy.path.read_bytes() == before


# --- the search ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("find", ["17", " 17 ", an_event_id(16), an_event_id(16)[:8].upper(), f"{{{an_event_id(16)}}}"])
def test_a_task_is_found_by_what_a_person_calls_it_and_shown_whole(busy: Ledger, find: str) -> None:
    read = shown(busy, find)
    words = read.text
    assert f"task 17{busy_ledger.TITLES[6]}" in words
    assert busy_ledger.DESCRIPTION in words
    for told in (an_event_id(16), busy_ledger.REFUSAL, "issue retry 17", "disk", "ops", "host-1", '"team": "platform"'):
        assert told in words
    assert [row[0] for row in read.cells[1:]] == ["failed", "created"]
    assert "Newest tasks" not in words


def test_what_was_looked_for_stays_in_the_field(busy: Ledger) -> None:
    fields = [attributes for tag, attributes in shown(busy, ' "><b> ').tags if tag == "input"]
    assert [each["value"] for each in fields] == ['"><b>']
    forms = [attributes for tag, attributes in shown(busy).tags if tag == "form"]
    assert forms == [{"method": "get", "role": "search"}]


@pytest.mark.parametrize(
    ("find", "told"),
    [
        ("cafe0000", "No task with an event ID 'cafe0000'."),
        ("999", "No task 999 in the ledger"),
        ("abc", "'abc' is too short"),
        ("x" * 100_000, "No task with an event ID"),
        ("\ud800\udfff" * 4, "No task with an event ID"),
    ],
)
def test_what_is_not_found_is_said_above_the_overview(busy: Ledger, find: str, told: str) -> None:
    words = shown(busy, find).text
    assert told in words
    assert "Newest tasks" in words
    assert len(words) < 50_000


def test_what_could_be_several_is_said_with_a_few_of_them(ledger: Ledger) -> None:
    for n in range(3):
        store(ledger, triggering_event_id=f"abcdef0{n}-0000-4000-8000-000000000000")
    words = shown(ledger, "abcdef").text
    assert "'abcdef' could be any of abcdef00-0000-4000-8000-000000000000, abcdef01" in words
    assert "Give more characters of it." in words


def test_line_breaks_at_the_beginning_of_a_description_stay(ledger: Ledger) -> None:
    store(ledger, description="\n\n  indented")
    document = page(ledger, Settings(ledger.path), find="1", now=ledger.clock.now())
    # A parser takes the first one after <pre> away.
    assert ">\n\n\n  indented</pre>" in document


def test_a_long_history_is_shown_from_its_end(ledger: Ledger) -> None:
    store(ledger)
    for n in range(HISTORY + 20):
        with ledger.write() as tx:
            history.add(tx, 1, "deferred", n=n)
    read = shown(ledger, "1")
    rows = [row for row in read.cells if row[0] == "deferred"]
    assert len(rows) == HISTORY
    assert rows[0][1].startswith(f"n {HISTORY + 19}")
    assert f"The last {HISTORY}; issue show has them all." in read.text


def test_a_synced_task_shows_where_its_issue_is(busy: Ledger) -> None:
    read = shown(busy, "50")
    assert "https://git.example.org/acme/web/issues/1050" in read.links()
    assert "Failed" not in read.text
    assert "file:///home/ops/issues/0033-disk.md" in shown(busy, "33").text
    assert not any(each.startswith("file:") for each in shown(busy, "33").links())


# --- the empty ledger ------------------------------------------------------------------------------------------------


def test_an_empty_ledger_says_what_to_do_next(tmp_path: Path) -> None:
    with Ledger(tmp_path / "none.db", clock=MovedClock()) as ledger:
        words = shown(ledger).text
        assert "curl -sS http://127.0.0.1:8765/issues/" in words
        assert "issue ingest" in words
        assert "Newest tasks" not in words
        assert "Newest tasks" not in shown(ledger, "12").text
        assert "No task 12 in the ledger" in shown(ledger, "12").text
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("serve", "url"),
    [
        (ServeSettings(host="0.0.0.0", port=80), "http://127.0.0.1:80/issues/"),  # noqa: S104 - nothing is bound
        (ServeSettings(host="::1"), "http://[::1]:8765/issues/"),
        (ServeSettings(hosts=("tasks.example.org",), tls_cert=Path("c.pem")), "https://tasks.example.org:8765/issues/"),
    ],
)
def test_the_first_request_goes_where_the_server_listens(tmp_path: Path, serve: ServeSettings, url: str) -> None:
    with Ledger(tmp_path / "none.db", clock=MovedClock()) as ledger:
        assert f"curl -sS {url} " in shown(ledger, serve=serve).text


def test_the_task_that_the_empty_page_shows_is_one(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db", clock=MovedClock()) as ledger:
        body = re.search(r"-d '(\{.*\})'", shown(ledger).text, re.DOTALL)
        assert body
        assert [receipt.outcome for receipt in ingest(ledger, [body[1]])] == ["created"]


def test_a_ledger_with_nothing_but_a_reject_is_not_empty(ledger: Ledger) -> None:
    ingest(ledger, ["no JSON"])
    words = shown(ledger).text
    assert "curl" not in words
    assert "issue rejects show 1" in words


# --- how it looks ----------------------------------------------------------------------------------------------------


def test_the_policy_names_the_style_and_allows_nothing_else_of_the_kind() -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "none.db"), clock=MovedClock()) as ledger:
        document = page(ledger, Settings(ledger.path), now=ledger.clock.now())
    style = document.split("<style>", 1)[1].split("</style>", 1)[0]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    directives = dict(each.split(" ", 1) for each in CONTENT_SECURITY_POLICY.split("; "))
    assert directives == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }


def test_the_style_fetches_nothing_and_cannot_end_itself() -> None:
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert "<" not in STYLE


def _themes() -> list[dict[str, str]]:
    """The colours of the light theme and the dark one."""
    blocks = re.findall(r":root \{([^}]*)\}", STYLE)[:2]
    return [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", block)) for block in blocks]


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "card", "alarm"])
@pytest.mark.parametrize("ink", ["ink", "soft", "link", "pending", "synced", "failed", "held"])
def test_every_text_has_the_contrast_that_wcag_aa_asks_for(theme: int, ground: str, ink: str) -> None:
    colours = _themes()[theme]
    lighter, darker = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_every_table_has_a_caption_and_headings_and_every_field_a_label(busy: Ledger) -> None:
    for find in ("", "17"):
        tags = shown(busy, find).tags
        names = [tag for tag, _ in tags]
        assert names.count("table") == names.count("caption") == names.count("thead") > 0
        assert all(attributes["scope"] in ("col", "row") for tag, attributes in tags if tag == "th")
        labels = {attributes["for"] for tag, attributes in tags if tag == "label"}
        assert {attributes["id"] for tag, attributes in tags if tag == "input"} == labels
        assert [names.count(name) for name in ("h1", "main", "header", "footer")] == [1, 1, 1, 1]
        assert ("html", {"lang": "en"}) in tags


def test_now_is_when_the_page_was_made(busy: Ledger) -> None:
    document = page(busy, Settings(busy.path), now=from_text("2026-03-09T10:11:12.000Z"))
    assert "as of" in document
    assert "2026-03-09 10:11:12 UTC" in document
