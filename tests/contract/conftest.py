"""Every type of tracker that issue-core speaks with, each against a fake one that behaves as its makers say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.desk import Desk
from tests.support.trackers import TRACKERS, fake
from tests.support.trackers.server import TrackerServer


@pytest.fixture(params=TRACKERS)
def tracker(request: pytest.FixtureRequest) -> Iterator[TrackerServer]:
    """A tracker of each type in turn, with nothing in it."""
    with fake(request.param) as server:
        yield server


@pytest.fixture
def desk(tracker: TrackerServer, tmp_path: Path) -> Iterator[Desk]:
    """The backend of that tracker, and the calls that a test makes of it."""
    desk = Desk(tracker, tmp_path)
    yield desk
    desk.backend.close()
