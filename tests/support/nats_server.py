"""The real ``nats-server`` with JetStream on loopback: started, stopped, killed and started again, alone or as three.

Whoever starts one kills it: the functions are context managers.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nats.js.errors import NoStreamResponseError

from issue_core.config import NatsSettings
from issue_core.errors import NatsError
from issue_core.transports.nats import names
from issue_core.transports.nats.connection import Link, connected
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.streams import set_up
from issue_core.transports.nats.wanted import MAX_DELIVER, SECOND, Setting, all_wanted
from tests.support.ports import free_port

NATS_SERVER = str(Path(sys.executable).with_name("nats-server"))
TIMEOUT = 60.0  # seconds that a start or a stop may take on a busy machine

_T = TypeVar("_T")


@dataclass(slots=True)
class NatsServer:
    """One server: its folder (store, configuration, log) and its ports, which stay the same over every restart.

    ``more`` is put into its configuration as it is: authorization, TLS, limits. ``scheme`` is that of its ``url``.
    """

    folder: Path
    name: str = "one"
    more: str = ""
    scheme: str = "nats"
    port: int = field(default_factory=free_port)
    monitor: int = field(default_factory=free_port)
    cluster: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, without credentials."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """The folder with its streams."""
        return self.folder / f"store-{self.name}"

    @property
    def log(self) -> str:
        """What it has written so far, over all of its starts."""
        file = self.folder / f"{self.name}.log"
        return file.read_text() if file.exists() else ""

    def start(self, *, wait: bool = True) -> NatsServer:
        """Start it on its ports and its store; with ``wait``, until JetStream is there."""
        assert self.process is None, "it runs already"
        file = self.folder / f"{self.name}.conf"
        file.write_text(self._configuration())
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen([NATS_SERVER, "-c", str(file)], stdout=log, stderr=log)
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        """Wait until its JetStream answers; in a cluster, until there is a leader and this one has caught up."""
        until(self.is_ready, lambda: f"{self.name} is not ready:\n{self.log[-3000:]}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it in good order, and wait for that."""
        assert self.process
        self.process.send_signal(number)
        self.process.wait(TIMEOUT)
        self.process = None

    def kill(self) -> None:
        """End it as a crash would."""
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        """End it in good order and start it again."""
        self.stop()
        self.start()

    def reload(self, more: str) -> None:
        """Put other lines into its configuration, and have it read them without a restart."""
        assert self.process
        self.more = more
        before = self.log.count("Reloaded server configuration")
        (self.folder / f"{self.name}.conf").write_text(self._configuration())
        self.process.send_signal(signal.SIGHUP)
        reloads = "Reloaded server configuration"
        until(lambda: self.log.count(reloads) > before, lambda: f"not reloaded:\n{self.log[-3000:]}")

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.process:
            self.kill()

    def _configuration(self) -> str:
        return (
            f"server_name: {self.name}\nlisten: 127.0.0.1:{self.port}\nhttp: 127.0.0.1:{self.monitor}\n"
            f'jetstream {{ store_dir: "{self.store}" }}\n{self.cluster}{self.more}\n'
        )

    def monitored(self, path: str) -> tuple[int, bytes]:
        """What its monitor answers: the status and the body; raises OSError where it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor, timeout=TIMEOUT)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        """Whether its JetStream answers. Raises AssertionError when it has ended."""
        assert self.process
        assert self.process.poll() is None, f"{self.name} ended:\n{self.log[-3000:]}"
        try:
            return self.monitored("/healthz")[0] == 200
        except OSError:
            return False


@contextmanager
def nats_server(folder: Path, *, more: str = "", scheme: str = "nats") -> Iterator[NatsServer]:
    """One server with a store below ``folder``, until the block ends; ``more`` goes into its configuration."""
    with ExitStack() as stack:
        server = NatsServer(folder, more=more, scheme=scheme)
        stack.callback(server.close)
        yield server.start()


@contextmanager
def nats_cluster(folder: Path, *, more: str = "", advertise: bool = True) -> Iterator[list[NatsServer]]:
    """Three servers that are one cluster, each with a store of its own below ``folder``.

    ``advertise``: each tells its clients where the others are; without it, they know those alone that they were given.
    """
    with ExitStack() as stack:
        servers = _three(folder, more, stack, advertise=advertise)
        if not _come_together(servers):  # a port was taken by somebody else, say; once more, with others
            stack.close()
            (folder / "again").mkdir()
            servers = _three(folder / "again", more, stack, advertise=advertise)
            for server in servers:
                server.wait_until_ready()
            until(lambda: _agree(servers), "the three have not come to one leader")
        yield servers


def _three(folder: Path, more: str, stack: ExitStack, *, advertise: bool) -> list[NatsServer]:
    routes = [free_port() for _ in range(3)]
    addresses = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    others = f"routes: [{addresses}], no_advertise: {'false' if advertise else 'true'}"
    servers = []
    for name, port in zip(("one", "two", "three"), routes, strict=True):
        cluster = f"cluster {{ name: three, listen: 127.0.0.1:{port}, {others} }}\n"
        servers.append(NatsServer(folder, name, more, cluster=cluster))
        stack.callback(servers[-1].close)
        servers[-1].start(wait=False)
    return servers


def _come_together(servers: Sequence[NatsServer]) -> bool:
    """Whether the three are ready and have one leader, before half of the time is over."""
    try:
        until(lambda: all(server.is_ready() for server in servers) and _agree(servers), seconds=TIMEOUT / 2)
    except (AssertionError, OSError):
        return False
    return True


def _agree(servers: Sequence[NatsServer]) -> bool:
    """Whether all of them know one leader, which has heard from the others: before that, a request may be lost."""
    told = [json.loads(server.monitored("/jsz")[1])["meta_cluster"] for server in servers]
    others = [each.get("replicas") or [] for each in told]
    leaders = {each.get("leader", "") for each in told}
    heard = max(sum(bool(replica.get("current")) for replica in each) for each in others)
    return len(leaders) == 1 and "" not in leaders and heard == len(servers) - 1


def urls(servers: Sequence[NatsServer]) -> str:
    """The addresses of several servers, as NATS_URL has them."""
    return ",".join(server.url for server in servers)


async def make_as_they_are(link: Link, settings: NatsSettings) -> None:
    """Make the streams and the consumer that the settings name."""
    for wanted in all_wanted(settings, replicas=None, claims=False):
        await set_up(link, wanted, apply=False)


async def make_as(settings: NatsSettings) -> None:
    """Make them, as the user that the settings name."""
    async with connected(settings) as link:
        await make_as_they_are(link, settings)


def make_streams(
    url: str, *, ack_wait: float, max_deliver: int = MAX_DELIVER, replicas: int = 1, claims: bool = False
) -> None:
    """Make the streams and the consumer, and with ``claims`` the bucket; ``ack_wait`` in seconds, for short tests."""
    changes = {"ack_wait": int(ack_wait * SECOND), "max_deliver": max_deliver}

    def changed(setting: Setting) -> Setting:
        return replace(setting, value=changes.get(setting.name, setting.value))

    async def made() -> None:
        settings = NatsSettings(url=url)
        async with connected(settings) as link:
            for wanted in all_wanted(settings, replicas=replicas, claims=claims):
                as_asked = replace(wanted, settings=tuple(map(changed, wanted.settings)))
                await _until_answered(partial(set_up, link, as_asked, apply=False))

    run(made(), timeout=2 * TIMEOUT)


def publish(url: str, specs: Iterable[Any], *, at_once: int = 500) -> None:
    """Publish TaskSpecs, each under its own subject and without a message ID: the stream has each as often as told."""

    async def published() -> None:
        async with connected(NatsSettings(url=url)) as link:
            left = iter(specs)
            while some := list(islice(left, at_once)):
                await asyncio.gather(*(_publish(link, spec) for spec in some))

    run(published(), timeout=5 * TIMEOUT)


async def _publish(link: Link, spec: Any) -> None:
    subject = names.create_subject(spec["target_repo"])
    while True:
        try:
            await link.client.jetstream().publish(subject, json.dumps(spec).encode(), timeout=TIMEOUT)
        except NoStreamResponseError:
            await asyncio.sleep(0.1)  # a cluster that looks for a leader
        else:
            return


class Standing(NamedTuple):
    """How the consumer stands: what was not delivered yet, what has no answer, and what is among the dead letters."""

    pending: int
    in_flight: int
    dead: int


NOTHING_LEFT = Standing(0, 0, 0)


def standing(url: str) -> Standing:
    """How the consumer stands now."""
    consumer, dead = (
        patiently(url, "CONSUMER.INFO.ACT_TASKS.issue-core-ingest"),
        patiently(url, "STREAM.INFO.ACT_TASKS_DLQ"),
    )
    return Standing(consumer["num_pending"], consumer["num_ack_pending"], dead["state"]["messages"])


def deliveries(url: str) -> int:
    """How many messages the consumer was given so far, each as often as it was."""
    return int(patiently(url, "CONSUMER.INFO.ACT_TASKS.issue-core-ingest")["delivered"]["consumer_seq"])


def patiently(url: str, verb: str) -> dict[str, Any]:
    """The answer of the JetStream API; what lost its leader with a killed server gives none for some seconds."""

    async def asked() -> dict[str, Any]:
        async with connected(NatsSettings(url=url)) as link:
            return await _until_answered(lambda: ask(link, verb))

    return run(asked())


async def _until_answered(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """What ``work`` gives; again and again where there is no answer, as in a cluster that looks for a leader."""
    while True:
        try:
            return await work()
        except NatsError as error:
            if error.api_code is not None:
                raise
            await asyncio.sleep(0.1)


def user_and_password(user: str, password: str) -> str:
    """Configuration: who comes in needs this name and password."""
    return f"authorization {{ user: {_quoted(user)}, password: {_quoted(password)} }}"


def token(token: str) -> str:
    """Configuration: who comes in needs this token."""
    return f"authorization {{ token: {_quoted(token)} }}"


def user_with_rights(user: str, password: str, *, publish: Sequence[str]) -> str:
    """Configuration: a user who may publish to these subjects alone, and hear answers to what it asked."""
    rights = json.dumps({"publish": list(publish), "subscribe": ["_INBOX.>"]})
    who = f"user: {_quoted(user)}, password: {_quoted(password)}"
    return f"authorization {{ users: [ {{ {who}, permissions: {rights} }} ] }}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def nkey(public: str) -> str:
    """Configuration: who comes in signs with the seed of this public key."""
    return f"authorization {{ users: [ {{ nkey: {public} }} ] }}"


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate authority and what it signed, as PEM files: for 127.0.0.1, and for a client."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path

    def tls(self, *, verify: bool = False, handshake_first: bool = False) -> str:
        """Configuration: TLS, with ``verify`` for clients that have a certificate alone."""
        first = "handshake_first: true, " if handshake_first else ""
        files = f'cert_file: "{self.cert}", key_file: "{self.key}", ca_file: "{self.ca}"'
        return f"tls {{ {first}{files}, verify: {'true' if verify else 'false'}, timeout: 30 }}\n"


def certificates(folder: Path) -> Certificates:
    """Make them in ``folder``, with ``openssl``."""
    made = Certificates(*(folder / name for name in ("ca.pem", "cert.pem", "key.pem", "client.pem", "client-key.pem")))
    ca_key = folder / "ca-key.pem"
    _self_signed(made.ca, ca_key)
    _signed(made.cert, made.key, "server", "IP:127.0.0.1,DNS:localhost", (made.ca, ca_key))
    _signed(made.client_cert, made.client_key, "client", "DNS:client", (made.ca, ca_key))
    return made


def _self_signed(cert: Path, key: Path) -> None:
    extensions = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    _openssl("req", "-x509", *_new_key(key), "-days", "2", "-subj", "/CN=issue-core tests", *extensions, "-out", cert)


def _signed(cert: Path, key: Path, name: str, names: str, by: tuple[Path, Path]) -> None:
    request, extensions = cert.with_suffix(".csr"), cert.with_suffix(".ext")
    extensions.write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
    _openssl("req", *_new_key(key), "-subj", f"/CN={name}", "-out", request)
    signer: list[str | Path] = ["-CA", by[0], "-CAkey", by[1], "-CAcreateserial", "-days", "2", "-extfile", extensions]
    _openssl("x509", "-req", "-in", request, *signer, "-out", cert)


def _new_key(file: Path) -> list[str | Path]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file]


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=TIMEOUT)


def until(
    condition: Any, what: str | Callable[[], object] = "it did not come to that", *, seconds: float = TIMEOUT
) -> None:
    """Wait for a condition, but not for ever; ``what`` says what is wrong then, or is asked for it."""
    never = threading.Event()
    for _ in range(int(seconds * 50)):
        if condition():
            return
        never.wait(0.02)
    raise AssertionError(what() if callable(what) else what)


def run(coroutine: Coroutine[Any, Any, _T], *, timeout: float = TIMEOUT) -> _T:
    """Run one piece of asynchronous code to its end, but not for ever."""

    async def bounded() -> _T:
        return await asyncio.wait_for(coroutine, timeout)

    return asyncio.run(bounded())


@contextmanager
def silent_listener() -> Iterator[int]:
    """The port of something that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]
