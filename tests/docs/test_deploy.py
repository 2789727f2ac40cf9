"""What lies in docs/deploy/ can be used as it is: systemd takes the unit, real servers run with the cluster's files."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from issue_core.config import NatsSettings
from issue_core.ledger import queries
from issue_core.transports.nats.connection import connected
from tests.docs.pages import ROOT
from tests.support.cli import ISSUE, TIMEOUT, Issue, a_spec, ndjson
from tests.support.nats_server import NatsServer, make_as_they_are, nats_server, run, until
from tests.support.ports import free_port
from tests.transports.nats.accounts import Operator

DEPLOY = ROOT / "docs" / "deploy"
UNIT = DEPLOY / "issue-subscribe.service"
CONFIGURATION = DEPLOY / "nats-cluster.conf"
COMPOSE = yaml.safe_load((DEPLOY / "nats-cluster.compose.yaml").read_text())
PROGRAM = "/opt/issue-core/bin/issue"
PASSWORD = "12e3 {a} #b"  # noqa: S105 - a test's own, and none that could stand there without quotes


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    (folder := tmp_path / "issue").mkdir()
    return Issue(folder)


# --- the unit --------------------------------------------------------------------------------------------------------


def unit() -> Iterator[tuple[str, str]]:
    """The unit's settings, each as often as it is there."""
    for line in UNIT.read_text().splitlines():
        name, given, value = line.partition("=")
        if given and not line.startswith("#"):
            yield name, value


