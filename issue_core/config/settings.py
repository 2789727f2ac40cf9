"""The settings as the rest of the program sees them: plain, typed, complete. Their defaults stand here.

Every start of the command line makes these classes, so what need not be a dataclass is none: one costs what
eight named tuples do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from issue_core.config.secret import Secret

Lookup = Literal["in-doubt", "always"]

LOCAL = "local"
"""The backend that is always there, and its type."""

DEFAULT = "default"
"""The origin of a value that nobody set."""


class Origins(dict[str, str]):
    """Where each dotted key's value is from. What is not in it was set nowhere: asked for, it is :data:`DEFAULT`."""

    __slots__ = ()

    def __missing__(self, key: str) -> str:
        return DEFAULT


class BackendTypes(NamedTuple):
    """What the configuration must know of the backends, without importing one before a file names it.

    ``keys_of`` gives the keys that a type takes beside the common ones (key → kind, as in
    :data:`issue_core.config.keys.Kind`), or None when there is no such type; ``types`` lists the types there are.
    """

    keys_of: Callable[[str], Mapping[str, str] | None]
    types: Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """One ``[backends.NAME]`` table. Times are in seconds; None leaves the choice to the tracker's own default.

    ``options`` are the keys of its type alone: a secret is a :class:`~issue_core.config.Secret`, a path an absolute
    :class:`~pathlib.Path`, a list a tuple. What the file does not set is not in it.
    """

    name: str
    type: str
    max_in_flight: int | None = None
    min_interval: float | None = None
    settle: float | None = None
    looks: int | None = None
    look_interval: float | None = None
    per_minute: int | None = None
    per_hour: int | None = None
    lookup: Lookup = "in-doubt"
    lookup_back: float = 7 * 86400.0
    accounts: tuple[str, ...] = ()
    projects: Mapping[str, str] = field(default_factory=dict)
    priorities: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """The ``[sync]`` table; times in seconds. ``backoff`` is the first and the longest wait."""

    request_timeout: float = 30.0
    lease: float = 120.0
    backoff: tuple[float, float] = (5.0, 3600.0)
    max_attempts: int = 12


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """The ``[ingest]`` table; ``max_document`` in bytes."""

    max_document: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """The ``[serve]`` table; times in seconds, ``max_body`` in bytes. ``keys`` are the secrets by the keys' names."""

    host: str = "127.0.0.1"
    port: int = 8765
    keys: Mapping[str, Secret] = field(default_factory=dict)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    hosts: tuple[str, ...] = ()
    max_connections: int = 256
    max_body: int = 256 * 1024 * 1024
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    idle_timeout: float = 60.0
    busy_timeout: float = 5.0


class NatsSettings(NamedTuple):
    """The ``[nats]`` table. None where nothing is set.

    ``url`` may be several addresses, with commas between them. Where the environment has one with credentials, ``url``
    is what of it may be shown, and ``login`` the place where it stands whole.
    """

    url: str | None = None
    creds: Path | None = None
    nkey: Path | None = None
    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    context: str | None = None
    stream: str = "ACT_TASKS"
    durable: str = "issue-core-ingest"
    filter: str = "act.tasks.create.>"
    claims: bool = False
    bucket: str = "ACT_TASKS_CLAIMS"
    login: Secret | None = None


_NATS = NatsSettings()


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, as it is in force.

    ``routes`` are (pattern, backend) in the order of the file. ``file`` is the file that was read, if any.
    ``origins`` says for each dotted key where its value is from: ``flag --ledger``, ``environment ISSUE_CORE_LEDGER``,
    ``file /its/path`` or ``default``.
    """

    ledger: Path
    default_backend: str = LOCAL
    backends: Mapping[str, BackendSettings] = field(default_factory=lambda: {LOCAL: BackendSettings(LOCAL, LOCAL)})
    routes: tuple[tuple[str, str], ...] = ()
    sync: SyncSettings = SyncSettings()
    ingest: IngestSettings = IngestSettings()
    serve: ServeSettings = ServeSettings()
    nats: NatsSettings = _NATS
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=Origins)
