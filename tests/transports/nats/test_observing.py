"""A subscriber shows how it stands, to anybody who asks, however slowly; and whoever asks holds nothing up."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from issue_core.config import NatsSettings
from issue_core.errors import IssueCoreError, UsageError
from issue_core.ledger import Ledger
from issue_core.transports import metrics
from issue_core.transports.nats import observing
from issue_core.transports.nats.connection import Link, connected
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.observing import MOST, Observer, observable
from tests.docs.pages import ROOT, rows_under
from tests.support.cli import TIMEOUT, a_spec
from tests.support.nats_server import NatsServer, make_streams, publish, run
from tests.support.ports import free_port

PAGE = ROOT / "docs" / "reference" / "metrics.md"
ANYWHERE = "0.0.0.0"  # noqa: S104 - as users may have it


@dataclass(slots=True)
class Shown:
    """A subscriber's observer, where it can be asked, and what was said of faults of our own."""

    observer: Observer
    ledger: Ledger
    url: str = ""
    faults: list[str] = field(default_factory=list)

    def ask(self, path: str, method: str = "GET", host: str | None = None) -> tuple[int, str]:
        """The answer's status and body."""
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def values(self) -> Mapping[str, float]:
        """The samples of the subscriber's own metrics, by name; those with labels must be of this consumer."""
        status, text = self.ask("/metrics")
        assert status == 200, text
        found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        own = {metric.name: metric for metric in observing.METRICS}
        for sample in found:
            if sample.name in own:
                assert tuple(sample.labels) == own[sample.name].labels
                assert set(sample.labels.values()) <= {"ACT_TASKS", "issue-core-ingest"}
        return {sample.name.removeprefix("issue_core_nats_"): sample.value for sample in found if sample.name in own}


@contextmanager
def observed(folder: Path, host: str = "127.0.0.1") -> Iterator[Shown]:
    with Ledger(folder / "ledger.db") as ledger:
        shown = Shown(Observer(NatsSettings()), ledger)
        with observable(shown.observer, ledger, (host, 0), batch=1, say=shown.faults.append) as url:
            shown.url = url
            yield shown
    assert shown.faults == []


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    with observed(tmp_path) as one:
        yield one


def while_connected(server: NatsServer, shown: Shown, look: Callable[[Link], Awaitable[None]]) -> None:
    """Let the observer meet a connection, and ``look`` while its loop runs."""

    async def body() -> None:
        async with connected(NatsSettings(url=server.url)) as link:
            shown.observer.meet(link)
            await look(link)

    run(body())


async def until(shown: Shown, **values: float | None) -> None:
    """Wait until the metrics have these values; None: no value at all."""
    while True:
        found = await asyncio.to_thread(shown.values)
        if {name: found.get(name) for name in values} == values:
            return
        await asyncio.sleep(0.02)


def test_before_there_is_a_connection_it_says_so(shown: Shown) -> None:
    assert shown.values() == {"connected": 0, "reconnects_total": 0}
    assert shown.ask("/healthz") == (200, '{"status":"alive"}')
    status, problem = shown.ask("/readyz")
    assert (status, json.loads(problem)["detail"]) == (503, "there is no connection to NATS")


def test_it_shows_how_the_consumer_stands_by_itself(
    shown: Shown, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "EVERY", 0.05)
    make_streams(server.url, ack_wait=30)
    publish(server.url, (a_spec(n) for n in range(2)))

    async def look(link: Link) -> None:
        await until(shown, connected=1, lag=2, in_flight=0, redelivered=0)
        taking = await link.client.jetstream().pull_subscribe_bind("issue-core-ingest", "ACT_TASKS")
        for message in await taking.fetch(2):
            await message.nak()
        await taking.fetch(1)
        await until(shown, lag=0, in_flight=2, redelivered=1)
        await ask(link, "CONSUMER.DELETE.ACT_TASKS.issue-core-ingest")
        await until(shown, connected=1, lag=None, in_flight=None, redelivered=None)

    while_connected(server, shown, look)


