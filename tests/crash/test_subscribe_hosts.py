"""Many hosts on one consumer, killed at any moment, their acknowledgements lost: every event is one issue.

Three hosts subscribe and sync. On two others the same events come by the command line and over HTTP. Each has a ledger
of its own, and all feed one tracker, which sees in what was made whether the claims hold.

The consumer delivers as often as it must. With five deliveries at most, which is right for every other use, events
that are stored long ago would become dead letters here: most answers to their deliveries are lost on purpose.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Issue, a_spec, ndjson
from tests.support.nats_proxy import Moods, NatsProxy, nats_proxy
from tests.support.nats_server import (
    NOTHING_LEFT,
    NatsServer,
    deliveries,
    make_streams,
    nats_cluster,
    nats_server,
    patiently,
    publish,
    standing,
    urls,
)
from tests.support.ports import free_port
from tests.support.runs import kill_seed, nothing_is_open
from tests.support.supervised import Supervised, supervised
from tests.support.trackers import fake
from tests.support.trackers.server import TOKEN_VARIABLE, TrackerServer
from tests.sync_engine.rig import read

ACK_WAIT = 1.0
FOR_EVER = -1

WATCH = ("sync", "--watch", "1")

PATIENCE = 400.0
"""Seconds after the last kill in which all must be done, on a slow machine."""

SYNC = """
[sync]
request_timeout = 1
lease = 4
backoff = [0.01, 0.1]
max_attempts = 100000
"""

PACE = {
    "max_in_flight": 4,
    "min_interval": 0,
    "per_minute": 0,
    "per_hour": 0,
    "settle": 0.3,
    "looks": 1,
    "look_interval": 0.1,
}


TASK = "SELECT seq, state, in_doubt_since, next_attempt_at, last_error FROM tasks WHERE event_id = ?"
STORY = "SELECT at, kind, detail FROM history WHERE seq = ? ORDER BY n"


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much comes: ``events``, ``repeats`` of some of them through NATS, and so many ``kills`` of hosts meanwhile.

    ``contested`` of the events come with one content through NATS, and with another on the other hosts. ``chaos`` is
    the share of the requests to the tracker that meet a fault: a small one where whoever is in doubt has many pages of
    issues to read. ``all_at_last``: all hosts die once more when everything has come, so that what waits for half a
    minute, as it does where claims could not be asked, is at work again at once.
    """

    events: int
    repeats: int
    kills: int
    server_kills: int = 0
    contested: int = 0
    chaos: float = 0.1
    all_at_last: bool = False


@dataclass(slots=True)
class Site:
    """The servers, the proxies before them, the tracker and the hosts. ``port`` is where the one with HTTP listens."""

    folder: Path
    servers: Sequence[NatsServer]
    proxies: Sequence[NatsProxy]
    tracker: TrackerServer
    dice: random.Random
    hosts: list[Supervised]
    port: int

    @property
    def url(self) -> str:
        """Where the servers listen themselves."""
        return urls(self.servers)

    def look(self, seconds: float) -> None:
        """Keep all hosts running for so long."""
        over, never = time.monotonic() + seconds, threading.Event()
        while time.monotonic() < over:
            for host in self.hosts:
                host.look()
            never.wait(0.02)

    def kill_one(self) -> None:
        """Kill a host that runs."""
        while not self.dice.choice(self.hosts).kill():
            self.look(0.05)

    def kill_a_server(self) -> None:
        """Kill one of the servers, and start it again some time later."""
        server = self.dice.choice(self.servers)
        server.kill()
        self.look(self.dice.uniform(0, 2))
        server.start()

    def states(self) -> dict[str, Counter[str]]:
        """Of each event, how many ledgers have it in which state."""
        found: dict[str, Counter[str]] = {}
        for host in (each for each in self.hosts if each.issue.path.exists()):
            for event_id, state in read(host.issue.path, "SELECT event_id, state FROM tasks"):
                found.setdefault(event_id, Counter())[state] += 1
        return found

    def is_done(self, events: int) -> bool:
        """Whether nothing is left to do anywhere."""
        if self.hosts[-1].words != WATCH:
            return False
        states = self.states()
        is_settled = all(each.keys() <= {"synced", "elsewhere"} for each in states.values())
        return len(states) == events and is_settled and standing(self.url) == NOTHING_LEFT

    def said(self) -> str:
        """The ends of what the hosts wrote."""
        return "\n".join(f"--- {host.log.name}\n{host.said[-1500:]}" for host in self.hosts)


