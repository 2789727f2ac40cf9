"""What a Markdown reader makes of a body: marker and facts stand on their own, nobody is called, code stays code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from issue_core.backends.markup.markdown import body, cut, events_in, marker, safe
from issue_core.backends.markup.parsing import JOINER
from tests.support.build import a_task

FACT = "**Due:** 2026-12-01"

# fmt: off
PIECES = [
    "<!--", "-->", "<pre>", "</pre>", "<?", "?>", "<div>", "<b title='", "'>", "```", "~~~", "````", "`", "``", "\n",
    "\n\n", "\r", "    ", "> ", "- ", "1. ", "/close", "/label ~x", "@all", "_@bob_", "&#64;bob", "&commat;bob",
    "a@b.example",
    " ", "|", "\n|-|-|\n", "[x](", ")", "[x`y]: /u\n", "\\", "text", "\u2028", "\x0b", "<!-- issue-core event=",
]
# fmt: on
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=100)


def read(text: str) -> list[Token]:
    return MarkdownIt("commonmark", {"maxNesting": 100}).enable("table").parse(text)


def words(tokens: Sequence[Token]) -> Iterator[str]:
    """The text that a reader sees outside code, piece by piece."""
    for token in tokens:
        if token.type in ("text", "text_special"):
            yield token.content
        elif token.type == "html_block":
            yield re.sub("<!--.*?-->|<[^>]*>", "\n", token.content, flags=re.DOTALL)
        elif token.type == "code_inline":
            yield "`"
        elif token.children:
            yield from words(token.children)
            yield "\n"


def called(text: str) -> list[str]:
    return re.findall(r"(?<![0-9A-Za-z])@[0-9A-Za-z]\w*", "".join(words(read(text))))


def ends_as_it_should(whole: str, mark: str) -> bool:
    """Whether the body ends, for a reader, with a rule, a list that is the fact, and the marker as a comment."""
    outermost = [token.type for token in read(whole) if token.level == 0]
    return (
        outermost[-4:] == ["hr", "bullet_list_open", "bullet_list_close", "html_block"]
        and read(whole)[-1].content.strip() == mark
        and FACT in [token.content for token in read(whole) if token.type == "inline"]
    )


@given(TEXTS)
@example("- ```\n  code\n  ```\nmore")
@example("<!--\n```\n-->\nx")
@example("<pre>\nlog")
@example("<?php\nx")
@example("- " * 200)
@example("> " * 200 + "```")
@example("<!-- a\n\n```\nb -->\n```")
def test_nothing_in_a_description_hides_or_takes_in_what_stands_under_it(description: str) -> None:
    task = a_task(description=description)
    for commands in (False, True):
        whole = body(task, text=safe(description, commands=commands), facts=[FACT], most=None)
        assert ends_as_it_should(whole, marker(task))


@given(TEXTS, st.integers(750, 1_500))
@example("<!-- a\n" + "b\n" * 200 + "-->", 800)
@example("`x " + "y " * 20 + "@bob" + " z" * 400 + "`", 1_000)
def test_a_cut_opens_nothing(description: str, most: int) -> None:
    task = a_task(description=description * 20)
    whole = body(task, text=safe(task.description), facts=[FACT], most=most)
    assert len(whole) <= most
    assert events_in(whole) == [task.event_id]
    assert ends_as_it_should(whole, marker(task))
    assert called(whole) == []


@given(TEXTS)
@example("`a\n/close @bob\nb`")
@example("| `@a | b` |\n|-|-|\n| c | d |")
@example("<a title='`'>@bob</a>`")
@example("[a](x`y) z @b`")
@example("[x`y]: /u\n\n[a][x`y] @b`")
@example("@\\_bob @&#98;ob")
@example(r"\`@bob`")
def test_nobody_is_called_however_the_at_sign_is_written(description: str) -> None:
    for commands in (False, True):
        assert called(safe(description, commands=commands)) == []


@pytest.mark.parametrize(
    "text",
    [
        "`@types/node`",
        "a `@x\n@y` b",
        "- ```\n  @cached\n  ```",
        "    @indented",
        "| `@a` |\n|-|\n| ``@b`` |",
        "[m](https://medium.com/@somebody)",
        "x@y.example",
        "at @ noon",
    ],
)
def test_code_and_addresses_stay_as_they_are(text: str) -> None:
    assert safe(text) == text


@given(TEXTS)
@example("a\u2028/close")
@example("a\n\r/close")
def test_no_line_outside_fenced_code_begins_with_a_command(description: str) -> None:
    text = safe(description, commands=True)
    fenced = {n for token in read(text) if token.type == "fence" and token.map for n in range(*token.map)}
    assert not [line for n, line in enumerate(text.split("\n")) if n not in fenced and re.match("/[A-Za-z]", line)]


@pytest.mark.parametrize(
    "text",
    [
        "` " + "`" * 200 + " @bob",
        "".join("`" * ticks + "a@b " for ticks in range(1, 300)),
        "[" * 50_000 + "`@`",
        "![`@" * 15_000,
        "<!--\n" * 12_000,
    ],
    ids=["a run of backticks", "longer and longer runs", "brackets", "images", "comments"],
)
def test_a_hostile_text_takes_no_longer_than_a_long_one(text: str) -> None:
    assert safe(text, commands=True)


def test_a_long_line_is_cut_within_it() -> None:
    assert len(cut("short\n" + "x" * 5_000, 3_000, "note")) == 3_000


def test_an_at_sign_in_an_escaped_code_span_is_defused() -> None:
    assert safe(r"\`@bob`") == rf"\`@{JOINER}bob`"
