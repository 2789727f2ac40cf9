"""Runs the command ``issue``: the real one in a process of its own, or the same code inside this process."""

from __future__ import annotations

import fcntl
import gc
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID, uuid5

from issue_core.cli import main
from issue_core.ledger import Ledger, facets
from issue_core.task import TaskState

ISSUE = str(Path(sys.executable).with_name("issue"))
TIMEOUT = 60  # seconds that one command may take on a busy machine

_SPACE = UUID("2b4f1c0e-52a7-4b8e-9a77-06c4e38d9f5a")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: its exit code, and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def objects(self) -> list[Any]:
        """The JSON lines of standard output."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def rows(self) -> list[list[str]]:
        """The tab-separated values of standard output, without the line of names."""
        return [line.split("\t") for line in self.stdout.splitlines()[1:]]


@dataclass(frozen=True, slots=True)
class Issue:
    """The command with a ledger, a home and a configuration of its own, all below ``folder``."""

    folder: Path

    @property
    def path(self) -> Path:
        """Where its ledger is, once there is one."""
        return self.folder / "ledger.db"

    @property
    def ledger(self) -> Ledger:
        """Its ledger, to look into or to put something into."""
        return Ledger(self.path)

    @property
    def environment(self) -> dict[str, str]:
        """The environment that it runs in: nothing of the user's own, and no terminal."""
        config = self.folder / "config.toml"
        config.touch()
        kept = ("PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONWARNINGS", "TMPDIR")
        return {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(self.folder),
            "ISSUE_CORE_LEDGER": str(self.path),
            "ISSUE_CORE_CONFIG": str(config),
            "TERM": "xterm-256color",
        }

    def run(self, *words: str | bytes, input: str | bytes = b"", **options: Any) -> Ran:  # noqa: A002 - as in subprocess
        """Run the real command with this standard input; ``options`` are subprocess's."""
        given: dict[str, Any] = {"input": input.encode() if isinstance(input, str) else input, "env": self.environment}
        return _ended([ISSUE, *words], given | options)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start the real command with pipes for its three streams."""
        given: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | {
            "env": self.environment
        }
        process: subprocess.Popen[bytes] = subprocess.Popen([ISSUE, *words], **given | options)
        return process

    def shell(self, script: str, **options: Any) -> Ran:
        """Run a script in bash, where ``issue`` is the real command."""
        environment = self.environment
        environment["PATH"] = f"{Path(ISSUE).parent}:{environment['PATH']}"
        given: dict[str, Any] = {"env": environment, "cwd": self.folder, "stdin": subprocess.DEVNULL}
        return _ended(["bash", "-c", script], given | options)

    def on_terminal(
        self, *words: str, columns: int = 80, environment: Mapping[str, str] | None = None, keys: bytes = b""
    ) -> Ran:
        """Run the real command on a terminal of its own, where somebody has typed ``keys``.

        What a person sees is in ``stdout``.
        """
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [ISSUE, *words], stdin=its, stdout=its, stderr=its, env=self.environment | dict(environment or {})
        )
        os.close(its)
        os.write(ours, keys)
        seen = _read_to_end(ours)
        os.close(ours)
        return Ran(process.wait(TIMEOUT), seen.decode().replace("\r\n", "\n"), "")

    def call(self, *words: str) -> Ran:
        """Run the command inside this process: faster, but without standard input."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
        with (
            mock.patch.object(sys, "argv", ["issue", *words]),
            mock.patch.dict(os.environ, self.environment, clear=True),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            interrupt = signal.getsignal(signal.SIGINT)
            try:
                code = main()
            finally:
                signal.signal(signal.SIGINT, interrupt)
                gc.unfreeze()
                gc.enable()
        return Ran(code, _text(out), _text(err))


def _ended(words: Sequence[str | bytes], options: dict[str, Any]) -> Ran:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": TIMEOUT}
    done: subprocess.CompletedProcess[bytes] = subprocess.run(words, **pipes | options, check=False)
    return Ran(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


def _read_to_end(descriptor: int) -> bytes:
    """What comes through a pseudo-terminal until its other end is closed, which Linux tells as an error."""
    seen = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            return seen
        if not part:
            return seen
        seen += part


def a_spec(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A TaskSpec as an emitter gives it; each ``number`` has an event ID of its own."""
    return {
        "title": f"Task {number}",
        "target_repo": "acme/web",
        "source_type": "rule",
        "source_id": "disk-watch",
        "triggering_event_id": str(uuid5(_SPACE, str(number))),
    } | changes


def ndjson(*documents: Any) -> str:
    """The documents as lines; a string stands as it is."""
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in documents)


def force_state(issue: Issue, seq: int, state: TaskState, **columns: object) -> None:
    """Put task ``seq`` into a state, and set other columns of it, without all that would lead there."""
    changes = {"state": state, **columns}
    with issue.ledger as ledger, ledger.write() as tx:
        for column, value in changes.items():
            tx.connection.execute(f"UPDATE tasks SET {column} = ? WHERE seq = ?", (value, seq))  # noqa: S608 - a test's own
        facets.add_state(tx, seq, state)
