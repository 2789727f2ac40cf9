"""Configuration files for tests, and three types of backend that they may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from issue_core.config import BackendTypes, Settings, load
from issue_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

TYPES = {
    "local": {"path": "path"},
    "gitea": {
        "url": "text",
        "token": "secret",
        "verify": "flag",
        "pages": "count",
        "wait": "seconds",
        "window": "duration",
        "labels": "list of text",
        "fields": "table of text",
        "project": "text",
    },
    "odd": {"tint": "colour"},
}
BACKENDS = BackendTypes(TYPES.get, lambda: sorted(TYPES))
GITEA = '[backends.work]\ntype = "gitea"\n'


def loaded(folder: Path, text: str, **flags: Any) -> Settings:
    """The settings with ``text`` as the file and a ledger beside it."""
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    given_ = {"config": file, "ledger": None, "environ": {"ISSUE_CORE_LEDGER": str(folder / "ledger.db")}, **flags}
    return load(backends=BACKENDS, **given_)


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong with ``text`` as the file: each line without the file's name, which must stand before it."""
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    before = f"{folder / 'config.toml'}: "
    lines = caught.value.message.splitlines()
    assert [line for line in lines if not line.startswith(before)] == []
    return [line.removeprefix(before) for line in lines]
