"""What is missing is made, what differs is shown, and nothing that exists is changed unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import ConsumerConfig, StreamConfig

from issue_core.cli.nats import _words
from issue_core.config import NatsSettings
from issue_core.transports.nats.connection import Link
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.status import Status
from issue_core.transports.nats.streams import inspect
from issue_core.transports.nats.wanted import Wanted, all_wanted
from tests.support.cli import Issue, Ran
from tests.support.nats_server import NatsServer, nats_cluster, nats_server, urls
from tests.transports.nats.conftest import with_link

ADVISORY = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.ACT_TASKS.issue-core-ingest"
WANTED = {
    f"{each.kind} {each.name}": each for each in all_wanted(NatsSettings(), replicas=None, claims=True, claims_ttl=None)
}
TASKS, DEAD, CONSUMER, CLAIMS = WANTED.values()
SECOND = 10**9


def setup(issue: Issue, server: NatsServer, *words: str) -> Ran:
    return issue.call("nats", "setup", "--nats-url", server.url, *words)


def config(server: NatsServer, wanted: Wanted) -> dict[str, Any]:
    """Its settings as the server has them."""
    verb = "CONSUMER.INFO" if wanted.kind == "consumer" else "STREAM.INFO"
    behind = f".{wanted.name}" if wanted.kind == "consumer" else ""

    async def asked(link: Link) -> dict[str, Any]:
        return dict((await ask(link, f"{verb}.{wanted.stream}{behind}"))["config"])

    return with_link(server, asked)


def change(server: NatsServer, wanted: Wanted, **changes: Any) -> None:
    """Give it other settings, made anew if the server cannot change them."""
    settings = {name: value for name, value in (config(server, wanted) | changes).items() if value is not None}
    settings["metadata"] = {}
    if "deliver_subject" in changes:
        del settings["max_waiting"]  # one that pushes has none
    consumer = config(server, CONSUMER) if wanted is TASKS else None

    async def body(link: Link) -> None:
        if wanted.kind == "consumer":
            await ask(link, f"CONSUMER.DELETE.{wanted.stream}.{wanted.name}")
            body = {"stream_name": wanted.stream, "config": settings}
            await ask(link, f"CONSUMER.DURABLE.CREATE.{wanted.stream}.{wanted.name}", body)
            return
        await ask(link, f"STREAM.DELETE.{wanted.stream}")
        await ask(link, f"STREAM.CREATE.{wanted.stream}", settings)
        if consumer:  # the stream took it along
            body = {"stream_name": wanted.stream, "config": consumer}
            await ask(link, f"CONSUMER.DURABLE.CREATE.{wanted.stream}.issue-core-ingest", body)

    with_link(server, body)


def drift(ran: Ran) -> dict[str, tuple[Any, Any]]:
    """By kind, name and field: what was found, and what it should be."""
    return {
        f"{each['kind']} {each['name']} {one['field']}": (one["found"], one["wanted"])
        for each in ran.objects
        for one in each["drift"]
    }


def test_on_an_empty_server_all_is_made_as_it_must_be(issue: Issue, server: NatsServer) -> None:
    ran = setup(issue, server, "--claims")
    assert (ran.code, ran.stdout.splitlines()) == (0, [f"{name}: created" for name in WANTED])
    day = 86400 * SECOND
    common = {"retention": "limits", "storage": "file", "discard": "old", "num_replicas": 1}
    assert common.items() <= config(server, TASKS).items()
    own = {"subjects": ["act.tasks.>"], "max_age": 7 * day, "max_msg_size": 65536, "duplicate_window": 120 * SECOND}
    assert own.items() <= config(server, TASKS).items()
    own = {
        "subjects": ["act.dlq.>", ADVISORY],
        "max_age": 90 * day,
        "max_msg_size": 131072,
        "duplicate_window": 7 * day,
    }
    assert (common | own).items() <= config(server, DEAD).items()
    own = {"durable_name": "issue-core-ingest", "filter_subject": "act.tasks.create.>", "deliver_policy": "all"}
    own |= {"ack_policy": "explicit", "replay_policy": "instant", "ack_wait": 30 * SECOND, "max_deliver": 5}
    assert own.items() <= config(server, CONSUMER).items()


def test_the_bucket_is_one_that_clients_of_nats_can_use(issue: Issue, server: NatsServer) -> None:
    assert setup(issue, server, "--claims", "--claims-ttl", "400d").code == 0

    async def used(link: Link) -> tuple[int, bytes | None, float | None]:
        bucket = await link.client.jetstream().key_value("ACT_TASKS_CLAIMS")
        revision = await bucket.create("key", b"mine")
        return revision, (await bucket.get("key")).value, (await bucket.status()).ttl

    assert with_link(server, used) == (1, b"mine", 400 * 86400)


def test_a_second_time_nothing_is_done(issue: Issue, server: NatsServer) -> None:
    setup(issue, server, "--claims")
    before = [config(server, each) for each in WANTED.values()]
    ran = setup(issue, server, "--claims", "--apply")
    assert (ran.code, ran.stdout.splitlines()) == (0, [f"{name}: as it should be" for name in WANTED])
    assert [config(server, each) for each in WANTED.values()] == before


def test_the_bucket_is_made_only_when_it_is_asked_for(issue: Issue, server: NatsServer) -> None:
    assert len(setup(issue, server, "--json").objects) == 3
    environment = issue.environment  # makes the file
    Path(environment["ISSUE_CORE_CONFIG"]).write_text("[nats]\nclaims = true\n")
    assert [each["result"] for each in setup(issue, server, "--json").objects] == ["unchanged"] * 3 + ["created"]


CHANGEABLE: list[tuple[Wanted, str, Any, Any, Any]] = [
    (TASKS, "max_age", 86400 * SECOND, "1d", "7d"),
    (TASKS, "max_age", 0, "unlimited", "7d"),
    (TASKS, "max_msg_size", -1, -1, 65536),
    (TASKS, "duplicate_window", 90 * SECOND + 1, "90s", "2m"),
    (TASKS, "discard", "new", "new", "old"),
    (TASKS, "no_ack", True, True, "unset"),
    (TASKS, "max_msgs_per_subject", 1, 1, -1),
    (TASKS, "subjects", ["act.tasks.create.>"], ["act.tasks.create.>"], ["act.tasks.>"]),
    (DEAD, "max_age", 8 * 86400 * SECOND, "8d", "90d"),
    (DEAD, "duplicate_window", 3600 * SECOND, "1h", "7d"),
    (DEAD, "subjects", ["act.dlq.>"], ["act.dlq.>"], ["act.dlq.>", ADVISORY]),
    (CONSUMER, "ack_wait", 5 * SECOND, "5s", "30s"),
    (CONSUMER, "max_deliver", -1, -1, 5),
    (CONSUMER, "filter_subject", "act.tasks.create.a", ["act.tasks.create.a"], "act.tasks.create.>"),
    (CONSUMER, "filter_subject", None, [], "act.tasks.create.>"),
    (CONSUMER, "headers_only", True, True, "unset"),
    (CLAIMS, "allow_direct", True, True, "unset"),
    (CLAIMS, "discard", "old", "old", "new"),
]


@pytest.mark.parametrize(("wanted", "field", "value", "found", "should"), CHANGEABLE)
def test_a_setting_that_differs_is_shown_and_changed_only_with_apply(
    issue: Issue, server: NatsServer, wanted: Wanted, field: str, value: Any, found: Any, should: Any
) -> None:
    setup(issue, server, "--claims")
    change(server, wanted, **{field: value})
    before = config(server, wanted)
    ran = setup(issue, server, "--claims", "--json")
    assert (ran.code, drift(ran)) == (3, {f"{wanted.kind} {wanted.name} {field}": (found, should)})
    assert config(server, wanted) == before
    ran = setup(issue, server, "--claims", "--json", "--apply")
    assert (ran.code, drift(ran)) == (0, {})
    assert [each["changed"] for each in ran.objects if each["name"] == wanted.name] == [[field]]
    assert setup(issue, server, "--claims").code == 0


FIXED: list[tuple[Wanted, str, Any, bool]] = [
    (TASKS, "storage", "memory", True),
    (TASKS, "retention", "workqueue", True),
    (DEAD, "storage", "memory", True),
    (CONSUMER, "ack_policy", "none", True),
    (CONSUMER, "ack_policy", "all", True),
    (CONSUMER, "deliver_policy", "new", True),
    (CONSUMER, "replay_policy", "original", False),
    (CONSUMER, "deliver_subject", "push.here", True),
    (CLAIMS, "storage", "memory", True),
]


@pytest.mark.parametrize(("wanted", "field", "value", "loses"), FIXED)
def test_what_cannot_be_changed_is_told_with_how_to_mend_it(
    issue: Issue, server: NatsServer, wanted: Wanted, field: str, value: Any, loses: bool
) -> None:
    setup(issue, server, "--claims")
    more = {"max_deliver": None, "ack_wait": None} if value == "none" else {}
    change(server, wanted, **{field: value}, **more)
    before = config(server, wanted)
    ran = setup(issue, server, "--claims", "--apply")
    assert ran.code == 3
    [line] = [each for each in ran.stdout.splitlines() if f": {field} is {value}, should be " in each]
    assert line.startswith(f"{wanted.kind} {wanted.name}: ")
    assert "it cannot be changed: " in line
    assert f" rm {wanted.stream}" in line
    assert (" and loses messages: " in line) == loses
    assert config(server, wanted)[field] == before[field]


def test_a_change_keeps_every_setting_that_is_not_ours(issue: Issue, server: NatsServer) -> None:
    setup(issue, server)
    change(
        server, TASKS, max_age=86400 * SECOND, max_bytes=10**9, description="mine", subjects=["act.tasks.>", "other"]
    )
    setup(issue, server, "--apply")
    kept = {
        "max_bytes": 10**9,
        "description": "mine",
        "subjects": ["act.tasks.>", "other"],
        "max_age": 7 * 86400 * SECOND,
    }
    assert kept.items() <= config(server, TASKS).items()


def test_a_consumer_is_changed_without_losing_what_the_client_library_does_not_know(
    issue: Issue, server: NatsServer
) -> None:
    setup(issue, server)
    change(server, CONSUMER, max_deliver=3, max_ack_pending=77, priority_groups=["g"], priority_policy="overflow")
    ran = setup(issue, server, "--json")
    fields = {"max_deliver": (3, 5), "priority_policy": ("overflow", "unset")}
    assert drift(ran) == {f"consumer issue-core-ingest {name}": pair for name, pair in fields.items()}
    assert setup(issue, server, "--apply").code == 0
    after = config(server, CONSUMER)
    assert (after["max_ack_pending"], after["max_deliver"], after.get("priority_groups")) == (77, 5, None)


def test_a_consumer_with_several_filters_is_shown_them(issue: Issue, server: NatsServer) -> None:
    setup(issue, server)
    filters = ["act.tasks.create.a", "act.tasks.create.b"]
    change(server, CONSUMER, filter_subject=None, filter_subjects=filters)
    ran = setup(issue, server, "--json")
    assert drift(ran) == {"consumer issue-core-ingest filter_subject": (filters, "act.tasks.create.>")}
    assert setup(issue, server, "--apply").code == 0


def test_a_filter_that_gets_nothing_is_refused(issue: Issue, server: NatsServer) -> None:
    ran = setup(issue, server, "--filter", "act.task.create.>")
    assert ran.code == 2
    assert "gets nothing" in ran.stderr


def test_other_names_make_other_streams(issue: Issue, server: NatsServer) -> None:
    words = ("--stream", "MINE", "--durable", "me", "--filter", "act.tasks.create.acme/*")
    assert setup(issue, server, *words).stdout.splitlines() == [
        "stream MINE: created",
        "stream MINE_DLQ: created",
        "consumer me: created",
    ]


def test_a_stream_that_has_the_subjects_already_is_told(issue: Issue, server: NatsServer) -> None:
    async def other(link: Link) -> None:
        await link.client.jetstream().add_stream(StreamConfig(name="OTHER", subjects=["act.>"]))

    with_link(server, other)
    ran = setup(issue, server)
    assert ran.code == 1
    assert "subjects overlap with an existing stream (10065)" in ran.stderr
    assert "nats stream ls --subjects" in ran.stderr


def test_more_replicas_than_there_are_servers_is_told(issue: Issue, server: NatsServer) -> None:
    ran = setup(issue, server, "--replicas", "3")
    assert ran.code == 1
    assert "(10074)" in ran.stderr
    assert "--replicas 1" in ran.stderr


def test_a_live_consumer_is_never_made_anew(issue: Issue, server: NatsServer) -> None:
    """Nor is one that was made, with other settings, in the moment between the look and the making."""
    setup(issue, server)

    async def raced(link: Link) -> Any:
        from issue_core.transports.nats.streams import _create

        await link.client.jetstream().add_consumer(
            "ACT_TASKS", ConsumerConfig(durable_name="issue-core-ingest", ack_wait=5)
        )
        await _create(link, CONSUMER)

    with pytest.raises(Exception, match="consumer already exists"):
        with_link(server, raced)
    assert config(server, CONSUMER)["ack_wait"] == 5 * SECOND


def test_what_is_missing_is_told_when_it_is_only_looked_at(server: NatsServer) -> None:
    async def looked(link: Link) -> list[str]:
        return [(await inspect(link, each)).result for each in WANTED.values()]

    assert with_link(server, looked) == ["missing"] * 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NatsServer]]:
    """Three servers that are one."""
    with nats_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


def test_in_a_cluster_there_are_as_many_replicas_as_asked_for(issue: Issue, cluster: list[NatsServer]) -> None:
    where = ("nats", "setup", "--nats-url", urls(cluster), "--claims")
    assert issue.call(*where).code == 0
    ran = issue.call(*where, "--replicas", "3", "--json")
    assert ran.code == 3
    assert set(drift(ran)) == {f"{name} num_replicas" for name in WANTED if not name.startswith("consumer")}
    assert issue.call(*where, "--replicas", "3", "--apply").code == 0
    assert config(cluster[0], TASKS)["num_replicas"] == 3
    assert issue.call(*where).code == 0
    ran = issue.call(*where, "--replicas", "5", "--apply")
    assert (ran.code, "fewer --replicas" in ran.stderr) == (1, True)


def test_status_counts_what_waits_what_is_under_way_and_what_is_reserved(issue: Issue, server: NatsServer) -> None:
    setup(issue, server, "--claims")

    async def filled(link: Link) -> None:
        js = link.client.jetstream()
        for n in range(5):
            await js.publish(f"act.tasks.create.r{n}", b"{}")
        for subject in ("act.tasks.update.a", "act.tasks.update.b", "act.tasks.close.a", "act.dlq.create.a"):
            await js.publish(subject, b"{}")
        subscription = await js.pull_subscribe_bind(stream="ACT_TASKS", durable="issue-core-ingest")
        first, *_ = await subscription.fetch(3, timeout=5)
        await first.ack_sync()
        await subscription.unsubscribe()

    with_link(server, filled)
    [found] = issue.call("nats", "status", "--nats-url", server.url, "--json").objects
    counted: dict[str, Any] = {
        "messages": 8,
        "lag": 2,
        "in_flight": 2,
        "redelivered": 0,
        "dead_letters": 1,
        "expired_unread": 0,
    }
    counted |= {"reserved": {"update": 2, "close": 1}, "claims": 0, "replicas": 1, "stream": "ACT_TASKS"}
    assert counted.items() <= found.items()
    ran = issue.call("nats", "status", "--nats-url", server.url)
    assert ["lag", "2"] in ran.rows
    assert ["reserved_update", "2"] in ran.rows
    assert json.dumps(found["server"]) == f'"127.0.0.1:{server.port}"'


def test_status_counts_what_expired_before_it_was_read(issue: Issue, server: NatsServer) -> None:
    setup(issue, server)

    async def expired(link: Link) -> None:
        js = link.client.jetstream()
        for n in range(5):
            await js.publish("act.tasks.create.r", str(n).encode())
        subscription = await js.pull_subscribe_bind(stream="ACT_TASKS", durable="issue-core-ingest")
        for message in await subscription.fetch(2, timeout=5):
            await message.ack_sync()
        await subscription.unsubscribe()
        settings = (await ask(link, "STREAM.INFO.ACT_TASKS"))["config"]
        await ask(
            link, "STREAM.UPDATE.ACT_TASKS", settings | {"max_age": SECOND // 10, "duplicate_window": SECOND // 10}
        )
        while (await ask(link, "STREAM.INFO.ACT_TASKS"))["state"]["messages"]:
            await link.client.flush()

    with_link(server, expired)
    [found] = issue.call("nats", "status", "--nats-url", server.url, "--json").objects
    assert (found["expired_unread"], found["lag"], found["claims"]) == (3, 0, None)


def test_status_for_people_names_only_what_there_is() -> None:
    quiet = Status("h:1", "S", "c", 1200, 1, 1, 1200, 3, 1100, 7, 2, 0, 0, 0, {"update": 0, "close": 0}, None)
    assert list(_words(quiet)) == [
        "S at h:1: 1,200 messages, 3 replicas",
        "c: 1,100 waiting, 7 in flight, 2 redelivered",
        "dead letters: 0",
    ]
    busy = replace(quiet, replicas=1, expired_unread=5, reserved={"update": 2, "close": 0}, claims=1000)
    assert list(_words(busy)) == [
        "S at h:1: 1,200 messages, 1 replica",
        "c: 1,100 waiting, 7 in flight, 2 redelivered",
        "dead letters: 0",
        "expired before they were read: 5 at most",
        "update: 2 with this reserved verb, left as they are",
        "claims: 1,000",
    ]


def test_status_without_streams_says_how_to_make_them(issue: Issue, server: NatsServer) -> None:
    ran = issue.call("nats", "status", "--nats-url", server.url)
    assert ran.code == 1
    assert "there is no stream ACT_TASKS" in ran.stderr
    assert "issue nats setup" in ran.stderr


def test_a_server_that_is_not_there_ends_the_command_with_what_to_do(issue: Issue, tmp_path: Path) -> None:
    ran = issue.call("nats", "status", "--nats-url", "nats://bob:s3cr3t@127.0.0.1:1")
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.stderr == (
        "issue: nats://127.0.0.1:1 cannot be reached: nothing listens there\n"
        "hint: check the address (--nats-url, NATS_URL, nats.url) and that the server is up\n"
    )


def test_the_right_to_ask_that_is_missing_is_told(issue: Issue, tmp_path: Path) -> None:
    rights = 'authorization { users: [ { user: "bob", password: "x", permissions: { publish: "act.tasks.>" } } ] }'
    with nats_server(tmp_path, more=rights) as server:
        ran = issue.call("nats", "setup", "--nats-url", server.url.replace("//", "//bob:x@"))
    assert ran.code == 1
    assert "does not allow it: permissions violation for publish to" in ran.stderr
