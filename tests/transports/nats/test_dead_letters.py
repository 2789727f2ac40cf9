"""Dead letters: each once and whole, whoever copies them and dies over it; replayed once; listed quickly."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.js.api import StreamConfig

from issue_core.config import NatsSettings
from issue_core.transports.nats import copying, dead_letters, names, replaying, stored, waiting
from issue_core.transports.nats.connection import Link, connected
from issue_core.transports.nats.dead_letters import DeadLetter
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.stored import Stored
from tests.support.cli import Issue, a_spec
from tests.support.nats_server import NatsServer, nats_server, run, until, user_with_rights
from tests.support.ports import free_port
from tests.transports.nats.conftest import with_link
from tests.transports.nats.subscribing import command, info, make, put, take_without_an_answer, tasks

DLQ = "ACT_TASKS_DLQ"
ADVISORY = names.advisory("ACT_TASKS", "issue-core-ingest")
SETTINGS = NatsSettings()

BINARY = bytes(range(256)) * 4


def die(server: NatsServer) -> None:
    """Deliver all that waits five times, answer nothing, and ask once more: the server gives it up only then."""

    async def taken(link: Link) -> None:
        pull = await link.client.jetstream().pull_subscribe_bind("issue-core-ingest", "ACT_TASKS")
        waiting = (await ask(link, "CONSUMER.INFO.ACT_TASKS.issue-core-ingest"))["num_pending"]
        for _ in range(5):
            left = waiting
            while left:
                messages = await pull.fetch(left, timeout=5)
                for each in messages:
                    await each.nak()
                left -= len(messages)
        with pytest.raises(TimeoutError):
            await pull.fetch(1, timeout=0.2)
        while (await stored.bounds(link, DLQ, names.advisories("ACT_TASKS"))).matching < waiting:
            await asyncio.sleep(0.01)

    with_link(server, taken)


def point(server: NatsServer, *numbers: int, time: str = "2999-01-01T00:00:00Z") -> None:
    """Lay pointers there, as the server does."""

    async def laid(link: Link) -> None:
        js = link.client.jetstream()
        advisories = [json.dumps({"stream_seq": n, "deliveries": 5, "timestamp": time}).encode() for n in numbers]
        for start in range(0, len(numbers), 256):
            await asyncio.gather(*(js.publish(ADVISORY, each) for each in advisories[start : start + 256]))

    with_link(server, laid)


def dead(server: NatsServer) -> list[Stored]:
    """All that is in the stream of the dead letters, the oldest first."""

    async def read(link: Link) -> list[Stored]:
        there = await stored.bounds(link, DLQ, ADVISORY)
        return [each async for page in stored.ascending(link, DLQ, there.first, there.last) for each in page]

    return with_link(server, read)


def letters(server: NatsServer, limit: int | None = None) -> list[DeadLetter]:
    async def read(link: Link) -> list[DeadLetter]:
        return [each async for each in dead_letters.newest(link, SETTINGS, limit)]

    return with_link(server, read)


def keep_copies(server: NatsServer) -> int:
    return with_link(server, lambda link: copying.keep_copies(link, SETTINGS))


def replay(server: NatsServer, seq: int) -> replaying.Replayed:
    return with_link(server, lambda link: replaying.replay(link, SETTINGS, seq))


def counted(server: NatsServer) -> int:
    """What ``issue nats status`` says."""
    return with_link(server, lambda link: dead_letters.count(link, SETTINGS))


def stored_tasks(server: NatsServer) -> list[Stored]:
    async def read(link: Link) -> list[Stored]:
        there = await stored.bounds(link, "ACT_TASKS", ADVISORY)
        return [each async for page in stored.ascending(link, "ACT_TASKS", there.first, there.last) for each in page]

    return with_link(server, read)


def remove(server: NatsServer, stream: str, *numbers: int) -> None:
    async def removed(link: Link) -> None:
        await waiting.together(stored.remove(link, stream, n) for n in numbers)

    with_link(server, removed)


def dlq(issue: Issue, server: NatsServer, *words: str) -> Any:
    first, *rest = words
    return issue.call("dlq", first, "--nats-url", server.url, *rest)


def change(server: NatsServer, stream: str, **changes: Any) -> None:
    async def changed(link: Link) -> None:
        config = (await ask(link, f"STREAM.INFO.{stream}"))["config"]
        await ask(link, f"STREAM.UPDATE.{stream}", config | changes)

    with_link(server, changed)


# Copies


def test_what_died_is_copied_once_byte_for_byte_with_its_headers_and_where_it_came_from(server: NatsServer) -> None:
    make(server)
    headers = {"Nats-Msg-Id": "one", "Content-Type": "application/json", "traceparent": "00-ä", "Act-Dlq-Stream": "no"}
    put(server, BINARY, subject="act.tasks.create.acme/web%2Eapp", headers=headers)
    die(server)
    [pointer] = dead(server)
    assert pointer.subject == ADVISORY
    assert keep_copies(server) == 1
    [copy] = dead(server)
    [original] = stored_tasks(server)
    assert (copy.subject, copy.body) == ("act.dlq.create.acme/web%2Eapp", BINARY)
    about = {
        "Act-Dlq-Reason": "max_deliveries",
        "Act-Dlq-Stream": "ACT_TASKS",
        "Act-Dlq-Stream-Seq": "1",
        "Act-Dlq-Subject": "act.tasks.create.acme/web%2Eapp",
        "Act-Dlq-Published": original.time,
        "Act-Dlq-Deliveries": "5",
        "Act-Dlq-Consumer": "issue-core-ingest",
        "Nats-Msg-Id": f"dlq:ACT_TASKS:1:{original.time}",
    } | {f"Act-Orig-{name}": value for name, value in headers.items()}
    assert about.items() <= copy.headers.items()
    assert keep_copies(server) == 0
    assert [each.seq for each in dead(server)] == [copy.seq]


def test_a_pointer_whose_copy_is_there_already_is_removed_and_counts_once(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, b"one", b"two")
    die(server)
    keep_copies(server)
    point(server, 1, 2)  # as it is after a crash between the two steps
    assert len(dead(server)) == 4
    assert counted(server) == 2
    [status] = issue.call("nats", "status", "--nats-url", server.url, "--json").objects
    assert status["dead_letters"] == 2
    assert [each.state for each in letters(server)] == ["whole", "whole"]
    keep_copies(server)
    assert sorted(each.body for each in dead(server)) == [b"one", b"two"]


def test_pointers_of_several_consumers_to_one_message_are_one_dead_letter(server: NatsServer) -> None:
    make(server)
    put(server, b"one")
    point(server, 1, 1)
    assert counted(server) == len(letters(server)) == 1
    keep_copies(server)
    assert [each.body for each in dead(server)] == [b"one"]


def test_two_hosts_at_once_make_one_copy_of_each(server: NatsServer) -> None:
    make(server)
    put(server, *(b"%d" % n for n in range(100)))
    point(server, *range(1, 101))

    async def both() -> None:
        where = NatsSettings(url=server.url)
        async with connected(where) as one, connected(where) as two:
            await asyncio.gather(copying.keep_copies(one, where), copying.keep_copies(two, where))

    run(both())
    assert sorted(int(each.body) for each in dead(server)) == list(range(100))


KEEP = (
    "import asyncio, sys\nfrom issue_core.config import NatsSettings\n"
    "from issue_core.transports.nats.copying import keep_copying\n"
    "asyncio.run(keep_copying(NatsSettings(url=sys.argv[1]), asyncio.Event(), print))\n"
)


def test_whoever_copies_may_be_killed_at_any_point(server: NatsServer) -> None:
    make(server)
    put(server, *(b"%d" % n for n in range(600)))
    point(server, *range(1, 601))
    for n in range(1, 7):
        copies = 60 * n
        process = subprocess.Popen([sys.executable, "-c", KEEP, server.url], stdout=subprocess.DEVNULL)
        try:
            until(lambda copies=copies: with_link(server, _count_copies) >= copies)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(60)
    assert counted(server) == 600
    keep_copies(server)
    assert sorted(int(each.body) for each in dead(server)) == list(range(600))


async def _count_copies(link: Link) -> int:
    return (await stored.bounds(link, DLQ, names.DEAD)).matching


def test_what_expired_before_it_was_copied_is_kept_as_that_and_not_tried_again(
    issue: Issue, server: NatsServer
) -> None:
    make(server)
    put(server, b"one")
    die(server)
    remove(server, "ACT_TASKS", 1)
    [row] = dlq(issue, server, "list", "--json").objects
    assert (row["state"], row["stream_seq"], row["size"], row["event_id"]) == ("expired", 1, None, None)
    assert keep_copies(server) == 0
    assert [each.subject for each in dead(server)] == ["act.dlq.expired"]
    [kept] = dlq(issue, server, "list", "--json").objects
    assert {**kept, "seq": row["seq"]} == row
    assert counted(server) == 1
    shown = dlq(issue, server, "show", str(kept["seq"]), "--raw")
    assert (shown.code, shown.stdout) == (1, "")
    assert "expired before it was copied" in shown.stderr
    assert dlq(issue, server, "show", str(kept["seq"]), "--json").objects[0]["raw"] is None


def test_ten_thousand_that_expired_cost_next_to_nothing_the_second_time(server: NatsServer) -> None:
    make(server)
    point(server, *range(1, 10_001))
    assert keep_copies(server) == 0

    async def again(link: Link) -> tuple[int, int]:
        before = link.client.stats["out_msgs"]
        copies = await copying.keep_copies(link, SETTINGS)
        return copies, link.client.stats["out_msgs"] - before

    assert with_link(server, again) == (0, 1)
    assert counted(server) == 10_000


def test_what_is_no_advisory_is_not_taken_for_one_and_stops_nothing(server: NatsServer) -> None:
    make(server)
    put(server, b"one")
    nonsense = (b"", b"\xff", b"[]", b"[" * 50_000, b'{"stream_seq": -1}', b'{"stream_seq": true}')
    more = (b'{"stream_seq": 99999999999999999999999}', b'{"stream_seq": "x", "timestamp": 7}')
    put(server, *nonsense, *more, subject=ADVISORY)
    put(server, b"{}", subject="act.dlq.create.by/hand", headers={"Act-Dlq-Deliveries": "٣", "Act-Dlq-Time": "soon"})
    point(server, 1)
    assert len(letters(server)) == counted(server)
    assert keep_copies(server) == 1
    by_state = [each.state for each in letters(server)]
    assert (by_state.count("whole"), by_state.count("expired")) == (2, len(nonsense) + len(more))


def test_headers_that_have_no_room_in_the_copy_are_left_out_and_the_body_is_not(server: NatsServer) -> None:
    make(server)
    put(server, b"body", headers={f"h{n}": "" for n in range(6_000)})
    point(server, 1)
    assert keep_copies(server) == 1
    [copy] = dead(server)
    assert copy.body == b"body"
    assert not any(name.startswith("Act-Orig") for name in copy.headers)


def test_one_that_is_too_large_for_a_copy_stays_a_pointer_and_the_others_are_copied(
    issue: Issue, server: NatsServer
) -> None:
    make(server)
    put(server, b"x" * 60_000, b"small")
    die(server)
    change(server, DLQ, max_msg_size=10_000)
    with keeping(NatsSettings(url=server.url), every=0.05) as kept:
        kept.until_said("too large")
        put(server, b"third")
        die_alone(server)
        kept.until(lambda: len(letters(server)) == 3 and [each.state for each in letters(server)].count("whole") == 2)
    assert sum("too large" in text for text in kept.said) == 1
    [pointer] = [each for each in letters(server) if each.state == "pointer"]
    assert dlq(issue, server, "show", str(pointer.seq), "--json").objects[0]["raw"] == "x" * 60_000
    ran = dlq(issue, server, "replay", str(pointer.seq))
    assert (ran.code, "too large for ACT_TASKS_DLQ" in ran.stderr) == (3, True)
    assert len(dead(server)) == 3


def die_alone(server: NatsServer) -> None:
    """As :func:`die`, without waiting for the pointer, which may be gone by then."""
    for _ in range(5):
        with_link(server, _take_and_refuse)
    with_link(server, _ask_once_more)


async def _take_and_refuse(link: Link) -> None:
    pull = await link.client.jetstream().pull_subscribe_bind("issue-core-ingest", "ACT_TASKS")
    for each in await pull.fetch(1, timeout=5):
        await each.nak()


async def _ask_once_more(link: Link) -> None:
    pull = await link.client.jetstream().pull_subscribe_bind("issue-core-ingest", "ACT_TASKS")
    with pytest.raises(TimeoutError):
        await pull.fetch(1, timeout=0.2)


def test_a_pointer_from_before_the_stream_was_made_again_does_not_stand_for_another_message(server: NatsServer) -> None:
    make(server)
    put(server, b"innocent")
    point(server, 1, time="2001-01-01T00:00:00Z")
    assert keep_copies(server) == 0
    assert [each.state for each in letters(server)] == ["expired"]


def test_in_a_stream_that_was_made_again_the_same_number_has_a_copy_of_its_own(server: NatsServer) -> None:
    for body in (b"first life", b"second life"):
        make(server)
        put(server, body)
        die(server)
        assert keep_copies(server) == 1
        with_link(server, lambda link: ask(link, "STREAM.DELETE.ACT_TASKS"))
    assert [each.body for each in dead(server)] == [b"first life", b"second life"]


# Beside the subscriber


@dataclass
class Keeping:
    """What copies in a thread: what it said."""

    said: list[str] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    failed: BaseException | None = None

    def run(self, where: NatsSettings, every: float) -> None:
        try:
            self.loop.run_until_complete(copying.keep_copying(where, self.stopping, self.said.append, every=every))
        except BaseException as error:  # noqa: BLE001 - it is looked at in the test
            self.failed = error
        finally:
            self.loop.close()

    def until_said(self, text: str) -> None:
        self.until(lambda: any(text in each for each in self.said))

    def until(self, condition: Callable[[], bool]) -> None:
        until(lambda: self.failed or condition(), lambda: str(self.said))
        assert not self.failed


@contextmanager
def keeping(where: NatsSettings, *, every: float) -> Iterator[Keeping]:
    kept = Keeping()
    thread = threading.Thread(target=kept.run, args=(where, every))
    thread.start()
    try:
        yield kept
    finally:
        kept.loop.call_soon_threadsafe(kept.stopping.set)
        began = time.monotonic()
        thread.join(30)
        assert time.monotonic() - began < 10
    assert not kept.failed


def test_a_user_without_the_right_is_told_once_and_nothing_ends(tmp_path: Path) -> None:
    rights = user_with_rights("host", "pw", publish=["$JS.API.STREAM.INFO.ACT_TASKS"])
    with (
        nats_server(tmp_path, more=rights) as server,
        keeping(NatsSettings(url=server.url.replace("//", "//host:pw@")), every=0.05) as kept,
    ):
        kept.until_said("does not allow it")
    assert len(kept.said) == 1


def test_a_stream_that_is_not_there_is_said_once_and_once_that_it_is(server: NatsServer) -> None:
    with keeping(NatsSettings(url=server.url), every=0.02) as kept:
        kept.until_said("stream not found")
        make(server)
        kept.until_said("copied again")
        put(server, b"one")
        point(server, 1)
        kept.until_said("1 more, kept whole")
    assert len(kept.said) == 3


def test_a_server_that_goes_and_comes_back_is_said_once_each(server: NatsServer) -> None:
    make(server)
    put(server, b"one")
    with keeping(NatsSettings(url=server.url), every=0.02) as kept:
        server.kill()
        kept.until_said("cannot be reached")
        server.start()
        kept.until_said("copied again")
        point(server, 1)
        kept.until_said("1 more, kept whole")
    assert len(kept.said) == 3


def test_credentials_that_are_gone_end_nothing(tmp_path: Path) -> None:
    where = NatsSettings(url=f"nats://127.0.0.1:{free_port()}", creds=tmp_path / "no.creds")
    with keeping(where, every=0.02) as kept:
        kept.until_said("no.creds")
    assert len(kept.said) == 1


def test_a_pass_is_made_even_by_who_stops_at_once(server: NatsServer) -> None:
    make(server)
    put(server, b"one")
    point(server, 1)

    async def stopped() -> None:
        stopping = asyncio.Event()
        stopping.set()
        await copying.keep_copying(NatsSettings(url=server.url), stopping, print)

    run(stopped())
    assert [each.body for each in dead(server)] == [b"one"]


# Replays


def test_a_replay_is_new_to_the_consumer_and_becomes_one_task(issue: Issue, server: NatsServer) -> None:
    make(server)
    headers = {"Nats-Msg-Id": "mine", "Content-Type": "application/json; charset=utf-8", "x-trace": "7"}
    put(server, a_spec(1), headers=headers)
    die(server)
    keep_copies(server)
    [copy] = dead(server)
    ran = dlq(issue, server, "replay", str(copy.seq), "--json")
    assert (ran.code, ran.objects) == (
        0,
        [{"seq": copy.seq, "outcome": "replayed", "stream": "ACT_TASKS", "stream_seq": 2, "problem": None}],
    )
    assert dead(server) == []
    _, again = stored_tasks(server)
    assert again.subject == "act.tasks.create.acme/web"
    assert json.loads(again.body) == a_spec(1)
    expected = {
        "Nats-Msg-Id": f"replay:{DLQ}:{copy.seq}",
        "Content-Type": headers["Content-Type"],
        "x-trace": "7",
        "Act-Replay-Of": f"{DLQ}:{copy.seq}",
        "Act-Dlq-Stream-Seq": "1",
    }
    assert expected.items() <= again.headers.items()
    assert info(server)["num_pending"] == 1
    assert command(issue, server, "--until-empty").stdout.startswith("1 taken: 1 created")
    [task] = tasks(issue)
    assert task["sync_metadata"]["ingestion"]["sequence"] == 2
    assert info(server)["delivered"]["consumer_seq"] == 6


def test_a_replay_of_a_task_that_got_through_after_all_is_a_duplicate(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, a_spec(1))
    die(server)
    (issue.folder / "task.json").write_text(json.dumps(a_spec(1)))
    assert issue.call("ingest", str(issue.folder / "task.json")).code == 0
    assert dlq(issue, server, "replay", "--all").stdout == "1 replayed, 0 refused\n"
    assert command(issue, server, "--until-empty").stdout.startswith("1 taken: 0 created, 1 duplicate")
    assert len(tasks(issue)) == 1
    assert dead(server) == []


def test_a_replay_after_a_crash_between_its_two_steps_is_there_once(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, b"one")
    die(server)
    keep_copies(server)
    [copy] = dead(server)
    put(server, b"one", headers={"Nats-Msg-Id": f"replay:{DLQ}:{copy.seq}"})  # the first step
    ran = dlq(issue, server, "replay", str(copy.seq), "--json")
    assert [(each["outcome"], each["stream_seq"]) for each in ran.objects] == [("replayed", 2)]
    assert len(stored_tasks(server)) == 2
    assert dead(server) == []


def test_any_subject_that_the_stream_has_comes_back_as_it_was(issue: Issue, server: NatsServer) -> None:
    make(server)
    tails = ["*", ">", "a.b.c", "a*b", "日本", "\x00\x1b[2J", "x" * 3_000, "%2E%zz", "$JS", "expired"]
    subjects = [f"act.tasks.create.{tail}" for tail in tails]
    for n, subject in enumerate(subjects):
        put(server, b"%d" % n, subject=subject)
    point(server, *range(1, len(subjects) + 1))
    assert dlq(issue, server, "replay", "--all").stdout == f"{len(subjects)} replayed, 0 refused\n"
    again = stored_tasks(server)[len(subjects) :]
    assert {each.body: each.subject for each in again} == {b"%d" % n: each for n, each in enumerate(subjects)}


def test_two_people_who_replay_the_same_at_once_publish_it_once(server: NatsServer) -> None:
    make(server)
    put(server, *(b"%d" % n for n in range(50)))
    point(server, *range(1, 51))

    async def replayed(link: Link) -> list[str]:
        return [each.outcome async for each in replaying.replay_all(link, SETTINGS)]

    async def both() -> list[str]:
        where = NatsSettings(url=server.url)
        async with connected(where) as one, connected(where) as two:
            some, others = await asyncio.gather(replayed(one), replayed(two))
            return some + others

    outcomes = run(both())
    assert set(outcomes) <= {"replayed", "gone"}
    assert sorted(int(each.body) for each in stored_tasks(server)[50:]) == list(range(50))
    assert dead(server) == []


def test_of_a_pointer_a_copy_is_made_first(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, b"one")
    die(server)
    assert dlq(issue, server, "replay", "1").stdout == "1 replayed, 0 refused\n"
    first, again = stored_tasks(server)
    assert (again.body, again.headers["Act-Replay-Of"]) == (first.body, f"{DLQ}:2")
    assert dead(server) == []


def test_what_died_twice_can_be_replayed_twice_and_its_headers_do_not_pile_up(server: NatsServer) -> None:
    make(server)
    put(server, b"one", headers={"x-trace": "7"})
    die(server)
    for n in range(1, 4):
        keep_copies(server)
        [copy] = dead(server)
        assert replay(server, copy.seq).stream_seq == n + 1
        die(server)
    last = stored_tasks(server)[-1]
    assert last.headers["x-trace"] == "7"
    assert last.headers["Act-Dlq-Stream-Seq"] == "3"
    assert not any(name.startswith("Act-Orig-Act") for name in last.headers)


def test_all_replays_what_can_be_and_says_what_cannot(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, b"one", b"two")
    point(server, 1, 2, *range(100, 130))
    forged = {"Act-Dlq-Subject": "$JS.API.STREAM.DELETE.ACT_TASKS", "Act-Dlq-Stream": "ACT_TASKS"}
    put(server, b"{}", subject="act.dlq.create.x", headers=forged)
    ran = dlq(issue, server, "replay", "--all")
    assert (ran.code, ran.stdout) == (3, "2 replayed, 31 refused\n")
    forged_line, expired = sorted(ran.stderr.splitlines())
    assert "$JS.API.STREAM.DELETE.ACT_TASKS is not one of act.tasks.>" in forged_line
    assert "and 20 more cannot be replayed: the message expired before it was copied" in expired
    assert sorted(each.body for each in stored_tasks(server)[2:]) == [b"one", b"two"]
    assert len(dead(server)) == 31


@pytest.mark.parametrize(
    "subject", ["act.tasks.create.a b", "act.tasks..x", "act.tasks.create.", "act.dlq.create.x", ""]
)
def test_a_subject_under_which_nothing_can_be_published_is_refused(
    issue: Issue, server: NatsServer, subject: str
) -> None:
    make(server)
    put(server, b"{}", subject="act.dlq.x.y", headers={"Act-Dlq-Subject": subject, "Act-Dlq-Stream": "ACT_TASKS"})
    ran = dlq(issue, server, "replay", "--all", "--json")
    [outcome] = ran.objects
    if subject:
        assert (ran.code, outcome["outcome"]) == (3, "refused")
        assert "is not one of act.tasks.>" in outcome["problem"]
    else:
        assert (outcome["outcome"], stored_tasks(server)[0].subject) == ("replayed", "act.tasks.x.y")


def test_what_no_stream_takes_any_more_stays_a_dead_letter_with_a_clear_word(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, b"one")
    die(server)
    keep_copies(server)
    with_link(server, lambda link: ask(link, "STREAM.DELETE.ACT_TASKS"))
    ran = dlq(issue, server, "replay", "--all")
    assert ran.code == 3
    assert "no stream at" in ran.stderr
    assert "takes act.tasks.create.x" in ran.stderr
    with_link(
        server, lambda link: link.client.jetstream().add_stream(StreamConfig(name="OTHER", subjects=["act.tasks.>"]))
    )
    assert "goes to another stream than ACT_TASKS" in dlq(issue, server, "replay", "--all").stderr
    assert [each.body for each in dead(server)] == [b"one"]
    assert with_link(server, lambda link: stored.get(link, "OTHER", 1)) is None


def test_a_body_that_leaves_room_for_a_message_id_alone_is_replayed_with_that(issue: Issue, server: NatsServer) -> None:
    make(server)
    least, most = b"x" * (65_536 - 80), b"y" * 65_536
    put(server, least, most)
    die(server)
    ran = dlq(issue, server, "replay", "--all")
    assert (ran.code, ran.stdout) == (3, "1 replayed, 1 refused\n")
    assert "too large for ACT_TASKS with a message ID of its own" in ran.stderr
    assert [each.body for each in stored_tasks(server)[2:]] == [least]
    assert [each.body for each in dead(server)] == [most]


# The command


def test_nothing_there_is_said_and_no_error(issue: Issue, server: NatsServer) -> None:
    make(server)
    for listing in (("list",), ("list", "--json")):
        ran = dlq(issue, server, *listing)
        assert (ran.code, ran.stdout, ran.stderr) == (0, "", "no dead letter in ACT_TASKS_DLQ\n")
    assert dlq(issue, server, "replay", "--all").stdout == "0 replayed, 0 refused\n"
    assert dlq(issue, server, "drop", "--all", "--yes").stdout == "0 dropped\n"
    for words in (("show", "7"), ("replay", "7"), ("drop", "7", "--yes")):
        ran = dlq(issue, server, *words)
        assert (ran.code, "there is no dead letter 7 in ACT_TASKS_DLQ" in ran.stderr) == (1, True)


def test_without_the_streams_the_hint_is_how_to_make_them(issue: Issue, server: NatsServer) -> None:
    for words in (("list",), ("show", "1"), ("replay", "--all"), ("drop", "--all", "--yes")):
        ran = dlq(issue, server, *words)
        assert (ran.code, "`issue nats setup`" in ran.stderr) == (1, True)
    ran = issue.call("dlq", "list", "--nats-url", f"nats://127.0.0.1:{free_port()}")
    assert (ran.code, "cannot be reached" in ran.stderr) == (1, True)


@pytest.mark.parametrize("words", [("replay",), ("replay", "1", "--all"), ("drop",), ("drop", "1", "--all")])
def test_it_must_be_clear_which_are_meant(issue: Issue, server: NatsServer, words: tuple[str, ...]) -> None:
    ran = dlq(issue, server, *words)
    assert (ran.code, "--all" in ran.stderr) == (2, True)


def test_list_has_the_newest_first_with_what_is_known(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, a_spec(1), b"\xff\x00", "\x1b[31mröt‮".encode())
    point(server, 1, 2)
    keep_copies(server)
    point(server, 3)
    ran = dlq(issue, server, "list")
    assert ran.stdout.splitlines()[0] == "seq\tstate\tdied_at\treason\tdeliveries\trepo\tevent_id\tsize"
    third, second, first = ran.rows
    died = ["2999-01-01T00:00:00.000Z", "max_deliveries", "5"]
    assert third[1:] == ["pointer", *died, "x", "", str(len("\x1b[31mröt‮".encode()))]
    assert second[1:] == ["whole", *died, "x", "", "2"]
    assert first[1:7] == ["whole", *died, "acme/web", a_spec(1)["triggering_event_id"]]
    assert [int(row[0]) for row in ran.rows] == sorted((int(row[0]) for row in ran.rows), reverse=True)
    assert [each["seq"] for each in dlq(issue, server, "list", "--limit", "2", "--json").objects] == [
        int(third[0]),
        int(second[0]),
    ]
    [shown] = dlq(issue, server, "show", third[0], "--json").objects
    assert (shown["raw"], shown["stream_seq"]) == ("\x1b[31mröt‮", 3)
    lines = dlq(issue, server, "show", third[0]).stdout
    assert "raw\t\\x1b[31mröt\\u202e\n" in lines
    assert [each["raw_base64"] for each in dlq(issue, server, "show", second[0], "--json").objects] == ["/wA="]


def test_control_characters_of_a_subject_or_a_header_do_not_reach_the_terminal(
    issue: Issue, server: NatsServer
) -> None:
    make(server)
    put(server, b"{}", subject="act.tasks.create.%1B[2J", headers={"x": "\x1b]0;title\x07"})
    die(server)
    for words in (("list",), ("list", "--json"), ("show", "1"), ("show", "1", "--json")):
        ran = dlq(issue, server, *words)
        assert ran.code == 0
        assert "\x1b" not in ran.stdout
        assert "\x07" not in ran.stdout


def test_drop_removes_for_good_and_only_what_was_named(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, b"one", b"two", b"three")
    point(server, 1, 2, 3)
    keep_copies(server)
    first, second, third = (each.seq for each in dead(server))
    assert dlq(issue, server, "drop", str(second), str(second), "--yes", "--json").objects == [{"dropped": 1}]
    assert [each.seq for each in dead(server)] == [first, third]
    ran = dlq(issue, server, "drop", str(first), "999", "--yes")
    assert (ran.code, len(dead(server))) == (1, 2)
    assert dlq(issue, server, "drop", "--all", "--yes").stdout == "2 dropped\n"
    assert dead(server) == []
    point(server, 1)  # told of once more, what was dropped does not come back
    keep_copies(server)
    assert dead(server) == []


def test_drop_is_asked_on_a_terminal_and_refused_where_nobody_is_there(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, b"{}", b"{}", subject="act.dlq.create.x")
    words = ("dlq", "drop", "--nats-url", server.url)
    ran = issue.run(*words, "--all")
    assert (ran.code, "--yes" in ran.stderr) == (2, True)
    refused = issue.on_terminal(*words, "1", keys=b"n\n")
    assert (refused.code, "nothing was dropped" in refused.stdout) == (1, True)
    assert len(dead(server)) == 2
    assert issue.on_terminal(*words, "--all", keys=b"y\n").code == 0
    assert dead(server) == []


def test_a_list_that_nobody_reads_to_its_end_ends(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, *(b"{}" for _ in range(2_000)), subject="act.dlq.create.x")
    ran = issue.shell(f"issue dlq list --nats-url {server.url} --limit 0 | head -1; echo ${{PIPESTATUS[0]}}")
    assert ran.stdout.splitlines()[1:] == ["141"]


def _many(server: NatsServer, n: int) -> None:
    async def filled(link: Link) -> None:
        js = link.client.jetstream()
        for start in range(0, n, 500):
            bodies = [json.dumps(a_spec(k)).encode() for k in range(start, min(start + 500, n))]
            await asyncio.gather(*(js.publish("act.dlq.create.acme/web", each, timeout=60) for each in bodies))

    with_link(server, filled)


def test_the_newest_are_found_at_once_behind_a_gap_of_many_that_were_replayed(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, b"oldest", subject="act.dlq.create.x")
    _many(server, 4_000)
    remove(server, DLQ, *range(2, 3_990))

    async def listed(link: Link) -> tuple[list[int], int]:
        before = link.client.stats["out_msgs"]
        found = [each.seq async for each in dead_letters.newest(link, SETTINGS, 50)]
        return found, link.client.stats["out_msgs"] - before

    found, requests = with_link(server, listed)
    assert found == [*range(4_001, 3_989, -1), 1]
    assert requests < 200


@pytest.mark.long
def test_fifty_thousand_are_listed_at_once_and_replayed_in_little_memory(issue: Issue, server: NatsServer) -> None:
    make(server)
    _many(server, 50_000)
    began = time.monotonic()
    ran = dlq(issue, server, "list")
    assert (len(ran.rows), ran.rows[0][0]) == (50, "50000")
    assert time.monotonic() - began < 3
    measured = f"/usr/bin/env python3 -c '{_PEAK}' issue dlq"
    listed = issue.shell(f"{measured} list --limit 0 --json --nats-url {server.url} | wc -l", timeout=300)
    assert listed.stdout.split() == ["50000"]
    assert int(listed.stderr.split()[-1]) < 150
    replayed = issue.shell(f"{measured} replay --all --nats-url {server.url}", timeout=600)
    assert "50000 replayed, 0 refused" in replayed.stdout
    assert int(replayed.stderr.split()[-1]) < 150
    assert dead(server) == []
    assert with_link(server, lambda link: stored.bounds(link, "ACT_TASKS", ADVISORY)).messages == 50_000


_PEAK = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, file=sys.stderr); sys.exit(code)"
)
"""Runs a command, and says how many MiB it had at its peak."""


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gaps=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 200)), max_size=6), at_a_time=st.integers(1, 130))
def test_whatever_gaps_there_are_all_messages_are_read_in_order_both_ways(
    server: NatsServer, gaps: list[tuple[int, int]], at_a_time: int
) -> None:
    there = set(range(1, 401)) - {n for start, length in gaps for n in range(start, start + length)}

    async def read(link: Link) -> tuple[list[int], list[int]]:
        js = link.client.jetstream()
        await js.add_stream(StreamConfig(name="GAPS", subjects=["gaps"]))
        await asyncio.gather(*(js.publish("gaps", b"") for _ in range(400)))
        await waiting.together(stored.remove(link, "GAPS", n) for n in range(1, 401) if n not in there)
        at = await stored.bounds(link, "GAPS", "gaps")
        up = [each.seq async for page in stored.ascending(link, "GAPS", at.first, at.last) for each in page]
        pages = stored.descending(link, "GAPS", at.first, at.last, at_a_time=at_a_time)
        down = [each.seq async for page in pages for each in page]
        await js.delete_stream("GAPS")
        return up, down

    up, down = with_link(server, read)
    assert up == down[::-1] == sorted(there)


def test_the_batch_mates_of_one_that_a_client_never_answers_are_no_dead_letters(
    issue: Issue, server: NatsServer
) -> None:
    make(server, ack_wait=0.2)
    put(server, a_spec(1))
    for _ in range(5):
        take_without_an_answer(server, 1)
    put(server, *(a_spec(n) for n in range(2, 11)))
    assert command(issue, server, "--until-empty").code == 0
    assert len(tasks(issue)) == 9
    [letter] = letters(server)
    assert letter.event_id == a_spec(1)["triggering_event_id"]
