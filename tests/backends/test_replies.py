"""What a tracker's answer means, and how long it tells us to wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.backends.replies import Reply, error_of, is_limit, tracker_time, wait_of
from issue_core.errors import (
    BackendError,
    CredentialsRefused,
    Limited,
    OutcomeUnknown,
    ProjectClosed,
    Refused,
    TryLater,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DATE = "Tue, 24 Nov 2026 12:00:00 GMT"


def reply(status: int, headers: Mapping[str, str] | None = None, *, method: str = "POST", body: bytes = b"") -> Reply:
    told = {"date": DATE, **{name.replace("_", "-"): value for name, value in (headers or {}).items()}}
    return Reply(method, status, told, body, "https://tracker.example/api/issues")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "600"}, 600),
        ({"retry_after": "0"}, 0),
        ({"retry_after": "Tue, 24 Nov 2026 12:05:00 GMT"}, 300),
        ({"retry_after": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(NOW.timestamp()) + 90)}, 90),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "2026-11-24T12:02Z"}, 120),
        ({"ratelimit_remaining": "0", "ratelimit_reset": str(int(NOW.timestamp()) + 7)}, 7),
        ({"ratelimit_remaining": "0", "ratelimit_reset": "30"}, 30),
        ({"x_ratelimit_remaining": "12", "x_ratelimit_reset": str(int(NOW.timestamp()) + 90)}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "nan"}, None),
        ({}, None),
    ],
)
def test_the_time_to_wait_is_read_in_each_tracker_s_unit(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_of(reply(429, headers)) == seconds


def test_a_reset_counts_from_the_tracker_s_own_clock() -> None:
    an_hour_ahead = "Tue, 24 Nov 2026 13:00:00 GMT"
    reset = str(int(NOW.timestamp()) + 3600 + 20)
    assert wait_of(reply(429, {"date": an_hour_ahead, "x_ratelimit_remaining": "0", "x_ratelimit_reset": reset})) == 20


@given(st.text())
def test_whatever_a_header_says_it_is_seconds_or_nothing(told: str) -> None:
    wait = wait_of(reply(429, {"retry_after": told}))
    assert wait is None or 0 <= wait < 10**12


@pytest.mark.parametrize(
    ("status", "headers", "create", "means"),
    [
        (401, {}, True, CredentialsRefused),
        (403, {}, True, ProjectClosed),
        (403, {"retry_after": "60"}, True, Limited),
        (403, {"x_ratelimit_remaining": "0"}, True, Limited),
        (404, {}, True, ProjectClosed),
        (410, {}, True, ProjectClosed),
        (423, {}, True, ProjectClosed),
        (429, {}, True, Limited),
        (400, {}, True, Refused),
        (422, {}, True, Refused),
        (408, {}, True, OutcomeUnknown),
        (499, {}, True, OutcomeUnknown),
        (407, {}, True, OutcomeUnknown),
        (408, {}, False, TryLater),
        (400, {}, False, TryLater),
        (500, {}, True, OutcomeUnknown),
        (503, {}, True, OutcomeUnknown),
        (503, {}, False, TryLater),
        (200, {}, True, OutcomeUnknown),
        (204, {}, True, OutcomeUnknown),
        (302, {}, True, OutcomeUnknown),
    ],
)
def test_each_status_means_one_thing(
    status: int, headers: dict[str, str], create: bool, means: type[BackendError]
) -> None:
    error = error_of(reply(status, headers), "no", create=create)
    assert type(error) is means
    assert error.message == f"tracker.example answered {status}: no"
    assert is_limit(reply(status, headers)) == (means is Limited)


def test_a_body_that_is_no_json_leaves_a_create_in_doubt_and_a_read_for_later() -> None:
    with pytest.raises(OutcomeUnknown, match="answered 201 with something that is no JSON"):
        reply(201, body=b"<html>").json()
    with pytest.raises(TryLater):
        reply(200, method="GET", body=b"[" * 100_000).json()


def test_the_words_of_a_tracker_are_one_line_without_controls() -> None:
    assert reply(500, body=b"<html>\r\n\x1b[31mno\x00 good").text() == "<html> [31mno good"
    assert len(reply(500, body=b"x" * 10_000).text()) == 300


def test_links_are_absolute() -> None:
    link = '<https://tracker.example/api/issues?page=2>; rel="next", </api/issues?page=9>; rel="last"'
    assert reply(200, {"link": link}).links == {
        "next": "https://tracker.example/api/issues?page=2",
        "last": "https://tracker.example/api/issues?page=9",
    }


def test_a_time_of_ours_is_told_in_the_tracker_s_clock() -> None:
    since = NOW - timedelta(hours=2)
    assert tracker_time(since, reply(200), NOW - timedelta(minutes=30)) == since + timedelta(minutes=30)
    assert tracker_time(since, Reply("GET", 200, {}, b"", ""), NOW) == since
