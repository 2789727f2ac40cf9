"""What is in the stream is in the ledger once, and acknowledged only then, whatever server and ledger do meanwhile."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import ConsumerConfig, StreamConfig

from issue_core.config import NatsSettings
from issue_core.errors import IssueCoreError, LedgerFull, LedgerMoved, NatsError
from issue_core.ingestion import ingest
from issue_core.transports.nats import messages, storing, subscriber
from issue_core.transports.nats.connection import Link
from issue_core.transports.nats.jetstream import ask
from issue_core.transports.nats.storing import prove
from tests.support.cli import TIMEOUT, Issue, a_spec
from tests.support.nats_server import NatsServer, make_as, nats_server, run, until
from tests.support.ports import free_port
from tests.transports.nats.accounts import Operator
from tests.transports.nats.conftest import with_link
from tests.transports.nats.subscribing import (
    CONSUMER,
    command,
    ended,
    info,
    is_done,
    is_waiting,
    make,
    offered,
    process,
    put,
    subscribing,
    take_without_an_answer,
    tasks,
)


def test_each_task_is_stored_once_with_where_it_came_from(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, a_spec(1), a_spec(2, target_repo="acme/web.app"))
    ran = command(issue, server, "--until-empty", "--json")
    assert (ran.code, [each["outcome"] for each in ran.objects]) == (0, ["created", "created"])
    assert ran.objects[1] == ran.objects[1] | {"file": "ACT_TASKS", "line": 2, "warnings": [], "state": "pending"}
    first, second = (task["sync_metadata"]["ingestion"] for task in tasks(issue))
    assert first == first | {"stream": "ACT_TASKS", "sequence": 1, "subject": "act.tasks.create.acme/web"}
    assert second == second | {"stream": "ACT_TASKS", "sequence": 2, "subject": "act.tasks.create.acme/web%2Eapp"}
    assert first["published_at"].endswith("Z")
    assert first["published_at"] <= tasks(issue)[0]["created_at"]
    assert is_done(server)
    assert command(issue, server, "--until-empty").stdout == ""


def test_what_is_no_taskspec_lies_among_the_rejects_and_stops_nothing(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, a_spec(1), b"{broken", b"", a_spec(2, title=""), a_spec(3), a_spec(1, title="Another"))
    ran = command(issue, server, "--until-empty")
    assert (ran.code, ran.stdout) == (0, "6 taken: 2 created, 0 duplicate, 1 conflict, 3 invalid\n")
    assert [line.split(" (")[0] for line in ran.stderr.splitlines()[1:]] == [
        "ACT_TASKS:2: reject 1",
        "ACT_TASKS:3: reject 2",
        "ACT_TASKS:4: reject 3",
        "ACT_TASKS:6: reject 4",
    ]
    assert is_done(server)


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({"Content-Type": "application/json"}, "created"),
        ({"content-type": "Application/JSON; charset=utf-8"}, "created"),
        ({"Status": "404"}, "created"),
        ({"Content-Type": "text/yaml"}, "invalid"),
    ],
)
def test_a_message_that_says_it_is_no_json_is_invalid(
    issue: Issue, server: NatsServer, headers: dict[str, str], outcome: str
) -> None:
    make(server)
    put(server, a_spec(1), headers=headers)
    [receipt] = command(issue, server, "--until-empty", "--json").objects
    assert receipt["outcome"] == outcome
    if outcome == "invalid":
        assert "Content-Type is text/yaml" in receipt["errors"][0]["problem"]
    assert is_done(server)


def test_a_subject_that_is_not_that_of_the_body_is_a_warning(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, a_spec(1), subject="act.tasks.create.acme/other")
    ran = command(issue, server, "--until-empty")
    assert "warning: it came under act.tasks.create.acme/other" in ran.stderr
    assert tasks(issue)[0]["target_repo"] == "acme/web"


def test_verbs_that_have_no_meaning_are_left_alone(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, a_spec(1), subject="act.tasks.update.acme/web")
    put(server, a_spec(2))
    assert command(issue, server, "--until-empty").stdout.startswith("1 taken: 1 created")


def test_strict_refuses_unknown_fields(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, a_spec(1, mine=1))
    [receipt] = command(issue, server, "--until-empty", "--strict", "--json").objects
    assert receipt["outcome"] == "invalid"


def test_more_than_a_batch_comes_in_batches(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, *(a_spec(n) for n in range(25)))
    with subscribing(issue, server, batch=10, until_empty=True) as running:
        assert running.wait() == "empty"
    assert [len(group) for group in running.groups] == [10, 10, 5]
    assert is_done(server)


def test_what_was_committed_and_not_acknowledged_is_a_duplicate(issue: Issue, server: NatsServer) -> None:
    make(server, ack_wait=1)
    put(server, a_spec(1))
    take_without_an_answer(server, 1)
    with issue.ledger as ledger:
        ingest(ledger, [json.dumps(a_spec(1))], transport="nats")
    ran = command(issue, server, "--until-empty")
    assert ran.stdout == "1 taken: 0 created, 1 duplicate, 0 conflict, 0 invalid\n"
    assert is_done(server)


def test_what_was_delivered_before_is_handled_alone(issue: Issue, server: NatsServer) -> None:
    make(server, ack_wait=1)
    put(server, *(a_spec(n) for n in range(8)))
    take_without_an_answer(server, 5)
    with subscribing(issue, server, until_empty=True) as running:
        assert running.wait() == "empty"
    again = {str(a_spec(n)["triggering_event_id"]) for n in range(5)}
    alone = [group[0].event_id for group in running.groups if len(group) == 1]
    assert again <= set(alone)
    assert len(running.receipts) == len(tasks(issue)) == 8


def test_after_two_deliveries_without_an_answer_one_is_taken_at_a_time(
    issue: Issue, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "KEEP_ALIVE", 0.3)
    make(server, ack_wait=2)
    put(server, *(a_spec(n) for n in range(5)))
    take_without_an_answer(server, 5)
    take_without_an_answer(server, 5)
    with subscribing(issue, server, until_empty=True) as running:
        until(lambda: is_waiting(server))
        with issue.ledger as ledger, ledger.write():
            until(lambda: running.said)
            assert info(server)["delivered"]["consumer_seq"] == 5 + 5 + 1
        assert running.wait() == "empty"
    assert len(tasks(issue)) == 5


def test_nothing_is_pulled_while_the_ledger_cannot_be_written(issue: Issue, server: NatsServer) -> None:
    make(server)
    with subscribing(issue, server) as running:
        until(lambda: is_waiting(server))
        with issue.ledger as ledger, ledger.write():
            until(lambda: len(running.said) == 1)
            put(server, a_spec(1))
            found = info(server)
            assert (found["num_pending"], found["num_ack_pending"], found["num_waiting"]) == (1, 0, 0)
        until(lambda: is_done(server))
    assert [text.partition(": ")[2].partition(";")[0] for text in running.said] == [
        "another process kept the write lock for too long",
        "it can be written again",
    ]
    assert [each.outcome for each in running.receipts] == ["created"]


def test_a_batch_that_cannot_be_committed_is_kept_and_uses_up_no_delivery(
    issue: Issue, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "KEEP_ALIVE", 0.3)
    make(server, ack_wait=1)
    with subscribing(issue, server) as running:
        until(lambda: is_waiting(server))
        with issue.ledger as ledger, ledger.write():
            put(server, a_spec(1))
            until(lambda: running.said)
            assert offered(server, 3.0) == 0
            found = info(server)
            assert (found["num_ack_pending"], found["num_redelivered"]) == (1, 0)
            assert not running.receipts
        until(lambda: is_done(server))
        assert info(server)["delivered"]["consumer_seq"] == 1
    assert len(tasks(issue)) == 1
    assert len(running.said) == 2


def test_it_ends_in_time_with_a_batch_that_cannot_be_committed(issue: Issue, server: NatsServer) -> None:
    make(server)
    with subscribing(issue, server) as running:
        until(lambda: is_waiting(server))
        with issue.ledger as ledger, ledger.write():
            put(server, a_spec(1))
            until(lambda: running.said)
            running.stop.set()
            assert running.wait() == "stopped"
    assert info(server)["num_ack_pending"] == 1


def test_a_disk_without_room_for_a_batch_is_told_before_anything_is_pulled(issue: Issue) -> None:
    with issue.ledger as ledger:
        prove(ledger, 1)
        with pytest.raises(LedgerFull, match="MiB are left"):
            prove(ledger, 10**15)


def test_it_does_not_start_on_a_ledger_that_cannot_be_written(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, a_spec(1))
    with issue.ledger as ledger, ledger.write():
        pass
    issue.path.chmod(0o444)
    ran = command(issue, server)
    assert (ran.code, "it is read-only" in ran.stderr) == (1, True)
    assert info(server)["num_pending"] == 1


@pytest.mark.parametrize("what", ["consumer", "stream"])
def test_what_is_removed_while_nothing_comes_ends_it_soon(issue: Issue, server: NatsServer, what: str) -> None:
    make(server)
    with subscribing(issue, server) as running:
        until(lambda: is_waiting(server))
        began = time.monotonic()
        verb = f"CONSUMER.DELETE.{CONSUMER}" if what == "consumer" else "STREAM.DELETE.ACT_TASKS"
        with_link(server, lambda link: ask(link, verb))
        end = running.wait()
    assert time.monotonic() - began < 10
    assert isinstance(end, NatsError)
    assert f"there is no {what} " in end.message
    assert end.exit_code == 1


def test_a_consumer_that_pushes_now_ends_it_soon(issue: Issue, server: NatsServer) -> None:
    make(server)
    with subscribing(issue, server) as running:
        until(lambda: is_waiting(server))
        began = time.monotonic()
        replace_consumer(server, deliver_subject="elsewhere")
        end = running.wait()
    assert time.monotonic() - began < 10
    assert isinstance(end, IssueCoreError)
    assert "nobody can pull from it" in end.message


def replace_consumer(server: NatsServer, **changes: Any) -> None:
    """Remove the consumer and make it anew, otherwise."""
    settings: dict[str, Any] = {
        "durable_name": "issue-core-ingest",
        "filter_subject": "act.tasks.create.>",
        "max_deliver": 5,
        "ack_policy": "explicit",
    }

    async def replaced(link: Link) -> None:
        await ask(link, f"CONSUMER.DELETE.{CONSUMER}")
        await link.client.jetstream().add_consumer("ACT_TASKS", ConsumerConfig(**settings | changes))

    with_link(server, replaced)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ack_policy": "none", "max_deliver": -1}, "messages count as handled before they are"),
        ({"deliver_subject": "elsewhere"}, "nobody can pull from it"),
        ({"filter_subject": "act.tasks.>"}, "what is no new task is delivered as one"),
        ({"filter_subject": "act.tasks.create.acme/web"}, "some of the tasks are not delivered"),
        ({"deliver_policy": "new"}, "what came before it is never delivered"),
    ],
)
def test_a_consumer_that_would_lose_messages_is_refused(
    issue: Issue, server: NatsServer, changes: dict[str, Any], why: str
) -> None:
    make(server)
    put(server, a_spec(1))
    replace_consumer(server, **changes)
    ran = command(issue, server)
    assert (ran.code, why in ran.stderr) == (2, True), ran.stderr
    assert not tasks(issue)


def test_a_stream_in_memory_is_refused(issue: Issue, server: NatsServer) -> None:
    stream = StreamConfig(name="ACT_TASKS", subjects=["act.tasks.>"], storage="memory")  # type: ignore[arg-type]
    with_link(server, lambda link: link.client.jetstream().add_stream(stream))
    ran = command(issue, server)
    assert (ran.code, "messages are gone when the server restarts" in ran.stderr) == (2, True)


def test_what_is_not_there_is_told(issue: Issue, server: NatsServer) -> None:
    ran = command(issue, server)
    assert (ran.code, ran.stderr.splitlines()[1:]) == (
        1,
        [
            f"issue: there is no stream ACT_TASKS at 127.0.0.1:{server.port}.",
            "hint: `issue nats setup` makes it",
        ],
    )


@pytest.mark.parametrize("subjects", ["act.tasks.>", "act.tasks.update.>", "other.>"])
def test_a_filter_for_what_is_no_new_task_is_refused(issue: Issue, server: NatsServer, subjects: str) -> None:
    ran = command(issue, server, "--filter", subjects)
    assert (ran.code, "gets what is no new task" in ran.stderr) == (2, True)


def test_it_goes_on_after_the_server_was_killed(issue: Issue, server: NatsServer) -> None:
    make(server, ack_wait=1)  # what a killed server did not write down of the acknowledgements comes again
    put(server, a_spec(1))
    with subscribing(issue, server) as running:
        until(lambda: running.created == 1 and is_waiting(server))
        server.kill()
        until(lambda: running.said)
        server.start()
        put(server, a_spec(2))
        until(lambda: running.created == 2)
        server.restart()
        put(server, a_spec(3))
        until(lambda: running.created == 3 and is_done(server))
    assert running.end == "stopped"
    assert len(tasks(issue)) == 3
    lost, back = (sum(text in line for line in running.said) for text in (" is lost", "connected again"))
    assert (lost, back) == (2, 2)


def test_it_waits_for_a_server_that_is_not_there_yet(issue: Issue, tmp_path: Path) -> None:
    folder = tmp_path / "late"
    folder.mkdir()
    with nats_server(folder) as late:
        make(late)
        put(late, a_spec(1))
        late.stop()
        with subscribing(issue, late) as running:
            until(lambda: running.said)
            late.start()
            until(lambda: running.receipts)
    assert "trying again until it is there" in running.said[0]


def test_it_ends_with_stuck_when_nothing_moves(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, a_spec(1))
    take_without_an_answer(server, 1)
    with subscribing(issue, server, until_empty=True, patience=1.0) as running:
        assert running.wait() == "stuck"
    assert not running.receipts


def test_it_is_not_empty_while_another_host_works(issue: Issue, server: NatsServer) -> None:
    make(server, ack_wait=2)
    put(server, a_spec(1))
    take_without_an_answer(server, 1)
    assert command(issue, server, "--until-empty").stdout.startswith("1 taken: 1 created")


INTERRUPTED = "issue: interrupted: what was taken is stored; what was not answered comes again\n"


@pytest.mark.parametrize(("number", "code", "says"), [(signal.SIGTERM, 0, ""), (signal.SIGINT, 130, INTERRUPTED)])
def test_a_signal_ends_it_within_seconds(issue: Issue, server: NatsServer, number: int, code: int, says: str) -> None:
    make(server)
    put(server, *(a_spec(n) for n in range(10)))
    with process(issue, "--nats-url", server.url) as running:
        until(lambda: is_done(server) and is_waiting(server))
        ended_with, errors, seconds = ended(running, number)
    assert (ended_with, errors) == (code, f"taking tasks from ACT_TASKS into {issue.path}\n{says}")
    assert seconds < 5
    assert len(tasks(issue)) == 10
    assert not is_waiting(server)


def test_a_signal_under_load_leaves_nothing_in_flight(issue: Issue, server: NatsServer) -> None:
    make(server)
    put(server, *(a_spec(n) for n in range(3000)))
    with process(issue, "--nats-url", server.url, "--batch", "50") as running:
        until(lambda: issue.path.exists() and len(tasks(issue)) >= 100)
        ended_with, errors, seconds = ended(running, signal.SIGTERM)
    assert (ended_with, errors.count("\n")) == (0, 1)
    assert seconds < 5
    found = info(server)
    assert found["num_ack_pending"] == 0
    assert found["num_pending"] == 3000 - len(tasks(issue)) > 0


def test_credentials_that_expire_end_it_with_a_clear_text(issue: Issue, tmp_path: Path) -> None:
    operator, folder = Operator(), tmp_path / "operator"
    folder.mkdir()
    with nats_server(folder, more=operator.configuration()) as server:
        lasting = NatsSettings(url=server.url, creds=operator.credentials(tmp_path / "lasting.creds"))
        run(make_as(lasting))
        short = operator.credentials(tmp_path / "short.creds", expires=3)
        ran = command(issue, server, "--config", str(_configuration(issue, short)))
    assert (ran.code, "refuses the credentials" in ran.stderr) == (1, True), ran.stderr


def _configuration(issue: Issue, credentials: Path) -> Path:
    file = issue.folder / "nats.toml"
    file.write_text(f'[nats]\ncreds = "{credentials}"\n')
    return file


def test_a_signal_ends_it_while_no_server_is_there(issue: Issue) -> None:
    with process(issue, "--nats-url", f"nats://127.0.0.1:{free_port()}") as running:
        assert running.stderr
        for line in iter(running.stderr.readline, b""):
            if b"trying again" in line:
                break
        ended_with, _, seconds = ended(running, signal.SIGTERM)
    assert (ended_with, seconds < 5) == (0, True)


def test_with_sync_what_comes_is_an_issue_soon(issue: Issue, server: NatsServer) -> None:
    make(server)
    with process(issue, "--nats-url", server.url, "--sync") as running:
        until(lambda: is_waiting(server))
        put(server, a_spec(1))
        until(lambda: [task["state"] for task in tasks(issue)] == ["synced"])
        ended_with, errors, _ = ended(running, signal.SIGTERM)
    assert (ended_with, "created: task 1 " in errors) == (0, True)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_ledger_that_is_moved_away_takes_nothing_and_nothing_is_acknowledged(
    issue: Issue, server: NatsServer, how: str
) -> None:
    make(server)
    put(server, a_spec(1))
    with subscribing(issue, server) as running:
        until(lambda: running.created == 1)
        if how == "replaced":
            issue.path.with_name("new.db").write_bytes(issue.path.read_bytes())
            issue.path.with_name("new.db").replace(issue.path)
        else:
            issue.path.unlink()
        put(server, a_spec(2))
        end = running.wait()
    assert isinstance(end, LedgerMoved)
    assert "was moved or deleted while it was in use" in end.message
    assert running.created == 1
    assert info(server)["num_pending"] + info(server)["num_ack_pending"] == 1


def test_what_takes_long_to_judge_does_not_hold_up_the_end(
    issue: Issue, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(server)
    put(server, *map(a_spec, range(50)))
    begun = threading.Event()

    def slowly(*arguments: Any, **named: Any) -> Any:
        begun.set()
        time.sleep(0.2)
        return messages.judged(*arguments, **named)

    monkeypatch.setattr(storing, "judged", slowly)
    monkeypatch.setattr(storing, "GRACE", 0.1)
    with subscribing(issue, server) as running:
        begun.wait(TIMEOUT)
        running.stop.set()
        began = time.monotonic()
        assert running.wait() == "stopped"
        assert time.monotonic() - began < 5
    assert running.receipts == []
    assert info(server)["num_ack_pending"] == 50


def test_without_a_server_it_does_not_wait_for_ever_to_find_nothing_left(issue: Issue) -> None:
    away = NatsSettings(url=f"nats://127.0.0.1:{free_port()}")
    with subscribing(issue, NatsServer(issue.folder), settings=away, until_empty=True, patience=0.5) as running:
        assert running.wait() == "stuck"
    assert [text for text in running.said if "trying again until it is there" in text]


def test_what_is_missing_names_the_command_that_makes_just_that(issue: Issue, server: NatsServer) -> None:
    ran = command(issue, server, "--durable", "web", "--filter", "act.tasks.create.web")
    assert ran.code == 1
    assert "`issue nats setup --durable 'web' --filter 'act.tasks.create.web'` makes it" in ran.stderr


@pytest.mark.parametrize(
    "line",
    [
        b"PUB act.tasks.create.b\xfcro 2\r\n{}\r\n",
        b"PUB act.tasks.create.a\x0bb 2\r\n{}\r\n",
        b"HPUB act.tasks.create.x 1 3\r\nN{}\r\n",
        b"HPUB act.tasks.create.x 4 6\r\n\r\n\r\n{}\r\n",
    ],
    ids=["no UTF-8", "a vertical tab", "a short header", "no header"],
)
def test_a_message_that_the_client_cannot_read_is_a_reject_and_stops_nothing(
    issue: Issue, server: NatsServer, line: bytes
) -> None:
    make(server)
    put(server, *map(a_spec, range(5)))
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        wire.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n' + line + b"PING\r\n")
        heard = b""
        while b"PONG" not in heard:
            heard += wire.recv(4096)
    until(lambda: info(server)["num_pending"] == 6)
    put(server, *map(a_spec, range(5, 10)))
    ran = command(issue, server, "--until-empty")
    assert (ran.code, ran.stdout) == (0, "11 taken: 10 created, 0 duplicate, 0 conflict, 1 invalid\n")


def test_it_comes_back_though_something_else_answered_at_the_address_meanwhile(issue: Issue, tmp_path: Path) -> None:
    with nats_server(tmp_path) as server, subscribing(issue, server) as running:
        make(server)
        put(server, a_spec(1))
        until(lambda: running.created == 1)
        server.kill()
        with socket.create_server(("127.0.0.1", server.port), reuse_port=False) as other:
            for said in (b"INFO []\r\n", b"INFO null\r\n", b"-ERR\r\n", b"x" * 70_000):
                wire, _ = other.accept()
                with wire:
                    wire.sendall(said)
        server.start()
        put(server, a_spec(2))
        until(lambda: running.created == 2)


def test_redelivered_messages_in_hand_do_not_hold_up_the_end_while_the_server_is_away(
    issue: Issue, tmp_path: Path
) -> None:
    with nats_server(tmp_path) as server:
        make(server, ack_wait=1.0)
        put(server, *map(a_spec, range(60)))
        take_without_an_answer(server, 60)
        until(lambda: not is_done(server) and info(server)["num_ack_pending"] == 60)
        time.sleep(1.2)
        with subscribing(issue, server) as running:
            until(lambda: len(running.groups) >= 3)
            server.kill()
            running.stop.set()
            began = time.monotonic()
            running.wait()
            assert time.monotonic() - began < 10
