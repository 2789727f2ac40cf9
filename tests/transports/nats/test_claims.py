"""Several hosts share one consumer: each task is made an issue by the one that has claimed it, and by no other."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from issue_core import ingest
from issue_core.config import NatsSettings
from issue_core.errors import NatsError, NatsMissing
from issue_core.ledger import Ledger, claims, rejects
from issue_core.transports.nats.claims import Bucket, Claim
from issue_core.transports.nats.connection import Link
from issue_core.transports.nats.holding import join, settle_held
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.releasing import Release
from issue_core.transports.nats.streams import set_up
from issue_core.transports.nats.wanted import bucket as wanted_bucket
from tests.support.cli import Issue, a_spec, ndjson
from tests.support.nats_server import NatsServer, nats_cluster, nats_server, until, urls
from tests.transports.nats.conftest import with_link
from tests.transports.nats.subscribing import (
    command,
    info,
    is_done,
    make,
    put,
    subscribing,
    take_without_an_answer,
    tasks,
)

BUCKET = "ACT_TASKS_CLAIMS"


@pytest.fixture
def other(tmp_path: Path) -> Issue:
    """Another host."""
    folder = tmp_path / "other"
    folder.mkdir()
    return Issue(folder)


def held(issue: Issue, *numbers: int, **changes: Any) -> list[claims.Claimable]:
    """Tasks in a marked ledger, which wait for their claim."""
    with Ledger(issue.path, claims=True) as ledger:
        ingest(ledger, [json.dumps(a_spec(n, **changes)) for n in numbers])
        return [task for page in claims.held_pages(ledger) for task in page]


def us(issue: Issue) -> claims.Identity:
    with issue.ledger as ledger, ledger.read() as connection:
        found = claims.identity(connection)
    assert found
    return found


def states(issue: Issue) -> list[str]:
    return [task["state"] for task in tasks(issue)]


def kinds(issue: Issue) -> list[str]:
    with issue.ledger as ledger, ledger.read() as connection:
        return [each.kind for each in rejects.page(connection, state=None, limit=10)]


def settle(server: NatsServer, issue: Issue) -> None:
    """Settle what the ledger holds."""

    async def settled(link: Link) -> None:
        with issue.ledger as ledger:
            bucket = await join(link, NatsSettings(), ledger, asyncio.Event())
            if bucket:
                await settle_held(bucket, ledger, asyncio.Event())

    with_link(server, settled)


def in_bucket(server: NatsServer, work: Callable[[Bucket], Any], me: claims.Identity) -> Any:
    return with_link(server, lambda link: work(Bucket(link, BUCKET, me)))


def write_claim(server: NatsServer, key: str, value: bytes) -> None:
    async def written(link: Link) -> None:
        await link.client.jetstream().publish(f"$KV.{BUCKET}.{key}", value)

    with_link(server, written)


def remove_bucket(server: NatsServer) -> None:
    with_link(server, lambda link: ask(link, f"STREAM.DELETE.KV_{BUCKET}"))


def make_bucket(server: NatsServer) -> None:
    with_link(server, lambda link: set_up(link, wanted_bucket(NatsSettings()), apply=False))


# --- the bucket ------------------------------------------------------------------------------------------------------


def test_the_first_one_has_the_claim_and_all_are_told_so(issue: Issue, other: Issue, server: NatsServer) -> None:
    make(server, claims=True)
    ours, theirs = held(issue, *range(600)), held(other, *range(600))
    first = in_bucket(server, lambda bucket: bucket.claim(ours), us(issue))
    again = in_bucket(server, lambda bucket: bucket.claim(ours), us(issue))
    others = in_bucket(server, lambda bucket: bucket.claim(theirs), us(other))
    assert first == again == others == [Claim(us(issue).own, each.digest.hex()) for each in ours]


def test_of_many_at_once_one_has_each_claim(issue: Issue, other: Issue, server: NatsServer) -> None:
    make(server, claims=True)
    held(issue, 0), held(other, 0)
    wanted = held(issue, *range(300))

    async def race(link: Link) -> list[list[Claim]]:
        racers = [Bucket(link, BUCKET, us(each)) for each in (issue, other)]
        return list(await asyncio.gather(*(each.claim(wanted) for each in racers)))

    one, two = with_link(server, race)
    assert one == two
    assert {claim.ledger for claim in one} <= {us(issue).own, us(other).own}


def test_a_claim_that_a_person_removed_or_wrote_by_hand_is_taken(issue: Issue, server: NatsServer) -> None:
    make(server, claims=True)
    tasks = held(issue, 1, 2)
    write_claim(server, tasks[0].event_id, b"mine!")

    async def removed(link: Link) -> None:
        bucket = await link.client.jetstream().key_value(BUCKET)
        await bucket.put(tasks[1].event_id, b"{}")
        await bucket.delete(tasks[1].event_id)

    with_link(server, removed)
    claimed = in_bucket(server, lambda bucket: bucket.claim(tasks), us(issue))
    assert [claim.ledger for claim in claimed] == [us(issue).own] * 2


def test_a_bucket_that_is_full_takes_no_claim_and_says_so(issue: Issue, server: NatsServer) -> None:
    make(server)
    full = {"name": f"KV_{BUCKET}", "subjects": [f"$KV.{BUCKET}.>"], "max_bytes": 300, "discard": "new"}
    with_link(server, lambda link: ask(link, f"STREAM.CREATE.KV_{BUCKET}", full | {"max_msgs_per_subject": 1}))
    tasks = held(issue, *range(10))
    with pytest.raises(NatsError, match="takes no claims: maximum bytes exceeded"):
        in_bucket(server, lambda bucket: bucket.claim(tasks), us(issue))


def test_a_bucket_that_is_not_there_says_what_makes_it(issue: Issue, server: NatsServer) -> None:
    tasks = held(issue, 1)
    with pytest.raises(NatsMissing, match=BUCKET) as raised:
        in_bucket(server, lambda bucket: bucket.claim(tasks), us(issue))
    assert "issue nats setup --claims" in str(raised.value.hint)


def test_a_bucket_that_forgets_at_a_restart_is_not_used(issue: Issue, server: NatsServer) -> None:
    make(server)
    memory = {"name": f"KV_{BUCKET}", "subjects": [f"$KV.{BUCKET}.>"], "storage": "memory"}
    with_link(server, lambda link: ask(link, f"STREAM.CREATE.KV_{BUCKET}", memory))
    ran = command(issue, server, "--until-empty")
    assert ran.code == 2
    assert "the bucket ACT_TASKS_CLAIMS cannot be used: storage is memory, not file" in ran.stderr


@pytest.mark.parametrize("subject", [f"$JS.API.STREAM.INFO.KV_{BUCKET}", f"$KV.{BUCKET}.>"])
def test_a_user_without_a_right_to_the_bucket_takes_nothing_and_is_told(
    tmp_path: Path, issue: Issue, subject: str
) -> None:
    rights = json.dumps({"publish": {"deny": subject}})
    users = f"no_auth_user: bob\nauthorization {{ users: [ {{ user: bob, password: x, permissions: {rights} }} ] }}"
    with nats_server(tmp_path, more=users) as server:
        make(server)
        held(issue, 2)
        if subject.startswith("$KV"):
            make_bucket(server)
        put(server, a_spec(1))
        ran = command(issue, server, "--until-empty")
        assert info(server)["num_pending"] == 1
    assert ran.code == 1
    assert f'permissions violation for publish to "{subject.lower().rstrip(">")}' in ran.stderr.lower()


def test_a_bucket_that_forgets_too_soon_is_not_used(issue: Issue, server: NatsServer) -> None:
    assert issue.call("nats", "setup", "--nats-url", server.url, "--claims", "--claims-ttl", "10d").code == 2
    make(server)
    day = {"name": f"KV_{BUCKET}", "subjects": [f"$KV.{BUCKET}.>"], "discard": "new", "max_age": 86400 * 10**9}
    with_link(server, lambda link: ask(link, f"STREAM.CREATE.KV_{BUCKET}", day))
    ran = command(issue, server, "--until-empty")
    assert ran.code == 2
    assert "max_age is 1d, not 97d: who has forgotten a claim makes the issue again" in ran.stderr
    assert issue.call("nats", "setup", "--nats-url", server.url, "--claims", "--apply").code == 0
    assert command(issue, server, "--until-empty").code == 0


# --- settling --------------------------------------------------------------------------------------------------------


def test_what_two_hosts_hold_is_pending_with_one_and_elsewhere_with_the_other(
    issue: Issue, other: Issue, server: NatsServer
) -> None:
    make(server, claims=True)
    held(issue, 1, 2), held(other, 2, 3)
    settle(server, issue)
    settle(server, other)
    assert (states(issue), states(other)) == (["pending", "pending"], ["elsewhere", "pending"])
    assert kinds(other) == []


def test_another_content_elsewhere_is_a_reject_of_its_own_kind(issue: Issue, other: Issue, server: NatsServer) -> None:
    make(server, claims=True)
    held(issue, 1), held(other, 1, title="Another")
    settle(server, issue)
    settle(server, other)
    settle(server, other)
    assert (states(other), kinds(other)) == (["elsewhere"], ["elsewhere"])
    shown = other.call("rejects", "show", "1")
    assert us(issue).own in shown.stdout
    assert '"title": "Another"' in shown.stdout


def test_what_a_former_id_of_the_ledger_has_claimed_is_ours_and_in_doubt(issue: Issue, server: NatsServer) -> None:
    make(server, claims=True)
    wanted = held(issue, 1)
    in_bucket(server, lambda bucket: bucket.claim(wanted), us(issue))
    with issue.ledger as ledger, ledger.write() as tx:
        former = json.dumps([us(issue).own])
        tx.connection.execute("INSERT INTO meta VALUES ('former_ledger_ids', ?)", (former,))
        tx.connection.execute("UPDATE meta SET value = 'new' WHERE key = 'ledger_id'")
    settle(server, issue)
    assert states(issue) == ["pending"]
    assert [each["event_id"] for each in issue.call("list", "--in-doubt", "--json").objects] == [wanted[0].event_id]


def test_thousands_are_settled(issue: Issue, server: NatsServer) -> None:
    make(server, claims=True)
    held(issue, *range(3000))
    settle(server, issue)
    assert set(states(issue)) == {"pending"}


# --- the subscriber --------------------------------------------------------------------------------------------------


def test_a_host_that_sees_the_bucket_claims_what_it_takes(issue: Issue, other: Issue, server: NatsServer) -> None:
    make(server, claims=True)
    put(server, a_spec(1), b"{broken", a_spec(2), a_spec(1, title="Another"))
    ran = command(issue, server, "--until-empty", "--json")
    assert [(each["outcome"], each["state"]) for each in ran.objects] == [
        ("created", "pending"),
        ("invalid", None),
        ("created", "pending"),
        ("conflict", "pending"),
    ]
    assert us(issue).own in ran.stderr
    put(server, a_spec(1), a_spec(3))
    ran = command(other, server, "--until-empty", "--json")
    assert [(each["outcome"], each["state"]) for each in ran.objects] == [
        ("created", "elsewhere"),
        ("created", "pending"),
    ]
    assert is_done(server)


def test_what_came_another_way_before_is_held_and_settled_too(issue: Issue, other: Issue, server: NatsServer) -> None:
    make(server, claims=True)
    for each in (issue, other):
        each.run("ingest", input=ndjson(a_spec(1)))
    put(server, a_spec(1))
    assert command(other, server, "--until-empty").code == 0
    assert command(issue, server, "--until-empty").code == 0
    assert (states(other), states(issue)) == (["pending"], ["elsewhere"])


def test_a_bucket_that_appears_is_seen(issue: Issue, server: NatsServer) -> None:
    make(server)
    with subscribing(issue, server) as running:
        put(server, a_spec(1))
        until(lambda: running.created == 1)
        make_bucket(server)
        until(lambda: any("claimed in the bucket" in text for text in running.said))
        put(server, a_spec(2))
        until(lambda: running.created == 2)
        until(lambda: states(issue) == ["pending", "pending"])
    assert [entry["kind"] for entry in issue.call("show", "1", "--json").objects[0]["history"]] == [
        "created",
        "held",
        "claimed",
    ]


def test_without_its_bucket_a_marked_ledger_takes_nothing_and_goes_on_when_it_is_back(
    issue: Issue, server: NatsServer
) -> None:
    make(server)
    held(issue, 1)
    put(server, a_spec(2))
    with subscribing(issue, server) as running:
        until(lambda: any("nobody takes claims" in text for text in running.said))
        assert (states(issue), info(server)["delivered"]["consumer_seq"]) == (["held"], 0)
        make_bucket(server)
        until(lambda: states(issue) == ["pending", "pending"])
        until(lambda: "NATS: tasks can be claimed again" in running.said)
    assert is_done(server)


def test_a_bucket_that_goes_while_a_batch_is_in_hand_uses_up_no_delivery(
    issue: Issue, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(server, claims=True, ack_wait=1.0)
    monkeypatch.setattr("issue_core.transports.nats.subscriber.KEEP_ALIVE", 0.2)
    gone = threading.Event()
    claim = Bucket.claim

    async def claim_without(self: Bucket, wanted: Any) -> list[Claim]:
        if not gone.is_set():
            gone.set()
            await asyncio.to_thread(remove_bucket, server)
        return await claim(self, wanted)

    monkeypatch.setattr(Bucket, "claim", claim_without)
    put(server, a_spec(1))
    with subscribing(issue, server) as running:
        until(lambda: any("nobody takes claims" in text for text in running.said))
        assert states(issue) == ["held"]
        assert (info(server)["num_ack_pending"], info(server)["num_redelivered"]) == (1, 0)
        make_bucket(server)
        until(lambda: running.created == 1)
    assert is_done(server)
    assert states(issue) == ["pending"]


def test_a_duplicate_of_what_is_held_is_claimed_before_it_is_acknowledged(issue: Issue, server: NatsServer) -> None:
    make(server, claims=True, ack_wait=0.5)
    put(server, a_spec(1))
    take_without_an_answer(server, 1)
    held(issue, 1)
    ran = command(issue, server, "--until-empty", "--json")
    assert [(each["outcome"], each["state"]) for each in ran.objects] == [("duplicate", "pending")]


def test_what_was_synced_before_the_ledger_was_marked_is_claimed_when_it_comes_again(
    issue: Issue, other: Issue, server: NatsServer
) -> None:
    make(server)
    put(server, a_spec(1))
    command(issue, server, "--until-empty")
    assert issue.call("sync").code == 0
    make_bucket(server)
    put(server, a_spec(1))
    assert command(issue, server, "--until-empty").code == 0
    put(server, a_spec(1))
    assert command(other, server, "--until-empty").code == 0
    assert (states(issue), states(other)) == (["synced"], ["elsewhere"])


def test_it_does_not_end_as_empty_while_something_is_held(issue: Issue, server: NatsServer) -> None:
    make(server)
    held(issue, 1)
    with subscribing(issue, server, until_empty=True, patience=1.0) as running:
        assert running.wait() == "stuck"
    make_bucket(server)
    with subscribing(issue, server, until_empty=True) as running:
        assert running.wait() == "empty"
    assert states(issue) == ["pending"]


def test_claims_hold_in_a_cluster_that_loses_a_server(tmp_path: Path, issue: Issue, other: Issue) -> None:
    with nats_cluster(tmp_path) as servers:
        settings = NatsSettings(url=urls(servers))
        assert issue.run("nats", "setup", "--replicas", "3", "--claims", "--nats-url", urls(servers)).code == 0
        published = issue.run("publish", "--nats-url", urls(servers), input=ndjson(*map(a_spec, range(200))))
        assert published.code == 0
        held(other, *range(100))
        with subscribing(issue, servers[0], settings=settings, batch=20) as one:
            until(lambda: one.created > 20)
            servers[1].kill()
            with subscribing(other, servers[0], settings=settings, batch=20):
                until(lambda: "held" not in states(other))
                until(lambda: is_done(servers[0]))
                until(lambda: "held" not in states(issue))
    mine = {task["event_id"] for task in tasks(issue) if task["state"] == "pending"}
    theirs = {task["event_id"] for task in tasks(other) if task["state"] == "pending"}
    assert not mine & theirs
    assert mine | theirs == {a_spec(n)["triggering_event_id"] for n in range(200)}


# --- sync ------------------------------------------------------------------------------------------------------------


def test_sync_settles_what_is_held_and_makes_the_issues_that_are_ours(
    issue: Issue, other: Issue, server: NatsServer
) -> None:
    make(server, claims=True)
    held(issue, 1, 2), held(other, 2, 3)
    for each in (issue, other):
        (each.folder / "config.toml").write_text(f'[nats]\nurl = "{server.url}"\n')
    assert issue.run("sync").stdout == "2 created\n"
    assert other.run("sync").stdout == "1 created\n"
    assert states(other) == ["elsewhere", "synced"]


def test_sync_makes_nothing_of_what_is_held_while_the_bucket_is_away_and_says_why(
    issue: Issue, server: NatsServer
) -> None:
    (issue.folder / "config.toml").write_text(f'[nats]\nurl = "{server.url}"\nclaims = true\n')
    issue.run("ingest", input=ndjson(a_spec(1)))
    ran = issue.run("sync")
    assert (ran.code, states(issue)) == (0, ["held"])
    assert "1 held until they are claimed: nobody takes claims" in ran.stdout
    assert not list(issue.folder.rglob("task-1*"))


def test_a_ledger_that_must_claim_holds_what_it_took_before_also_when_sync_comes_first(
    issue: Issue, server: NatsServer
) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    (issue.folder / "config.toml").write_text('[nats]\nurl = "nats://127.0.0.1:1"\nclaims = true\n')
    ran = issue.run("sync")
    assert "1 held until they are claimed: nats://127.0.0.1:1 cannot be reached" in ran.stdout
    assert states(issue) == ["held"]


def test_a_bucket_that_cannot_be_asked_is_not_asked_at_every_pass(issue: Issue) -> None:
    held(issue, 1)
    said: list[str] = []
    release = Release(NatsSettings(url="nats://127.0.0.1:1"), threading.Event(), said.append)
    with issue.ledger as ledger:
        assert release(ledger) == release(ledger)
    assert len(said) == 1


def test_settling_ends_when_it_is_told_to(issue: Issue, server: NatsServer) -> None:
    make(server, claims=True)
    held(issue, 1)
    stop = threading.Event()
    stop.set()
    with issue.ledger as ledger:
        assert Release(NatsSettings(url=server.url), stop)(ledger) == ""


def test_a_connection_that_is_cut_again_and_again_gets_on(
    issue: Issue, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(server, claims=True)
    held(issue, *range(400))
    claim, calls = Bucket.claim, iter(range(100))

    async def claim_at_times(self: Bucket, wanted: Any) -> list[Claim]:
        if next(calls) % 2:
            raise NatsError("cut")
        return await claim(self, wanted)

    monkeypatch.setattr(Bucket, "claim", claim_at_times)
    for _ in range(4):
        with suppress(NatsError):
            settle(server, issue)
    assert set(states(issue)) == {"pending"}
