"""Markdown is read whole: what lies deeper than a reader goes is shown as code rather than left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from issue_core.backends.markup import adf, textile, wiki

FORMS = [adf.document, textile.markup, wiki.markup]


@pytest.mark.parametrize("form", FORMS, ids=["adf", "textile", "wiki"])
@pytest.mark.parametrize("mark", ["> ", "- ", "1. ", "> - "])
def test_nothing_is_lost_however_deep_a_text_is_nested(form: Callable[..., Any], mark: str) -> None:
    for depth in (1, 10, *range(20, 110, 3), 1_000):
        made = json.dumps(form(f"{mark * depth}deep\n\nafter it", "the tail"))
        assert all(words in made for words in ("deep", "after it", "the tail"))