@contextmanager
def _site(folder: Path, servers: Sequence[NatsServer], chaos: float, moods: Moods) -> Iterator[Site]:
    seed, port = kill_seed(), free_port()
    with ExitStack() as stack:
        stack.enter_context(tracker := fake("gitea"))
        tracker.chaos(chaos, seed)
        proxies = [stack.enter_context(nats_proxy(server, seed, moods)) for server in servers]
        where = f'[nats]\nurl = "{",".join(each.url for each in proxies)}"\n'
        config = f'default_backend = "work"\n{SYNC}\n{tracker.toml("work", **PACE)}\n{where}'
        issues = [_issue(folder / f"host-{n}", config + ("" if n < 3 else "claims = true\n")) for n in range(5)]
        hosts = [_host(issue, "subscribe", "--sync", "--batch", "8") for issue in issues[:3]]
        hosts += [_host(issues[3], "serve", "--no-auth", "--port", str(port), "--sync")]
        hosts += [Supervised(issues[4], iter(()), issues[4].folder / "log", _options(issues[4]))]
        try:
            yield Site(folder, servers, proxies, tracker, random.Random(seed), hosts, port)
        finally:
            for host in hosts:
                host.kill()


def _issue(folder: Path, config: str) -> Issue:
    folder.mkdir()
    (folder / "config.toml").write_text(config)
    return Issue(folder)


def _host(issue: Issue, *words: str) -> Supervised:
    return supervised(issue, *words, log=issue.folder / "log", **_options(issue))


def _options(issue: Issue) -> dict[str, Any]:
    return {"env": issue.environment | {TOKEN_VARIABLE: TrackerServer.token}}


