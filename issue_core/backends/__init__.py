"""The trackers there are, each in its own module, which is imported when a backend of its type is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from issue_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from issue_core.backends.base import Backend, Traits

_MODULES = {
    "local": "issue_core.backends.local",
}


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
    return tuple(sorted(_MODULES))


def keys_of(tracker: str) -> Mapping[str, str] | None:
    """The configuration keys that this type takes beside the common ones (key → kind); None: there is no such type."""
    return _module(tracker).KEYS if tracker in _MODULES else None


def open_backend(settings: Configured, *, home: Path, request_timeout: float) -> Backend:
    """The backend that ``settings`` describe. ``home`` is the ledger's folder; ``request_timeout`` in seconds.

    Raises:
        ConfigError: there is no such type, or it cannot use these settings.
    """
    if settings.type not in _MODULES:
        known = ", ".join(types())
        raise ConfigError(f"Backend {settings.name!r}: there is no type {settings.type!r}.", hint=f"there is: {known}")
    options = {**settings.options, "projects": settings.projects, "priorities": settings.priorities}
    backend = _module(settings.type).open_backend(settings.name, options, home=home, request_timeout=request_timeout)
    backend.traits = _tuned(backend.traits, settings)
    return backend


def _module(tracker: str) -> _Tracker:
    return cast("_Tracker", import_module(_MODULES[tracker]))


def _tuned(traits: Traits, settings: Configured) -> Traits:
    """The tracker's traits, with what the configuration sets otherwise."""
    wanted: dict[str, Any] = {
        "max_in_flight": settings.max_in_flight,
        "min_interval": settings.min_interval,
        "settle": settings.settle,
        "looks": settings.looks,
        "look_interval": settings.look_interval,
    }
    return replace(traits, **{trait: value for trait, value in wanted.items() if value is not None})
