"""The configuration file: read, and every key in it judged. All that is wrong is reported at once."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from issue_core.config.keys import BACKEND, KEYS, Key, dotted, section
from issue_core.config.secret import FORM, Secret, Source
from issue_core.config.settings import LOCAL, BackendSettings, BackendTypes, SyncSettings
from issue_core.config.values import Unfit, Where, as_secret, as_table, as_text, convert, nearest, suggest
from issue_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RESERVED = "unrouted"
"""What tasks are counted under that have no backend yet; no backend can have this name."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,50}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", re.ASCII)
_SOURCES = frozenset(get_args(Source))
_TABLES = ("sync", "ingest", "serve", "nats")
_NAME_OF_NATS = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
_FILTER = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Content:
    """What one file says, by dotted key and converted, its backends in its order, and what is wrong with it."""

    path: Path
    types: BackendTypes
    values: dict[str, Any] = field(default_factory=dict)
    backends: dict[str, BackendSettings] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def wrong(self, key: str, problem: str) -> None:
        """Note a problem of the key, to be reported with the others."""
        self.problems.append(f"{self.path}: {key}: {problem}")


def read(path: Path, types: BackendTypes) -> Content:
    """What the file at ``path`` (absolute; relative paths in it start from its folder) says.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: it cannot be read or is no TOML, or something in it is wrong: one line for each problem.
    """
    document = _parse(path)
    content = Content(path, types)
    _take_top(content, document)
    _take_backends(content, document)
    _compare(content)
    _compare_serve(content, document.get("serve"))
    _compare_nats(content, document.get("nats"))
    if content.problems:
        raise ConfigError("\n".join(content.problems), hint=f"mend {path}, then see what `issue config check` says")
    return content


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}.", hint="name another file with --config"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start + 1}).", hint="save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}.", hint="see https://toml.io for how TOML is written") from None


def _take_top(content: Content, document: Mapping[str, Any]) -> None:
    """Every key that belongs to no backend."""
    tables = (*_TABLES, "backends")
    _take(content, (), {name: value for name, value in document.items() if name not in tables}, section(""), tables)
    for name in _TABLES:
        if (table := _table(content, (name,), document.get(name, {}))) is not None:
            _take(content, (name,), table, section(f"{name}."))


def _take(
    content: Content,
    prefix: tuple[str, ...],
    table: Mapping[str, object],
    keys: Mapping[str, Key],
    more: tuple[str, ...] = (),
) -> None:
    """Each value of ``table``, which stands at ``prefix``; ``more`` are right keys there that are taken elsewhere."""
    for name, value in table.items():
        where = Where(dotted(*prefix, name), content.path.parent)
        if name not in keys:
            content.wrong(where.key, f"there is no such key; {_meant(prefix, name, [*keys, *more])}")
            continue
        if keys[name].kind == "table of secrets":
            content.values[where.key] = _secrets(content, (*prefix, name), value)
            continue
        try:
            content.values[where.key] = convert(keys[name], value, where)
        except Unfit as unfit:
            content.wrong(where.key, str(unfit))


def _meant(prefix: tuple[str, ...], name: str, here: list[str]) -> str:
    """The right key: one of this name in another table, else the nearest one here, else all that are here."""
    # Addresses and credentials have names of their own: what a backend calls a host is not that of a server of ours.
    others = [key.name for key in KEYS if prefix[:1] in ((), ("sync",)) or not key.name.startswith(("serve.", "nats."))]
    if elsewhere := [key for key in others if key.rpartition(".")[2] == name]:
        return f"did you mean {elsewhere[0]}?" if "." in elsewhere[0] else _above(elsewhere[0])
    near = nearest(name, here)
    return f"did you mean {dotted(*prefix, near)}?" if near else f"here there is: {', '.join(here)}"


def _above(key: str, table: str = "every [table]") -> str:
    """What is told of a key that is in ``table`` only because it stands below its head."""
    return f"did you mean {key}? It stands {'' if '.' in key else 'at the top, '}above {table}"


def _secrets(content: Content, at: tuple[str, ...], value: object) -> dict[str, Secret]:
    """Each secret of the table at ``at`` by its name; a problem of one does not hide those of the others."""
    named = f"each secret in it has a name: {dotted(*at)}.NAME = {FORM}"
    try:
        table = as_table(value)
    except Unfit as unfit:
        content.wrong(dotted(*at), f"{unfit}; {named}")
        return {}
    if table and table.keys() <= _SOURCES and not any(isinstance(item, dict) for item in table.values()):
        content.wrong(dotted(*at), named)
        return {}
    return dict(_each_secret(content, at, table))


def _each_secret(content: Content, at: tuple[str, ...], table: Mapping[str, object]) -> Iterator[tuple[str, Secret]]:
    for name, value in table.items():
        where = Where(dotted(*at, name), content.path.parent)
        if not _NAME.fullmatch(name):
            content.wrong(where.key, "a secret's name has 1 to 50 of A-Z a-z 0-9 . _ -; give it another")
        try:
            yield name, as_secret(value, where)
        except Unfit as unfit:
            is_split = isinstance(value, dict) and any(isinstance(item, dict) for item in value.values())
            content.wrong(where.key, f"{unfit}{'; a name with a dot in it must stand in quotes' if is_split else ''}")


def _table(content: Content, at: tuple[str, ...], value: object) -> Mapping[str, object] | None:
    try:
        return as_table(value)
    except Unfit as unfit:
        content.wrong(dotted(*at), str(unfit))
        return None