def _by_command(site: Site, specs: Sequence[dict[str, Any]], portions: int) -> None:
    """The last host takes them from files, with a pass of sync behind each; then it syncs again and again."""
    host, size = site.hosts[-1], -(-len(specs) // portions)
    files = [host.issue.folder / f"portion-{n}" for n in range(portions)]
    for n, file in enumerate(files):
        file.write_text(ndjson(*specs[n * size : (n + 1) * size]))
    each = (words for file in files for words in (("ingest", str(file)), ("sync", "--wait")))
    host.commands = chain(each, repeat(WATCH))


def _by_http(port: int, specs: Sequence[dict[str, Any]], stop: threading.Event) -> None:
    """Each is posted until there is an answer that says that it is stored, or among the rejects."""
    for spec in specs:
        while not _is_posted(port, json.dumps(spec)) and not stop.wait(0.05):
            pass


def _is_posted(port: int, body: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/issues/", body, {"Content-Type": "application/json"})
        return connection.getresponse().status in (200, 201, 409)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def _other_ways(site: Site, specs: list[dict[str, Any]], contested: int, portions: int) -> Iterator[None]:
    """Two thirds of the events come by the command line, and two thirds over HTTP, while the block runs.

    The first ``contested`` come both ways.
    """
    by_command, by_http = (
        site.dice.sample(some, len(some))
        for some in (specs[:contested] + site.dice.sample(specs[contested:], 2 * len(specs) // 3) for _ in range(2))
    )
    _by_command(site, by_command, portions)
    stop = threading.Event()
    posting = threading.Thread(target=_by_http, args=(site.port, by_http, stop))
    posting.start()
    try:
        yield
        over = time.monotonic() + PATIENCE
        while posting.is_alive() and time.monotonic() < over:
            site.look(0.1)
    finally:
        stop.set()
        posting.join()


def _all_comes_and_hosts_die(site: Site, amounts: Amounts) -> None:
    specs = [a_spec(n, description="x" * (n * 37 % 1500)) for n in range(amounts.events)]
    others = [spec | ({"title": "Another"} if n < amounts.contested else {}) for n, spec in enumerate(specs)]
    make_streams(site.url, ack_wait=ACK_WAIT, max_deliver=FOR_EVER, replicas=len(site.servers), claims=True)
    messages = specs + site.dice.choices(specs, k=amounts.repeats)
    site.dice.shuffle(messages)
    size = -(-len(messages) // amounts.kills)
    with_a_server = set(site.dice.sample(range(amounts.kills), amounts.server_kills))
    with _other_ways(site, others, amounts.contested, portions=max(2, amounts.kills // 4)):
        site.look(0.5)
        for n in range(amounts.kills):
            publish(site.url, messages[n * size : (n + 1) * size])
            site.look(site.dice.uniform(0, 0.8))
            site.kill_one()
            if n in with_a_server:
                site.kill_a_server()
    if amounts.all_at_last:
        patiently(site.url, "STREAM.INFO.KV_ACT_TASKS_CLAIMS")
        for host in site.hosts:
            host.kill()
    site.look(0.5)
    over = time.monotonic() + PATIENCE
    while not site.is_done(amounts.events):
        if time.monotonic() > over:
            pytest.fail(_unfinished(site))
        site.look(0.2)
    for host in site.hosts:
        assert host.stop() in (0, -signal.SIGTERM), host.said[-2000:]  # the latter where it has only just begun


def _unfinished(site: Site) -> str:
    """What of the first tasks that are not done, with all that happened to their events on every host."""
    undone = [event for event, each in site.states().items() if not each.keys() <= {"synced", "elsewhere"}]
    lines = [f"{len(undone)} events are not done; {standing(site.url)}"]
    for event in undone[:3]:
        for host in site.hosts:
            for seq, *task in read(host.issue.path, TASK, event):
                lines += [f"{event} {host.issue.folder.name}: {task}", *map(str, read(host.issue.path, STORY, seq))]
    return "\n".join([*lines, site.said()])


def _each_event_is_one_issue(site: Site, amounts: Amounts) -> None:
    events = {a_spec(n)["triggering_event_id"] for n in range(amounts.events)}
    issues = Counter(site.tracker.event_ids())
    doubles = {event for event, n in issues.items() if n > 1}
    assert not doubles, f"{len(doubles)} of {len(events)} events have more than one issue"
    assert issues.keys() == events
    states = site.states()
    assert states.keys() == events
    assert all(each["synced"] == 1 for each in states.values())
    for host in site.hosts:
        nothing_is_open(host.issue.path)
        assert read(host.issue.path, "SELECT * FROM history WHERE kind = 'contested'") == []
        assert read(host.issue.path, "PRAGMA integrity_check") == [("ok",)]
        assert host.said.count("Traceback") == 0, host.said[-3000:]


def _it_was_not_for_nothing(site: Site, amounts: Amounts) -> None:
    """Things went wrong, as they should."""
    delivered, lost = deliveries(site.url), sum(each.dropped for each in site.proxies)
    elsewhere = sum(each["elsewhere"] for each in site.states().values())
    cuts, kills = sum(each.cut for each in site.proxies), {host.log.parent.name: host.kills for host in site.hosts}
    print(f"{delivered} deliveries, {lost} acknowledgements lost, {cuts} cuts, {elsewhere} elsewhere, killed: {kills}")
    assert sum(kills.values()) >= amounts.kills
    assert delivered > amounts.events + amounts.repeats
    assert lost
    assert elsewhere


def _holds(folder: Path, servers: Sequence[NatsServer], amounts: Amounts, moods: Moods) -> None:
    with _site(folder, servers, amounts.chaos, moods) as site:
        _all_comes_and_hosts_die(site, amounts)
        _each_event_is_one_issue(site, amounts)
        _it_was_not_for_nothing(site, amounts)
        _no_content_is_lost(site, amounts)


def _no_content_is_lost(site: Site, amounts: Amounts) -> None:
    """Of two contents of one event, one is the issue's, and the other lies among some host's rejects."""
    titles = {event: made.title for event, made in zip(site.tracker.event_ids(), site.tracker.issues, strict=True)}
    rejects = [
        (event_id, kind, json.loads(raw)["title"])
        for host in site.hosts
        for event_id, kind, raw in read(host.issue.path, "SELECT event_id, kind, raw FROM rejects")
    ]
    assert {kind for _, kind, _ in rejects} <= {"elsewhere", "conflict"}
    refused: dict[str, set[str]] = {}
    for event_id, _, title in rejects:
        refused.setdefault(event_id, set()).add(title)
    contested = {a_spec(n)["triggering_event_id"]: {a_spec(n)["title"], "Another"} for n in range(amounts.contested)}
    assert {event: {titles[event]} | refused.get(event, set()) for event in contested} == contested
    assert all(len(refused[event]) == 1 for event in contested)
    assert refused.keys() == contested.keys()


LOSSES = Moods(lost=0.3, lost_asked=0.01)
MORE = Moods(lost=0.3, lost_asked=0.005, cuts=0.0005, slow=0.001)


def test_each_event_is_one_issue_though_three_hosts_share_a_consumer_and_two_others_have_it_too(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        _holds(tmp_path, [server], Amounts(150, 15, 6, contested=10, all_at_last=True), LOSSES)


@pytest.mark.long
def test_so_it_is_where_one_of_three_servers_is_killed(tmp_path: Path) -> None:
    with nats_cluster(tmp_path, advertise=False) as servers:
        _holds(tmp_path, servers, Amounts(100, 10, 4, server_kills=1, all_at_last=True), LOSSES)


@pytest.mark.long
def test_each_of_many_events_is_one_issue_however_often_hosts_die(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        _holds(tmp_path, [server], Amounts(3_000, 300, 60, server_kills=2, contested=100, chaos=0.005), MORE)


@pytest.mark.long
def test_so_it_is_where_one_of_three_servers_is_killed_again_and_again(tmp_path: Path) -> None:
    with nats_cluster(tmp_path, advertise=False) as servers:
        _holds(tmp_path, servers, Amounts(3_000, 300, 40, server_kills=10, contested=100, chaos=0.005), MORE)
