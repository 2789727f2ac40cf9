"""The rig, for every test of sync."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sync_engine.rig import Rig


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig whose books must balance when the test is over."""
    rig = Rig(tmp_path, monkeypatch)
    yield rig
    rig.audit()
    rig.close()
