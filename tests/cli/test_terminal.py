"""What a person at a terminal sees: how long ago, where a link leads, in which colours."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from rich.color import Color
from rich.style import Style

from issue_core.cli import terminal
from issue_core.cli.output import STYLES

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("then", "shown"),
    [
        ("2026-03-01T12:00:00.000Z", "now"),
        ("2026-03-01T11:59:59.500Z", "now"),
        ("2026-03-01T11:59:18.000Z", "42 s ago"),
        ("2026-03-01T11:59:00.000Z", "1 min ago"),
        ("2026-03-01T09:00:00.000Z", "3 h ago"),
        ("2026-02-28T12:00:01.000Z", "23 h ago"),
        ("2025-03-01T12:00:00.000Z", "365 d ago"),
        ("2026-03-01T12:05:00.000Z", "in 5 min"),
    ],
)
def test_a_time_is_shown_by_how_long_ago_it_is_in_one_figure(then: str, shown: str) -> None:
    assert terminal.ago(then, NOW) == shown


@pytest.mark.parametrize(
    ("environment", "knows"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "tmux-256color"}, True),
        ({"TERM": "linux"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
        ({"TERM": "screen", "STY": "1.pts"}, False),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, False),
        ({"TERM": "xterm-256color", "VTE_VERSION": "4803"}, False),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7200"}, True),
        ({"TERM": "linux", "FORCE_HYPERLINK": "1"}, True),
        ({"TERM": "xterm", "FORCE_HYPERLINK": "0"}, False),
    ],
)
def test_links_are_for_terminals_that_know_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], knows: bool
) -> None:
    for name in ("TERM", "STY", "TERM_PROGRAM", "VTE_VERSION", "FORCE_HYPERLINK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal.knows_links() == knows


@pytest.mark.parametrize("url", ["https://x/\x1b\\", "https://x/ y", "https://x/\x07", "https://ü/", "https://x/\n"])
def test_an_address_that_could_end_its_sequence_is_no_link(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FORCE_HYPERLINK", "1")
    assert not any(str(span.style).startswith("link") for span in terminal.linked("title", url).spans)


def test_a_narrow_table_cuts_its_last_columns_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "width", lambda: 40)
    table = terminal.table("seq", "title", "url")
    table.add_row("12345", "t" * 50, "u" * 50)
    terminal.fit(table, at=1)
    assert [column.max_width for column in table.columns] == [None, 21, 10]
    table = terminal.table("seq", "title", "url")
    table.add_row("12345", "t" * 5, "u" * 15)
    terminal.fit(table, at=1)
    assert terminal.needed(table.columns[2]) == 15


def test_a_column_that_must_be_whole_takes_its_room_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "width", lambda: 40)
    table = terminal.table("title", "n")
    table.add_row("t" * 50, "1" * 20)
    table.columns[1].min_width = terminal.needed(table.columns[1])
    terminal.fit(table, at=0)
    assert [column.max_width for column in table.columns] == [18, None]
    assert terminal.widest(table.columns[0]) == 50


def _luminance(color: Color) -> float:
    def linear(value: int) -> float:
        share = value / 255
        return share / 12.92 if share <= 0.04045 else float(((share + 0.055) / 1.055) ** 2.4)

    red, green, blue = map(linear, color.get_truecolor())
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("style", sorted(set(STYLES.values())))
def test_every_colour_can_be_read_on_black_and_on_white(style: str) -> None:
    color = Style.parse(style).color
    if color is None:
        assert re.fullmatch("dim", style)  # the terminal's own, a little nearer to its background
        return
    assert color.number is not None
    assert color.number >= 16  # below, a theme decides what it looks like
    luminance = _luminance(color)
    assert min(1.05 / (luminance + 0.05), (luminance + 0.05) / 0.05) > 3.8  # WCAG 2.2: 3 for large text, 4.5 for small
