"""Textile: what a text says is shown, and what it would do as markup it does not."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.backends.markup.markdown import events_in
from issue_core.backends.markup.parsing import JOINER
from issue_core.backends.markup.textile import escape, markup

EVENT = "0190c7a4-9d5e-7c3b-8a43-3f2b8a1c9d10"
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60)
NASTY = st.lists(
    st.sampled_from([*'{}[]|!*_-+^~?#\\&;:() a1.@%="<>', "h1.", "bq.", "==", "{{", "[[", "!x!", "&#123;", "</pre>"]),
    max_size=30,
).map("".join)

# RedCloth3's own expressions for what text could be taken for, as far as they matter within a line.
PHRASE = re.compile(r"(?:^|[>\s(])(\*\*|\*|\?\?|-|__|_|%|\+|\^|~)(?!\s)\S.*?\S?\1(?=[^\w\s]|\s|$)")
CODE = re.compile(r"\W@(?:\|\w+?\|)?.+?@(?=\W)")
LINK = re.compile(r'"[^"\n]+?":(?:/|[a-zA-Z]+://|www\.|mailto:)')
IMAGE = re.compile(r"(?:>|\s|^)!\S+?!")
MACRO = re.compile(r"\{\{|\[\[|==|<")


@given(NASTY | LINE.filter(lambda line: "://" not in line))
def test_escaped_text_is_shown_as_it_was_and_is_no_markup(text: str) -> None:
    escaped = escape(text)
    if not re.search(r"&(?=[#\w]+(?!;|[#\w]))", text):  # an entity that lacks its semicolon is one to Python alone
        assert html.unescape(escaped) == text
    for markup_ in (PHRASE, CODE, LINK, IMAGE, MACRO):
        assert not markup_.search(f" {escaped} ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Disk `/var`", "h1. Disk <code>/var</code>"),
        ("one\ntwo", "one two"),
        ("one  \ntwo", "one\ntwo"),
        ("**bold** and *it*, ~~gone~~.", "*bold* and _it_, -gone-."),
        ("***both***", "_*both*_"),
        ("in**wo**rd", "inword"),
        ("*(x) y*", "_&#40;x) y_"),
        ("[a link](https://x.org/a_b)", '"a link":https://x.org/a_b'),
        ("[a link](https://x.org/a)(b)", '"a link":https://x.org/a (b)'),
        ("[the (best) link](https://x.org/a).", '"the &#40;best&#41; link":https://x.org/a.'),
        ("[x](ftp://x.org/y)", "x (ftp://x.org/y)"),
        ("![logo](https://x.org/l.png)", '"logo":https://x.org/l.png'),
        ("<https://x.org/a>", "https://x.org/a"),
        ("see https://x.org/@a/b==.", "see https://x.org/%40a/b=%3D."),
        ("`code` first", "p. <code>code</code> first"),
        ("`</code>`", f"p. <code><{JOINER}/code></code>"),
        ("- a\n  - b\n- c", "* a\n** b\n* c"),
        ("1. a\n   - b", "# a\n#* b"),
        ("- a\n\n  ```\n  x\n  ```", "* a\n<pre>\nx\n</pre>"),
        ("> a\n> > b", "> a\n> \n> > b"),
        ("> ```\n> a\n> b\n> ```", "> <pre>\na\nb\n</pre>"),
        ("```ruby\nx < 1\n```", '<pre><code class="ruby">\nx < 1\n</code></pre>'),
        ("    </pre> &lt;", f"<pre>\n<{JOINER}/pre> &lt;\n</pre>"),
        ("| a | b |\n|---|---|\n| c | `d` |", "|_. a |_. b |\n| c | <code>d</code> |"),
        ("---", "---"),
        ("<b>x</b>", "&#60;b&#62;x&#60;/b&#62;"),
        ("h1. no heading", "&#104;1. no heading"),
        ("bq. no quote", "&#98;q. no quote"),
        ("p(x). no class", "&#112;(x). no class"),
        (r"\* no list", "&#42; no list"),
        (r"\- - -", "&#45; - -"),
        ("#1 @me {{toc}} [[Wiki]]", "&#35;1 &#64;me &#123;&#123;toc}} &#91;&#91;Wiki]]"),
        ("a|b == c &amp;amp; snake_case a-b", "a&#124;b &#61;&#61; c &#38;amp; snake_case a-b"),
        ("", ""),
    ],
)
def test_markdown_becomes_textile(text: str, expected: str) -> None:
    assert markup(text) == expected


def test_texts_are_read_each_for_itself() -> None:
    assert markup("```\nnever closed", "---\n\n- **Due:** 2031-02-28") == (
        "<pre>\nnever closed\n</pre>\n\n---\n\n* *Due:* 2031-02-28"
    )


CODES = ["```", "`", "\n", "<pre>", "</pre>", "<code>", "</notextile>", "- ", "> ", "a ", "~~~", "    "]
WHOLE = re.compile(r"<pre>(?:<code class=\"[^\"]*\">)?\n.*?\n(?:</code>)?</pre>|<code>.*?</code>", re.DOTALL)


@given(st.lists(st.sampled_from(CODES), max_size=25).map("".join))
def test_code_that_was_begun_is_ended(text: str) -> None:
    assert not re.search(r"</?(?:pre|code|kbd|notextile)\b", WHOLE.sub("", markup(text)))


@pytest.mark.parametrize("form", ["{}", "```\n{}\n```", "    {}", "`{}`", "> {}", "- {}", "[{}](http://x.org)", "# {}"])
def test_a_marker_in_the_text_is_none_of_ours(form: str) -> None:
    assert events_in(markup(form.format(f"<!-- issue-core event={EVENT} -->"))) == []
