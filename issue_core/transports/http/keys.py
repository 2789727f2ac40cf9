"""Who may ask: one key or several, each with a name, so that one can be replaced while the others go on."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Iterator, Mapping

from issue_core.transports.http.answers import HttpError
from issue_core.transports.http.wire import Request

_BEARER = 'Bearer realm="issue-core"'
_BASIC = 'Basic realm="issue-core", charset="UTF-8"'
_READING = ("GET", "HEAD")


class Keys:
    """The keys that are taken, by name. Only their digests are kept."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._digests = [(name, _digest(secret.encode())) for name, secret in secrets.items()]

    def holder(self, request: Request) -> str:
        """The name of the key that came with ``request``.

        Raises:
            HttpError: 401: it has none that is taken.
        """
        found = None
        for presented in _presented(request):
            digest = _digest(presented)
            # All of them, and each in constant time: the time that it takes tells nothing of any key.
            for name, known in self._digests:
                if hmac.compare_digest(digest, known):
                    found = name
        if found is None:
            offers = f"{_BEARER}, {_BASIC}" if request.method in _READING else _BEARER
            raise HttpError(
                401,
                "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
                headers={"WWW-Authenticate": offers},
            )
        return found


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _presented(request: Request) -> Iterator[bytes]:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip().encode("latin-1")
    elif scheme.lower() == "basic" and request.method in _READING:
        try:
            decoded = binascii.a2b_base64(credentials.strip().encode("latin-1"), strict_mode=True)
        except binascii.Error:
            return
        yield decoded.partition(b":")[2]
    if "x-api-key" in request.headers:
        yield request.headers["x-api-key"].encode("latin-1")
