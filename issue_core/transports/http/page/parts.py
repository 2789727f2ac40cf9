"""What the page for people is made of: HTML in which nothing from outside can be more than text.

:data:`Html` is a type of its own, so that a type checker refuses text where markup is wanted: the one way from ``str``
to it is :func:`text`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NewType
from urllib.parse import urlsplit

from issue_core.clock import figure
from issue_core.task import from_text
from issue_core.visible import escape

Html = NewType("Html", str)
"""Markup, safe to stand in the page as it is."""

NOTHING = Html("")

_WEB = ("http", "https")


def cut(shown: str, longest: int) -> str:
    """``shown``, with an ellipsis in place of what is beyond ``longest`` characters."""
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def text(shown: object, *, multiline: bool = False) -> Html:
    """Anything as text: nothing in it is markup, and nothing in it is hidden."""
    return Html(html.escape(escape(str(shown), multiline=multiline)))


def join(parts: Iterable[Html], between: str = "") -> Html:
    """``parts`` one after the other, with the text ``between`` them."""
    return Html(text(between).join(parts))


def element(name: str, /, *inner: Html, **attributes: str | None) -> Html:
    """An element. In attributes' names ``_`` is ``-``, but for the last one, which goes; ``None`` leaves one out."""
    return Html(f"{void(name, **attributes)}{join(inner)}</{name}>")


def void(name: str, /, **attributes: str | None) -> Html:
    """An element that can hold nothing, such as ``input``."""
    kept = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    written = "".join(f' {key}="{text(value)}"' for key, value in kept.items())
    return Html(f"<{name}{written}>")


def code(shown: object) -> Html:
    """Something to type, or an identifier."""
    return element("code", text(shown))


def foreign(shown: object) -> Html:
    """Text from outside within a line: a script that runs from right to left ends where it ends."""
    return element("bdi", text(shown))


def preformatted(shown: str, label: str) -> Html:
    """Text of several lines as it is, in a box that scrolls when it is long, from the keyboard too."""
    # The parser takes one line break away at the beginning of <pre>.
    return element("pre", Html("\n"), text(shown, multiline=True), tabindex="0", role="region", aria_label=label)


def link(url: str, shown: Html) -> Html:
    """A link to the web; an address of any other kind is shown as ``shown`` alone."""
    if not is_web(url):
        return shown
    return element("a", shown, href=url, title=url, rel="noopener noreferrer")


def is_web(url: str) -> bool:
    """Whether a link may lead there: http or https, and spelt so that what is seen is what it is."""
    if not (url.isascii() and url.isprintable()) or " " in url:
        return False
    try:
        split = urlsplit(url)
        return split.scheme in _WEB and bool(split.hostname)
    except ValueError:  # such as https://[
        return False


def to_task(wanted: str | int, shown: Html) -> Html:
    """A link to what this page says of one task."""
    return element("a", shown, href=f"?find={wanted}")


# --- time ------------------------------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """A length of time in one figure, never broken over two lines."""
    return figure(max(0, seconds)).replace(" ", "\u00a0")


def ago(moment: str, now: datetime) -> Html:
    """When something was (``moment`` as the ledger writes it), as seen from ``now``."""
    seconds = (now - from_text(moment)).total_seconds()
    return _time(from_text(moment), f"{span(seconds)}\u00a0ago" if seconds >= 1 else "just\u00a0now")


def until(moment: datetime, now: datetime) -> Html:
    """When something will be, as seen from ``now``."""
    seconds = (moment - now).total_seconds()
    return _time(moment, f"in\u00a0{span(seconds)}" if seconds >= 1 else "now")


def _time(moment: datetime, shown: str) -> Html:
    exactly = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    return element("time", text(shown), datetime=moment.strftime("%Y-%m-%dT%H:%M:%SZ"), title=exactly)


# --- tables ----------------------------------------------------------------------------------------------------------


def table(caption: Html, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Html]], *, kind: str) -> Html:
    """A table. ``columns`` are (class, heading); in each row the first cell names it.

    A narrow screen shows a row as a card, which costs a table its meaning in some browsers: so the roles are spelt out.
    """
    heads = (element("th", text(heading), scope="col", role="columnheader", class_=name) for name, heading in columns)
    body = (_row([name for name, _ in columns], cells) for cells in rows)
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads, role="row"), role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        role="table",
        class_=kind,
    )


def _row(names: Sequence[str], cells: Sequence[Html]) -> Html:
    first = element("th", cells[0], scope="row", role="rowheader", class_=names[0])
    rest = (element("td", cell, role="cell", class_=name) for name, cell in zip(names[1:], cells[1:], strict=True))
    return element("tr", first, *rest, role="row")


def pairs(found: Iterable[tuple[str, Html]], *, kind: str) -> Html:
    """Names and what they stand for."""
    groups = (element("div", element("dt", text(name)), element("dd", value)) for name, value in found)
    return element("dl", *groups, class_=kind)
