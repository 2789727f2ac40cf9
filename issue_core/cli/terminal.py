"""What only a person at a terminal sees: how long ago something was, links to follow, how wide a column may be."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from issue_core.cli.output import styled
from issue_core.clock import figure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from rich.table import Column, Table
    from rich.text import Text

WIDE = 120
"""Columns of a terminal from which on there is room for what can be done without."""

_GAP = 2  # between two columns of a table

# Terminals that print what they do not know, or show nothing where a link stands.
_LINKLESS = frozenset({"", "dumb", "linux", "vt100", "vt220", "ansi", "cygwin"})
_VTE_WITH_LINKS = 5000  # 0.50; older ones print the address in the middle of the text


def width() -> int:
    """How many columns the terminal has."""
    from rich.console import Console

    return Console(file=sys.stdout).width


def ago(then: str, now: datetime) -> str:
    """When ``then`` (as the ledger writes times) is, in one figure: ``3 h ago``, ``in 5 min``, ``now``."""
    from issue_core.task import from_text

    return from_now((now - from_text(then)).total_seconds())


def from_now(seconds: float) -> str:
    """When it was so many ``seconds`` ago, or (below 0) will be, in the words of :func:`ago`."""
    if abs(seconds) < 1:
        return "now"
    return f"{figure(seconds)} ago" if seconds > 0 else f"in {figure(-seconds)}"


def knows_links() -> bool:
    """Whether the terminal is one that makes a link of OSC 8, as far as the environment tells.

    ``FORCE_HYPERLINK`` decides where it is set, as it does for other programs: 0 is no, anything else yes.
    """
    environment = os.environ.get
    if (forced := environment("FORCE_HYPERLINK")) is not None:
        return forced != "0"
    if environment("TERM", "") in _LINKLESS or environment("TERM_PROGRAM") == "Apple_Terminal":
        return False
    if "STY" in os.environ:  # GNU screen
        return False
    vte = environment("VTE_VERSION", "")
    return not (vte.isdecimal() and int(vte) < _VTE_WITH_LINKS)


def linked(text: object, url: str) -> Text:
    """``text``, which leads to ``url`` where the terminal knows how."""
    shown: Text = styled(text, "none")
    # It must not end the sequence that it stands in.
    if url.isascii() and url.isprintable() and " " not in url and knows_links():
        shown.stylize(f"link {url}")
    return shown


def with_age(then: str, now: datetime) -> Text:
    """The time as it is written, and how long ago that was."""
    from rich.text import Text

    return Text.assemble(then, " ", (f"({ago(then, now)})", "dim"))


def table(*columns: str, right: frozenset[str] = frozenset()) -> Table:
    """An empty table without lines. What has no room is cut; the columns in ``right`` end at their right."""
    from rich.table import Table

    new = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        new.add_column(name, justify="right" if name in right else "left", no_wrap=True, overflow="ellipsis")
    return new


def fit(table: Table, *, at: int) -> None:
    """Give column ``at`` what the others leave, but for a third that one behind it may need.

    One that has a ``min_width`` is whole wherever it stands.
    """
    behind = [column for column in table.columns[at + 1 :] if not column.min_width]
    others = [*table.columns[:at], *(column for column in table.columns[at + 1 :] if column.min_width)]
    left = width() - sum(map(needed, others)) - _GAP * (len(table.columns) - 1)
    for column in behind:
        column.max_width = min(needed(column), max(left // 3, left - needed(table.columns[at])))
        left -= column.max_width
    table.columns[at].max_width = max(left, 1)


def has_room(column: Column, enough: int) -> bool:
    """Whether a column that was fitted shows all of its cells, or ``enough`` characters of them."""
    return (column.max_width or 0) >= min(enough, widest(column))


def with_room(
    cells: Mapping[str, Sequence[Text]],
    spare: Sequence[str],
    draw: Callable[[Mapping[str, Sequence[Text]]], Table],
    *,
    of: str,
    enough: int,
) -> Table:
    """The columns ``cells`` drawn, without so many of ``spare``, from the first on, that ``of`` has room."""
    for n in range(len(spare) + 1):
        table = draw({name: column for name, column in cells.items() if name not in spare[:n]})
        if any(column.header == of and has_room(column, enough) for column in table.columns):
            break
    return table


def needed(column: Column) -> int:
    """How wide a column is that shows all of its cells, or how wide it may be."""
    return min(widest(column), column.max_width) if column.max_width else widest(column)


def widest(column: Column) -> int:
    """How wide the widest cell of a column is."""
    from rich.cells import cell_len

    return max(cell_len(str(cell)) for cell in (column.header, *column.cells))
