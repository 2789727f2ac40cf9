"""The command ``issue``, away from the files of whoever runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Issue


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    """The command with an empty ledger."""
    return Issue(tmp_path)
