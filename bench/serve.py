"""``issue serve`` against the bare standard server that stores nothing: many clients at once, and one alone."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import data
from bench.measure import ISSUE, PYTHON, report

CLIENTS = 16
REQUESTS = 4_000
ALONE = 400
ROUNDS = 5

BARE = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True
    def do_POST(self):
        spec = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        receipt = {"outcome": "created", "event_id": spec["triggering_event_id"], "seq": 1, "state": "pending"}
        content = json.dumps(receipt | {"warnings": []}).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"serving nothing at http://127.0.0.1:{server.server_address[1]} ()", flush=True)
server.serve_forever()
"""

# One thread and no HTTP library, so that the client takes as little of the machine as it can. Prints seconds:
# of the whole, and of the median request.
CLIENT = """
import selectors, socket, statistics, sys, time
port, clients, first, n = map(int, sys.argv[1:5])
with open(sys.argv[5], "rb") as file:
    bodies = file.read().splitlines()[first : first + n]
head = b"POST /issues/ HTTP/1.1\\r\\nHost: localhost\\r\\nX-API-Key: bench-key-0123456789\\r\\n"
requests = iter([head + b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body for body in bodies])
poll, sent, took = selectors.DefaultSelector(), {}, []
def go(connection):
    request = next(requests, None)
    if request is None:
        poll.unregister(connection)
        return
    sent[connection] = time.perf_counter()
    connection.sendall(request)
connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
for connection in connections:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    poll.register(connection, selectors.EVENT_READ)
began = time.perf_counter()
for connection in connections:
    go(connection)
while poll.get_map():
    for key, _ in poll.select():
        answer = b""
        while b"}" not in answer:
            more = key.fileobj.recv(65536)
            assert more, answer
            answer += more
        assert answer.startswith(b"HTTP/1.1 201 "), answer
        took.append(time.perf_counter() - sent[key.fileobj])
        go(key.fileobj)
print(time.perf_counter() - began, statistics.median(took))
"""


def run(folder: Path) -> bool:
    """Print the ratios of both promises."""
    lines = data.write(folder / "serve.ndjson", (REQUESTS + ALONE) * (ROUNDS + 1))
    env = {
        "ISSUE_CORE_LEDGER": str(folder / "serve" / "ledger.db"),
        "ISSUE_CORE_CONFIG": "",
        "ISSUE_CORE_API_KEY": "bench-key-0123456789",
    }
    with (
        _server([PYTHON, "-c", BARE], {}) as bare,
        _server([ISSUE, "serve", "--port", "0"], env) as ours,
    ):
        many, alone, fsync = _measured((bare, ours), lines)
    kept = report(
        f"issue serve, {CLIENTS} clients : bare ThreadingHTTPServer",
        many[0] / many[1],
        promise=">= 0.5 (aim 0.8)",
        kept=many[0] / many[1] >= 0.5,
        beside=f"({REQUESTS / many[1]:,.0f} tasks/s; bare {REQUESTS / many[0]:,.0f} requests/s)",
    )
    allowed = 2 * alone[0] + fsync
    return kept & report(
        "one request alone : twice the bare server's and an fsync",
        alone[1] / allowed,
        promise="<= 1",
        kept=alone[1] <= allowed,
        beside=f"({alone[1] * 1e3:.2f} ms; bare {alone[0] * 1e3:.2f}, fsync {fsync * 1e3:.2f})",
    )


def _measured(ports: Sequence[int], lines: Path) -> tuple[list[float], list[float], float]:
    """For each server the median time of all requests, and of one alone; and of an fsync. The first round is not
    counted."""
    many: list[list[float]] = [[] for _ in ports]
    alone: list[list[float]] = [[] for _ in ports]
    fsync: list[float] = []
    for number in range(ROUNDS + 1):
        first = number * (REQUESTS + ALONE)
        for which, port in enumerate(ports):
            many[which].append(_client(port, CLIENTS, first, REQUESTS, lines)[0])
            alone[which].append(_client(port, 1, first + REQUESTS, ALONE, lines)[1])
        fsync.append(_fsync(lines.parent))
    middle = [[statistics.median(times[1:]) for times in side] for side in (many, alone)]
    return middle[0], middle[1], statistics.median(fsync[1:])


def _client(port: int, clients: int, first: int, n: int, lines: Path) -> tuple[float, float]:
    words = [str(word) for word in (port, clients, first, n, lines)]
    done = subprocess.run([PYTHON, "-c", CLIENT, *words], capture_output=True, check=True, text=True)
    whole, median = map(float, done.stdout.split())
    return whole, median


@contextmanager
def _server(argv: Sequence[str], env: dict[str, str]) -> Iterator[int]:
    """The port of a server that says on one line where it is, and runs until the block ends."""
    with subprocess.Popen(
        argv, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            port = int(line.partition(" at ")[2].partition(" (")[0].rpartition(":")[2])
            # Its log must go somewhere, or it would have to wait.
            with subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL):
                try:
                    yield port
                finally:
                    process.kill()
        finally:
            process.kill()


def _fsync(folder: Path) -> float:
    """The median time in which what one commit of a task writes (five pages) reaches the disk."""
    times = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(ALONE):
            began = time.perf_counter()
            file.write(bytes(5 * 4096))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)
