"""``issue subscribe`` as its users run it: the real command against the real server, whatever happens to either."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from issue_core.config import NatsSettings
from issue_core.ledger import queries
from issue_core.transports.nats.connection import Link
from issue_core.transports.nats.jetstream import ask
from tests.support.cli import TIMEOUT, Issue, a_spec, ndjson
from tests.support.nats_server import (
    NOTHING_LEFT,
    NatsServer,
    make_as,
    make_streams,
    nats_cluster,
    nats_server,
    patiently,
    run,
    standing,
    until,
    urls,
    user_and_password,
)
from tests.support.serving import serving
from tests.transports.nats.accounts import Operator
from tests.transports.nats.conftest import with_link
from tests.transports.nats.subscribing import is_waiting, put

SOON = 10.0
"""Seconds in which it must notice that nothing will come any more, and in which it must end when it is told to."""

LAME_DUCK = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "100ms"\n'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that runs for the whole module."""
    with nats_server(tmp_path_factory.mktemp("nats"), more=LAME_DUCK) as server:
        yield server


@pytest.fixture
def server(shared: NatsServer) -> Iterator[NatsServer]:
    """A server with the streams and the consumer, and nothing in them."""
    if shared.process is None:
        shared.start()
    make_streams(shared.url, ack_wait=30)
    yield shared
    if shared.process is None:
        shared.start()
    with_link(shared, remove_all)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[NatsServer]]:
    """Three servers with the streams on each, and nothing in them."""
    with nats_cluster(tmp_path, more=LAME_DUCK) as servers:
        make_streams(urls(servers), ack_wait=30, replicas=3)
        yield servers


async def remove_all(link: Link) -> None:
    """Remove every stream."""
    for name in (await ask(link, "STREAM.NAMES"))["streams"] or []:
        await ask(link, f"STREAM.DELETE.{name}")


@dataclass(slots=True)
class Subscriber:
    """A subscriber that runs: its process, and the lines that it has written so far."""

    process: subprocess.Popen[bytes]
    out: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)

    def listen(self) -> None:
        """Collect what it writes, each stream in a thread."""
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.said)):
            reader = threading.Thread(target=_collect, args=(stream, lines))
            reader.start()
            self._readers.append(reader)

    def has_said(self, text: str) -> bool:
        """Whether ``text`` stands in what it has said, or it has ended."""
        return any(text in line for line in self.said) or self.process.poll() is not None

    def wait(self) -> int:
        """Wait until it has ended by itself; gives its exit code."""
        code = self.process.wait(TIMEOUT)
        for reader in self._readers:
            reader.join()
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop, which it must do soon; gives its exit code."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.wait()
        assert time.monotonic() - began < SOON
        return code


def _collect(stream: IO[bytes] | None, lines: list[str]) -> None:
    assert stream
    with stream:
        lines.extend(line.decode().rstrip("\n") for line in stream)


@contextmanager
def subscribing(
    issue: Issue, url: str, *words: str, environment: Mapping[str, str] | None = None
) -> Iterator[Subscriber]:
    """The command at work, until the block ends."""
    given = issue.environment | {"NATS_URL": url} | dict(environment or {})
    running = Subscriber(issue.start("subscribe", *words, env=given, stdin=subprocess.DEVNULL))
    running.listen()
    try:
        yield running
    finally:
        running.process.kill()
        running.wait()


def taken(issue: Issue, url: str, *words: str) -> list[dict[str, Any]]:
    """The receipts of all that is there."""
    ran = issue.run("subscribe", "--nats-url", url, "--until-empty", "--json", *words)
    assert ran.code == 0, ran.stderr
    return ran.objects


def stored(issue: Issue) -> int:
    """How many tasks the ledger has."""
    with issue.ledger as ledger, ledger.read() as connection:
        return sum(queries.by_state(connection).values())


def gone(url: str) -> str:
    """What it says when the server at ``url`` goes."""
    return f"NATS: the connection to {url.removeprefix('nats://')} is lost; trying to come back"


def back(url: str) -> str:
    """What it says when it is connected again, to the server at ``url``."""
    return f"NATS: connected again, to {url.removeprefix('nats://')}"


# --- what comes in ---------------------------------------------------------------------------------------------------


