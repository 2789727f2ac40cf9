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
    NatsSettings,
    Origins,
    ServeSettings,
    Settings,
    SyncSettings,
)
from issue_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issue_core.config.file import Content
    from issue_core.config.secret import Secret

APP = "issue-core"
CONFIG_VARIABLE = "ISSUE_CORE_CONFIG"
LEDGER_VARIABLE = "ISSUE_CORE_LEDGER"
NATS_VARIABLES = ("URL", "CREDS", "NKEY", "USER", "PASSWORD", "TOKEN", "CA", "CERT", "KEY", "CONTEXT")
"""What stands behind ``NATS_`` in the variables that the ``nats`` CLI has, too; each names a key of ``[nats]``."""

_SECRETS = ("PASSWORD", "TOKEN")
_TEXTS = ("URL", "USER", "CONTEXT")


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
    nats = _of_environment(environ)
    origins = Origins.fromkeys((*values, *named), f"file {content.path}" if content else DEFAULT)
    place = _ledger_place(ledger, environ, values, origins["ledger"])
    origins["ledger"] = place.origin
    origins.update({f"nats.{name}": f"environment NATS_{name.upper()}" for name in nats if name != "login"})
    return Settings(
        ledger=place.path,
        default_backend=values.get("default_backend", LOCAL),
        backends=configured,
        routes=tuple(values.get("routes", {}).items()),
        sync=SyncSettings(**_under("sync.", values)),
        ingest=IngestSettings(**_under("ingest.", values)),
        serve=ServeSettings(**_under("serve.", values)),
        nats=NatsSettings(**_under("nats.", values) | nats),
        file=content.path if content else None,
        origins=origins,
    )


def _of_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What ``NATS_URL`` and the like say, by the keys of ``[nats]``. No secret is read, only where it stands."""
    given = {name: text for name in NATS_VARIABLES if (text := environ.get(f"NATS_{name}"))}
    values: dict[str, Any] = {}
    for name, text in given.items():
        key, variable = name.lower(), f"NATS_{name}"
        if name in _SECRETS:
            values[key] = _secret(key, variable)
        elif name in _TEXTS:
            values[key] = text
        else:
            values[key] = _absolute(Path(text), f"environment {variable}").path
    if "@" in values.get("url", ""):
        # A comma in a password takes addresses apart: nothing before the last @ is fit to be shown.
        values["url"] = "…@" + values["url"].rpartition("@")[2]
        values["login"] = _secret("url", "NATS_URL")
    return values


def _secret(key: str, variable: str) -> Secret:
    from issue_core.config.secret import Secret

    return Secret(f"nats.{key}", "env", (variable,))


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
