"""Where the server is, and how to come in: what the settings and a context of the ``nats`` CLI say, put together.

Every secret is read here, when a connection is about to be made, and stands in nothing that is shown.
"""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from issue_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issue_core.config import NatsSettings

DEFAULT_URL = "nats://127.0.0.1:4222"
PORT = 4222

_SCHEMES = ("nats", "tls")
_WAYS = ("creds", "nkey", "token", "user")


@dataclass(frozen=True, slots=True)
class Login:
    """All that a connection is made with. ``servers`` are addresses without credentials, fit to be shown.

    ``way`` has the client's own options for coming in. ``tls_must``: nothing is said to a server that has no TLS.
    ``api`` is what stands before every subject of the JetStream API.
    """

    servers: tuple[str, ...]
    way: Mapping[str, str] = field(repr=False)
    tls: ssl.SSLContext | None = None
    tls_must: bool = False
    tls_first: bool = False
    inbox: str = "_INBOX"
    api: str = "$JS.API"


@dataclass(frozen=True, slots=True)
class _Address:
    """One address as it was given: with the scheme and port that it did not have, and its credentials decoded."""

    scheme: str
    place: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def login(settings: NatsSettings) -> Login:
    """Read what ``settings`` name: secrets, files, the context.

    Raises:
        ConfigError: something of it is missing or cannot be, or there are two ways to come in.
    """
    context = _context(settings.context) if settings.context else {}
    addresses = [_address(text) for text in _urls(settings, context)]
    paths = {name: getattr(settings, name) or _path(context.get(name)) for name in ("ca", "cert", "key")}
    tls = _tls(**paths) if any(paths.values()) else None
    tls_first = bool(context.get("tls_first"))
    tls_must = tls is not None or tls_first or any(each.scheme == "tls" for each in addresses)
    return Login(
        servers=tuple(f"{each.scheme}://{each.place}" for each in addresses),
        way=_way(settings, addresses, context),
        tls=tls or (ssl.create_default_context() if tls_must else None),
        tls_must=tls_must,
        tls_first=tls_first,
        inbox=context.get("inbox_prefix") or "_INBOX",
        api=_api(context),
    )


def _urls(settings: NatsSettings, context: Mapping[str, Any]) -> list[str]:
    text = settings.login.resolve() if settings.login else settings.url or context.get("url") or DEFAULT_URL
    urls = [each.strip() for each in text.split(",") if each.strip()]
    if not urls:
        raise ConfigError("nats.url: there is no address in it.", hint="Write one such as nats://nats.example.org")
    return urls


def _address(text: str) -> _Address:
    """One address; nats-py does not decode what is percent-encoded in one, nor does it say what is wrong with it."""
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        place = _place(parts)
        user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    except ValueError:
        # The text may hold a password, and so may the reason.
        raise ConfigError(
            "nats.url: an address in it cannot be read.",
            hint="write nats://HOST:PORT, several with commas between them; a user or a password in NATS_URL is "
            "percent-encoded: %2C for a comma, %2F for a slash, %40 for @",
        ) from None
    return _Address(parts.scheme, place, user or None, password)


def _place(parts: SplitResult) -> str:
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or PORT}"


def _way(settings: NatsSettings, addresses: list[_Address], context: Mapping[str, Any]) -> Mapping[str, str]:
    """The one way to come in: of the settings, else of the addresses, else of the context."""
    named = [name for name in _WAYS if getattr(settings, name)]
    embedded = {(each.user, each.password) for each in addresses if each.user}
    if len(named) + len(embedded) > 1:
        where = [f"nats.{name}" for name in named] + ["an address"] * len(embedded)
        raise ConfigError(
            f"there is more than one way to log in to NATS: {', '.join(where)}.",
            hint="leave one of them; `issue config show` says where each comes from",
        )
    if named:
        return _of_settings(settings, named[0])
    if embedded:
        [(user, password)] = embedded
        return {"token": user or ""} if password is None else {"user": user or "", "password": password}
    if settings.password:
        raise ConfigError("nats.password is set, and nats.user is not.", hint="set the user's name, too")
    return _of_context(context)


