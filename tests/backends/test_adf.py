"""ADF: every text becomes a document that Jira takes, and no text becomes more than text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.backends.markup.adf import blocks, document, size
from tests.support.trackers.jira import adf_problems, texts

BLOCK_PIECES = ["\n", "\n\n", "    ", "```", "- ", "1. ", "> ", "# ", "|", "|--|", "---", "<!--", "-->"]
SPAN_PIECES = ["a", " ", "*", "**", "_", "~~", "`", "[", "](http://x)", "](javascript:x)", "![", "<b>", "\\", "&#10;"]
PIECES = st.sampled_from([*BLOCK_PIECES, *SPAN_PIECES, "&amp;", "\x07", "\u2028", "💩"])
MARKDOWN = st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60)


def nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("content", ()):
        yield from nodes(child)


def kinds(markdown: str) -> list[str]:
    return [node["type"] for node in nodes(document(markdown))][1:]


@given(MARKDOWN)
def test_every_text_becomes_a_document_that_jira_takes(markdown: str) -> None:
    assert list(adf_problems(document(markdown))) == []


@given(st.lists(st.sampled_from(["Disk", "93%", "/var", "web-1", "größe"]), min_size=1).map(" ".join))
def test_plain_words_stay_as_they_are(words: str) -> None:
    assert document(words)["content"] == [{"type": "paragraph", "content": [{"type": "text", "text": words}]}]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("## Two", [{"type": "heading", "attrs": {"level": 2}, "content": [{"type": "text", "text": "Two"}]}]),
        ("---", [{"type": "rule"}]),
        (
            "```py\nx = 1\n\ny\n```",
            [
                {
                    "type": "codeBlock",
                    "attrs": {"language": "py"},
                    "content": [{"type": "text", "text": "x = 1\n\ny"}],
                }
            ],
        ),
        ("```\n```", [{"type": "codeBlock", "content": []}]),
    ],
)
def test_blocks_become_their_nodes(markdown: str, expected: list[dict[str, Any]]) -> None:
    assert blocks(markdown) == expected


def test_marks_are_kept_and_code_has_no_other_than_a_link() -> None:
    (paragraph,) = blocks("**a *b*** ~~c~~ **`d`** [`e`](https://x.y)")
    told = {node["text"]: [mark["type"] for mark in node.get("marks", [])] for node in paragraph["content"]}
    assert told == {
        "a ": ["strong"],
        "b": ["strong", "em"],
        " ": [],
        "c": ["strike"],
        "d": ["code"],
        "e": ["link", "code"],
    }


@pytest.mark.parametrize("href", ["https://x.y/a?b=c#d", "HTTP://x.y", "mailto:ops@x.y"])
def test_an_address_that_people_may_follow_is_a_link(href: str) -> None:
    (paragraph,) = blocks(f"[here]({href})")
    assert paragraph["content"][0]["marks"] == [{"type": "link", "attrs": {"href": href}}]


@pytest.mark.parametrize(
    "href", ["javascript:alert(1)", "data:text/html,x", "ftp://x.y", "docs/x.md", "//x.y", "file:///x"]
)
def test_every_other_address_is_text(href: str) -> None:
    link = document(f"[here]({href})")
    assert not any("marks" in node for node in nodes(link))
    assert href in "".join(texts(link))


def test_an_image_is_a_link_and_is_not_fetched() -> None:
    (paragraph,) = blocks("![a chart](https://x.y/z.png)")
    (text,) = paragraph["content"]
    assert (text["text"], text["marks"][0]["attrs"]) == ("a chart", {"href": "https://x.y/z.png"})


@pytest.mark.parametrize(
    "text", ['<b onclick="x">', "<!-- not hidden -->", "<script>\nx\n</script>", "@here [~bob] {code}"]
)
def test_html_and_foreign_markup_are_text(text: str) -> None:
    assert "".join(texts(document(text))) == text.replace("\n", "")
    assert set(kinds(text)) <= {"paragraph", "text", "hardBreak"}


def test_a_line_break_becomes_a_node_and_a_soft_one_a_space() -> None:
    assert kinds("a  \nb") == ["paragraph", "text", "hardBreak", "text"]
    assert kinds("a&#10;b") == ["paragraph", "text", "hardBreak", "text"]
    assert "".join(texts(document("a\nb"))) == "a b"


def test_what_may_not_stand_in_a_list_or_a_quotation_is_made_simpler_and_keeps_its_words() -> None:
    markdown = "- # Head\n\n  > quoted\n\n  | a | b |\n  |---|---|\n  | 1 | 2 |\n\n  ---\n\n> > twice\n>\n> ## Low\n"
    assert list(adf_problems(document(markdown))) == []
    words = "".join(texts(document(markdown)))
    assert all(word in words for word in ("Head", "quoted", "a | b", "1 | 2", "twice", "Low"))


def test_no_text_reaches_into_the_next_one() -> None:
    whole = document("```\nnever closed\n<!--", "*footer*")
    assert whole["content"][-1]["content"] == [{"type": "text", "text": "footer", "marks": [{"type": "em"}]}]


def test_control_characters_are_replaced() -> None:
    assert (
        "".join(texts(document("bell \x07, escape \x1b[31m, tab\there"))) == "bell \ufffd, escape \ufffd[31m, tab\there"
    )


def test_a_long_document_is_measured_with_its_markup() -> None:
    assert size(document("x" * 1000)) > 1000
    assert size(document("💩" * 100)) >= 200
