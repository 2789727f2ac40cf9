"""The types of backends: known by name, imported when used, tuned by the configuration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from issue_core.backends import keys_of, open_backend, types
from issue_core.backends.local import TRAITS
from issue_core.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """One backend's table, as the configuration gives it."""

    name: str = "notes"
    type: str = "local"
    max_in_flight: int | None = None
    min_interval: float | None = None
    settle: float | None = None
    looks: int | None = None
    look_interval: float | None = None
    per_minute: int | None = None
    per_hour: int | None = None
    projects: Mapping[str, str] = field(default_factory=dict)
    priorities: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def test_every_type_can_be_named_and_has_keys() -> None:
    assert "local" in types()
    assert list(types()) == sorted(types())
    assert keys_of("local") == {"path": "path"}
    assert all(keys_of(name) is not None for name in types())


def test_a_type_that_is_not_there_has_no_keys_and_cannot_be_opened(tmp_path: Path) -> None:
    assert keys_of("lokal") is None
    with pytest.raises(ConfigError, match="lokal") as raised:
        open_backend(Settings(type="lokal"), home=tmp_path, request_timeout=30)
    assert raised.value.hint is not None
    assert "local" in raised.value.hint


def test_a_backend_is_opened_with_its_options_and_the_projects(tmp_path: Path) -> None:
    table = Settings(options={"path": tmp_path / "todo"}, projects={"web": "acme/web"})
    backend = open_backend(table, home=tmp_path, request_timeout=30)
    target = backend.target("web")
    assert (backend.name, target.address, target.project) == ("notes", str(tmp_path / "todo"), "acme/web")
    assert backend.traits == TRAITS


def test_the_configuration_overrides_the_trackers_traits_zero_included(tmp_path: Path) -> None:
    table = Settings(max_in_flight=1, min_interval=0.5, settle=0.0, looks=3, look_interval=2.0)
    tuned = open_backend(table, home=tmp_path, request_timeout=30).traits
    assert tuned == replace(TRAITS, max_in_flight=1, min_interval=0.5, settle=0.0, looks=3, look_interval=2.0)


def test_no_tracker_is_imported_before_one_is_used() -> None:
    code = "import sys, issue_core.backends as b; b.types(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith("issue_core.backends.")] == []