def _take_backends(content: Content, document: Mapping[str, Any]) -> None:
    for name, value in (_table(content, ("backends",), document.get("backends", {})) or {}).items():
        if name == RESERVED or not _NAME.fullmatch(name):
            content.wrong(
                dotted("backends", name),
                f"a backend's name has 1 to 50 of A-Z a-z 0-9 . _ - and is not {RESERVED!r}; give it another",
            )
        if (table := _table(content, ("backends", name), value)) is not None:
            content.backends[name] = _backend(content, name, table)
    content.backends.setdefault(LOCAL, BackendSettings(LOCAL, LOCAL))


def _backend(content: Content, name: str, table: Mapping[str, object]) -> BackendSettings:
    at, common = ("backends", name), section(BACKEND)
    kind = _type(content, name, table)
    own = _own_keys(content, kind)
    judged = {key: value for key, value in table.items() if key != "type"}
    if own is None:
        # Without its type nobody can say which other keys are right: only the common ones are judged.
        judged = {key: value for key, value in judged.items() if key in common}
    _take(content, at, judged, (own or {}) | common)
    given = {key: content.values[dotted(*at, key)] for key in judged if dotted(*at, key) in content.values}
    options = {key: given.pop(key) for key in judged if key in given and key not in common}
    projects = given.get("projects", {})
    if "default_backend" in projects:
        content.wrong(dotted(*at, "projects", "default_backend"), _above("default_backend"))
    if "project" in projects and "project" in (own or {}) and "project" not in options:
        meant = _above(dotted(*at, "project"), f"[{dotted(*at, 'projects')}]")
        content.wrong(dotted(*at, "projects", "project"), meant)
    return BackendSettings(name, kind or "", **given, options=options)


def _own_keys(content: Content, kind: str | None) -> dict[str, Key] | None:
    keys = None if kind is None else content.types.keys_of(kind)
    return None if keys is None else {name: Key(BACKEND + name, kind_, None, "") for name, kind_ in keys.items()}


def _type(content: Content, name: str, table: Mapping[str, object]) -> str | None:
    """The type that ``table`` names; None, and a problem noted, when it names none that this backend can have."""
    key = dotted("backends", name, "type")
    if name == LOCAL and "type" not in table:
        return LOCAL
    try:
        kind = as_text(table.get("type", ""), Where(key, content.path.parent))
    except Unfit as unfit:
        problem = str(unfit) if "type" in table else f"must be set; there is: {', '.join(content.types.types())}"
        content.wrong(key, problem)
        return None
    if content.types.keys_of(kind) is None:
        content.wrong(key, f"there is no type {kind!r}; {suggest(kind, list(content.types.types()))}")
        return None
    if name == LOCAL and kind != LOCAL:
        content.wrong(key, "the backend named local is always of type local; give this one another name")
    content.values[key] = kind
    return kind


def _compare_serve(content: Content, serve: object) -> None:
    """The certificate and its key go together, and a host is a name that a ``Host`` header can have."""
    # The table as it is written is asked: a path that is wrong in itself is not missing too.
    given = [name for name in ("tls_cert", "tls_key") if isinstance(serve, dict) and name in serve]
    if given == ["tls_cert"]:
        content.wrong("serve.tls_key", "must be set, as serve.tls_cert is: the two go together")
    if given == ["tls_key"]:
        content.wrong("serve.tls_cert", "must be set, as serve.tls_key is: the two go together")
    for host in content.values.get("serve.hosts", ()):
        if not _HOST.fullmatch(host):
            content.wrong("serve.hosts", f"{host!r} is no host; write its name alone, without scheme, port and path")


def _compare_nats(content: Content, nats: object) -> None:
    """A certificate and its key go together, and names are such as NATS takes."""
    given = nats if isinstance(nats, dict) else {}
    for one, other in (("cert", "key"), ("key", "cert")):
        if one in given and other not in given:
            content.wrong(f"nats.{other}", f"must be set, as nats.{one} is: the two go together")
    for name in ("stream", "durable", "bucket"):
        if not _NAME_OF_NATS.fullmatch(content.values.get(f"nats.{name}", "x")):
            content.wrong(f"nats.{name}", "a name has 1 to 200 of A-Z a-z 0-9 _ -; give it another")
    if not _FILTER.fullmatch(content.values.get("nats.filter", "x")):
        content.wrong("nats.filter", "is no subject; write it like act.tasks.create.>")
    if "@" in content.values.get("nats.url", ""):
        content.wrong("nats.url", f"has credentials in an address; set user, and password = {FORM}")


def _compare(content: Content) -> None:
    """What can only be judged when all is read: names that stand for backends, and times that depend on each other."""
    names = list(content.backends)
    targets = {"default_backend": content.values.get("default_backend", LOCAL)}
    targets |= {dotted("routes", pattern): name for pattern, name in content.values.get("routes", {}).items()}
    for key, name in targets.items():
        # A repository may well be called ledger; nothing that is a backend's name is a ledger's.
        if key == "routes.default_backend" or (key == "routes.ledger" and name not in names):
            content.wrong(key, _above(key.removeprefix("routes.")))
        elif name not in names:
            content.wrong(key, f"there is no backend {name!r}; {suggest(name, names)}")
    lease = content.values.get("sync.lease", SyncSettings().lease)
    timeout = content.values.get("sync.request_timeout", SyncSettings().request_timeout)
    if lease <= timeout:
        content.wrong("sync.lease", f"is {lease:g} and must be more than sync.request_timeout, which is {timeout:g}")
