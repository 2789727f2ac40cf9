"""Wiki markup: what a text says is shown, and what it would do as markup it does not."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.backends.markup.wiki import escape, markup, size

LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60)
NASTY = st.lists(
    st.sampled_from([*"{}[]|!*_-+^~?#\\&;:() a1.", "h1.", "bq.", "{code}", "[~bob]", "!x!", "&#123;"]),
    max_size=30,
).map("".join)


def shown(text: str) -> str:
    """The text that Jira shows for escaped text: backslash escapes, then HTML entities."""
    return html.unescape(re.sub(r"\\(.)", r"\1", text))


@given(NASTY | LINE.filter(lambda line: "://" not in line))
def test_escaped_text_is_shown_as_it_was(text: str) -> None:
    if not re.search(r"&(?=[#\w]+)", text):  # an entity that lacks its semicolon is one to Python, not to Jira
        assert shown(escape(text)) == text
    assert not re.search(r"(?<!\\)[{}\[\]|!*^~]", escape(text))


@pytest.mark.parametrize("text", ["&#123;code}", "&lt;b&gt;", "&amp;"])
def test_an_entity_in_the_text_is_shown_as_its_characters(text: str) -> None:
    assert shown(escape(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{code}", r"\{code\}"),
        ("[~bob]", r"\[\~bob\]"),
        ("[x|mailto:y]", r"\[x\|mailto:y\]"),
        ("!http://x.y/z.png!", r"\![http://x.y/z.png]\!"),
        ("*a*", r"\*a\*"),
        ("-a-", r"\-a\-"),
        ("_a_", r"\_a\_"),
        ("+a+", r"\+a\+"),
        ("^a^", r"\^a\^"),
        ("~a~", r"\~a\~"),
        ("??a?? b?", r"\?\?a\?\? b?"),
        ("||a||", r"\|\|a\|\|"),
    ],
)
def test_markup_of_jira_in_a_text_is_no_markup(text: str, expected: str) -> None:
    assert escape(text) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("h1. x", "h1&#46; x"),
        ("bq. x", "bq&#46; x"),
        ("\\# x", "\\# x"),
        ("\\- x", "\\- x"),
        ("x#1 and h1. y", "x#1 and h1. y"),
        ("web-1 a_b 2026-03-01", "web-1 a_b 2026-03-01"),
        ("C:\\dir (x) :)", "C:&#92;dir &#40;x) &#58;)"),
    ],
)
def test_only_what_would_be_markup_is_escaped(markdown: str, expected: str) -> None:
    assert markup(markdown) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("## Two", "h2. Two"),
        ("**a** *b* ~~c~~", "{*}a{*} {_}b{_} {-}c{-}"),
        ("- a\n  1. b\n  2. c\n- d", "* a\n*# b\n*# c\n* d"),
        ("| a | b |\n|---|---|\n| 1 | |", "||a||b||\n|1| |"),
        ("> a\n> > b", "{quote}\na\n\nb\n{quote}"),
        ("---", "----"),
        ("a  \nb\nc", "a \\\\ b c"),
        ("```python\nx = {1}\n```", "{code:python}\nx = {1}\n{code}"),
        ("```strange\nx\n```", "{code:none}\nx\n{code}"),
        ("`a{b}`", "{{a&#123;b&#125;}}"),
        ("- a\n\n  ```\n  x\n  ```\n\n  b", "* a\n{code:none}\nx\n{code}\nb"),
        ("[a|b](https://x.y/c|d])", "[a\\|b|https://x.y/c%7Cd%5D]"),
        ("![alt](https://x.y/z.png)", "[alt|https://x.y/z.png]"),
        ("see https://x.y/a_b-c.", "see [https://x.y/a_b-c]."),
        ("[x](docs/y.md)", "x (docs/y.md)"),
        ("<b>", "<b>"),
        ("", ""),
    ],
)
def test_markdown_becomes_wiki_markup(markdown: str, expected: str) -> None:
    assert markup(markdown) == expected


@pytest.mark.parametrize("href", ["javascript:alert(1)", "data:text/html,x", "ftp://x.y", "//x.y", "~bob", "^file"])
def test_only_web_and_mail_addresses_are_links(href: str) -> None:
    assert not re.search(r"(?<!\\)\[", markup(f"[here]({href})"))


@pytest.mark.parametrize("code", ["{code}\n*a*", "{noformat}\nx", "{code:java}\n{noformat}\n{Code}"])
def test_code_cannot_end_its_own_macro(code: str) -> None:
    first, *inner, last = markup(f"```\n{code}\n```").split("\n")
    name = re.fullmatch(r"\{(code|noformat)(?::none)?\}", first)
    assert name
    assert last == f"{{{name[1]}}}"
    assert not any(f"{{{name[1]}" in line.lower() for line in inner)


def test_no_text_reaches_into_the_next_one() -> None:
    assert markup("```\nnever closed", "*footer*").endswith("\n{code}\n\n{_}footer{_}")


def test_text_is_measured_as_java_counts() -> None:
    assert size("a💩") == 3