def test_systemd_takes_the_unit_without_a_word(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("this machine has no systemd")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(PROGRAM, ISSUE))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_bounds_its_program_as_the_one_of_the_server_does() -> None:
    server = re.search(r"```ini\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(), re.DOTALL)
    assert server
    bounds = server[1].partition("\n\nProtectSystem=")[2].partition("\n\n")[0]
    assert bounds
    assert UNIT.read_text().partition("\n\nProtectSystem=")[2].partition("\n\n")[0] == bounds


def test_the_units_command_takes_tasks_with_the_credentials_that_the_configuration_names(
    issue: Issue, tmp_path: Path
) -> None:
    settings = dict(unit())
    words = shlex.split(settings["ExecStart"].replace(PROGRAM, ISSUE).replace("8766", "0"))
    assert "0" in words
    [place] = re.findall(r'^# creds = "(.+)"$', UNIT.read_text(), re.MULTILINE)
    operator = Operator()
    (folder := tmp_path / "nats").mkdir()
    with nats_server(folder, more=operator.configuration()) as server:
        credentials = operator.credentials(tmp_path / Path(place).name)
        run(_make_and_fill(NatsSettings(url=server.url, creds=credentials)))
        config = tmp_path / "config.toml"
        config.write_text(f'ledger = "{issue.path}"\n[nats]\nurl = "{server.url}"\ncreds = "{credentials}"\n')
        assert settings["Environment"] == "ISSUE_CORE_CONFIG=/etc/issue-core/config.toml"
        given = {"ISSUE_CORE_CONFIG": str(config)}
        environment = {key: value for key, value in issue.environment.items() if not key.startswith("ISSUE_CORE")}
        process = subprocess.Popen(words, env=environment | given, stderr=subprocess.PIPE)
        try:
            until(lambda: process.poll() is not None or (issue.path.exists() and _synced(issue) == 1))
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
            process.communicate()
    assert (process.returncode, "created: task 1" in errors.decode()) == (0, True), errors.decode()


def _synced(issue: Issue) -> int:
    with issue.ledger as ledger, ledger.read() as connection:
        return queries.by_state(connection).get("synced", 0)


async def _make_and_fill(settings: NatsSettings) -> None:
    async with connected(settings) as link:
        await make_as_they_are(link, settings)
        await link.client.jetstream().publish("act.tasks.create.acme/web", json.dumps(a_spec(1)).encode())


# --- the cluster -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Shipped(NatsServer):
    """A server with the cluster's own configuration, its folder and its addresses apart."""

    text: str = ""

    def _configuration(self) -> str:
        return self.text


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a service, with the password that compose is given."""
    return {
        name: re.sub(r"\$\{NATS_PASSWORD:\?[^}]+\}", PASSWORD, value) for name, value in service["environment"].items()
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Shipped]]:
    """The three services of the compose file, on free ports of this machine."""
    folder = tmp_path_factory.mktemp("cluster")
    routes = {name: free_port() for name in COMPOSE["services"]}
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        servers = []
        for name, service in COMPOSE["services"].items():
            for variable, value in environment_of(service).items():
                patch.setenv(variable, value)
            server = Shipped(folder, name)
            server.text = adapted(server, routes)
            stack.callback(server.close)
            server.start(wait=False)
            servers.append(server)
        for server in servers:
            server.wait_until_ready()
        yield servers


def adapted(server: Shipped, routes: Mapping[str, int]) -> str:
    """The configuration for this machine, where all three are at the same address."""
    text = CONFIGURATION.read_text()
    changes = {f"{name}:6222": f"127.0.0.1:{port}" for name, port in routes.items()} | {
        "0.0.0.0:4222": f"127.0.0.1:{server.port}",
        "127.0.0.1:8222": f"127.0.0.1:{server.monitor}",
        "0.0.0.0:6222": f"127.0.0.1:{routes[server.name]}",
        '"/data"': f'"{server.store}"',
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def told(server: Shipped, path: str) -> Any:
    with urlopen(f"http://127.0.0.1:{server.monitor}{path}", timeout=TIMEOUT) as answer:
        return json.load(answer)


def test_three_servers_with_the_files_as_they_are_keep_three_copies_of_each_task(
    cluster: list[Shipped], issue: Issue
) -> None:
    at = {"NATS_URL": ",".join(server.url for server in cluster), "NATS_USER": "issue-core", "NATS_PASSWORD": PASSWORD}
    environment = issue.environment | at
    assert issue.run("nats", "setup", "--replicas", "3", env=environment).code == 0
    assert issue.run("publish", input=ndjson(a_spec(1)), env=environment).code == 0
    ran = issue.run("subscribe", "--until-empty", env=environment)
    assert (ran.code, ran.stdout) == (0, "1 taken: 1 created, 0 duplicate, 0 conflict, 0 invalid\n"), ran.stderr
    [status] = issue.run("nats", "status", "--json", env=environment).objects
    assert (status["replicas"], status["lag"]) == (3, 0)


def test_who_has_no_password_or_another_one_is_not_let_in(cluster: list[Shipped], issue: Issue) -> None:
    for login in ({}, {"NATS_USER": "issue-core", "NATS_PASSWORD": "12e3"}):
        ran = issue.run("nats", "status", env=issue.environment | {"NATS_URL": cluster[0].url} | login)
        assert (ran.code, ran.stdout) == (1, ""), ran.stderr
        assert ran.stderr.startswith(f"issue: {cluster[0].url} ")


def test_each_server_writes_to_the_disk_before_it_answers_and_keeps_to_its_bounds(cluster: list[Shipped]) -> None:
    for server in cluster:
        varz = told(server, "/varz")
        jetstream = varz["jetstream"]["config"]
        assert jetstream["sync_always"] is True
        assert (jetstream["max_storage"], jetstream["max_memory"]) == (10 * 1000**3, 64 * 1000**2)
        assert not varz.get("connect_urls")


def test_the_health_check_asks_what_a_server_answers(cluster: list[Shipped]) -> None:
    for server, service in zip(cluster, COMPOSE["services"].values(), strict=True):
        url = service["healthcheck"]["test"][-1]
        assert url.startswith("http://127.0.0.1:8222/")
        assert told(server, url.removeprefix("http://127.0.0.1:8222"))["status"] == "ok"


def test_each_service_has_a_store_a_port_and_a_name_of_its_own_and_a_pinned_image() -> None:
    services = COMPOSE["services"]
    assert len(services) == 3
    for what in ("ports", "volumes", "hostname"):
        assert len({str(service[what]) for service in services.values()}) == 3
    for name, service in services.items():
        assert re.fullmatch(r"nats:\d+\.\d+-alpine", service["image"])
        assert service["hostname"] == service["environment"]["NATS_NAME"] == name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        [volume] = service["volumes"]
        assert volume.removesuffix(":/data") in COMPOSE["volumes"]
        [config] = service["configs"]
        assert config["target"] in service["command"]
        assert DEPLOY / COMPOSE["configs"][config["source"]]["file"] == CONFIGURATION


def test_no_secret_stands_in_the_files_and_without_one_compose_does_not_begin() -> None:
    for service in COMPOSE["services"].values():
        assert re.fullmatch(r'"\$\{NATS_PASSWORD:\?[^}]+\}"', service["environment"]["NATS_PASSWORD"])
    assert re.findall(r"password:\s*(\S+)", CONFIGURATION.read_text()) == ["$NATS_PASSWORD"]
