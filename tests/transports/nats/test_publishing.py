"""What is a TaskSpec is in the stream once when the command ends, what is none is not, whatever the server does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import StreamConfig

from issue_core.config import NatsSettings
from issue_core.errors import NatsError, NatsUnreachable
from issue_core.task import MAX_DOCUMENT, Document
from issue_core.transports.nats.background import in_background
from issue_core.transports.nats.connection import Link, connected
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.publishing import Published, Publisher
from tests.support import nats_server as servers
from tests.support.cli import ISSUE, TIMEOUT, Issue, Ran, a_spec, ndjson
from tests.support.nats_server import NatsServer, nats_cluster, nats_server, run, until, urls
from tests.transports.nats.conftest import with_link

DURABLE = "act.tasks.>"


def make_stream(server: NatsServer, **changes: Any) -> None:
    settings: dict[str, Any] = {
        "name": "ACT_TASKS",
        "subjects": [DURABLE],
        "max_msg_size": 65536,
        "duplicate_window": 120.0,
    } | changes

    async def made(link: Link) -> None:
        await link.client.jetstream().add_stream(StreamConfig(**settings))

    with_link(server, made)


def publish(issue: Issue, server: NatsServer, *documents: Any, words: Sequence[str] = ()) -> Ran:
    file = issue.folder / "tasks.ndjson"
    file.write_text(ndjson(*documents))
    return issue.call("publish", "--nats-url", server.url, str(file), *words)


def stored(server: NatsServer, stream: str = "ACT_TASKS") -> list[tuple[str, dict[str, str], bytes]]:
    """Subject, headers and body of each message in the stream."""

    async def read(link: Link) -> list[tuple[str, dict[str, str], bytes]]:
        js = link.client.jetstream()
        state = (await ask(link, f"STREAM.INFO.{stream}"))["state"]
        found = []
        for seq in range(max(state["first_seq"], 1), state["last_seq"] + 1):
            message = await js.get_msg(stream, seq)
            found.append((message.subject or "", dict(message.headers or {}), message.data or b""))
        return found

    return with_link(server, read)


def test_each_taskspec_is_stored_as_it_was_written_under_its_event_id(issue: Issue, server: NatsServer) -> None:
    make_stream(server)
    first, second = a_spec(1), a_spec(2, target_repo="acme/web.app", mine="kept")
    ran = publish(issue, server, first, second, words=["--json"])
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.objects == [
        {
            "outcome": "published",
            "event_id": spec["triggering_event_id"],
            "stream": "ACT_TASKS",
            "seq": n,
            "warnings": warnings,
            "errors": [],
            "file": str(issue.folder / "tasks.ndjson"),
            "line": n,
        }
        for n, spec, warnings in ((1, first, []), (2, second, ran.objects[1]["warnings"]))
    ]
    assert "mine" in ran.objects[1]["warnings"][0]
    assert stored(server) == [
        (
            subject,
            {
                "Nats-Msg-Id": spec["triggering_event_id"],
                "Nats-Expected-Stream": "ACT_TASKS",
                "Content-Type": "application/json",
            },
            json.dumps(spec).encode(),
        )
        for subject, spec in (("act.tasks.create.acme/web", first), ("act.tasks.create.acme/web%2Eapp", second))
    ]


def test_what_is_published_again_is_a_duplicate_and_stored_once(issue: Issue, server: NatsServer) -> None:
    make_stream(server)
    publish(issue, server, a_spec(1))
    ran = publish(issue, server, a_spec(1), a_spec(2), a_spec(2), words=["--json"])
    assert [(each["outcome"], each["seq"]) for each in ran.objects] == [
        ("duplicate", 1),
        ("published", 2),
        ("duplicate", 2),
    ]
    assert len(stored(server)) == 2


def test_what_is_no_taskspec_is_told_and_does_not_stop_the_rest(issue: Issue, server: NatsServer) -> None:
    make_stream(server)
    ran = publish(issue, server, a_spec(1), "{broken", a_spec(2, title=""), a_spec(3))
    assert (ran.code, ran.stdout) == (3, "4 read: 2 published, 0 duplicate, 2 invalid\n")
    assert [line.partition(": not published (invalid): ")[0] for line in ran.stderr.splitlines()] == [
        f"{issue.folder}/tasks.ndjson:2",
        f"{issue.folder}/tasks.ndjson:3",
    ]
    assert len(stored(server)) == 2
    [bad] = publish(issue, server, a_spec(4, title=7), words=["--json"]).objects
    assert (bad["outcome"], bad["seq"], bad["errors"][0]["field"]) == ("invalid", None, "title")


def test_strict_publishes_no_unknown_field(issue: Issue, server: NatsServer) -> None:
    make_stream(server)
    assert publish(issue, server, a_spec(1, mine=1)).stderr.startswith("warning: ")
    assert publish(issue, server, a_spec(2, mine=1), words=["--strict"]).code == 3
    assert len(stored(server)) == 1


def test_one_that_is_too_large_for_the_stream_is_invalid(issue: Issue, server: NatsServer) -> None:
    make_stream(server, max_msg_size=1024)
    ran = publish(issue, server, a_spec(1, description="x" * 1000), a_spec(2))
    assert (ran.code, ran.stdout) == (3, "2 read: 1 published, 0 duplicate, 1 invalid\n")
    assert "document: is too large for the stream: " in ran.stderr


def test_one_that_is_too_large_for_the_server_is_invalid_and_the_connection_stays(issue: Issue, tmp_path: Path) -> None:
    spec = a_spec(1)
    with nats_server(tmp_path, more="max_payload: 4096\n") as server:
        make_stream(server)
        size = len(json.dumps(spec))
        for over, code in ((-100, 3), (-300, 0)):  # the headers count
            ran = publish(issue, server, spec | {"description": "x" * (4096 - size - 19 + over)})
            assert (ran.code, "and the server takes 4096" in ran.stderr) == (code, bool(code))


def test_a_stream_that_is_not_there_ends_it_with_what_to_do(
    issue: Issue, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issue_core.transports.nats.publishing.NOBODY_PATIENCE", 0.1)
    ran = publish(issue, server, a_spec(1))
    assert ran.code == 1
    assert "no stream at " in ran.stderr
    assert "issue nats setup" in ran.stderr


def test_a_stream_of_another_name_gets_nothing(issue: Issue, server: NatsServer) -> None:
    make_stream(server, name="OTHER")
    ran = publish(issue, server, a_spec(1))
    assert ran.code == 1
    assert "act.tasks.create.acme/web goes to another stream than ACT_TASKS" in ran.stderr
    assert stored(server, "OTHER") == []
    assert publish(issue, server, a_spec(1), words=["--stream", "OTHER"]).code == 0


def test_a_right_to_publish_that_is_missing_is_told(issue: Issue, tmp_path: Path) -> None:
    with nats_server(tmp_path, more=servers.user_with_rights("bob", "x", publish=["$JS.API.>"])) as server:
        (issue.folder / "t").write_text(ndjson(a_spec(1)))
        ran = issue.call("publish", "--nats-url", server.url.replace("//", "//bob:x@"), str(issue.folder / "t"))
    assert ran.code == 1
    assert "does not allow it: permissions violation for publish to " in ran.stderr


def test_a_missing_file_ends_it_before_anything_is_published(issue: Issue, server: NatsServer) -> None:
    ran = issue.call("publish", "--nats-url", server.url, "missing.ndjson")
    assert (ran.code, "there is no file missing.ndjson" in ran.stderr) == (2, True)


@pytest.mark.parametrize("repo", ["a.b.c", "*", ">", "a..b", "$JS.API", "ünï", "x" * 200, "中" * 200])
def test_any_repo_arrives_at_the_consumer(issue: Issue, server: NatsServer, repo: str) -> None:
    make_stream(server)
    assert publish(issue, server, a_spec(1, target_repo=repo)).code == 0
    [(subject, _, body)] = stored(server)
    assert subject.count(".") == 3
    assert json.loads(body)["target_repo"] == repo


# ---- while the server goes and comes


def documents(count: int) -> list[Document]:
    return [Document(json.dumps(a_spec(n, description="x" * 500)).encode()) for n in range(count)]


async def published_while(
    where: str, count: int, disturb: Any, *, after: int = 500
) -> tuple[list[Published], list[str], int]:
    """Publish ``count`` TaskSpecs and call ``disturb``, in a thread, when ``after`` are in the stream."""
    said: list[str] = []
    async with (
        connected(NatsSettings(url=where), say=said.append) as link,
        Publisher(link, "ACT_TASKS", MAX_DOCUMENT) as publisher,
    ):
        task = asyncio.create_task(publisher.publish(documents(count)))
        while publisher.stored < after:
            await asyncio.sleep(0)
        await asyncio.to_thread(disturb)
        return await task, said, publisher.stored


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """What brings no answer is sent again soon."""
    monkeypatch.setattr("issue_core.transports.nats.publishing.ANSWER_TIMEOUT", 1.0)


@pytest.mark.usefixtures("fast")
def test_a_server_that_is_killed_half_way_has_each_one_once_when_it_is_back(tmp_path: Path) -> None:
    def kill_and_start() -> None:
        server.kill()
        server.start()

    with nats_server(tmp_path) as server:
        make_stream(server)
        results, said, count = run(published_while(server.url, 4000, kill_and_start))
        ids = [headers["Nats-Msg-Id"] for _, headers, _ in stored(server)]
    assert {each.outcome for each in results} == {"published"}
    assert sorted(ids) == sorted(str(each.event_id) for each in results)
    assert len(set(ids)) == count == 4000
    assert len(said) == 2


@pytest.mark.usefixtures("fast")
def test_a_cluster_that_loses_the_leader_has_each_one_once(tmp_path: Path) -> None:
    with nats_cluster(tmp_path) as cluster:
        make_stream(cluster[0], num_replicas=3)

        async def leader(link: Link) -> str:
            return str((await ask(link, "STREAM.INFO.ACT_TASKS"))["cluster"]["leader"])

        [victim] = [each for each in cluster if each.name == with_link(cluster[0], leader)]
        results, _, _ = run(published_while(urls(cluster), 3000, victim.kill))
        [alive, _] = [each for each in cluster if each is not victim]
        ids = [headers["Nats-Msg-Id"] for _, headers, _ in stored(alive)]
    assert {each.outcome for each in results} == {"published"}
    assert len(ids) == len(set(ids)) == 3000


def test_a_server_that_stays_away_ends_it_with_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issue_core.transports.nats.publishing.PATIENCE", 0.5)
    with nats_server(tmp_path) as server:
        make_stream(server)
        with pytest.raises(NatsUnreachable, match="cannot be reached"):
            run(published_while(server.url, 20000, server.kill))


def test_a_stream_that_is_full_ends_it_with_the_server_s_reason(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("issue_core.transports.nats.publishing.PATIENCE", 1.0)
    make_stream(server, max_msgs=100, discard="new")
    with pytest.raises(NatsError, match="maximum messages exceeded"):
        run(published_while(server.url, 200, lambda: None, after=100))


# ---- pipes


def test_what_comes_through_an_open_pipe_is_published_at_once(issue: Issue, server: NatsServer) -> None:
    make_stream(server)
    pipe = issue.folder / "pipe"
    os.mkfifo(pipe)
    seen: list[int] = []

    def emit() -> None:
        with pipe.open("w") as writer:
            for n in range(2):
                writer.write(ndjson(a_spec(n)))
                writer.flush()
                until(lambda n=n: len(stored(server)) == n + 1)
                seen.append(n)

    emitter = threading.Thread(target=emit)
    emitter.start()
    ran = issue.call("publish", "--nats-url", server.url, str(pipe))
    emitter.join()
    assert (ran.stdout, seen) == ("2 read: 2 published, 0 duplicate, 0 invalid\n", [0, 1])


def test_an_interrupt_ends_it_at_once_and_says_how_far_it_came(issue: Issue, server: NatsServer) -> None:
    make_stream(server)
    words = [ISSUE, "publish", "--nats-url", server.url]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, env=issue.environment, **pipes) as process:
        assert process.stdin
        process.stdin.write(ndjson(a_spec(1)).encode())
        process.stdin.flush()
        until(lambda: stored(server))
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
        assert process.stderr
        assert b"interrupted: at least 1 TaskSpecs are in the stream" in process.stderr.read()


def test_an_interrupt_is_heard_also_in_the_middle_of_large_documents(issue: Issue, server: NatsServer) -> None:
    make_stream(server)
    words = [ISSUE, "publish", "--nats-url", server.url]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, env=issue.environment, **pipes) as process:

        def emit() -> None:
            assert process.stdin
            with suppress(OSError):
                for n in range(10**6):
                    process.stdin.write(ndjson(a_spec(n, description="x" * 50_000)).encode())

        emitter = threading.Thread(target=emit)
        emitter.start()
        until(lambda: with_link(server, _count) > 100)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
        emitter.join()
        if process.stdin:
            with suppress(OSError):
                process.stdin.close()


async def _count(link: Link) -> int:
    return int((await ask(link, "STREAM.INFO.ACT_TASKS"))["state"]["messages"])


# ---- reading beside the event loop


def test_what_is_read_in_the_background_comes_in_order_and_ends() -> None:
    async def body() -> list[int]:
        return [each async for each in in_background(range(100))]

    assert run(body()) == list(range(100))


def test_no_more_than_two_items_are_read_before_one_is_taken_and_none_when_nobody_takes_any() -> None:
    read: list[int] = []
    ended = threading.Event()

    def items() -> Any:
        try:
            for n in range(100):
                read.append(n)
                yield n
        finally:
            ended.set()

    async def body() -> int:
        taken = in_background(items())
        first: int = await anext(taken)
        while len(read) < 3:
            await asyncio.sleep(0)
        await taken.aclose()  # type: ignore[attr-defined]
        return first

    assert run(body()) == 0
    until(ended.is_set)
    assert read == [0, 1, 2]


def test_what_reading_raises_is_raised_where_it_is_taken() -> None:
    def broken() -> Any:
        yield 1
        raise NatsError("no more")

    taken = []

    async def body() -> None:
        async for each in in_background(broken()):
            taken.append(each)

    with pytest.raises(NatsError, match="no more"):
        run(body())
    assert taken == [1]
