"""What every tracker on a network needs of its configuration: where it is, and a secret that is read late.

The token goes to addresses that the configuration names, and to no other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from issue_core.backends.base import Target
from issue_core.errors import ConfigError, CredentialsRefused

COMMON_KEYS: Mapping[str, str] = {
    "url": "text",
    "token": "secret",
    "project": "text",
    "ca": "path",
    "former_urls": "list of text",
}
"""The configuration keys that each of these trackers takes."""


class _Secret(Protocol):
    def resolve(self) -> str: ...


def require_url(name: str, options: Mapping[str, Any], default: str | None = None) -> str:
    """The configured ``url`` without a slash at its end.

    Raises:
        ConfigError: there is none, or it is no http or https address.
    """
    url: str | None = options.get("url", default)
    if url is None:
        raise ConfigError(f"Backend {name!r} has no url.", hint=f'set url = "https://…" in [backends.{name}]')
    try:
        parts = urlsplit(url)
        if parts.username is not None:
            raise ConfigError(f"Backend {name!r}: its url has credentials in it; name the secret as its token.")
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        sound = sound and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        hint = None if "://" in url else f'set url = "https://{url}" in [backends.{name}]'
        raise ConfigError(f"Backend {name!r}: its url {url!r} is no http:// or https:// address.", hint=hint)
    return url.rstrip("/")


def project_for(target_repo: str, options: Mapping[str, Any]) -> str:
    """The tracker's project for a repository: the one that ``projects`` names, else ``project``, else its own name."""
    mapped: str | None = options.get("projects", {}).get(target_repo)
    return mapped or options.get("project") or target_repo


def named_projects(options: Mapping[str, Any]) -> list[str]:
    """The projects that the configuration names, each once."""
    named = [options.get("project"), *options.get("projects", {}).values()]
    return [project for project in dict.fromkeys(named) if project]


def token_of(name: str, options: Mapping[str, Any]) -> Callable[[], str]:
    """A function that gives the backend's token, read when it is first asked for.

    It raises:
        CredentialsRefused: no token is configured, or it cannot be read.
    """

    @cache
    def token() -> str:
        secret: _Secret | None = options.get("token")
        if secret is None:
            raise CredentialsRefused(
                f"Backend {name!r} has no token.", hint=f'set token = {{ env = "NAME" }} in [backends.{name}]'
            )
        try:
            value = secret.resolve()
        except ConfigError as error:
            raise CredentialsRefused(error.message, hint=error.hint) from None
        if not value.isascii():
            raise CredentialsRefused(f"The token of backend {name!r} has letters in it that no token has.")
        return value

    return token


def require_known(target: Target, url: str, former: Collection[str] = ()) -> None:
    """Let an attempt's address pass if the configuration names it: as ``url``, or among ``former_urls``.

    Raises:
        CredentialsRefused: it does not, and today's token is not sent there.
    """
    if target.address != url and target.address not in {each.rstrip("/") for each in former}:
        raise CredentialsRefused(
            f"An attempt went to {target.address}, which the configuration does not name any more.",
            hint=f'if it is the same tracker: former_urls = ["{target.address}"]; or say what became of it: issue link',
        )
