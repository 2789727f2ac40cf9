"""The settings, where each came from, and secrets that are read when they are needed.

Flags win over the environment, the environment over the file, the file over the defaults. Every start of
the command line pays for this package: what only a file needs (``keys``, ``values``, ``secret``, ``file``) is
imported when there is one.
"""

from __future__ import annotations

from issue_core.config.loading import Place, config_place, load, route
from issue_core.config.settings import (
    BackendSettings,
    BackendTypes,
    IngestSettings,
    NatsSettings,
    ServeSettings,
    Settings,
    SyncSettings,
)

__all__ = [
    "BackendSettings",
    "BackendTypes",
    "IngestSettings",
    "NatsSettings",
    "Place",
    "ServeSettings",
    "Settings",
    "SyncSettings",
    "config_place",
    "load",
    "route",
]
