"""Who is let in, what is refused in which words, and what a connection lives through."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nkeys
import pytest

from issue_core.config import NatsSettings
from issue_core.config.secret import Secret
from issue_core.errors import ConfigError, IssueCoreError, NatsError, NatsRefused, NatsUnreachable
from issue_core.transports.nats.connection import Link, connected
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.login import login
from tests.support import nats_server as servers
from tests.support.cli import Issue
from tests.support.nats_server import Certificates, NatsServer, certificates, nats_server, run
from tests.support.ports import free_port
from tests.transports.nats.accounts import Operator, new_key

PASSWORD = "p@ss, w/ö:rd"  # noqa: S105 - for a server of the tests
ENCODED = "p%40ss%2C%20w%2F%C3%B6%3Ard"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for a server on 127.0.0.1 and for a client."""
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that asks for a user and a password."""
    with nats_server(tmp_path, more=servers.user_and_password("bob", PASSWORD)) as server:
        yield server


def secret(folder: Path, text: str) -> Secret:
    (folder / "secret").write_text(text)
    return Secret("nats.password", "file", (str(folder / "secret"),))


def streams(settings: NatsSettings) -> int:
    """How many streams there are, asked over a connection made with these settings."""

    async def asked() -> int:
        async with connected(settings) as link:
            return int((await ask(link, "INFO"))["streams"])

    return run(asked())


def failure(settings: NatsSettings) -> IssueCoreError:
    """How it fails to connect."""
    with pytest.raises((NatsError, ConfigError)) as caught:
        streams(settings)
    assert caught.value.hint
    return caught.value


# ---- ways to come in


def test_a_user_and_a_password_come_in(tmp_path: Path, protected: NatsServer) -> None:
    assert streams(NatsSettings(url=protected.url, user="bob", password=secret(tmp_path, PASSWORD))) == 0


def test_credentials_in_the_address_are_decoded(
    protected: NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NATS_URL", protected.url.replace("//", f"//bob:{ENCODED}@"))
    assert streams(NatsSettings(url="…", login=Secret("nats.url", "env", ("NATS_URL",)))) == 0
    assert not caplog.records


def test_a_token_comes_in_alone_or_in_the_address(tmp_path: Path) -> None:
    with nats_server(tmp_path, more=servers.token("s3cr3t")) as server:
        assert streams(NatsSettings(url=server.url, token=secret(tmp_path, "s3cr3t"))) == 0
        assert streams(NatsSettings(url=server.url.replace("//", "//s3cr3t@"))) == 0


def test_an_nkey_comes_in(tmp_path: Path) -> None:
    user = new_key(nkeys.PREFIX_BYTE_USER)
    (tmp_path / "user.nk").write_bytes(user.seed + b"\n")
    with nats_server(tmp_path, more=servers.nkey(user.public)) as server:
        assert streams(NatsSettings(url=server.url, nkey=tmp_path / "user.nk")) == 0


def test_a_credentials_file_comes_in(tmp_path: Path) -> None:
    operator = Operator()
    with nats_server(tmp_path, more=operator.configuration()) as server:
        assert streams(NatsSettings(url=server.url, creds=operator.credentials(tmp_path / "user.creds"))) == 0


def test_a_context_of_the_nats_cli_says_what_the_settings_do_not(
    tmp_path: Path, protected: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    a_context(tmp_path, "work", url=protected.url, user="bob", password=PASSWORD)
    assert streams(NatsSettings(context="work")) == 0
    a_context(tmp_path, "work", url="nats://nowhere.invalid", user="eve", password=ENCODED)
    assert streams(NatsSettings(protected.url, user="bob", password=secret(tmp_path, PASSWORD), context="work")) == 0


def a_context(folder: Path, name: str, **content: Any) -> None:
    (folder / "nats" / "context").mkdir(parents=True, exist_ok=True)
    (folder / "nats" / "context" / f"{name}.json").write_text(json.dumps(content))


def test_what_a_context_says_of_subjects_and_tls_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    a_context(tmp_path, "hub", url="a:1, tls://b", inbox_prefix="_MINE", jetstream_domain="hub", tls_first=True)
    found = login(NatsSettings(context="hub"))
    assert (found.servers, found.inbox, found.api) == (("nats://a:1", "tls://b:4222"), "_MINE", "$JS.hub.API")
    assert (found.tls_first, found.tls_must) == (True, True)


# ---- TLS


def test_tls_is_spoken_with_a_server_whose_certificate_is_trusted(tmp_path: Path, tls: Certificates) -> None:
    with nats_server(tmp_path, more=tls.tls(), scheme="tls") as server:
        assert streams(NatsSettings(url=server.url, ca=tls.ca)) == 0
        error = failure(NatsSettings(url=server.url))
    assert isinstance(error, NatsUnreachable)
    assert "its certificate is not trusted: " in error.message
    assert "NATS_CA" in (error.hint or "")


def test_a_client_shows_its_certificate(tmp_path: Path, tls: Certificates) -> None:
    with nats_server(tmp_path, more=tls.tls(verify=True)) as server:
        assert streams(NatsSettings(url=server.url, ca=tls.ca, cert=tls.client_cert, key=tls.client_key)) == 0
        assert isinstance(failure(NatsSettings(url=server.url, ca=tls.ca)), NatsUnreachable)


def test_tls_comes_first_where_a_context_says_so(
    tmp_path: Path, tls: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with nats_server(tmp_path, more=tls.tls(handshake_first=True), scheme="tls") as server:
        a_context(tmp_path, "first", url=server.url, ca=str(tls.ca), tls_first=True)
        assert streams(NatsSettings(context="first")) == 0
        monkeypatch.setattr("issue_core.transports.nats.connection.CONNECT_TIMEOUT", 0.5)
        assert isinstance(failure(NatsSettings(url=server.url, ca=tls.ca)), NatsUnreachable)


@pytest.mark.parametrize("how", ["scheme", "ca"])
def test_nothing_is_said_to_a_server_without_tls_where_tls_is_asked_for(
    tmp_path: Path, tls: Certificates, how: str
) -> None:
    with _listener() as (port, heard):
        scheme = "tls" if how == "scheme" else "nats"
        settings = NatsSettings(
            url=f"{scheme}://127.0.0.1:{port}",
            user="bob",
            password=secret(tmp_path, PASSWORD),
            ca=tls.ca if how == "ca" else None,
        )
        error = failure(settings)
    assert isinstance(error, NatsUnreachable)
    assert "has no TLS, and nothing was said to it" in error.message
    assert heard == [b""]


class _listener:  # noqa: N801 - reads as a function
    """Something that says it is a NATS server without TLS, and keeps what is said to it."""

    def __enter__(self) -> tuple[int, list[bytes]]:
        self.heard: list[bytes] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()
        return self.socket.getsockname()[1], self.heard

    def __exit__(self, *_: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                self._answer(self.socket.accept()[0])

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            connection.sendall(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"headers":true}\r\n')
            self.heard.append(connection.recv(65536))


def test_a_plain_server_is_refused_again_when_it_takes_the_place_of_one_with_tls(
    tmp_path: Path, tls: Certificates
) -> None:
    async def body(server: NatsServer) -> list[str]:
        said: list[str] = []
        async with connected(NatsSettings(url=server.url, ca=tls.ca), say=said.append) as link:
            server.stop()
            server.more = ""
            server.start()
            await _until(lambda: "secure connection not available" in str(link.watch.last))
            assert not link.client.is_connected
            server.stop()
            server.more = tls.tls()
            server.start()
            await _until(lambda: len(said) == 2)
        return said

    with nats_server(tmp_path, more=tls.tls()) as server:
        place = f"127.0.0.1:{server.port}"
        assert run(body(server)) == [
            f"NATS: the connection to {place} is lost; trying to come back",
            f"NATS: connected again, to {place}",
        ]


async def _until(condition: Any) -> None:
    pause = asyncio.Event()
    while not condition():
        try:
            await asyncio.wait_for(pause.wait(), 0.02)
        except TimeoutError:
            continue


# ---- what is refused


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    port = free_port()
    error = failure(NatsSettings(url=f"nats://127.0.0.1:{port}"))
    assert isinstance(error, NatsUnreachable)
    assert error.message == f"nats://127.0.0.1:{port} cannot be reached: nothing listens there"


def test_the_second_address_is_tried_when_nothing_is_at_the_first(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        assert streams(NatsSettings(url=f"127.0.0.1:{free_port()}, {server.url}")) == 0


def test_a_name_that_is_not_known_is_told() -> None:
    assert "its name is not known" in failure(NatsSettings(url="nats://nats.invalid")).message


def test_what_listens_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issue_core.transports.nats.connection.CONNECT_TIMEOUT", 0.2)
    with servers.silent_listener() as port:
        assert "no answer within 0.2 seconds" in failure(NatsSettings(url=f"127.0.0.1:{port}")).message


def test_wrong_credentials_are_refused_in_words_without_them(tmp_path: Path, protected: NatsServer) -> None:
    error = failure(NatsSettings(url=protected.url, user="bob", password=secret(tmp_path, "wr0ng")))
    assert isinstance(error, NatsRefused)
    assert "refuses the credentials" in error.message
    assert "wr0ng" not in f"{error.message}{error.hint}"
    assert isinstance(failure(NatsSettings(url=protected.url)), NatsRefused)


def test_what_hangs_up_in_the_place_of_an_answer_is_told() -> None:
    with _listener() as (port, heard):
        error = failure(NatsSettings(url=f"127.0.0.1:{port}"))
    assert isinstance(error, NatsUnreachable)
    assert error.message == f"nats://127.0.0.1:{port} cannot be reached: the connection was cut"
    assert heard[0].startswith(b"CONNECT ")


def test_credentials_that_have_expired_are_refused(tmp_path: Path) -> None:
    operator = Operator()
    with nats_server(tmp_path, more=operator.configuration()) as server:
        creds = operator.credentials(tmp_path / "user.creds", expires=-5)
        assert isinstance(failure(NatsSettings(url=server.url, creds=creds)), NatsRefused)


def test_a_server_without_jetstream_is_told(tmp_path: Path) -> None:
    with nats_server(
        tmp_path, more="accounts { A: { users: [ {user: a, password: a} ] } }\nno_auth_user: a\n"
    ) as server:
        error = failure(NatsSettings(url=server.url))
    assert "JetStream not enabled for account" in error.message


def test_a_right_that_is_missing_is_told(tmp_path: Path) -> None:
    rights = servers.user_with_rights("bob", "x", publish=["act.tasks.>"])
    with nats_server(tmp_path, more=rights) as server:
        error = failure(NatsSettings(url=server.url.replace("//", "//bob:x@")))
    assert isinstance(error, NatsRefused)
    assert '"$js.api.info"' in error.message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"creds": "missing.creds"}, "nats.creds: {folder}/missing.creds cannot be read: No such file or directory."),
        ({"creds": "empty"}, "nats.creds: {folder}/empty is no credentials file: it has no user JWT and seed in it."),
        ({"nkey": "missing.nk"}, "nats.nkey: {folder}/missing.nk cannot be read: No such file or directory."),
        ({"nkey": "empty"}, "nats.nkey: {folder}/empty holds no seed of an NKey."),
        ({"ca": "missing.pem"}, "nats.ca: {folder}/missing.pem holds no certificates: No such file or directory."),
        ({"ca": "empty"}, "nats.ca: {folder}/empty holds no certificates: "),
        ({"cert": "empty"}, "nats.cert and nats.key go together, and one is missing."),
        ({"cert": "empty", "key": "empty"}, "nats.cert: {folder}/empty with {folder}/empty cannot be used: "),
    ],
)
def test_a_file_that_is_missing_or_wrong_is_told_before_anything_is_connected(
    tmp_path: Path, changes: dict[str, str], expected: str
) -> None:
    (tmp_path / "empty").touch()
    paths: dict[str, Any] = {name: tmp_path / file for name, file in changes.items()}
    error = failure(NatsSettings(**paths))
    assert isinstance(error, ConfigError)
    assert error.message.startswith(expected.format(folder=tmp_path))


def test_two_ways_to_log_in_are_one_too_many(tmp_path: Path) -> None:
    both = NatsSettings(user="bob", password=secret(tmp_path, "x"), creds=tmp_path / "x.creds")
    assert "more than one way to log in to NATS: nats.creds, nats.user" in failure(both).message
    embedded = NatsSettings(url="nats://bob:x@a", creds=tmp_path / "x.creds")
    assert "nats.creds, an address" in failure(embedded).message
    assert "an address, an address" in failure(NatsSettings(url="bob:x@a,bob:y@b")).message


def test_half_a_way_to_log_in_is_told_what_is_missing(tmp_path: Path) -> None:
    assert "nats.password is not" in failure(NatsSettings(user="bob")).message
    assert "nats.user is not" in failure(NatsSettings(password=secret(tmp_path, "x"))).message


@pytest.mark.parametrize(
    "url", ["http://a", "nats://", "nats://a:x", "nats://u:s3,cr3t@a", "nats://u:s3/cr3t@a", "ws://a"]
)
def test_an_address_that_cannot_be_is_told_without_what_is_in_it(url: str) -> None:
    error = failure(NatsSettings(url=url))
    assert isinstance(error, ConfigError)
    assert error.message == "nats.url: an address in it cannot be read."
    assert "cr3t" not in f"{error.hint}"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("none", None, "none.json cannot be read: No such file or directory."),
        ("../x", None, "'../x' is no name of a context."),
        ("broken", "{", "broken.json is no JSON."),
        ("list", "[]", "list.json is no context."),
        ("nsc", '{"nsc": "nsc://op/acc/user"}', "nsc.json logs in with nsc, which is not supported."),
    ],
)
def test_a_context_that_cannot_be_used_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None, expected: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "nats" / "context").mkdir(parents=True)
    if content is not None:
        (tmp_path / "nats" / "context" / f"{name}.json").write_text(content)
    assert expected in failure(NatsSettings(context=name)).message


def test_no_secret_is_in_what_is_shown_of_a_login(tmp_path: Path) -> None:
    found = login(NatsSettings(url="nats://bob:s3cr3t@a"))
    assert found.servers == ("nats://a:4222",)
    assert "s3cr3t" not in repr(found)


# ---- what a connection lives through


async def _info(link: Link) -> int:
    return int((await ask(link, "INFO"))["streams"])


def test_a_connection_comes_back_after_a_kill_and_says_so_once(tmp_path: Path) -> None:
    async def body(server: NatsServer) -> list[str]:
        said: list[str] = []
        async with connected(NatsSettings(url=server.url), say=said.append) as link:
            server.kill()
            await _until(lambda: not link.client.is_connected)
            server.start()
            await _until(lambda: len(said) == 2)
            assert await _info(link) == 0
            assert not link.closed.is_set()
        return said

    with nats_server(tmp_path) as server:
        place = f"127.0.0.1:{server.port}"
        assert run(body(server)) == [
            f"NATS: the connection to {place} is lost; trying to come back",
            f"NATS: connected again, to {place}",
        ]


def test_who_is_patient_waits_for_a_server_that_comes_later(tmp_path: Path) -> None:
    async def body(server: NatsServer) -> list[str]:
        said: list[str] = []

        def hear(text: str) -> None:
            said.append(text)
            server.start(wait=False)

        async with connected(NatsSettings(url=server.url), patient=True, say=hear) as link:
            assert await _info(link) == 0
        return said

    server = NatsServer(tmp_path)
    try:
        [said] = run(body(server))
    finally:
        server.close()
    assert said.endswith("cannot be reached: nothing listens there; trying again until it is there")


def test_who_is_patient_does_not_wait_with_credentials_that_are_refused(tmp_path: Path, protected: NatsServer) -> None:
    async def body() -> None:
        settings = NatsSettings(url=protected.url, user="bob", password=secret(tmp_path, "wrong"))
        async with connected(settings, patient=True):
            pass

    with pytest.raises(NatsRefused):
        run(body())


def test_a_password_that_was_changed_ends_a_connection_with_the_reason(protected: NatsServer) -> None:
    async def body() -> NatsError:
        async with connected(NatsSettings(url=protected.url.replace("//", f"//bob:{ENCODED}@"))) as link:
            protected.stop()
            protected.more = servers.user_and_password("bob", "another")
            protected.start()
            await link.closed.wait()
            return link.why(otherwise="?")

    error = run(body())
    assert isinstance(error, NatsRefused)
    assert "refuses the credentials" in error.message


def test_credentials_that_expire_end_a_connection_with_the_reason(tmp_path: Path) -> None:
    async def body(server: NatsServer, creds: Path) -> NatsError:
        async with connected(NatsSettings(url=server.url, creds=creds)) as link:
            await link.closed.wait()
            return link.why(otherwise="?")

    operator = Operator()
    with nats_server(tmp_path, more=operator.configuration()) as server:
        error = run(body(server, operator.credentials(tmp_path / "user.creds", expires=2)))
    assert isinstance(error, NatsRefused)
    assert "expired" in error.message


def test_a_server_that_is_about_to_stop_says_so(tmp_path: Path) -> None:
    async def body(server: NatsServer) -> list[str]:
        said: list[str] = []
        async with connected(NatsSettings(url=server.url), say=said.append):
            assert server.process
            server.process.send_signal(12)  # SIGUSR2
            await _until(lambda: said)
        return said

    with nats_server(tmp_path) as server:
        assert run(body(server))[0] == f"NATS: 127.0.0.1:{server.port} is about to stop"


@pytest.mark.parametrize("url", [" ", ",", " , "])
def test_an_address_of_nothing_is_told_at_once(issue: Issue, url: str) -> None:
    ran = issue.call("nats", "status", "--nats-url", url)
    assert (ran.code, "nats.url: there is no address in it" in ran.stderr) == (2, True)