def test_from_the_setup_to_the_issue_as_a_user_does_it(issue: Issue, shared: NatsServer) -> None:
    with_link(shared, remove_all)
    at = ("--nats-url", shared.url)
    assert issue.run("nats", "setup", *at).code == 0
    assert issue.run("publish", *at, input=ndjson(a_spec(1), a_spec(2), a_spec(1))).code == 0
    ran = issue.run("subscribe", *at, "--until-empty", "--sync")
    assert (ran.code, ran.stdout) == (0, "2 taken: 2 created, 0 duplicate, 0 conflict, 0 invalid\n"), ran.stderr
    [status] = issue.run("nats", "status", *at, "--json").objects
    assert (status["lag"], status["in_flight"], status["dead_letters"]) == (0, 0, 0)
    with_link(shared, remove_all)


def test_each_message_is_a_step_that_can_be_heard_on_both_sides(issue: Issue, server: NatsServer) -> None:
    verbose = ("-v", "--log-format", "json", "--nats-url", server.url)
    sent = issue.run("publish", *verbose, input=ndjson(a_spec(1), {"title": "a password"}))
    came = issue.run("subscribe", *verbose, "--until-empty")
    steps = [
        (line["event"], line["outcome"], line.get("event_id"))
        for line in map(json.loads, (sent.stderr + came.stderr).splitlines())
        if line["event"] in ("published", "receipt")
    ]
    event_id = a_spec(1)["triggering_event_id"]
    assert sorted(steps, key=str) == [
        ("published", "invalid", None),
        ("published", "published", event_id),
        ("receipt", "created", event_id),
    ]


def test_with_sync_each_task_is_an_issue_soon(issue: Issue, server: NatsServer) -> None:
    put(server, a_spec(1), a_spec(2))
    with subscribing(issue, server.url, "--sync") as running:
        until(lambda: len(list((issue.folder / "issues").rglob("*.md"))) == 2)
        until(lambda: sum(line.startswith("created: task ") for line in running.said) == 2)
        assert running.stop() == 0
    [status] = issue.run("status", "--json").objects
    assert status["states"] == status["states"] | {"synced": 2, "pending": 0}


def test_a_task_tells_where_in_the_stream_it_came_from(issue: Issue, server: NatsServer) -> None:
    put(server, a_spec(1), a_spec(2, target_repo="acme/web.app"))
    assert [each["outcome"] for each in taken(issue, server.url)] == ["created", "created"]
    [task] = issue.run("show", str(a_spec(2)["triggering_event_id"]), "--json").objects
    came = task["sync_metadata"]["ingestion"]
    assert (came["transport"], came["stream"], came["sequence"]) == ("nats", "ACT_TASKS", 2)
    assert came["subject"] == "act.tasks.create.acme/web%2Eapp"
    assert "2026" <= came["published_at"] <= task["created_at"]
    assert task["sightings"] == {"nats": 1}


def test_the_body_decides_and_a_subject_that_says_otherwise_is_a_warning(issue: Issue, server: NatsServer) -> None:
    put(server, a_spec(1), subject="act.tasks.create.acme/other")
    [receipt] = taken(issue, server.url)
    assert receipt["outcome"] == "created"
    assert receipt["warnings"] == [
        "it came under act.tasks.create.acme/other, which is not the subject of its target_repo"
    ]
    [task] = issue.run("show", "1", "--json").objects
    assert task["target_repo"] == "acme/web"


def test_what_is_refused_blocks_nothing_and_is_kept_once_however_often_it_comes(
    issue: Issue, server: NatsServer
) -> None:
    (issue.folder / "config.toml").write_text("[ingest]\nmax_document = 2_000\n")
    put(server, a_spec(1), b"{broken", a_spec(2, title=""), a_spec(3), a_spec(1, title="Another"))
    put(server, a_spec(4), headers={"Content-Type": "text/yaml"})
    put(server, a_spec(5, description="x" * 3_000), a_spec(6))
    first = taken(issue, server.url)
    assert [each["outcome"] for each in first] == [
        *("created", "invalid", "invalid", "created", "conflict"),
        *("invalid", "invalid", "created"),
    ]
    with_link(server, lambda link: ask(link, "CONSUMER.DELETE.ACT_TASKS.issue-core-ingest"))
    assert issue.run("nats", "setup", "--nats-url", server.url).code == 0  # made anew, it delivers all of it again
    again = taken(issue, server.url)
    assert [each["outcome"] for each in again] == [each["outcome"].replace("created", "duplicate") for each in first]
    assert [each.get("reject_id") for each in again] == [each.get("reject_id") for each in first]
    rejects = issue.run("rejects", "list", "--json").objects
    assert sorted((each["kind"], each["count"]) for each in rejects) == [("conflict", 2), *[("invalid", 2)] * 4]
    assert standing(server.url) == NOTHING_LEFT