def test_what_was_seen_too_long_ago_is_not_shown(
    shown: Shown, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_streams(server.url, ack_wait=30)

    async def look(_: Link) -> None:
        await until(shown, lag=0)
        monkeypatch.setattr(observing, "FRESH", 0.0)
        await until(shown, lag=None)

    while_connected(server, shown, look)


def test_a_server_that_goes_and_comes_is_seen(
    shown: Shown, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "EVERY", 0.05)
    make_streams(server.url, ack_wait=30)

    async def look(_: Link) -> None:
        await until(shown, connected=1, reconnects_total=0, lag=0)
        assert (await asyncio.to_thread(shown.ask, "/readyz"))[0] == 200
        await asyncio.to_thread(server.stop)
        await until(shown, connected=0, lag=None)
        assert (await asyncio.to_thread(shown.ask, "/readyz"))[0] == 503
        await asyncio.to_thread(server.start)
        await until(shown, connected=1, reconnects_total=1, lag=0)

    while_connected(server, shown, look)
    assert shown.values() == {"connected": 0, "reconnects_total": 1}


def test_it_is_not_ready_while_the_ledger_cannot_be_written(shown: Shown, server: NatsServer) -> None:
    async def look(_: Link) -> None:
        with shown.ledger.write():
            status, problem = await asyncio.to_thread(shown.ask, "/readyz")
            assert (status, json.loads(problem)["detail"]) == (503, "the ledger cannot be written: ledger_busy")
        while (await asyncio.to_thread(shown.ask, "/readyz"))[0] != 200:
            await asyncio.sleep(0.05)

    while_connected(server, shown, look)


def test_the_time_of_the_last_message_is_there_once_there_was_one(shown: Shown) -> None:
    assert "last_message_timestamp_seconds" not in shown.values()
    shown.observer.took()
    first = shown.values()["last_message_timestamp_seconds"]
    shown.observer.took()
    assert shown.values()["last_message_timestamp_seconds"] > first > 1.7e9


def test_metrics_have_the_ledgers_and_its_own_each_with_type_and_meaning(shown: Shown) -> None:
    found = {family.name: family for family in text_string_to_metric_families(shown.ask("/metrics")[1])}
    wanted = [*metrics.METRICS, *observing.METRICS]
    assert {name: (family.type, family.documentation) for name, family in found.items()} == {
        metric.name.removesuffix("_total"): (metric.kind, metric.meaning) for metric in wanted
    }


def test_a_ledger_that_cannot_be_read_is_told(shown: Shown) -> None:
    shown.ledger.path.write_bytes(b"something else, and long enough to be looked at as a file of SQLite's" * 20)
    status, problem = shown.ask("/metrics")
    assert (status, "is not a ledger" in json.loads(problem)["detail"]) == (503, True), problem


def test_other_paths_and_methods_and_names_are_refused(shown: Shown) -> None:
    assert shown.ask("/issues")[0] == 404
    assert shown.ask("/metrics", "POST")[0] == 405
    assert shown.ask("/metrics", "HEAD") == (200, "")
    assert shown.ask("/metrics", host="evil.example")[0] == 421


def test_on_an_address_of_the_network_any_name_will_do(tmp_path: Path) -> None:
    with observed(tmp_path, ANYWHERE) as shown:
        assert shown.ask("/metrics", host="subscriber.example")[0] == 200


def test_clients_that_are_slow_hold_up_neither_others_nor_the_end(shown: Shown) -> None:
    parts = urlsplit(shown.url)
    with ExitStack() as stack:
        for _ in range(2 * MOST):
            slow = stack.enter_context(socket.create_connection((parts.hostname, parts.port or 0), timeout=TIMEOUT))
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: local")
        assert shown.ask("/metrics")[0] == 200
        assert shown.ask("/healthz")[0] == 200


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    port = free_port()
    observer = Observer(NatsSettings())
    with Ledger(tmp_path / "ledger.db") as ledger, socket.create_server(("127.0.0.1", port)):
        with pytest.raises(IssueCoreError, match=f"cannot listen on 127.0.0.1 port {port}: Address") as refused:
            observable(observer, ledger, ("127.0.0.1", port), batch=1, say=print).__enter__()
        assert "--metrics-port" in str(refused.value.hint)
        with pytest.raises(UsageError, match=r"--metrics-host: 'no\.such\.host\.invalid'"):
            observable(observer, ledger, ("no.such.host.invalid", 0), batch=1, say=print).__enter__()


def test_the_page_has_every_metric_of_a_subscriber_with_its_type_labels_and_meaning() -> None:
    documented = [
        (name.strip("`"), kind, tuple(label.strip(" `") for label in labels.split(",") if label), meaning)
        for name, kind, labels, meaning in rows_under(PAGE, "Of `issue subscribe` alone")
    ]
    assert documented == list(observing.METRICS)
