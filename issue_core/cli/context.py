"""What a command works with: the settings in force, and the ledger they name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from issue_core.cli import output

if TYPE_CHECKING:
    from pathlib import Path

    from issue_core.config import Place, Settings
    from issue_core.ledger import Ledger

_given_before: dict[str, Path | None] = {}


def given_before_the_command(*, config: Path | None, ledger: Path | None) -> None:
    """Remember ``--config`` and ``--ledger`` as they stood before the command's name; those behind it win."""
    _given_before.update(config=config, ledger=ledger)


def settings(config: Path | None, ledger: Path | None) -> Settings:
    """The settings in force, given the two options as they stood behind the command's name.

    Raises:
        ConfigError: something is wrong with the configuration file, or it is not there.
    """
    from issue_core import backends
    from issue_core.config import BackendTypes, load

    found = load(
        config=config or _given_before.get("config"),
        ledger=ledger or _given_before.get("ledger"),
        environ=os.environ,
        backends=BackendTypes(backends.keys_of, backends.types),
    )
    output.note("settings", ledger=str(found.ledger), config=found.file and str(found.file))
    return found


def config_place(config: Path | None) -> Place:
    """Where the configuration file is, or would be.

    Raises:
        ConfigError: no absolute path can be made of what was given.
    """
    from issue_core.config import config_place

    return config_place(config or _given_before.get("config"), os.environ)


def open_ledger(settings: Settings, *, long_lived: bool = False) -> Ledger:
    """The ledger that the settings name. Nothing is read or made before it is used.

    ``long_lived``: for a process that others wait for, and that waits no longer itself than ``serve.busy_timeout``.
    """
    from issue_core.ledger import Ledger

    if long_lived:
        return Ledger(settings.ledger, busy_timeout=settings.serve.busy_timeout, claims=settings.nats.claims)
    return Ledger(settings.ledger, claims=settings.nats.claims)