def test_the_verbs_that_are_reserved_stay_in_the_stream_and_are_counted(issue: Issue, server: NatsServer) -> None:
    put(server, a_spec(1), a_spec(2), subject="act.tasks.update.acme/web")
    put(server, a_spec(3), subject="act.tasks.close.acme/web")
    put(server, a_spec(4))
    assert [each["event_id"] for each in taken(issue, server.url)] == [a_spec(4)["triggering_event_id"]]
    ran = issue.run("nats", "status", "--nats-url", server.url, "--json")
    assert (ran.code, ran.objects[0]["reserved"]) == (0, {"update": 2, "close": 1})
    assert ran.objects[0]["messages"] == 4


def test_an_empty_stream_is_empty_at_once(issue: Issue, server: NatsServer) -> None:
    began = time.monotonic()
    ran = issue.run("subscribe", "--nats-url", server.url, "--until-empty")
    assert (ran.code, ran.stdout) == (0, ""), ran.stderr
    assert time.monotonic() - began < 4


def test_one_event_is_one_task_whichever_way_it_comes(issue: Issue, server: NatsServer) -> None:
    assert issue.run("ingest", input=ndjson(a_spec(1))).code == 0
    with serving(issue) as http, subscribing(issue, server.url, "--json") as running:
        assert http.ask("POST", "/issues/", a_spec(1)).status == 200
        put(server, a_spec(1), a_spec(1), a_spec(2))
        until(lambda: len(running.out) == 3)
        assert http.ask("POST", "/issues/", a_spec(2)).status == 200
        assert running.stop() == 0
    assert [json.loads(line)["outcome"] for line in running.out] == ["duplicate", "duplicate", "created"]
    first, second = (issue.run("show", seq, "--json").objects[0]["sightings"] for seq in ("1", "2"))
    assert (first, second) == ({"cli": 1, "rest": 1, "nats": 2}, {"nats": 1, "rest": 1})
    assert stored(issue) == 2


# --- its end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_in_a_busy_stream_ends_it_with_everything_that_it_took_stored(
    issue: Issue, server: NatsServer, number: int, code: int
) -> None:
    put(server, *(a_spec(n) for n in range(2_000)))
    publisher = issue.start("publish", "--nats-url", server.url)
    with subscribing(issue, server.url, "--batch", "32") as running:
        until(lambda: issue.path.exists() and stored(issue) >= 64)
        assert publisher.stdin
        publisher.stdin.write(ndjson(*(a_spec(n) for n in range(2_000, 4_000))).encode())  # it comes at the same time
        publisher.stdin.close()
        assert running.stop(number) == code
    assert publisher.wait(TIMEOUT) == 0
    _close(publisher)
    left = standing(server.url)
    assert (left.in_flight, left.pending) == (0, 4_000 - stored(issue))
    assert left.pending > 0
    assert len(running.said) == (2 if number == signal.SIGINT else 1)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


# --- the server goes and comes ---------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_yet_is_waited_for_and_that_is_said_once(issue: Issue, tmp_path: Path) -> None:
    (folder := tmp_path / "late").mkdir()
    with nats_server(folder) as late:
        make_streams(late.url, ack_wait=30)
        put(late, a_spec(1))
        late.stop()
        with subscribing(issue, late.url) as running:
            until(lambda: running.has_said("trying again"))
            late.start()
            until(lambda: stored(issue) == 1)
            assert running.stop() == 0
    assert len(running.said) == 2
    assert running.said[1] == (
        f"NATS: {late.url} cannot be reached: nothing listens there; trying again until it is there"
    )


def test_each_time_that_the_server_goes_and_comes_is_said_in_one_line(issue: Issue, server: NatsServer) -> None:
    with subscribing(issue, server.url) as running:
        for n, how in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)):
            put(server, a_spec(n))
            until(lambda n=n: issue.path.exists() and stored(issue) > n and is_waiting(server))
            server.stop(how)
            until(lambda n=n: len(running.said) == 2 * n + 2)
            server.start()
            until(lambda n=n: len(running.said) == 2 * n + 3)
        assert running.stop() == 0
    assert running.said[1:] == [gone(server.url), back(server.url)] * 3


def test_a_server_that_says_that_it_will_stop_is_used_until_then_and_again_after(
    issue: Issue, server: NatsServer
) -> None:
    with subscribing(issue, server.url) as running:
        put(server, a_spec(1))
        until(lambda: issue.path.exists() and stored(issue) == 1)
        server.stop(signal.SIGUSR2)
        server.start()
        put(server, a_spec(2))
        until(lambda: stored(issue) == 2)
        assert running.stop() == 0
    about = f"NATS: 127.0.0.1:{server.port} is about to stop"
    assert running.said[1:] == [about, gone(server.url), back(server.url)]


