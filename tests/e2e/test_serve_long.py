"""``issue serve`` after a million requests is as it was before."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.support.cli import Issue, a_spec
from tests.support.serving import KEY, Serving, descriptors, memory, post, serving, threads, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MIB = 1024 * 1024
REQUESTS = 1_000_000
STAGES = 10
CONNECTIONS = 16
TASKS = 20_000

# One thread and no HTTP library, so that it takes as little of the machine as it can: on each of its connections it
# sends the next request of the file, which it goes through again and again, when the answer before has come.
CLIENT = """
import itertools, json, selectors, socket, sys
port, connections, n = map(int, sys.argv[1:4])
with open(sys.argv[4]) as file:
    requests = itertools.islice(itertools.cycle([json.loads(line).encode("latin-1") for line in file]), n)
poll, seen, statuses = selectors.DefaultSelector(), {}, {}
def go(connection):
    request = next(requests, None)
    if request is None:
        poll.unregister(connection)
        connection.close()
        return
    seen[connection] = b""
    connection.sendall(request)
def is_whole(answer):
    head, end, body = answer.partition(b"\\r\\n\\r\\n")
    return end and len(body) == int(head.partition(b"Content-Length: ")[2].partition(b"\\r\\n")[0])
for _ in range(connections):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    poll.register(connection, selectors.EVENT_READ)
    go(connection)
while poll.get_map():
    for key, _ in poll.select():
        connection = key.fileobj
        more = connection.recv(65536)
        assert more, "hung up"
        seen[connection] += more
        if is_whole(seen[connection]):
            status = seen[connection][9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
            go(connection)
print(json.dumps(statuses))
"""


def _write_requests(issue: Issue) -> None:
    """Half of them post a task, half of them ask for one that was posted just before, for a page, or for nothing."""
    with (issue.folder / "requests").open("w") as file:
        for number in range(TASKS):
            spec = a_spec(number)
            body = {} if number % 100 == 99 else spec
            file.write(json.dumps(post(json.dumps(body).encode()).decode()) + "\n")
            target = f"/issues/{a_spec(max(0, number - 2 * CONNECTIONS))['triggering_event_id']}"
            if number % 50 == 0:
                target = f"/issues?limit=10&after={number}"
            file.write(json.dumps(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\r\n") + "\n")


def _stage(issue: Issue, server: Serving, n: int) -> dict[str, int]:
    """So many requests; how often each status came. The access log has a line for each of them."""
    server.log.clear()
    words = [str(word) for word in (server.address[1], CONNECTIONS, n, issue.folder / "requests")]
    done = subprocess.run([sys.executable, "-c", CLIENT, *words], stdout=subprocess.PIPE, check=True)
    until(lambda: len(server.log) == n, "the access log has too many lines, or too few")
    statuses: dict[str, int] = json.loads(done.stdout)
    return statuses


@pytest.mark.long
def test_a_million_requests_leave_memory_threads_and_descriptors_as_they_were(issue: Issue) -> None:
    _write_requests(issue)
    with serving(issue) as server:
        pid = server.process.pid
        sizes: list[int] = []
        assert server.ask("GET", "/healthz").status == 200
        until(lambda: len(server.log) == 2)  # the connection has ended
        idle = threads(pid)
        opened: list[int] = []
        for stage in range(STAGES):
            began = time.perf_counter()
            statuses = _stage(issue, server, REQUESTS // STAGES)
            rate = REQUESTS / STAGES / (time.perf_counter() - began)
            until(lambda: threads(pid) <= idle, "threads are left")
            sizes.append(memory(pid))
            opened.append(descriptors(pid))
            print(
                f"{stage + 1}/{STAGES}: {rate:,.0f}/s, {sizes[-1] / MIB:.1f} MiB, {opened[-1]} open, {statuses}",
                flush=True,
            )
            assert set(statuses) <= {"200", "201", "404", "422"}
        assert server.stop() == 0
    assert sizes[-1] <= sizes[1] * 1.1 + 5 * MIB
    assert opened[-1] <= opened[1]
    [status] = issue.run("status", "--json").objects
    assert status["received"]["created"] == status["total"] == TASKS - TASKS // 100
    assert sum(status["received"].values()) == REQUESTS // 2
