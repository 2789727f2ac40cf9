"""The real ``issue serve`` in a process of its own, and clients for it: an ordinary one, and one for raw bytes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from issue_core.ledger import queries
from tests.support.cli import Issue

KEY = "a-key-of-the-tests-0123456789"
TIMEOUT = 60  # seconds that one answer may take on a busy machine


class Answered(NamedTuple):
    """One answer: its status, its headers with lower-case names, its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        """The body as NDJSON."""
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass(slots=True)
class Serving:
    """A server that runs: where it is, its process, and what it has written to standard error so far."""

    process: subprocess.Popen[bytes]
    url: str = ""
    log: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def listen(self) -> None:
        """Collect standard error to its end."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.decode().rstrip("\n")
            self.log.append(text)
            if text.startswith("serving "):
                self.url = text.partition(" at ")[2].partition(" (")[0]
                self.ready.set()
        self.ready.set()

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        key: str | None = KEY,
    ) -> Answered:
        """One request on a connection of its own; a body that is no bytes is sent as JSON."""
        connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT)
        try:
            return ask(connection, method, target, body, headers, key=key)
        finally:
            connection.close()

    def raw(self) -> Raw:
        """A connection for raw bytes."""
        return Raw(socket.create_connection(self.address, timeout=TIMEOUT))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    *,
    key: str | None = KEY,
) -> Answered:
    """One request on a connection that may be kept."""
    given = {"Authorization": f"Bearer {key}"} if key else {}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    connection.request(method, target, body, given | dict(headers or {}))
    answer = connection.getresponse()
    return Answered(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


@dataclass(slots=True)
class Raw:
    """A connection that sends what it is told to, and reads answers."""

    socket: socket.socket
    buffer: bytes = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: str | bytes) -> Raw:
        """Send it all."""
        for part in parts:
            self.socket.sendall(part.encode() if isinstance(part, str) else part)
        return self

    def answer(self, *, head_only: bool = False) -> Answered:
        """The next answer, read strictly."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines)
        lower = {name.lower(): value for name, value in headers.items()}
        assert len(lower) == len(lines), "a header came twice"
        length = 0 if head_only or status in ("100", "204") else int(lower["content-length"])
        while len(self.buffer) < length:
            self._more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Answered(int(status), lower, body)

    def answer_unless_cut(self) -> Answered | None:
        """The next answer; None where the connection ends first, and then ``buffer`` holds what came of it."""
        while (found := first_answer(self.buffer)) is None:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self.buffer += data
        answer, self.buffer = found
        return answer

    def ends(self) -> bool:
        """Whether the server closes the connection, with nothing more in it."""
        try:
            return self.buffer == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self.socket.recv(65536)
        assert data, f"the connection ended after {self.buffer!r}"
        self.buffer += data


def post(body: bytes, *headers: str, target: str = "/issues/", version: str = "HTTP/1.1") -> bytes:
    """A request with this body, as bytes."""
    lines = [
        f"POST {target} {version}",
        "Host: localhost",
        f"X-API-Key: {KEY}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def serving(
    issue: Issue, *words: str, key: str | None = KEY, config: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[Serving]:
    """The real command on a free port, until the block ends; ``config`` is its configuration file."""
    given = issue.environment | dict(environment or {})
    (issue.folder / "config.toml").write_text(config)
    if key:
        given["ISSUE_CORE_API_KEY"] = key
    process = issue.start(
        "serve", "--port", "0", *words, env=given, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    running = Serving(process)
    listener = threading.Thread(target=running.listen)
    listener.start()
    try:
        assert running.ready.wait(TIMEOUT)
        assert running.url, "\n".join(running.log)
        yield running
    finally:
        process.kill()
        process.wait(TIMEOUT)
        listener.join()
        if process.stderr:
            process.stderr.close()


def descriptors(pid: int) -> int:
    """How many file descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int) -> int:
    """How many threads a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


_STATUS_LINE = re.compile(r"HTTP/1\.1 (\d{3}) [A-Za-z][A-Za-z \-']*")
_HEADER_LINE = re.compile(r"([A-Za-z][A-Za-z-]*): ([\x20-\x7e]*)")


def first_answer(data: bytes, *, may_be_head: bool = False) -> tuple[Answered, bytes] | None:
    """The first answer in ``data``, read strictly, and the rest; None where it is not there whole.

    With ``may_be_head`` it may be one to HEAD: then another answer, or nothing at all, comes where its body would be.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.decode("ascii").split("\r\n")
    status = _STATUS_LINE.fullmatch(first)
    pairs = [_HEADER_LINE.fullmatch(line) for line in lines]
    assert status, first
    assert all(pairs), lines
    headers = {pair[1].lower(): pair[2] for pair in pairs if pair}
    assert len(headers) == len(lines), "a header came twice"
    length = 0 if status[1] in ("100", "204") else int(headers["content-length"])
    if may_be_head and (not rest or rest.startswith(b"HTTP/1.1 ")):
        length = 0
    if len(rest) < length:
        return None
    return Answered(int(status[1]), headers, rest[:length]), rest[length:]


def all_answers(data: bytes, *, may_be_head: bool = False) -> list[Answered]:
    """All answers in ``data``, which holds nothing else and none of them by half."""
    answers = []
    while data:
        found = first_answer(data, may_be_head=may_be_head)
        assert found, f"no whole answer: {data[:1000]!r}"
        answers.append(found[0])
        data = found[1]
    return answers


def until(condition: Callable[[], object], what: str = "it did not come to that", *, seconds: int = TIMEOUT) -> None:
    """Wait for a condition, but not for ever."""
    never = threading.Event()
    for _ in range(seconds * 100):
        if condition():
            return
        never.wait(0.01)
    raise AssertionError(what)


def memory(pid: int) -> int:
    """Bytes of memory that a process has in use (VmRSS)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Seconds that a process has used a processor for, until now."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


HEAD = f"Host: localhost\r\nX-API-Key: {KEY}\r\n"
"""The headers that every request needs."""


def get(target: str, *headers: str, method: str = "GET") -> bytes:
    """A request without a body, as bytes."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", HEAD.strip(), *headers, "", ""]).encode()


def in_chunks(chunks: bytes, *headers: str, coding: str = "Transfer-Encoding: chunked") -> bytes:
    """A POST with this body, which says what chunks it comes in."""
    return "\r\n".join(["POST /issues HTTP/1.1", HEAD.strip(), coding, *headers, "", ""]).encode("latin-1") + chunks


def to_the_end(connection: socket.socket) -> bytes:
    """What the server sends until it closes."""
    seen = bytearray()
    with suppress(ConnectionResetError):  # its end came while something was still on the way
        while data := connection.recv(65536):
            seen += data
    return bytes(seen)


def adds_up(issue: Issue) -> dict[str, int]:
    """What was received, by outcome, in a ledger whose books add up."""
    [status] = issue.run("status", "--json").objects
    received: dict[str, int] = status["received"]
    assert set(received) == {"created", "duplicate", "conflict", "invalid"}
    assert received["created"] == status["total"] == sum(status["states"].values())
    with issue.ledger as ledger, ledger.read() as connection:
        tasks = queries.tasks(connection, queries.Filter(), limit=None, newest_first=False)
        sightings = sum(sum(task.sightings.values()) for task in tasks)
        [(kept,)] = connection.execute("SELECT coalesce(sum(count), 0) FROM rejects")
    assert sightings == received["created"] + received["duplicate"]
    assert kept == received["conflict"] + received["invalid"]
    return received