def test_when_one_of_a_cluster_stops_it_goes_on_with_another(issue: Issue, cluster: list[NatsServer]) -> None:
    one, *others = cluster
    with subscribing(issue, one.url) as running:
        put(one, a_spec(1))
        until(lambda: issue.path.exists() and stored(issue) == 1)
        one.stop(signal.SIGUSR2)
        put(others[0], a_spec(2))
        until(lambda: stored(issue) == 2)
        assert running.stop() == 0
    one.start()
    assert running.said[1:3] == [f"NATS: 127.0.0.1:{one.port} is about to stop", gone(one.url)]
    assert running.said[3:] in ([back(each.url)] for each in others)


def test_a_rolling_restart_of_a_cluster_loses_and_doubles_nothing_while_messages_come(
    issue: Issue, cluster: list[NatsServer]
) -> None:
    numbers = iter(range(1_000, 10_000))
    publisher = issue.start("publish", "--nats-url", urls(cluster))
    with subscribing(issue, urls(cluster)) as running:
        _send(publisher, numbers, 100)
        until(lambda: issue.path.exists() and stored(issue) == 100)
        for each in cluster:
            _send(publisher, numbers, 100)
            each.stop()
            _send(publisher, numbers, 100)
            each.start()
        out, errors = publisher.communicate(timeout=TIMEOUT)
        assert (publisher.returncode, out.decode().startswith("700 read: ")) == (0, True), errors.decode()
        until(lambda: stored(issue) == 700)
        until(lambda: standing(urls(cluster)) == NOTHING_LEFT)
        assert running.stop() == 0
    [status] = issue.run("status", "--json").objects
    assert status["received"] == status["received"] | {"created": 700, "conflict": 0, "invalid": 0}
    lost, found = (sum(text in line for line in running.said) for text in (" is lost", "connected again"))
    assert lost == found >= 1


def _send(publisher: subprocess.Popen[bytes], numbers: Iterator[int], n: int) -> None:
    assert publisher.stdin
    publisher.stdin.write(ndjson(*(a_spec(next(numbers)) for _ in range(n))).encode())
    publisher.stdin.flush()


# --- what ends it by itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("CONSUMER.DELETE.ACT_TASKS.issue-core-ingest", "consumer issue-core-ingest"),
        ("STREAM.DELETE.ACT_TASKS", "stream ACT_TASKS"),
    ],
)
def test_a_consumer_or_stream_that_is_removed_ends_it_soon(
    issue: Issue, server: NatsServer, verb: str, what: str
) -> None:
    with subscribing(issue, server.url) as running:
        until(lambda: is_waiting(server))
        began = time.monotonic()
        with_link(server, lambda link: ask(link, verb))
        assert running.wait() == 1
        assert time.monotonic() - began < SOON
    assert running.said[1:] == [
        f"issue: there is no {what} at 127.0.0.1:{server.port}.",
        "hint: `issue nats setup` makes it",
    ]


def test_credentials_that_expire_end_it_with_a_clear_text(issue: Issue, tmp_path: Path) -> None:
    operator = Operator()
    (folder := tmp_path / "operator").mkdir()
    with nats_server(folder, more=operator.configuration()) as server:
        run(make_as(NatsSettings(url=server.url, creds=operator.credentials(tmp_path / "lasting.creds"))))
        short = operator.credentials(tmp_path / "short.creds", expires=3)
        with subscribing(issue, server.url, environment={"NATS_CREDS": str(short)}) as running:
            assert running.wait() == 1
    assert running.said[-2].startswith(f"issue: 127.0.0.1:{server.port} refuses the credentials (")
    assert "they may have expired" in running.said[-1]


def test_a_password_that_was_changed_at_the_server_ends_it_after_some_tries(issue: Issue, tmp_path: Path) -> None:
    (folder := tmp_path / "password").mkdir()
    with nats_server(folder, more=user_and_password("bob", "first")) as server:
        url = f"nats://bob:first@127.0.0.1:{server.port}"
        make_streams(url, ack_wait=30)
        with subscribing(issue, url) as running:
            until(lambda: running.process.poll() is not None or _waits(url))
            server.reload(user_and_password("bob", "second"))
            assert running.wait() == 1
    assert gone(server.url) in running.said
    assert running.said[-2].startswith(f"issue: 127.0.0.1:{server.port} refuses the credentials (")
    assert len(running.said) <= 4


