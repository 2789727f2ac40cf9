"""The trackers there are, each in its own module, which is imported when a backend of its type is opened.

A package that is installed beside this one adds a tracker with an entry point of the group :data:`PLUG_INS`, which
names a module of the same shape. A name that this package has is not another's to take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from issue_core.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from issue_core.backends.base import Backend, Traits

_MODULES = {
    "gitea": "issue_core.backends.gitea",
    "github": "issue_core.backends.github",
    "gitlab": "issue_core.backends.gitlab",
    "jira": "issue_core.backends.jira",
    "local": "issue_core.backends.local",
    "redmine": "issue_core.backends.redmine",
}


PLUG_INS = "issue_core.backends"
"""The group of entry points: name of the type → module."""


class Configured(Protocol):
    """One ``[backends.NAME]`` table as the configuration gives it; None leaves a trait to the tracker's own default.

    ``options`` are the keys that the type alone takes, converted.
    """

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def max_in_flight(self) -> int | None: ...
    @property
    def min_interval(self) -> float | None: ...
    @property
    def settle(self) -> float | None: ...
    @property
    def looks(self) -> int | None: ...
    @property
    def look_interval(self) -> float | None: ...
    @property
    def per_minute(self) -> int | None: ...
    @property
    def per_hour(self) -> int | None: ...
    @property
    def projects(self) -> Mapping[str, str]: ...
    @property
    def priorities(self) -> Mapping[str, str]: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


class _Tracker(Protocol):
    """What each tracker's module exports: its own configuration keys (key → kind), and the way to open one.

    ``options`` holds those keys, as far as they are set, and the common ``projects`` and ``priorities``.
    """

    @property
    def KEYS(self) -> Mapping[str, str]: ...  # noqa: N802 - it is a constant of the module

    def open_backend(self, name: str, options: Mapping[str, Any], *, home: Path, request_timeout: float) -> Backend: ...


def types() -> tuple[str, ...]:
    """The types that a backend can have, in alphabetical order."""
    return tuple(sorted(_MODULES.keys() | _plug_ins().keys()))


def keys_of(tracker: str) -> Mapping[str, str] | None:
    """The configuration keys that this type takes beside the common ones (key → kind); None: there is no such type."""
    module = _module(tracker)
    return module.KEYS if module is not None else None


def open_backend(settings: Configured, *, home: Path, request_timeout: float) -> Backend:
    """The backend that ``settings`` describe. ``home`` is the ledger's folder; ``request_timeout`` in seconds.

    Raises:
        ConfigError: there is no such type, or it cannot use these settings.
    """
    module = _module(settings.type)
    if module is None:
        known = ", ".join(types())
        raise ConfigError(f"Backend {settings.name!r}: there is no type {settings.type!r}.", hint=f"there is: {known}")
    options = {**settings.options, "projects": settings.projects, "priorities": settings.priorities}
    backend = module.open_backend(settings.name, options, home=home, request_timeout=request_timeout)
    backend.traits = _tuned(backend.traits, settings)
    return backend


def _module(tracker: str) -> _Tracker | None:
    """The module of this type, if there is one."""
    if tracker in _MODULES:
        return cast("_Tracker", import_module(_MODULES[tracker]))
    plug_in = _plug_ins().get(tracker)
    return None if plug_in is None else _loaded(plug_in)


def _plug_ins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {found.name: found for found in entry_points(group=PLUG_INS)}


def _loaded(plug_in: EntryPoint) -> _Tracker:
    try:
        module = plug_in.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The plug-in for backends of type {plug_in.name!r} cannot be loaded: {error}",
            hint=f"install its package again, or remove it; it says that its module is {plug_in.value}",
        ) from None
    if missing := [name for name in ("KEYS", "open_backend") if not hasattr(module, name)]:
        raise ConfigError(f"The plug-in for backends of type {plug_in.name!r} lacks {' and '.join(missing)}.")
    return cast("_Tracker", module)


def _tuned(traits: Traits, settings: Configured) -> Traits:
    """The tracker's traits, with what the configuration sets otherwise."""
    wanted: dict[str, Any] = {
        "max_in_flight": settings.max_in_flight,
        "min_interval": settings.min_interval,
        "settle": settings.settle,
        "looks": settings.looks,
        "look_interval": settings.look_interval,
        "per_minute": settings.per_minute,
        "per_hour": settings.per_hour,
    }
    return replace(traits, **{trait: value for trait, value in wanted.items() if value is not None})
