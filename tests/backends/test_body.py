"""The issue's text: YAML reads back what was written, the heading shows the title, the ID is found again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from issue_core.backends.body import HEAD_BYTES, event_id_in, front_matter, heading, render
from tests.support.build import a_task

EVENT_ID = "0190c7a4-9d5e-7c3b-8a43-3f2b8a1c9d10"
OTHER_ID = "11111111-2222-4333-8444-555555555555"

DOCUMENTED = Path(__file__).parents[2] / "docs/backends/local.md"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def read_back(text: str) -> dict[str, Any]:
    head, _, _ = text.removeprefix("---\n").partition("\n---\n")
    loaded = yaml.safe_load(head)
    assert isinstance(loaded, dict)
    return loaded


def shown(title: str) -> tuple[str, str]:
    """The tag and the plain text of what a Markdown reader makes of the heading."""
    tokens = MarkdownIt("commonmark").enable("strikethrough").parse(heading(title) + "\n")
    assert [token.type for token in tokens] == ["heading_open", "inline", "heading_close"]
    children = tokens[1].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    return tokens[0].tag, "".join(child.content for child in children)


def test_a_file_begins_with_the_event_id_and_ends_with_the_description_as_it_is() -> None:
    task = a_task(
        event_id=EVENT_ID, title="Disk [/var] is full", description="One\r\n---\nevent_id: x", labels=["a", 'b"']
    )
    assert render(task).splitlines(keepends=True)[:6] == [
        "---\n",
        f'event_id: "{EVENT_ID}"\n',
        'title: "Disk [/var] is full"\n',
        'target_repo: "acme/web"\n',
        'priority: "medium"\n',
        'labels: ["a", "b\\""]\n',
    ]
    assert render(task).endswith("\n---\n\n# Disk \\[/var] is full\n\nOne\r\n---\nevent_id: x\n")


def test_the_documented_example_is_what_is_written() -> None:
    task = a_task(
        event_id=EVENT_ID,
        title="Disk /var is nearly full",
        description="`/var` on **web-1** is at 93 %.",
        priority="high",
        due_date="2026-03-04",
        extra={"host": "web-1"},
    )
    assert f"```markdown\n{render(task)}```" in DOCUMENTED.read_text()


def test_a_task_without_a_description_ends_with_its_heading() -> None:
    assert render(a_task(title="Look", description="")).endswith("\n---\n\n# Look\n")


def test_yaml_reads_every_field_and_where_the_task_came_from() -> None:
    task = a_task(due_date="2026-03-04", extra={"host": "web-1"}, ingestion={"transport": "nats", "sequence": 7})
    assert read_back(render(task)) == {
        "event_id": task.event_id,
        "title": task.title,
        "target_repo": task.target_repo,
        "priority": "medium",
        "labels": ["disk", "ops"],
        "due_date": "2026-03-04",
        "created_at": "2026-03-01T09:00:00.000Z",
        "ingestion": {"transport": "nats", "sequence": 7},
        "extra": {"host": "web-1"},
    }


def test_a_task_without_unknown_fields_has_no_extra() -> None:
    assert "extra" not in read_back(render(a_task(extra={}, ingestion={})))


@given(
    title=TEXT,
    labels=st.lists(TEXT, max_size=3),
    extra=st.dictionaries(TEXT, JSON, max_size=4),
    ingestion=st.dictionaries(TEXT, JSON, max_size=4),
    description=TEXT,
)
@example("yes", ["no", "1e3", "~", "2026-01-01", "---"], {"<<": 1, "=": {}, "on": []}, {"null": None, "y": 1}, "---\n")
@example(
    "\x85\u2028\u2029\x7f\x80\ufeff\uffff", ["\u202e\u2066"], {"👩‍💻": "\U0001d518\U0010ffff"}, {"a: b": "#"}, "..."
)
@example("\t\x00\x1b", [" a ", "\\", '"'], {"e": [1e16, -1e-7, 1.5e-9, 1.25e300, -0.0, 10**30]}, {}, "")
@example("t", [], {"k" * 2000: {"l" * 2000: "v" * 2000}, "list": ["w" * 2000]}, {"m\n" * 1000: [{"n" * 1100: 1}]}, "")
def test_yaml_reads_back_exactly_what_was_written(
    title: str, labels: list[str], extra: dict[str, Any], ingestion: dict[str, Any], description: str
) -> None:
    task = a_task(title=title, labels=labels, extra=extra, ingestion=ingestion, description=description)
    loaded = read_back(front_matter(task))
    wanted = {"title": title, "labels": labels, "ingestion": ingestion} | ({"extra": extra} if extra else {})
    assert repr({name: loaded[name] for name in wanted}) == repr(wanted)


@given(title=TEXT, extra=st.dictionaries(TEXT, JSON, max_size=4))
def test_front_matter_has_no_line_break_or_hidden_character_of_its_text(title: str, extra: dict[str, Any]) -> None:
    text = front_matter(a_task(title=title, extra=extra))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]", text)
    assert all(re.match(r"(?:[a-z_]+:|---$)|  ", line) for line in text.splitlines())


@given(LINE.map(str.strip).filter(bool))
@example("# not a heading #")
@example("a ##  # ##")
@example("#")
@example("[x](http://e.org) ![i](j) <b>bold</b> <http://e.org> `code` ``")
@example("*a* **b** _c_ __d__ snake_case_name a_ _b ~~gone~~ ~/home")
@example(r"C:\temp \* \\ \# \a \[ tail\ ")
@example("&amp; &#65; &#x41; & AT&T; a&b")
@example("\\")
def test_a_heading_shows_the_title_as_it_stands(title: str) -> None:
    tag, text = shown(title.strip())
    assert tag == "h1"
    assert text == title.strip()


@pytest.mark.parametrize("title", ["disk_full on web-1 (93 %)", "fix #12: a > b, 5 + 3 = 8 & more", "C:\\temp, ~ok"])
def test_a_heading_stays_readable(title: str) -> None:
    assert heading(title).count("\\") <= title.count("\\") + title.count("~")


@given(title=TEXT, description=TEXT, extra=st.dictionaries(TEXT, JSON, max_size=3))
@example("x", f"event_id: {OTHER_ID}", {f"\nevent_id: {OTHER_ID}\n": f"\nevent_id: {OTHER_ID}"})
def test_the_event_id_is_read_back_whatever_the_rest_says(title: str, description: str, extra: dict[str, Any]) -> None:
    task = a_task(event_id=EVENT_ID, title=title, description=description, extra=extra, ingestion=extra)
    assert event_id_in(render(task).encode()[:HEAD_BYTES]) == EVENT_ID


@pytest.mark.parametrize(
    "text",
    [
        f"---\nevent_id: {EVENT_ID}\n---\n",
        f"---\r\ntitle: moved up\r\nevent_id: '{EVENT_ID}'  # ours\r\n---\r\n",
        f"\ufeff---\nevent_id: {EVENT_ID.upper()}\n...\n",
        f'---\nlabels:\n- a\nevent_id:   "{EVENT_ID}"\nno end to it',
    ],
)
def test_the_event_id_is_found_after_an_editor_rewrote_the_front_matter(text: str) -> None:
    assert event_id_in(text.encode()) == EVENT_ID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"event_id: {EVENT_ID}\n",
        f"# Note\n---\nevent_id: {EVENT_ID}\n---\n",
        f"---\ntitle: x\n---\nevent_id: {EVENT_ID}\n",
        f"---\ntitle: x\n...\nevent_id: {EVENT_ID}\n",
        f"---\ntitle: |\n  event_id: {EVENT_ID}\n---\n",
        f"---\nmy_event_id: {EVENT_ID}\n---\n",
        f"---\nevent_id: {EVENT_ID}-more\n---\n",
        f"---\nevent_id: {EVENT_ID[:-1]}",
        f"----\nevent_id: {EVENT_ID}\n---\n",
    ],
)
def test_an_event_id_that_is_only_told_of_is_not_the_files_own(text: str) -> None:
    assert event_id_in(text.encode()) is None


def test_bytes_that_are_no_text_hold_no_event_id() -> None:
    assert event_id_in(b"---\n\xff\xfe\x00\n" + b"\x80" * 5000) is None
