"""Sync to a healthy tracker against a bare loop of the same client's POSTs, with the same concurrency."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import data
from bench.measure import ISSUE, PYTHON, Command, medians, report

TASKS = 500
IN_FLIGHT = 4
WORK = 0.02
"""Seconds that the tracker works on a create; the real ones need longer."""

SERVER = """
import itertools, json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
numbers, work = itertools.count(1), float(sys.argv[1])
names = ("backup", "ops", "priority:high", "priority:low")
labels = [{"id": n, "name": name} for n, name in enumerate(names)]
class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True
    def do_GET(self):
        self.answer(200, labels if "/labels" in self.path else {"login": "bot"})
    def do_POST(self):
        spec = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(work)
        n = next(numbers)
        made = {**spec, "id": n, "number": n, "html_url": f"http://tracker/{n}", "user": {"login": "bot"}}
        self.answer(201, {**made, "labels": [labels[i] for i in spec.get("labels", [])]})
    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

BARE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from issue_core.backends.http import Client
client = Client(sys.argv[1] + "/api/v1", lambda: {"Authorization": "token x"}, request_timeout=30.0)
def post(line):
    spec = json.loads(line)
    issue = {"title": spec["title"], "body": spec.get("description", "")}
    reply = client.post("/repos/acme/web/issues", issue, timeout=30.0, before_send=lambda: None)
    assert reply.status == 201 and reply.json()["number"]
with ThreadPoolExecutor(int(sys.argv[2])) as pool:
    list(pool.map(post, sys.stdin))
"""

CONFIG = """
default_backend = "work"
[backends.work]
type = "gitea"
url = "{url}"
token = {{ env = "BENCH_TOKEN" }}
project = "acme/web"
max_in_flight = {in_flight}
"""


def run(folder: Path) -> bool:
    """Print the ratios; the promise is that of a tracker that works on a create as briefly as real ones do."""
    kept = True
    for work, name, promise in ((WORK, "20 ms a create", 0.8), (0.0, "0 ms a create", None)):
        with _server(work) as url:
            bare_s, ours_s = _measured(folder, url)
        ratio = bare_s / ours_s
        good = promise is None or ratio >= promise
        beside = f"({TASKS / ours_s:,.0f} issues/s; bare loop {TASKS / bare_s:,.0f})"
        kept &= report(
            f"sync of {TASKS} to a tracker, {name} : bare POSTs",
            ratio,
            promise="-" if promise is None else f">= {promise}",
            kept=good,
            beside=beside,
        )
    return kept


@contextmanager
def _server(work: float) -> Iterator[str]:
    with subprocess.Popen([PYTHON, "-c", SERVER, str(work)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def _measured(folder: Path, url: str) -> list[float]:
    lines = data.write(folder / "tracker.ndjson", TASKS)
    home = folder / "tracker"
    config = folder / "tracker.toml"
    config.write_text(CONFIG.format(url=url, in_flight=IN_FLIGHT))
    env = {"ISSUE_CORE_LEDGER": str(home / "ledger.db"), "ISSUE_CORE_CONFIG": str(config), "BENCH_TOKEN": "x"}

    def fill() -> None:
        from issue_core import Ledger, ingest

        shutil.rmtree(home, ignore_errors=True)
        with Ledger(home / "ledger.db") as ledger, lines.open("rb") as file:
            ingest(ledger, list(file))

    path = {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))}
    bare = Command([PYTHON, "-c", BARE, url, str(IN_FLIGHT)], path, lines)
    return medians([bare, Command([ISSUE, "sync"], env, None, fill)], runs=3)
