"""Timing whole commands in turn, so that a machine whose speed drifts slows both sides alike."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ISSUE = str(Path(sys.executable).with_name("issue"))
PYTHON = sys.executable


@dataclass(frozen=True, slots=True)
class Command:
    """A command, its environment, its input, and what is done before each run (not timed)."""

    argv: Sequence[str]
    env: dict[str, str]
    stdin: Path | None = None
    before: Callable[[], None] = lambda: None


def seconds(command: Command) -> float:
    """How long one run takes, in seconds of the wall clock. It must end with 0."""
    command.before()
    source = command.stdin.open("rb") if command.stdin else subprocess.DEVNULL
    began = time.perf_counter()
    subprocess.run(command.argv, env=os.environ | command.env, stdin=source, capture_output=True, check=True)
    took = time.perf_counter() - began
    if not isinstance(source, int):
        source.close()
    return took


def medians(commands: Sequence[Command], *, runs: int) -> list[float]:
    """The median time of each command over ``runs`` rounds, after one that is not counted."""
    for command in commands:
        seconds(command)
    rounds = [[seconds(command) for command in commands] for _ in range(runs)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def peak_mib(argv: Sequence[str], env: dict[str, str], stdin: Path) -> float:
    """The largest resident size of one run, in MiB."""
    code = (
        "import resource, subprocess, sys;"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    with stdin.open("rb") as source:
        done = subprocess.run(
            [PYTHON, "-c", code, *argv], env=os.environ | env, stdin=source, stdout=subprocess.PIPE, check=True
        )
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB here
    return int(done.stdout) / unit


def own_peak_mib() -> float:
    """This process's own largest resident size, in MiB: a child cannot be told from it below this."""
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def report(what: str, ratio: float, *, promise: str, kept: bool, beside: str = "") -> bool:
    """Print one line; gives whether the promise was kept."""
    mark = "ok  " if kept else "MISS"
    print(f"{mark} {what:<58} {ratio:6.2f}   {promise}{beside and '   ' + beside}", flush=True)
    return kept
