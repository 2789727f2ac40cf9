"""Flags over environment over file over defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from issue_core.config.settings import (
    DEFAULT,
    LOCAL,
    BackendSettings,
    BackendTypes,
    IngestSettings,
    Origins,
    ServeSettings,
    Settings,
    SyncSettings,
)
from issue_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issue_core.config.file import Content

APP = "issue-core"
CONFIG_VARIABLE = "ISSUE_CORE_CONFIG"
LEDGER_VARIABLE = "ISSUE_CORE_LEDGER"


class Place(NamedTuple):
    """An absolute path and who named it: ``flag --config``, ``environment ISSUE_CORE_CONFIG`` or ``default``."""

    path: Path
    origin: str


def config_place(config: Path | None, environ: Mapping[str, str]) -> Place:
    """Where the configuration file is, or would be. ``config`` is the flag's value; an empty variable is none.

    Raises:
        ConfigError: the path begins with ``~`` and there is no such home folder.
    """
    if named := _named(config, "--config", CONFIG_VARIABLE, environ):
        return named
    from platformdirs import user_config_path

    return Place(user_config_path(APP).absolute() / "config.toml", DEFAULT)


def load(*, config: Path | None, ledger: Path | None, environ: Mapping[str, str], backends: BackendTypes) -> Settings:
    """The settings in force. ``config`` and ``ledger`` are the values of the flags, if given.

    Raises:
        ConfigError: the file that a flag or the environment names is not there, or something in the file is
            wrong: one line for each problem, each with the file and the dotted key.
    """
    content = _content(config_place(config, environ), backends)
    values: Mapping[str, Any] = content.values if content else {}
    configured = content.backends if content else {LOCAL: BackendSettings(LOCAL, LOCAL)}
    named = (secret.key for secret in values.get("serve.keys", {}).values())
    origins = Origins.fromkeys((*values, *named), f"file {content.path}" if content else DEFAULT)
    place = _ledger_place(ledger, environ, values, origins["ledger"])
    origins["ledger"] = place.origin
    return Settings(
        ledger=place.path,
        default_backend=values.get("default_backend", LOCAL),
        backends=configured,
        routes=tuple(values.get("routes", {}).items()),
        sync=SyncSettings(**_under("sync.", values)),
        ingest=IngestSettings(**_under("ingest.", values)),
        serve=ServeSettings(**_under("serve.", values)),
        file=content.path if content else None,
        origins=origins,
    )


def route(settings: Settings, target_repo: str) -> str:
    """The name of the backend that a task with this ``target_repo`` goes to.

    The first pattern that matches, from the top, decides, else the default backend. A pattern is a glob on
    the whole name, in which case counts and ``*`` matches ``/`` too.
    """
    from fnmatch import fnmatchcase

    matching = (backend for pattern, backend in settings.routes if fnmatchcase(target_repo, pattern))
    return next(matching, settings.default_backend)


def _content(place: Place, backends: BackendTypes) -> Content | None:
    # Looking first costs less than what reading takes along, and most starts have no file.
    if place.origin == DEFAULT and not _is_there(place.path):
        return None
    from issue_core.config.file import read

    try:
        return read(place.path, backends)
    except FileNotFoundError:
        if place.origin == DEFAULT:
            return None
        raise ConfigError(
            f"{place.path}: there is no such file ({place.origin} names it).",
            hint="name one that is there, or write a first one to this place with `issue config init`",
        ) from None


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # It may well be there, and reading it will say what is in the way.
        return True
    return True


def _ledger_place(ledger: Path | None, environ: Mapping[str, str], values: Mapping[str, Any], origin: str) -> Place:
    if named := _named(ledger, "--ledger", LEDGER_VARIABLE, environ):
        return named
    if "ledger" in values:
        return Place(values["ledger"], origin)
    from platformdirs import user_data_path

    return Place(user_data_path(APP).absolute() / "ledger.db", DEFAULT)


def _named(flag: Path | None, option: str, variable: str, environ: Mapping[str, str]) -> Place | None:
    if flag is not None:
        return _absolute(flag, f"flag {option}")
    if text := environ.get(variable):
        return _absolute(Path(text), f"environment {variable}")
    return None


def _absolute(path: Path, origin: str) -> Place:
    try:
        return Place(path.expanduser().absolute(), origin)
    except (RuntimeError, OSError):
        raise ConfigError(
            f"{path}: no absolute path can be made of it ({origin}).", hint="write the whole path, from / on"
        ) from None


def _under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