def _waits(url: str) -> bool:
    """Whether a subscriber waits for messages there."""
    return bool(patiently(url, "CONSUMER.INFO.ACT_TASKS.issue-core-ingest")["num_waiting"])


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_a_password_in_the_address_shows_up_nowhere(issue: Issue, tmp_path: Path) -> None:
    (folder := tmp_path.parent / f"{tmp_path.name}-nats").mkdir()
    password = "se/cret@pass%wörd"  # noqa: S105 - a test's own
    forms = [password.encode(), quote(password, safe="").encode(), b"se/cret", b"se%2Fcret"]
    with nats_server(folder, more=user_and_password("bob", password)) as server:
        url = f"nats://bob:{quote(password, safe='')}@127.0.0.1:{server.port}"
        make_streams(url, ack_wait=30)
        written = [_said_by(issue, url, "--until-empty", "--json")]
        with subscribing(issue, url, "--sync", "--metrics-port", "0") as running:
            until(lambda: running.process.poll() is not None or _waits(url))
            seen = Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
            server.stop()
            until(lambda: running.has_said(" is lost"))
            server.start()
            until(lambda: running.has_said("connected again"))
            seen += _get(_metrics_of(running))[1].encode()
            server.reload(user_and_password("bob", "another"))
            assert running.wait() == 1
        written += ["\n".join(running.said + running.out), _said_by(issue, url)]
        written.append(_said_by(issue, f"{url}x"))
    kept = [file.read_bytes() for file in issue.folder.rglob("*") if file.is_file()]
    assert any(b"SQLite format 3" in each for each in kept)
    for where in (seen, *map(str.encode, written), *kept):
        assert [form for form in forms if form in where] == []


def _said_by(issue: Issue, url: str, *words: str) -> str:
    ran = issue.run("subscribe", "--nats-url", url, *words)
    return ran.stdout + ran.stderr


# --- what can be seen of it ------------------------------------------------------------------------------------------


def test_its_metrics_tell_how_it_stands_while_the_server_goes_and_comes(issue: Issue, server: NatsServer) -> None:
    with subscribing(issue, server.url, "--metrics-port", "0") as running:
        base = _metrics_of(running)
        until(lambda: _shows(base, 'issue_core_nats_lag{stream="ACT_TASKS",consumer="issue-core-ingest"} 0'))
        put(server, a_spec(1), a_spec(2), a_spec(1), b"no task")
        until(lambda: _shows(base, 'issue_core_received_total{transport="nats",outcome="invalid"} 1'))
        assert _shows(base, 'issue_core_received_total{transport="nats",outcome="created"} 2')
        assert _shows(base, "issue_core_nats_connected 1")
        assert _shows(base, "issue_core_nats_last_message_timestamp_seconds 1")
        assert [_get(base.replace("metrics", path))[0] for path in ("readyz", "healthz")] == [200, 200]
        server.stop()
        until(lambda: _shows(base, "issue_core_nats_connected 0"))
        assert [_get(base.replace("metrics", path))[0] for path in ("readyz", "healthz")] == [503, 200]
        server.start()
        until(lambda: _shows(base, "issue_core_nats_connected 1"))
        assert _shows(base, "issue_core_nats_reconnects_total 1")
        host, port = base.removeprefix("http://").removesuffix("/metrics").split(":")
        with socket.create_connection((host, int(port))) as slow:  # and who asks slowly keeps nobody from ending
            slow.sendall(b"GET /metrics HTTP/1.1\r\n")
            assert running.stop() == 0


def test_a_port_for_metrics_that_is_taken_ends_it_before_anything_is_pulled(issue: Issue, server: NatsServer) -> None:
    put(server, a_spec(1))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = issue.run("subscribe", "--nats-url", server.url, "--metrics-port", str(port))
    assert (ran.code, ran.stderr.splitlines()) == (
        1,
        [
            f"issue: cannot listen on 127.0.0.1 port {port}: Address already in use",
            "hint: Another program may have it: name another with --metrics-port, or 0 for any that is free.",
        ],
    )
    assert standing(server.url).pending == 1


def _metrics_of(running: Subscriber) -> str:
    """The URL of its metrics, as it said it."""
    until(lambda: running.has_said("metrics at "))
    return next(line.removeprefix("metrics at ") for line in running.said if line.startswith("metrics at "))


def _shows(url: str, sample: str) -> bool:
    return any(line.startswith(sample) for line in _get(url)[1].splitlines())


def _get(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - of our own
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
