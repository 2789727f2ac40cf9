"""Too few descriptors, places or bytes on the disk: what is refused is told, and the rest goes on."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from issue_core.transports.http import access_log
from tests.support.cli import Issue, a_spec
from tests.support.serving import (
    TIMEOUT,
    Answered,
    Serving,
    adds_up,
    cpu_seconds,
    descriptors,
    get,
    serving,
    until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


MIB = 1024 * 1024


def test_without_descriptors_new_clients_are_still_answered_and_nothing_spins(issue: Issue) -> None:
    with serving(issue) as server:
        pid = server.process.pid
        assert server.ask("POST", "/issues", a_spec(1)).status == 201
        assert server.ask("GET", "/issues").status == 200
        room = descriptors(pid) + 20
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, room))
        with ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(socket.create_connection(server.address, timeout=TIMEOUT))
            for number in range(2, 12):
                assert server.ask("POST", "/issues", a_spec(number)).status == 201
                assert server.ask("GET", "/issues?limit=1").status == 200
            before = cpu_seconds(pid)
            threading.Event().wait(1)
            spent = cpu_seconds(pid) - before
        assert server.ask("GET", "/healthz").status == 200
        assert server.stop() == 0
    assert spent < 0.5
    assert not [line for line in server.log if "Traceback" in line]
    assert adds_up(issue)["created"] == 11


def _large(number: int) -> dict[str, object]:
    return a_spec(number, description="x" * 50_000)


def _fills_up(server: Serving) -> tuple[dict[str, int], Answered]:
    """Post until there is no room: the receipts by event ID, and the answer that says so."""
    promised: dict[str, int] = {}
    for number in range(10_000):
        answer = server.ask("POST", "/issues", _large(number))
        if answer.status != 201:
            return promised, answer
        promised[answer.json()["event_id"]] = answer.json()["seq"]
    raise AssertionError("there was room for everything")


def _says_that_it_is_full(server: Serving, promised: dict[str, int], refusal: Answered) -> None:
    assert (refusal.status, refusal.headers["content-type"]) == (503, "application/problem+json")
    assert int(refusal.headers["retry-after"]) > 0
    event_id, seq = promised.popitem()
    promised[event_id] = seq
    assert server.ask("GET", f"/issues/{event_id}").json()["seq"] == seq
    refused = _large(len(promised))["triggering_event_id"]
    assert server.ask("GET", f"/issues/{refused}").status == 404
    batch = server.ask("POST", "/issues", [_large(number) for number in range(20_000, 20_020)])
    assert (batch.status, int(batch.headers["retry-after"]) > 0) == (503, True)
    assert server.ask("GET", "/healthz").status == 200


def _holds(issue: Issue, promised: dict[str, int]) -> None:
    with issue.ledger as ledger, ledger.read() as connection:
        found = dict(connection.execute("SELECT event_id, seq FROM tasks"))
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert promised.items() <= found.items()
    adds_up(issue)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, on which a ledger counts as ready, but not for long."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=22m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("NOT TESTED: only root can mount a small disk; the file size limit below stands in for it")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_on_a_full_disk_what_is_posted_is_refused_and_the_rest_goes_on(small_disk: Path) -> None:
    issue = Issue(small_disk)
    with serving(issue) as server:
        assert server.ask("GET", "/readyz").status == 200
        filling = small_disk / "filling"
        filling.write_bytes(b"x" * (17 * MIB))
        promised, refusal = _fills_up(server)
        _says_that_it_is_full(server, promised, refusal)
        until(lambda: server.ask("GET", "/readyz").status == 503)
        filling.unlink()
        assert server.ask("POST", "/issues", _large(len(promised))).status == 201
        assert server.stop() == 0
    assert not [line for line in server.log if "Traceback" in line]
    _holds(issue, promised)


def test_where_no_file_may_grow_what_is_posted_is_refused_and_the_rest_goes_on(issue: Issue) -> None:
    with serving(issue) as server:
        pid = server.process.pid
        assert server.ask("GET", "/readyz").status == 200
        free = resource.prlimit(pid, resource.RLIMIT_FSIZE, (3 * MIB, resource.RLIM_INFINITY))
        promised, refusal = _fills_up(server)
        _says_that_it_is_full(server, promised, refusal)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, free)
        assert server.ask("POST", "/issues", _large(len(promised))).status == 201
        assert server.stop() == 0
    assert not [line for line in server.log if "Traceback" in line]
    _holds(issue, promised)


def test_who_has_just_come_gives_way_to_nobody_while_others_dawdle(issue: Issue) -> None:
    with serving(issue, config="[serve]\nmax_connections = 4\n") as server, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(server.raw()).send(b"GET /issues HTTP/1.1\r\nX: ")
        threading.Event().wait(1.2)
        new, newer = (stack.enter_context(server.raw()) for _ in range(2))
        assert server.ask("GET", "/healthz").status == 200
        for raw in (new, newer):
            raw.send(get("/healthz"))
            assert raw.answer().status == 200


def test_no_line_of_the_access_log_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MOMENT", 0.0)
    written: list[str] = []
    writer = access_log.Writer(access_log.as_text, lambda lines: written.extend(lines.split("\n")))
    entry = access_log.Entry("127.0.0.1", "GET", "/issues", 200, 2, 0.001, {})

    def note(_: int) -> None:
        for _ in range(access_log.MOST_LINES // 4):  # of more, some would be dropped where the writer has no time
            writer(entry)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(note, range(4)))
        until(lambda: len(written) == access_log.MOST_LINES, "lines are left, and nobody comes for them", seconds=10)
    finally:
        sys.setswitchinterval(before)
        writer.close()
