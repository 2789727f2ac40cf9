"""Ages and dates."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from issue_core.cli.options import moment
from issue_core.errors import UsageError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("45s", "2026-03-01T11:59:15.000Z"),
        ("30m", "2026-03-01T11:30:00.000Z"),
        ("2h", "2026-03-01T10:00:00.000Z"),
        ("7d", "2026-02-22T12:00:00.000Z"),
        ("2026-01-31", "2026-01-31T00:00:00.000Z"),
        ("2026-01-31T09:30", "2026-01-31T09:30:00.000Z"),
        ("2026-01-31T09:30:00+02:00", "2026-01-31T07:30:00.000Z"),
        ("2026-01-31T09:30:00.250Z", "2026-01-31T09:30:00.250Z"),
    ],
)
def test_an_age_is_counted_back_from_now_and_a_date_is_in_utc(text: str, then: str) -> None:
    assert moment(text, NOW, "--since") == then


@pytest.mark.parametrize("text", ["", "h", "-1h", "1w", "99999d", "yesterday", "2026-13-01", "12"])
def test_what_is_neither_is_refused_with_the_option_it_stood_at(text: str) -> None:
    with pytest.raises(UsageError, match="--until"):
        moment(text, NOW, "--until")
