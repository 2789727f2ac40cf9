"""A repo becomes one token of a subject, whatever its name, and comes back from it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.transports.nats import names

TOKENS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4)


@given(st.text(min_size=1, max_size=50))
def test_any_repo_is_one_legal_token_and_comes_back(repo: str) -> None:
    try:
        repo.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate, which no TaskSpec has
    token = names.token(repo)
    assert re.fullmatch(r"(?:[A-Za-z0-9_/-]|%[0-9A-F]{2})+", token)
    assert names.repo_of(token) == repo


@pytest.mark.parametrize(
    ("repo", "token"),
    [
        ("acme/web", "acme/web"),
        ("acme/web.app", "acme/web%2Eapp"),
        ("a*>", "a%2A%3E"),
        ("50%", "50%25"),
        ("ü", "%C3%BC"),
    ],
)
def test_a_token_can_be_read(repo: str, token: str) -> None:
    assert names.create_subject(repo) == f"act.tasks.create.{token}"


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("act.tasks.>", "act.tasks.create.>", True),
        ("act.tasks.>", "act.tasks", False),
        ("act.tasks.*", "act.tasks.create.a", False),
        ("act.*.create.a", "act.tasks.create.a", True),
        ("act.tasks.create.a", "act.tasks.create.*", False),
        ("act.tasks.*", "act.tasks.>", False),
        ("act.tasks.create", "act.tasks", False),
        (">", "act", True),
    ],
)
def test_one_pattern_covers_another(pattern: str, subject: str, expected: bool) -> None:
    assert names.covers(pattern, subject) == expected


@given(TOKENS, st.booleans(), st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5))
def test_a_pattern_covers_a_subject_just_when_it_matches_it(
    parts: list[str], open_end: bool, subject: list[str]
) -> None:
    pattern = ".".join([*parts, ">"] if open_end else parts)
    regex = r"\.".join("[^.]+" if part == "*" else part for part in parts) + (r"\..+" if open_end else "")
    assert names.covers(pattern, ".".join(subject)) == bool(re.fullmatch(regex, ".".join(subject)))
