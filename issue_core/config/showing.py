"""The settings in force, for people and machines to read: each with its origin, no secret among them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from issue_core.config.keys import BACKEND, KEYS, Key, dotted, section
from issue_core.config.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issue_core.config.settings import BackendSettings, Settings


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting in force: its dotted key, its value as JSON has it, and its origin.

    The value is None where none is set; of a backend, the choice is then the tracker's own. A secret is the table that
    names its place.
    """

    key: str
    value: Any
    origin: str

    def to_toml(self) -> str:
        """The setting as a line of TOML, its origin behind it; a comment when there is no value to write."""
        if self.value is None:
            meaning = "the tracker's own default" if self.key.startswith("backends.") else "not set"
            return f"# {self.key}: {meaning}"
        return f"{self.key} = {_toml(self.value)}  # {self.origin}"


def effective(settings: Settings) -> Iterator[Effective]:
    """Every setting, in the order of the documentation, then each backend's."""
    for key in KEYS:
        if not key.name.startswith(BACKEND):
            yield from _entries(settings, key)
    for backend in settings.backends.values():
        for name, value in _backend(backend).items():
            key_name = dotted("backends", backend.name, name)
            yield Effective(key_name, _plain(value), settings.origins[key_name])


def _entries(settings: Settings, key: Key) -> Iterator[Effective]:
    """The setting, or each secret of a table of them as one of its own."""
    value = _value(settings, key.name)
    if value and key.kind == "table of secrets":
        for secret in value.values():
            yield Effective(secret.key, secret.to_json(), settings.origins[secret.key])
    else:
        yield Effective(key.name, _plain(value), settings.origins[key.name])


def _value(settings: Settings, name: str) -> Any:
    if name == "routes":
        return dict(settings.routes)
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _backend(backend: BackendSettings) -> dict[str, Any]:
    return {name: getattr(backend, name) for name in section(BACKEND)} | dict(backend.options)


def _plain(value: Any) -> Any:
    match value:
        case Secret():
            return value.to_json()
        case Path():
            return str(value)
        case tuple():
            return list(value)
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case _:
            return value


def _toml(value: Any) -> str:
    match value:
        case dict():
            inner = ", ".join(f"{dotted(name)} = {_toml(item)}" for name, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            # Text, numbers and booleans are written in TOML as they are in JSON.
            return json.dumps(value, ensure_ascii=False)