def _of_settings(settings: NatsSettings, way: str) -> Mapping[str, str]:
    if settings.creds and way == "creds":
        return {"user_credentials": _credentials(settings.creds, "nats.creds")}
    if settings.nkey and way == "nkey":
        return {"nkeys_seed": _seed(settings.nkey, "nats.nkey")}
    if settings.token and way == "token":
        return {"token": settings.token.resolve()}
    if not settings.password:
        raise ConfigError(
            "nats.user is set, and nats.password is not.", hint="set the password; a token goes into nats.token"
        )
    return {"user": settings.user or "", "password": settings.password.resolve()}


def _of_context(context: Mapping[str, Any]) -> Mapping[str, str]:
    where = f"the context {context.get('file', '')}"
    if creds := _path(context.get("creds")):
        return {"user_credentials": _credentials(creds, where)}
    if nkey := _path(context.get("nkey")):
        return {"nkeys_seed": _seed(nkey, where)}
    if token := context.get("token"):
        return {"token": str(token)}
    if (user := context.get("user")) and (password := context.get("password")):
        return {"user": str(user), "password": str(password)}
    if user:
        return {"token": str(user)}  # what the nats CLI takes it for
    for name in ("user_jwt", "nsc"):
        if context.get(name):
            raise ConfigError(
                f"{where} logs in with {name}, which is not supported.", hint="name a credentials file: nats.creds"
            )
    return {}


def _context(name: str) -> dict[str, Any]:
    """What the context of this name says, and its file as ``file``."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "nats" / "context"
    file = folder / f"{name}.json"
    if "/" in name or name.startswith("."):
        raise ConfigError(f"nats.context: {name!r} is no name of a context.", hint="`nats context ls` lists them")
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"nats.context: {file} cannot be read: {error.strerror}.", hint="`nats context ls` lists the contexts"
        ) from None
    except ValueError:
        raise ConfigError(f"nats.context: {file} is no JSON.", hint="write it anew with `nats context save`") from None
    if not isinstance(content, dict):
        raise ConfigError(f"nats.context: {file} is no context.", hint="write it anew with `nats context save`")
    return content | {"file": str(file)}


def _path(text: object) -> Path | None:
    return Path(os.path.expandvars(str(text))).expanduser() if text else None


def _api(context: Mapping[str, Any]) -> str:
    if domain := context.get("jetstream_domain"):
        return f"$JS.{domain}.API"
    return str(context.get("jetstream_api_prefix") or "$JS.API")


def _credentials(file: Path, key: str) -> str:
    """The path of a credentials file; in one without its two parts nats-py looks for them for ever."""
    content = _read(file, key)
    if b"BEGIN NATS USER JWT" not in content or b"BEGIN USER NKEY SEED" not in content:
        raise ConfigError(
            f"{key}: {file} is no credentials file: it has no user JWT and seed in it.",
            hint="`nsc generate creds` writes one",
        )
    return str(file)


def _seed(file: Path, key: str) -> str:
    import nkeys

    try:
        nkeys.from_seed(bytearray(_read(file, key).strip())).wipe()
    except (nkeys.NkeysError, ValueError):
        raise ConfigError(f"{key}: {file} holds no seed of an NKey.", hint="a seed begins with SU") from None
    return str(file)


def _read(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{key}: {file} cannot be read: {error.strerror}.", hint="name a file that is there"
        ) from None


def _tls(*, ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    if (cert is None) != (key is None):
        raise ConfigError("nats.cert and nats.key go together, and one is missing.", hint="set both or neither")
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise ConfigError(f"nats.ca: {ca} holds no certificates: {_said(error)}.", hint="it must be PEM") from None
    if cert and key:
        try:
            # A key with a password would ask for it at the terminal.
            context.load_cert_chain(cert, key, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"nats.cert: {cert} with {key} cannot be used: {_said(error)}.",
                hint="both must be PEM, belong to each other, and have no password",
            ) from None
    return context


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
