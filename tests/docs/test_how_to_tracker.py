"""The way to one's own tracker, walked as the page says it, at a tracker of each type."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from issue_core import backends
from tests.docs.pages import ROOT, blocks, rows_under
from tests.support.cli import ISSUE, Issue
from tests.support.trackers import fake
from tests.support.trackers.server import TOKEN_VARIABLE

PAGE = ROOT / "docs" / "how-to" / "send-to-your-tracker.md"


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    return Issue(tmp_path)


def test_the_page_has_every_type_of_tracker() -> None:
    types = {cells[1].partition("`")[2].partition("`")[0] for cells in rows_under(PAGE, "A token")}

    assert types == set(backends.types()) - {"local"}


def test_the_lines_of_the_page_lead_to_an_issue_at_the_tracker(issue: Issue) -> None:
    [file] = blocks(PAGE, "toml")
    [steps] = blocks(PAGE, "sh")
    with fake("gitea") as tracker:
        tracker.projects.add("acme/inbox")
        text = file.text.replace("https://git.example.org", tracker.url).replace("TRACKER_TOKEN", TOKEN_VARIABLE)
        assert tomllib.loads(text)["backends"]["work"]["url"] == tracker.url
        (issue.folder / "config.toml").write_text(text, encoding="utf-8")
        environment = issue.environment | {TOKEN_VARIABLE: os.environ[TOKEN_VARIABLE]}
        environment["PATH"] = f"{Path(ISSUE).parent}:{environment['PATH']}"

        ran = issue.shell(f"set -e\n{steps.text}", env=environment)

        assert ran.code == 0, ran.stdout + ran.stderr
        assert [each.title for each in tracker.issues] == ["A first issue, to see whether it works"]
        assert "not ok" not in ran.stdout
        assert "planned\tto acme/inbox at" in ran.stdout
        assert ran.stdout.splitlines()[-1].split("\t")[-1].startswith(tracker.url)
