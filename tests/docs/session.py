"""A shell session as a page shows it: the commands behind ``$``, and what they are said to print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import Block, environment
from tests.support.ports import free_port

_MARK = "<<end of command>>"
_PORTS = ("8765", "4222", "8222")  # of issue serve, of a NATS server, and of its monitoring


@dataclass(frozen=True, slots=True)
class Command:
    """One command, the lines that its page shows below it, and its line in the page."""

    text: str
    shown: tuple[str, ...]
    line: int


def free_ports() -> dict[str, str]:
    """For each usual port of a server, which somebody may have, one that nobody listens on."""
    return {port: str(free_port()) for port in _PORTS}


def commands(block: Block, ports: Mapping[str, str]) -> list[Command]:
    """The commands of a ``console`` block; a command goes on in the lines that begin with ``>``.

    A ``bash`` block is one, as it stands. Each port becomes the one that ``ports`` has for it.
    """
    found: list[Command] = []
    text = re.sub(rf"\b(?:{'|'.join(_PORTS)})\b", lambda port: ports[port[0]], block.text)
    if block.language == "bash":
        return [Command(text, (), block.line)]
    for number, line in enumerate(text.splitlines(), start=block.line):
        if line.startswith("$ "):
            found.append(Command(line[2:], (), number))
            continue
        last = found.pop()
        if line.startswith("> ") and not last.shown:
            found.append(Command(f"{last.text}\n{line[2:]}", (), last.line))
        else:
            found.append(Command(last.text, (*last.shown, line), last.line))
    return found


def run(
    session: Iterable[Command], folder: Path, home: Path, *, first_on_path: Path | None = None
) -> list[tuple[str, int]]:
    """Run the commands one after another in one shell, in ``folder``; gives what each printed, and its exit code.

    Both output streams are taken together, as a terminal shows them. What runs in the background ends with the session.
    """
    script = ["code=0"]
    for command in session:
        script += [f"(exit $code)\n{command.text}", f"code=$?; printf '%s %s\\n' '{_MARK}' $code"]
    given = environment(home)
    if first_on_path:
        given["PATH"] = f"{first_on_path}{os.pathsep}{given['PATH']}"
    shell = subprocess.Popen(
        ["sh", "-c", "\n".join(script)],
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = shell.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()
    assert shell.returncode == 0, printed
    parts = re.split(rf"{re.escape(_MARK)} (\d+)\n", printed)
    return list(zip(parts[::2], map(int, parts[1::2]), strict=False))


def matches(shown: Iterable[str], printed: str) -> bool:
    """Whether a command printed what its page shows: ``...`` stands for anything, alone on a line for any lines."""
    pattern = "".join(_pattern(line) for line in shown)
    return re.fullmatch(pattern, "".join(f"{_squeezed(line)}\n" for line in printed.splitlines())) is not None


def _pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*"
    return ".*".join(re.escape(part) for part in _squeezed(line).split("...")) + r"\n"


def _squeezed(line: str) -> str:
    # Tabs and columns: how wide a gap is says nothing.
    return re.sub(r"\s+", " ", line).rstrip()
