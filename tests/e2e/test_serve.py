"""``issue serve`` as its clients see it: the real command, real sockets, a real ledger."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from issue_core.config.settings import LOCAL
from tests.support.cli import Issue, a_spec, ndjson
from tests.support.serving import KEY, TIMEOUT, Raw, Serving, ask, in_chunks, post, serving

PROBLEM = "application/problem+json"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - as users may have it


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Issue]]:
    """One server for tests that leave it as it was, but for tasks of their own."""
    issue = Issue(tmp_path_factory.mktemp("serve"))
    with serving(issue) as running:
        yield running, issue


@pytest.fixture
def server(shared: tuple[Serving, Issue]) -> Serving:
    return shared[0]


def fresh(number: int, **changes: Any) -> dict[str, Any]:
    return a_spec(number, **changes)


def test_a_taskspec_is_created_once_and_can_be_read_where_the_answer_says(server: Serving) -> None:
    spec = fresh(1)
    first, again = (server.ask("POST", path, spec) for path in ("/issues/", "/issues"))
    assert (first.status, first.json()["outcome"]) == (201, "created")
    assert (again.status, again.json()["outcome"]) == (200, "duplicate")
    assert first.headers["location"] == again.headers["location"] == f"/issues/{spec['triggering_event_id']}"
    task = server.ask("GET", first.headers["location"]).json()
    assert (task["title"], task["state"], task["sightings"]) == ("Task 1", "pending", {"rest": 2})
    assert task["sync_metadata"]["ingestion"]["key"] == "ISSUE_CORE_API_KEY"


def test_any_spelling_of_the_event_id_finds_the_task(server: Serving) -> None:
    spec = fresh(2)
    server.ask("POST", "/issues", spec)
    event_id = spec["triggering_event_id"]
    for spelling in (event_id.upper(), event_id.replace("-", ""), f"%7B{event_id}%7D", f"urn:uuid:{event_id}"):
        assert server.ask("GET", f"/issues/{spelling}").json()["event_id"] == event_id
    assert server.ask("GET", "/issues/0190c7a4-0000-7c3b-8a43-3f2b8a1c9d10").status == 404
    assert server.ask("GET", "/issues/nothing").status == 404


def test_another_task_under_the_same_event_id_is_a_conflict_and_is_kept(server: Serving) -> None:
    server.ask("POST", "/issues", fresh(3))
    answer = server.ask("POST", "/issues", fresh(3, title="Another"))
    assert (answer.status, answer.headers["content-type"]) == (409, PROBLEM)
    problem = answer.json()
    assert (problem["outcome"], problem["errors"][0]["field"]) == ("conflict", "title")
    assert isinstance(problem["reject_id"], int)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"title": "x"}', 422),
        (b"[1", 200),
        (b"5", 422),
        (b"not json", 400),
        (b'{"a": NaN}', 400),
        (b"\xff", 400),
        (b'{"a": 1} {"a": 2}', 400),
        (b'{"title": "' + b"x" * 1_100_000 + b'"}', 413),
    ],
)
def test_what_is_no_taskspec_is_refused_with_reasons_and_kept(server: Serving, body: bytes, status: int) -> None:
    answer = server.ask("POST", "/issues", body)
    assert answer.status == status
    receipt = answer.json() if status != 200 else answer.json()[0]
    assert receipt["outcome"] == "invalid"
    assert receipt["errors"]
    assert isinstance(receipt["reject_id"], int)


def test_an_empty_body_is_refused_and_nothing_is_kept(server: Serving) -> None:
    answer = server.ask("POST", "/issues", b"  ")
    assert answer.status == 400
    assert "empty" in answer.json()["detail"]


def test_an_array_is_answered_with_an_array_in_its_order(server: Serving) -> None:
    answer = server.ask("POST", "/issues/", [fresh(10), {"no": "spec"}, fresh(10), fresh(10, title="else"), fresh(11)])
    assert answer.status == 200
    receipts = answer.json()
    assert [r["outcome"] for r in receipts] == ["created", "invalid", "duplicate", "conflict", "created"]
    assert [r["index"] for r in receipts] == [0, 1, 2, 3, 4]
    assert server.ask("POST", "/issues/", []).json() == []


def test_ndjson_is_answered_with_ndjson(server: Serving) -> None:
    body = ndjson(fresh(20), "", "oops", fresh(21)).encode()
    answer = server.ask("POST", "/issues", body, {"Content-Type": "application/x-ndjson; charset=utf-8"})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert [(r["outcome"], r["line"]) for r in answer.lines()] == [("created", 1), ("invalid", 3), ("created", 4)]
    nothing = server.ask("POST", "/issues", b"", {"Content-Type": "application/x-ndjson"})
    assert (nothing.status, nothing.body) == (200, b"")


def test_chunks_and_no_content_type_are_taken_for_json(server: Serving) -> None:
    body = json.dumps(fresh(30)).encode()
    with server.raw() as raw:
        head = f"POST /issues HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw.send(head, f"{len(body):x}\r\n", body, "\r\n0\r\n\r\n")
        assert raw.answer().status == 201


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json; charset=latin-1"}, 415),
        ({"Expect": "a miracle"}, 417),
        ({"Host": "evil.example"}, 421),
    ],
)
def test_what_a_header_asks_for_in_vain_is_told(server: Serving, headers: dict[str, str], status: int) -> None:
    answer = server.ask("POST", "/issues", fresh(40), headers)
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM)


def test_a_body_without_a_length_is_411_and_one_over_the_limit_413(issue: Issue) -> None:
    with serving(issue, config="[serve]\nmax_body = 5_000_000\n") as server:
        with server.raw() as raw:
            raw.send(f"POST /issues HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\r\n")
            assert raw.answer().status == 411
        with server.raw() as raw:
            raw.send(post(b"")[:-4], "\r\nContent-Type: application/x-ndjson\r\n\r\n")
        with server.raw() as raw:
            raw.send(
                f"POST /issues HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Length: 5000001\r\n\r\n",
                b"[" * 1_000_000,
            )
            assert raw.answer().status == 413
            assert raw.ends()


@pytest.mark.parametrize("path", ["/", "/issues", "/issues/x", "/metrics", "/openapi.json", "/nothing", "*"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS", "HEAD", "BREW"])
def test_without_a_key_everything_is_401(server: Serving, method: str, path: str) -> None:
    for key in (None, "wrong", ""):
        answer = server.ask(method, path, key=key)
        assert answer.status == 401
        offers = answer.headers["www-authenticate"]
        assert ("Basic" in offers) == (method in ("GET", "HEAD"))


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_whoever_watches_over_it_needs_no_key(server: Serving, path: str) -> None:
    answer = server.ask("GET", path, key=None)
    assert (answer.status, answer.json()["status"]) == (200, {"/healthz": "alive", "/readyz": "ready"}[path])
    assert server.ask("HEAD", path, key=None).headers["content-length"] == str(len(answer.body))


def test_a_browser_s_password_is_taken_for_reading_alone(server: Serving) -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(f"anybody:{KEY}".encode()).decode()}
    assert server.ask("GET", "/issues", headers=basic, key=None).status == 200
    assert server.ask("POST", "/issues", fresh(50), headers=basic, key=None).status == 401
    for broken in ("Basic !", "Basic", "Basic " + base64.b64encode(b"no-colon").decode()):
        assert server.ask("GET", "/issues", headers={"Authorization": broken}, key=None).status == 401


def test_each_key_has_a_name_that_the_task_carries(issue: Issue) -> None:
    config = '[serve.keys]\nold = { env = "OLD_KEY" }\nnew = { env = "NEW_KEY" }\n'
    environment = {"OLD_KEY": "an-old-key-0123456789", "NEW_KEY": "a-new-key-0123456789"}
    with serving(issue, key=None, config=config, environment=environment) as server:
        for number, (name, key) in enumerate(environment.items()):
            assert server.ask("POST", "/issues", fresh(number), key=key).status == 201
            task = server.ask("GET", f"/issues/{fresh(number)['triggering_event_id']}", key=key).json()
            assert task["sync_metadata"]["ingestion"]["key"] == name.partition("_")[0].lower()
        server.stop()
    assert not [line for line in server.log for key in environment.values() if key in line]


def test_pages_follow_one_another_to_the_end(issue: Issue) -> None:
    issue.run("ingest", input=ndjson(*(a_spec(n, target_repo=("a", "b")[n % 2]) for n in range(1, 8))))
    with serving(issue) as server:
        seen, target = [], "/issues?limit=3"
        for _ in range(3):
            page = server.ask("GET", target).json()
            seen += [task["seq"] for task in page["tasks"]]
            target = f"/issues?limit=3&after={page['next']}"
        assert (seen, page["next"]) == ([1, 2, 3, 4, 5, 6, 7], None)
        assert [task["seq"] for task in server.ask("GET", "/issues?repo=b&state=pending").json()["tasks"]] == [
            1,
            3,
            5,
            7,
        ]
        assert server.ask("GET", "/issues?state=synced").json() == {"tasks": [], "next": None}


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "limit=", "after=-1", "after=99999999999999999999", "state=open", "state=",
     "repo=", "color=red", "limit=1&limit=2", "limit=%ff", "limit", "&", "limit=\u0661"],
)  # fmt: skip
def test_a_query_that_cannot_be_meant_is_refused(server: Serving, query: str) -> None:
    with server.raw() as raw:
        raw.send(f"GET /issues?{query} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\r\n")
        assert raw.answer().status == 400


def test_head_and_options_and_other_methods_are_as_http_has_them(server: Serving) -> None:
    got, head = server.ask("GET", "/openapi.json"), server.ask("HEAD", "/openapi.json")
    assert head.status == 200
    assert (head.body, head.headers["content-length"]) == (b"", str(len(got.body)))
    assert server.ask("OPTIONS", "/issues").headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert server.ask("OPTIONS", "*").status == 204
    put = server.ask("PUT", "/issues", fresh(60))
    assert (put.status, put.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert server.ask("POST", "/healthz", b"").status == 405
    assert server.ask("GET", "/nothing").status == 404
    assert not [name for name in server.ask("OPTIONS", "/issues").headers if name.startswith("access-control")]


def test_one_connection_serves_many_requests_even_sent_at_once(server: Serving) -> None:
    with server.raw() as raw:
        raw.send(*(post(json.dumps(fresh(100 + n)).encode()) for n in range(20)))
        assert [raw.answer().status for _ in range(20)] == [201] * 20
        raw.send(post(b"{}", "Connection: close"))
        assert raw.answer().headers["connection"] == "close"
        assert raw.ends()


def test_http_1_0_is_answered_and_closed_unless_it_asks_otherwise(server: Serving) -> None:
    with server.raw() as raw:
        raw.send(post(json.dumps(fresh(130)).encode(), "Connection: keep-alive", version="HTTP/1.0"))
        assert raw.answer().headers["connection"] == "keep-alive"
        raw.send(f"GET /issues HTTP/1.0\r\nX-API-Key: {KEY}\r\n\r\n")
        assert raw.answer().status == 200
        assert raw.ends()


def test_a_body_that_nobody_wanted_is_read_so_that_the_connection_goes_on(server: Serving) -> None:
    with server.raw() as raw:
        raw.send(b"POST /issues HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345")
        assert raw.answer().status == 401
        raw.send(post(json.dumps(fresh(140)).encode()))
        assert raw.answer().status == 201


def test_a_client_that_waits_for_100_continue_is_not_made_to_send_in_vain(server: Serving) -> None:
    body = json.dumps(fresh(150)).encode()
    with server.raw() as raw:
        raw.send(post(body, "Expect: 100-continue")[: -len(body)])
        assert raw.answer().status == 100
        raw.send(body)
        assert raw.answer().status == 201
    with server.raw() as raw:
        raw.send("POST /issues HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert raw.answer().status == 401
        assert raw.ends()


def test_a_large_batch_is_stored_and_answered_whole(issue: Issue) -> None:
    body = ndjson(*(a_spec(n) for n in range(20_000))).encode()
    with serving(issue) as server:
        answer = server.ask("POST", "/issues", body, {"Content-Type": "application/x-ndjson"})
        assert answer.status == 200
        lines = answer.lines()
    assert [r["seq"] for r in lines] == list(range(1, 20_001))
    assert issue.run("status", "--json").objects[0]["total"] == 20_000


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(issue: Issue) -> None:
    with serving(issue) as server:
        with server.raw() as raw:
            raw.send(post(ndjson(*(a_spec(n) for n in range(50))).encode(), "Content-Type: application/x-ndjson")[:-10])
        assert server.stop() == 0
    assert issue.run("status", "--json").objects[0]["total"] == 0


def test_sigterm_answers_what_has_come_and_ends_with_0(issue: Issue) -> None:
    body = json.dumps(a_spec(1)).encode()
    with serving(issue) as server, server.raw() as half, server.raw() as idle:
        idle.send(post(json.dumps(a_spec(2)).encode()))
        assert idle.answer().status == 201
        half.send(post(body)[: -len(body)])
        assert server.ask("GET", "/healthz").status == 200
        server.process.send_signal(signal.SIGTERM)
        assert idle.ends()
        half.send(body)
        answer = half.answer()
        assert (answer.status, answer.headers["connection"]) == (201, "close")
        assert server.process.wait(10) == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(server.address, timeout=TIMEOUT)


def test_a_tracker_that_hangs_does_not_keep_the_server_from_ending(issue: Issue) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tracker:
        config = f"""
            default_backend = "work"
            [backends.work]
            type = "gitea"
            url = "http://127.0.0.1:{tracker.getsockname()[1]}"
            token = {{ env = "TOKEN" }}
            project = "acme/web"
        """
        with serving(issue, "--sync", config=config, environment={"TOKEN": "t"}) as server:
            assert server.ask("POST", "/issues", a_spec(1)).status == 201
            with tracker.accept()[0]:
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(10) == 0


def test_long_batches_do_not_keep_it_from_ending(issue: Issue) -> None:
    body = b"{\n" * 300_000  # each line a reject, which takes its time
    with serving(issue) as server, server.raw() as one, server.raw() as other:
        for raw in (one, other):
            raw.send(post(body, "Content-Type: application/x-ndjson"))
        until(lambda: issue.run("status", "--json").objects[0]["rejects"] > 0)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(12) == 0
    assert not [line for line in server.log if "Traceback" in line]


def test_an_interrupt_ends_it_too_and_says_so_in_the_exit_code(issue: Issue) -> None:
    with serving(issue) as server:
        assert server.stop(signal.SIGINT) == 130
        assert not [line for line in server.log if "Traceback" in line]


def test_a_ledger_that_was_deleted_takes_nothing_more(issue: Issue) -> None:
    with serving(issue) as server:
        assert server.ask("POST", "/issues", a_spec(1)).status == 201
        for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
            (issue.folder / name).unlink()
        assert server.ask("POST", "/issues", a_spec(2)).status == 503
        assert server.ask("GET", "/readyz", key=None).status == 503
        assert not issue.path.exists()


def test_an_answer_that_the_client_takes_slowly_comes_whole(issue: Issue) -> None:
    specs = [json.dumps(a_spec(1, description="x", **{f"field{n}": n for n in range(5)})).encode()]
    specs.append(json.dumps(a_spec(1, description="y", **{"long" * 50 + str(n): n for n in range(110)})).encode())
    with serving(issue) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
        connection.settimeout(TIMEOUT)
        connection.connect(server.address)
        with Raw(connection) as raw:
            requests = [post(specs[0]), *(post(specs[1]) for _ in range(30))]
            sender = threading.Thread(target=raw.send, args=requests)
            sender.start()
            answers = [raw.answer() for _ in range(31)]
            sender.join()
    assert [answer.status for answer in answers] == [201, *[409] * 30]
    assert all(len(answer.json()["errors"]) <= 102 for answer in answers[1:])


def test_a_byte_order_mark_is_nothing_however_the_body_comes(server: Serving) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(fresh(200)).encode()
    with server.raw() as raw:
        raw.send(in_chunks(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"), post(body))
        assert [raw.answer().status, raw.answer().status] == [201, 200]


def test_a_busy_ledger_is_503_and_promises_nothing(issue: Issue) -> None:
    with serving(issue, config="[serve]\nbusy_timeout = 0.05\n") as server:
        with issue.ledger as ledger, ledger.write():
            answer = server.ask("POST", "/issues", a_spec(1))
            assert (answer.status, answer.headers["content-type"]) == (503, PROBLEM)
            assert int(answer.headers["retry-after"]) > 0
            assert server.ask("GET", "/readyz", key=None).status == 503
            assert server.ask("GET", "/healthz", key=None).status == 200
        assert server.ask("POST", "/issues", a_spec(1)).status == 201


def test_with_sync_an_issue_is_made_without_further_ado(issue: Issue) -> None:
    with serving(issue, "--sync") as server:
        assert server.ask("POST", "/issues", a_spec(1)).status == 201
        until(lambda: any(line.startswith("created: task 1 ") for line in server.log))
        assert server.ask("GET", f"/issues/{a_spec(1)['triggering_event_id']}").json()["backend"] == LOCAL
        assert server.stop() == 0
    assert len(list((issue.folder / "issues").rglob("*.md"))) == 1


def test_sync_that_cannot_run_says_so_once_and_tasks_are_taken_all_the_same(issue: Issue) -> None:
    config = """
        default_backend = "work"
        [backends.work]
        type = "gitea"
        url = "http://127.0.0.1:9"
        token = { env = "NO_SUCH_TOKEN" }
    """
    with serving(issue, "--sync", config=config) as server:
        assert server.ask("POST", "/issues", a_spec(1)).status == 201
        assert server.ask("POST", "/issues", a_spec(2)).status == 201
        assert server.stop() == 0
    assert not [line for line in server.log if "Traceback" in line]
    assert issue.run("status", "--json").objects[0]["states"]["pending"] == 2


def test_a_ledger_that_cannot_be_used_is_told_before_anything_is_served(issue: Issue) -> None:
    issue.path.mkdir()
    ran = issue.run("serve", "--no-auth", "--port", "0")
    assert ran.code == 1
    assert "is a folder" in ran.stderr or "is no file" in ran.stderr or "not a file" in ran.stderr
    assert "serving" not in ran.stderr


def test_the_page_for_people_is_there_and_finds_tasks(server: Serving) -> None:
    spec = fresh(70, title="<b>Renew</b> the certificate")
    server.ask("POST", "/issues", spec)
    page = server.ask("GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert b"&lt;b&gt;Renew&lt;/b&gt; the certificate" in page.body
    assert b"&lt;b&gt;Renew" in server.ask("GET", f"/?find={spec['triggering_event_id'][:8]}").body
    assert server.ask("GET", "/?colour=red").status == 400


def test_the_metrics_survive_a_restart_for_they_are_the_ledger_s(issue: Issue) -> None:
    for wanted in (b'outcome="created"} 1\n', b'outcome="created"} 2\n'):
        with serving(issue) as server:
            server.ask("POST", "/issues", a_spec(wanted[-2]))
            metrics = server.ask("GET", "/metrics")
            assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert b'issue_core_received_total{transport="rest",' + wanted in metrics.body
            # How long the answer took is known when it was sent, which may be a moment after it was read.
            until(lambda server=server: b'route="/issues",status="201"' in server.ask("GET", "/metrics").body)


def until(condition: Any) -> None:
    done = threading.Event()
    for _ in range(TIMEOUT * 100):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError("it did not come to that")


def test_the_access_log_has_a_line_a_request_and_no_secret(issue: Issue) -> None:
    with serving(issue, "--log-format", "json") as server:
        server.ask("POST", f"/issues/?api_key={KEY}", a_spec(1))
        server.ask("GET", "/issues", key="a-wrong-key")
        server.stop()
    entries = [json.loads(line) for line in server.log if line.startswith("{")]
    assert [(e["method"], e["path"], e["status"], e.get("key")) for e in entries] == [
        ("POST", "/issues/", 201, "ISSUE_CORE_API_KEY"),
        ("GET", "/issues", 401, None),
    ]
    assert entries[0]["event_id"] == a_spec(1)["triggering_event_id"]
    assert not [line for line in server.log if KEY in line or "a-wrong-key" in line]


def test_a_log_that_nobody_reads_holds_nothing_up(issue: Issue) -> None:
    environment = issue.environment | {"ISSUE_CORE_API_KEY": KEY}
    ours, its = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = issue.start("serve", "--port", str(port), stdin=None, stdout=None, stderr=its, env=environment)
    os.close(its)
    try:
        server = Serving(process, f"http://127.0.0.1:{port}")
        until(lambda: b"serving" in os.read(ours, 4096))
        connection = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)
        for _ in range(2_000):  # more lines than a pipe takes
            assert ask(connection, "GET", "/issues/no").status == 404
        connection.close()
        assert server.stop() == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_tls_is_spoken_where_a_certificate_is_given(issue: Issue, certificate: tuple[Path, Path]) -> None:
    import ssl

    cert, key = map(str, certificate)
    with serving(issue, "--tls-cert", cert, "--tls-key", key) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with server.raw() as raw:
            raw.send(b"GET / HTTP/1.1\r\n\r\n")
            assert raw.ends()
        context = ssl.create_default_context(cafile=cert)
        connection = http.client.HTTPSConnection(*server.address, context=context, timeout=TIMEOUT)
        for number in (1, 2):
            connection.request("POST", "/issues", json.dumps(a_spec(number)), {"X-API-Key": KEY})
            with connection.getresponse() as answer:
                assert answer.status == 201
        connection.close()
        assert server.stop() == 0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.mark.parametrize(
    ("words", "key", "config", "says"),
    [
        ([], None, "", "there is no key"),
        (["--no-auth", "--host", EVERYWHERE], None, "", "--no-auth is for a loopback address"),
        (["--tls-cert", "x.pem"], KEY, "", "go together"),
        (["--tls-cert", "x.pem", "--tls-key", "y.pem"], KEY, "", "cannot be used: No such file"),
        (["--host", "no.such.host.invalid"], KEY, "", "is no address of this machine"),
        (["--log-format", "xml"], KEY, "", "text, json or none"),
        ([], None, '[serve.keys]\na = { env = "NOT_SET" }\n', "NOT_SET is not set"),
    ],
)
def test_what_cannot_start_says_why(issue: Issue, words: list[str], key: str | None, config: str, says: str) -> None:
    (issue.folder / "config.toml").write_text(config)
    environment = issue.environment | ({"ISSUE_CORE_API_KEY": key} if key else {})
    ran = issue.run("serve", *words, env=environment)
    assert ran.code == 2
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_port_that_is_taken_is_told(issue: Issue) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = issue.run("serve", "--no-auth", "--port", str(taken.getsockname()[1]))
    assert ran.code == 1
    assert "cannot listen on 127.0.0.1" in ran.stderr


def test_off_loopback_without_tls_there_is_a_warning(issue: Issue) -> None:
    with serving(issue, "--host", EVERYWHERE) as server:
        assert [
            line for line in server.log if line.startswith("warning: keys and tasks go over the network in the clear")
        ]
        assert server.ask("GET", "/healthz", headers={"Host": "any.example"}).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_a_page_in_a_browser_cannot_make_tasks_where_no_key_is_needed(issue: Issue, origin: str) -> None:
    with serving(issue, "--no-auth", key=None) as server:
        assert server.ask("POST", "/issues", a_spec(1), {"Origin": origin}, key=None).status == 403
        assert server.ask("GET", "/issues", headers={"Origin": origin}, key=None).json()["tasks"] == []
        assert server.ask("POST", "/issues", a_spec(1), {"Origin": server.url}, key=None).status == 201


def test_without_keys_on_loopback_the_host_is_still_looked_at(issue: Issue) -> None:
    with serving(issue, "--no-auth", key=None, config='[serve]\nhosts = ["issues.example"]\n') as server:
        assert server.ask("GET", "/issues", key=None).status == 200
        assert server.ask("GET", "/issues", headers={"Host": "issues.example"}, key=None).status == 200
        assert server.ask("GET", "/issues", headers={"Host": "rebound.example"}, key=None).status == 421
