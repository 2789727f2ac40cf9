"""The service as a whole: what it needs, put together, run and ended."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from issue_core.config import Settings
from issue_core.errors import ConfigError, IssueCoreError
from issue_core.group_commit import GroupCommit
from issue_core.ledger import Ledger
from issue_core.transports.beside import SyncBeside
from issue_core.transports.http import access_log
from issue_core.transports.http.keys import Keys
from issue_core.transports.http.readers import Readers
from issue_core.transports.http.routes import LOOPBACK, Application
from issue_core.transports.http.server import Rules, Server
from issue_core.transports.http.wire import Times
from issue_core.transports.metrics import Durations

PROBE = 0.2
"""Seconds that /readyz waits for the ledger's write lock."""

GRACE = 8.0
"""Seconds that requests under way have to be answered in, once the service is told to stop."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What is chosen at start beside the settings. ``secrets`` are the keys by name; None: nobody needs one."""

    secrets: Mapping[str, str] | None
    strict: bool = False
    sync: bool = False
    log: Callable[[access_log.Entry], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None


class Service:
    """``issue serve``, bound to its address and ready to :meth:`run`.

    Raises:
        ConfigError: the address or the certificate cannot be used.
        LedgerError: the ledger cannot be written.
    """

    def __init__(self, ledger: Ledger, settings: Settings, choices: Choices) -> None:
        serve = settings.serve
        self._idle = True
        self._writer = ledger.beside()
        self._readers = Readers(ledger)
        self._probe = Ledger(ledger.path, clock=ledger.clock, busy_timeout=PROBE)
        with self._writer.write():
            pass  # makes or migrates the ledger, or says now why it cannot be written
        self._beside = SyncBeside(ledger, settings, choices.say, settles=True) if choices.sync else None
        self._group = GroupCommit(
            self._writer, transport="rest", strict=choices.strict, max_document=settings.ingest.max_document
        )
        application = Application(
            settings=settings,
            group=self._group,
            readers=self._readers,
            probe=self._probe,
            keys=None if choices.secrets is None else Keys(choices.secrets),
            hosts={*LOOPBACK, serve.host.lower(), *map(str.lower, serve.hosts)} if is_loopback(serve.host) else None,
            durations=Durations(),
            created=self._beside.wake if self._beside else lambda: None,
        )
        rules = Rules(
            Times(serve.idle_timeout, serve.head_timeout, serve.body_timeout),
            serve.max_body,
            _tls(serve.tls_cert, serve.tls_key),
            choices.log,
            choices.say,
        )
        self._server = _bound(serve.host, serve.port, application, rules, serve.max_connections)
        self._scheme = "https" if rules.tls else "http"

    @property
    def url(self) -> str:
        """Where it can be reached."""
        host, port = self._server.server_address[:2]
        return f"{self._scheme}://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}"

    def run(self, stop: threading.Event, grace: Callable[[], float] = lambda: GRACE) -> bool:
        """Answer requests until ``stop`` is set, then what has come by then; whether all of it was answered.

        ``grace`` is asked once it is set: how many seconds there are for that.
        """
        taking = threading.Thread(target=self._server.run, name="accept")
        taking.start()
        if self._beside:
            self._beside.start()
        try:
            stop.wait()
        finally:
            seconds = grace()
            over = time.monotonic() + seconds
            if self._beside:
                self._beside.stop()
            answered = self._server.stop(seconds / 2)
            if not answered:
                self._group.ending = True  # what a long batch has stored is a duplicate when it is sent again
                answered = self._server.places.close(seconds / 2)
            taking.join()
            self._idle = answered
            ended = self._beside is None or self._beside.wait(max(0.0, over - time.monotonic()))
        return answered and ended

    def close(self) -> None:
        """Close what is open, unless somebody is still at work with it: that ends with the process."""
        if self._idle:
            self._group.close()
            self._readers.close()
            self._probe.close()
            self._writer.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int, application: Application, rules: Rules, most: int) -> Server:
    try:
        return Server((host, port), application, rules, max_connections=most)
    except socket.gaierror as error:
        raise ConfigError(f"serve.host: {host!r} is no address of this machine: {error.strerror}") from None
    except OSError as error:
        raise IssueCoreError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="Another program may have it: name another with --port, or 0 for any that is free.",
        ) from None


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None or key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An encrypted key would be asked for on the terminal, where nobody may sit.
        context.load_cert_chain(cert, key, password=_no_password)
    except OSError as error:
        raise ConfigError(
            f"serve.tls_cert {cert} and serve.tls_key {key} cannot be used: {error.strerror or error}",
            hint="They are PEM files: the certificate with its chain, and its key without a password.",
        ) from None
    return context


def _no_password() -> str:
    raise ConfigError("serve.tls_key has a password", hint="Give a key without one, readable for this user alone.")
