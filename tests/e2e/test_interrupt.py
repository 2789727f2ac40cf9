"""Ctrl-C: whatever a command does, it ends within a second, with 130, and says what was done."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.cli import TIMEOUT, Issue, a_spec, ndjson
from tests.support.serving import until

SECONDS = 1.0
SLOWNESS = 2  # a busy machine is no slow command
MANY = 4000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Issue:
    """A ledger with more than any command does in the time that it is given here."""
    issue = Issue(tmp_path_factory.mktemp("many"))
    specs = (a_spec(number, description="z" * 300) for number in range(MANY))
    issue.run("ingest", input=ndjson(*specs, *(f"bad {number}" for number in range(2000))))
    return issue


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that nobody has told what to say."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT)
        yield server


def interrupted(process: subprocess.Popen[bytes]) -> str:
    """Press Ctrl-C; gives what the command says then."""
    assert process.poll() is None, process.stderr and process.stderr.read()
    said: list[bytes] = []
    assert process.stderr
    listening = threading.Thread(target=lambda: said.append(process.stderr.read()), daemon=True)  # type: ignore[union-attr]
    listening.start()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    code = process.wait(TIMEOUT)
    took = time.monotonic() - began
    listening.join()
    assert code == 130, said
    assert took < SECONDS * SLOWNESS
    return said[0].decode()


def when_it_writes(process: subprocess.Popen[bytes]) -> None:
    """Wait for its first output."""
    assert process.stdout
    assert process.stdout.read(1)


def when_it_waits_for_us(process: subprocess.Popen[bytes]) -> None:
    """Wait until nobody takes its output: a Ctrl-C right before that is heard with the next line only."""
    when_it_writes(process)
    until(lambda: _in_the_pipe(process.stdout) > 32768 and _sleeps(process))


def _in_the_pipe(pipe: IO[bytes] | None) -> int:
    assert pipe
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])


def _sleeps(process: subprocess.Popen[bytes]) -> bool:
    stat = Path(f"/proc/{process.pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "S"


WRITERS: dict[str, str] = {
    "list --limit 0": r"issue: interrupted: \d+ tasks were listed, and nothing was changed",
    "list --limit 0 --json": r"issue: interrupted: \d+ tasks were listed, and nothing was changed",
    "export": r"issue: interrupted: \d+ tasks were written; it is not all of them",
    "export --format csv": r"issue: interrupted: \d+ tasks were written; it is not all of them",
    "rejects list --limit 0 --json": r"issue: interrupted",
}


@pytest.mark.parametrize("words", WRITERS)
def test_a_command_that_waits_for_its_reader(many: Issue, words: str) -> None:
    with many.start(*words.split()) as process:
        when_it_waits_for_us(process)
        assert re.fullmatch(WRITERS[words] + "\n", interrupted(process))


def test_ingest_says_how_much_is_safe(many: Issue) -> None:
    with many.start("ingest", "--json") as process:
        assert process.stdin
        process.stdin.write(ndjson(a_spec(1)).encode())
        process.stdin.flush()
        when_it_writes(process)
        told = interrupted(process)
    assert re.fullmatch(r"issue: interrupted: at least [01] TaskSpecs are stored; .*run again\n", told)


def test_new_stores_nothing(many: Issue) -> None:
    with many.start("new", "title", "--repo", "a", "--description", "-", "-v") as process:
        assert process.stderr
        while b" start " not in process.stderr.readline():
            pass
        assert "issue: interrupted" in interrupted(process)
    assert many.call("list", "--repo", "a").stderr == "no such task\n"


def test_a_replay_says_how_far_it_came(many: Issue) -> None:
    with many.start("rejects", "replay", "--all") as process:
        assert process.stderr
        assert process.stderr.readline()
        told = interrupted(process)
    assert re.search(r"^issue: interrupted: 0 replayed, \d+ refused again; the rest is as it was$", told, re.MULTILINE)


def test_sync_says_what_it_made(many: Issue) -> None:
    with many.start("sync", "--json") as process:
        when_it_writes(process)
        told = interrupted(process)
    assert re.fullmatch(r"issue: interrupted: \d+ created; if anything was under way, it stays in doubt, .*\n", told)


def tracker(port: int) -> str:
    return (
        f'default_backend = "w"\n[backends.w]\ntype = "gitea"\nurl = "http://127.0.0.1:{port}"\n'
        'token = {env = "HOME"}\nproject = "a/b"\n'
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("sync", "interrupted: no task was dealt with yet"),
        ("sync --wait", "interrupted: no task was dealt with yet"),
        ("sync --watch 60", "interrupted: no task was dealt with yet"),
        ("sync --verify", "interrupted: not everything was compared"),
        ("config check", "interrupted"),
        ("serve --no-auth --port 0 --sync", "interrupted: what was answered is stored"),
        (
            "subscribe --nats-url nats://127.0.0.1:{port}",
            "interrupted: what was taken is stored; what was not answered",
        ),
        ("publish --nats-url nats://127.0.0.1:{port}", "interrupted: at least 0 TaskSpecs are in the stream"),
        ("nats status --nats-url nats://127.0.0.1:{port}", "interrupted"),
        ("dlq list --nats-url nats://127.0.0.1:{port}", "interrupted"),
        ("dlq replay --all --nats-url nats://127.0.0.1:{port}", "interrupted: 0 replayed"),
    ],
)
def test_a_command_that_waits_for_somebody_who_says_nothing(
    issue: Issue, silent: socket.socket, words: str, says: str
) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    port = silent.getsockname()[1]
    (issue.folder / "silent.toml").write_text(tracker(port))
    environment = issue.environment | {"ISSUE_CORE_CONFIG": str(issue.folder / "silent.toml")}
    with issue.start(*words.format(port=port).split(), env=environment) as process:
        connection, _ = silent.accept()
        with connection:
            told = interrupted(process)
    assert f"issue: {says}" in told


def test_serve_blames_no_request_for_a_sync_that_did_not_end_in_time(issue: Issue, silent: socket.socket) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    (issue.folder / "config.toml").write_text(tracker(silent.getsockname()[1]))
    with issue.start("serve", "--no-auth", "--port", "0", "--sync") as process:
        connection, _ = silent.accept()
        with connection:
            told = interrupted(process)
    assert "not everything under way ended in time" in told
    assert "what sync had in hand stays in doubt" in told
    assert "requests" not in told


@pytest.mark.parametrize(("name", "says"), [("fsync", "no copy was written"), ("unlink", "the copy is written at")])
def test_backup_says_whether_there_is_a_copy(
    many: Issue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / "ledger-20200101T000000Z.db").touch()
    real = getattr(os, name)

    def interrupt(path: Any, *_: Any, **__: Any) -> None:
        if name == "fsync" or "ledger-2020" in str(path):
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr(os, name, interrupt)
    ran = many.call("backup", "--to-dir", str(tmp_path), "--keep", "1")
    assert (ran.code, ran.stdout) == (130, "")
    assert ran.stderr.startswith(f"issue: interrupted: {says}")
    assert len(list(tmp_path.glob("*.db"))) == {"fsync": 1, "unlink": 2}[name]


def test_a_ctrl_c_after_the_end_of_all_work_is_nothing(issue: Issue) -> None:
    press = "import atexit, os, signal, sys; atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
    script = press + "from issue_core.cli import main; sys.exit(main())"
    ran = issue.shell(f"python -c {shlex.quote(script)} --version")
    assert (ran.code, ran.stderr) == (0, "")
