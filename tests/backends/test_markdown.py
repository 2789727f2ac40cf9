"""What a task says is data in an issue's text, and the marker carries the event ID and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from issue_core.backends.markup.markdown import body, cut, events_in, facts_of, marker, safe
from issue_core.backends.markup.parsing import JOINER
from tests.support.build import a_task

OTHER = "0190c7a4-9d5e-7c3b-8a43-3f2b8a1c9d10"
MARK = f"<!-- issue-core event={OTHER} {{}} -->"

# fmt: off
PIECES = [
    "<!--", "-->", "issue-core", f" event={OTHER} ", MARK, "```", "~~~", "````", "`", "\n", "\r\n", "    ", "> ", "- ",
    "/close", "/label ~x", "@all", "@bob", "a@b.example", "<div>", "</div>", " ", "text", "é", "\u2028", "\\", "&lt;",
]
# fmt: on
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=200)


def test_the_marker_is_one_line_of_ascii_with_nothing_in_it_that_ends_a_comment() -> None:
    task = a_task(source_id="a-->b<c> ü --")
    text = marker(task)
    assert text.isascii()
    assert "\n" not in text
    inside = text.removeprefix("<!--").removesuffix("-->")
    assert "--" not in inside.replace(task.event_id, "")
    assert ">" not in inside
    assert events_in(text) == [task.event_id]


@pytest.mark.parametrize("ending", ["\r\n", "  \n", ""])
def test_a_marker_is_read_whatever_the_tracker_makes_of_line_ends(ending: str) -> None:
    task = a_task()
    assert events_in(f"text{ending or chr(10)}{marker(task)}{ending}") == [task.event_id]


def test_a_marker_within_a_line_is_somebodys_text() -> None:
    assert events_in(f"see {MARK}") == []


@given(TEXTS, TEXTS)
@example(MARK, MARK)
@example(MARK.upper().replace("<!-- ISSUE-CORE EVENT", "<!-- issue-core event"), "")
def test_whatever_a_task_says_its_body_carries_its_own_event_id_alone(description: str, fact: str) -> None:
    task = a_task(description=description)
    one_line = " ".join(fact.split())
    whole = body(task, text=safe(description), facts=[f"**Full title:** {one_line}"], most=None)
    assert events_in(whole) == [task.event_id]
    assert whole.endswith(f"\n{marker(task)}\n")


@given(TEXTS, st.integers(600, 2_000))
@example("x" * 5_000, 700)
@example("line\n" * 1_000, 700)
@example("```\n" + "code\n" * 1_000, 700)
@example("😀" * 1_000, 700)
def test_a_body_is_never_longer_than_the_tracker_takes(description: str, most: int) -> None:
    task = a_task(description=description * 20)
    for size in (len, lambda text: len(text.encode())):
        whole = body(task, text=safe(task.description), facts=[], most=most, size=size)
        assert size(whole) <= most
        assert events_in(whole) == [task.event_id]


def test_a_cut_is_at_a_line_s_end_and_says_so() -> None:
    task = a_task(description="a line\n" * 1_000)
    whole = body(task, text=safe(task.description), facts=[], most=1_000)
    assert f"kept in the ledger under event ID {task.event_id}" in whole
    kept = whole.partition("*[Cut here")[0]
    assert set(kept.split("\n")) == {"a line", ""}


def test_a_cut_within_code_closes_it() -> None:
    assert cut("```\n" + "code\n" * 100, 60, "note").endswith("\n```\n\nnote")


def test_what_fits_is_not_touched() -> None:
    assert cut("text", 4, "note") == "text"


def test_nobody_is_called_but_in_code_the_text_stays_as_it_is() -> None:
    text = "ask @bob and @org/team\n\n`@cached` x@y.example\n\n```\n@decorator\n```"
    assert safe(text) == f"ask @{JOINER}bob and @{JOINER}org/team\n\n`@cached` x@y.example\n\n```\n@decorator\n```"
    assert safe("@bob", mentions=False) == "@bob"


@pytest.mark.parametrize("line", ["/close", "  /label ~x", "/assign @bob"])
def test_a_quick_action_becomes_code(line: str) -> None:
    assert safe(f"a\n{line}\nb", commands=True) == f"a\n`{line.strip()}`\nb"
    assert "/" in safe(line)


def test_a_path_in_a_plain_fence_stays_what_it_is() -> None:
    text = "```\n/usr/bin/x\n```"
    assert safe(text, commands=True) == text


@pytest.mark.parametrize("text", ["```\n/close\n```", "~~~\n/close\n~~~", "   ```\n/close it\n   ```"])
def test_in_a_fence_which_gitlab_may_overlook_a_command_has_a_blank_in_front(text: str) -> None:
    assert safe(text, commands=True) == text.replace("/", " /")


def test_a_comment_that_is_never_closed_hides_nothing() -> None:
    assert safe("a <!-- b") == "a &lt;!-- b"
    assert safe("a <!-- b --> c") == "a <!-- b --> c"


def test_only_what_the_tracker_cannot_hold_is_told_in_the_text() -> None:
    task = a_task(priority="high", due_date="2026-12-01")
    assert facts_of(task, priority=True, due=True, labels=["a*b", "@ops"]) == [
        "**Priority:** high",
        "**Due:** 2026-12-01",
        f"**Labels:** a\\*b, @{JOINER}ops",
    ]
    assert facts_of(a_task(), priority=False, due=True, labels=[]) == []
