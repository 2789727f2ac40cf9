"""Every key of the configuration file as data: the one table behind validation, ``issue config show`` and the docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from issue_core.config.settings import (
    LOCAL,
    BackendSettings,
    IngestSettings,
    NatsSettings,
    ServeSettings,
    SyncSettings,
)

Kind = Literal[
    "text",
    "flag",
    "count",
    "seconds",
    "duration",
    "pair of seconds",
    "path",
    "list of text",
    "table of text",
    "secret",
    "table of secrets",
]

MOST = 10**9
"""What a number may be at most, where its key says nothing less."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its dotted name (``NAME`` stands for a backend's), its kind, its default and what it means.

    ``default`` is None where there is no fixed one; ``otherwise`` says it in words, for the reference. A number must
    be ``least`` or more, more than ``above``, and ``most`` or less. ``only`` lists the values that a text may have, or
    a table's names.
    """

    name: str
    kind: str
    default: Any
    meaning: str
    otherwise: str = ""
    least: float = 0
    above: float = -1
    most: int = MOST
    only: tuple[str, ...] = ()


_SYNC = SyncSettings()
_INGEST = IngestSettings()
_SERVE = ServeSettings()
_NATS = NatsSettings()
_BACKEND = BackendSettings(LOCAL, LOCAL)
_TRACKER = "the tracker's own"
# What a socket or SQLite waits is counted in milliseconds of 32 bits, which a month overflows.
_DAY = 86400

KEYS: tuple[Key, ...] = (
    Key("ledger", "path", None, "The ledger: one SQLite file.", "`ledger.db` in the user's data folder"),
    Key("default_backend", "text", LOCAL, "The backend of tasks that no route matches."),
    Key("routes", "table of text", {}, "Pattern on `target_repo` → backend; the first that matches, from the top."),
    Key("sync.request_timeout", "seconds", _SYNC.request_timeout, "One request, from first byte to last.", above=0),
    Key("sync.lease", "seconds", _SYNC.lease, "A task is one worker's for so long; more than `sync.request_timeout`."),
    Key(
        "sync.backoff",
        "pair of seconds",
        _SYNC.backoff,
        "First and longest wait between tries of one task; it doubles in between, with jitter.",
    ),
    Key(
        "sync.max_attempts",
        "count",
        _SYNC.max_attempts,
        "Tries that failed or proved absent before a task needs a person.",
        least=1,
    ),
    Key("ingest.max_document", "count", _INGEST.max_document, "The largest TaskSpec that is taken, in bytes.", least=1),
    Key("serve.host", "text", _SERVE.host, "The address to listen on."),
    Key("serve.port", "count", _SERVE.port, "The port; 0: any that is free.", most=65535),
    Key("serve.keys", "table of secrets", _SERVE.keys, "Who may ask: a name of your choice → that one's key."),
    Key("serve.tls_cert", "path", None, "The certificate with its chain, PEM.", "none: no TLS"),
    Key("serve.tls_key", "path", None, "Its key, PEM, without a password.", "none: no TLS"),
    Key(
        "serve.hosts",
        "list of text",
        _SERVE.hosts,
        "Names that it is reached under, by people or through a reverse proxy, beside the loopback names.",
    ),
    Key("serve.max_connections", "count", _SERVE.max_connections, "Connections at the same time.", least=1),
    Key("serve.max_body", "count", _SERVE.max_body, "The largest body that is taken, in bytes.", least=1),
    Key(
        "serve.head_timeout",
        "seconds",
        _SERVE.head_timeout,
        "What a request may take until its head is there.",
        above=0,
        most=_DAY,
    ),
    Key(
        "serve.body_timeout",
        "seconds",
        _SERVE.body_timeout,
        "What a body may take to come, or an answer to be taken; a long one has more, as long as it moves.",
        above=0,
        most=_DAY,
    ),
    Key(
        "serve.idle_timeout",
        "seconds",
        _SERVE.idle_timeout,
        "How long a connection is kept with no request on it.",
        above=0,
        most=_DAY,
    ),
    Key(
        "serve.busy_timeout",
        "seconds",
        _SERVE.busy_timeout,
        "How long a request waits for a ledger that is busy, before its answer is 503.",
        most=_DAY,
    ),
    Key(
        "nats.url",
        "text",
        None,
        "Where the server is; of a cluster, several addresses with commas between them.",
        "the context's, else `nats://127.0.0.1:4222`",
    ),
    Key("nats.creds", "path", None, "A credentials file, as `nsc` writes it (JWT and seed).", "none"),
    Key("nats.nkey", "path", None, "A file with the seed of an NKey.", "none"),
    Key("nats.user", "text", None, "The user's name.", "none"),
    Key("nats.password", "secret", None, "That user's password.", "none"),
    Key("nats.token", "secret", None, "A token, where the server asks for one.", "none"),
    Key("nats.ca", "path", None, "A file of certificates (PEM) to trust; with it, TLS is a must.", "the system's"),
    Key("nats.cert", "path", None, "The certificate to show to the server (PEM).", "none"),
    Key("nats.key", "path", None, "Its key (PEM), without a password.", "none"),
    Key(
        "nats.context",
        "text",
        None,
        "A context of the `nats` CLI, by name: what it says holds where nothing else does.",
        "none",
    ),
    Key(
        "nats.stream",
        "text",
        _NATS.stream,
        "The stream of the tasks; its dead letters are in the one with `_DLQ` behind.",
    ),
    Key("nats.durable", "text", _NATS.durable, "The durable consumer that the hosts share."),
    Key("nats.filter", "text", _NATS.filter, "Which subjects that consumer gets."),
    Key(
        "nats.claims", "flag", _NATS.claims, "Several hosts share the consumer: each claims a task before it is synced."
    ),
    Key("nats.bucket", "text", _NATS.bucket, "The key-value bucket with the claims."),
    Key("backends.NAME.type", "text", None, "Which kind of tracker it is.", "must be set; `local` for `local`"),
    Key("backends.NAME.max_in_flight", "count", None, "Requests at the same time.", _TRACKER, least=1),
    Key("backends.NAME.min_interval", "seconds", None, "Time between two creates.", _TRACKER),
    Key(
        "backends.NAME.settle",
        "seconds",
        None,
        "How long after `sync.request_timeout` a request that was cut off may still take effect.",
        _TRACKER,
    ),
    Key("backends.NAME.looks", "count", None, "How often an absence is asked for.", _TRACKER, least=1),
    Key("backends.NAME.look_interval", "seconds", None, "Time between two such looks.", _TRACKER),
    Key("backends.NAME.per_minute", "count", None, "Creates in any 60 seconds, at most; 0: no limit.", _TRACKER),
    Key("backends.NAME.per_hour", "count", None, "Creates in any 3,600 seconds, at most; 0: no limit.", _TRACKER),
    Key(
        "backends.NAME.lookup",
        "text",
        _BACKEND.lookup,
        "When an issue is looked for before a create: `in-doubt`, or `always` where several ledgers feed the tracker.",
        only=("in-doubt", "always"),
    ),
    Key(
        "backends.NAME.lookup_back",
        "duration",
        _BACKEND.lookup_back,
        'How far back `lookup = "always"` looks.',
        '`"7d"`',
        above=0,
    ),
    Key(
        "backends.NAME.accounts",
        "list of text",
        _BACKEND.accounts,
        "Accounts whose marked issues may be adopted, beside our own.",
    ),
    Key("backends.NAME.projects", "table of text", {}, "`target_repo` → the tracker's project."),
    Key(
        "backends.NAME.priorities",
        "table of text",
        {},
        "`high`, `medium` or `low` → the tracker's own name for it.",
        only=("high", "medium", "low"),
    ),
)

BACKEND = "backends.NAME."
"""How the names of the keys begin that every backend takes."""


def section(prefix: str) -> dict[str, Key]:
    """The keys right under ``prefix`` (``""``, ``"sync."``, …), by their last part."""
    return {
        key.name.removeprefix(prefix): key
        for key in KEYS
        if key.name.startswith(prefix) and "." not in key.name.removeprefix(prefix)
    }


def dotted(*parts: str) -> str:
    """The parts as TOML writes them in one dotted key: a part that is no bare key stands in quotes."""
    return ".".join(
        part if _bare(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts
    )


def _bare(part: str) -> bool:
    return part.isascii() and part.replace("-", "").replace("_", "").isalnum()
