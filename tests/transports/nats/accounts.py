"""An operator with an account and its users, as ``nsc`` makes them: JWTs for the server, files for users."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nkeys

_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


@dataclass(frozen=True, slots=True)
class Key:
    """An NKey: its seed, and its public key as text."""

    seed: bytes
    public: str

    def jwt(self, name: str, subject: str, kind: str, claims: dict[str, Any], *, expires: float | None = None) -> str:
        """A JWT about ``subject``, signed with this key; ``expires`` is in seconds from now."""
        body: dict[str, Any] = {
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": subject,
            "nats": claims | {"type": kind, "version": 2},
        }
        if expires is not None:
            body["exp"] = int(time.time() + expires)
        digest = hashlib.new("sha512_256", json.dumps(body).encode()).digest()
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        head = _part({"typ": "JWT", "alg": "ed25519-nkey"})
        signed = f"{head}.{_part(body)}"
        pair = nkeys.from_seed(bytearray(self.seed))
        return f"{signed}.{_base64(pair.sign(signed.encode()))}"


def new_key(kind: int) -> Key:
    """A new one of ``nkeys.PREFIX_BYTE_…``."""
    seed = nkeys.encode_seed(os.urandom(32), kind)
    return Key(bytes(seed), nkeys.from_seed(bytearray(seed)).public_key.decode())


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator with one account that has JetStream."""

    key: Key = field(default_factory=lambda: new_key(nkeys.PREFIX_BYTE_OPERATOR))
    account: Key = field(default_factory=lambda: new_key(nkeys.PREFIX_BYTE_ACCOUNT))
    system: Key = field(default_factory=lambda: new_key(nkeys.PREFIX_BYTE_ACCOUNT))

    def configuration(self) -> str:
        """What a server is told to let this account's users in."""
        operator = self.key.jwt("op", self.key.public, "operator", {"system_account": self.system.public})
        accounts = {each.public: self._account(each) for each in (self.account, self.system)}
        preload = "\n".join(f"{public}: {jwt}" for public, jwt in accounts.items())
        return (
            f"operator: {operator}\nsystem_account: {self.system.public}\n"
            f"resolver: MEMORY\nresolver_preload {{\n{preload}\n}}\n"
        )

    def credentials(self, file: Path, *, expires: float | None = None) -> Path:
        """The credentials file of a new user, good for ``expires`` seconds."""
        user = new_key(nkeys.PREFIX_BYTE_USER)
        rights = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
        jwt = self.account.jwt("user", user.public, "user", rights, expires=expires)
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
        return file

    def _account(self, account: Key) -> str:
        limits = _UNLIMITED | {"wildcards": True} | (_JETSTREAM if account is self.account else {})
        return self.key.jwt("account", account.public, "account", {"limits": limits})


def _part(value: object) -> str:
    return _base64(json.dumps(value).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
