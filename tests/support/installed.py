"""The project as users install it: built into a wheel, and put into an environment with nothing of this one in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import Ran, a_spec, ndjson

ROOT = Path(__file__).parents[2]

_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
TIMEOUT = 540  # seconds that one program may take: a package registry may be slow


@dataclass(frozen=True, slots=True)
class Installed:
    """The command ``issue`` in the folder ``programs``, run with ``home`` and next to nothing of this environment."""

    programs: Path
    home: Path

    def run(self, *words: str, program: str = "issue", input: str = "", code: int = 0) -> Ran:  # noqa: A002 - as in subprocess
        """Run one of its programs, which must end with ``code``."""
        self.home.mkdir(exist_ok=True)
        environment = {"HOME": str(self.home), "PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        ended = subprocess.run(
            [self.programs / program, *words],
            input=input,
            env=environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    def smoke(self) -> None:
        """Take two tasks all the way into Markdown issues, twice: there are two issues, and every read shows them."""
        documents = ndjson(a_spec(1), a_spec(2))
        for outcome in ("created", "duplicate"):
            receipts = self.run("ingest", "--json", input=documents).objects
            assert [receipt["outcome"] for receipt in receipts] == [outcome, outcome]
            self.run("sync")
            assert [row[2] for row in self.run("list").rows] == ["synced", "synced"]
            assert len(list(self.home.rglob("issues/**/*.md"))) == 2
        event_id = a_spec(1)["triggering_event_id"]
        assert json.loads(self.run("show", event_id[:8], "--json").stdout)["event_id"] == event_id
        assert json.loads(self.run("status", "--json").stdout)["states"]["synced"] == 2
        assert len(self.run("export").objects) == 2
        self.run("status", "--check")


def done(
    words: Sequence[str | Path],
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> str:
    """Run a program that must end with 0; gives what it wrote to standard output."""
    ran = attempted(words, cwd=cwd, environment=environment, timeout=timeout)
    assert ran.returncode == 0, f"{' '.join(map(str, words))}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def attempted(
    words: Sequence[str | Path],
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is; ``environment`` is added to this process's own."""
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        words,
        cwd=cwd,
        env=outside | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def empty_environment(folder: Path, python: str | Path = sys.executable) -> Path:
    """A virtual environment with nothing in it; gives the folder of its programs."""
    done([python, "-m", "venv", "--without-pip", folder])
    return folder / "bin"


def install(programs: Path, *wanted: str) -> None:
    """Install packages, and what they ask for, into the environment with these programs."""
    done([*_PIP, "--python", programs / "python", "install", "--quiet", *wanted])


def tools(folder: Path, *wanted: str) -> Path:
    """An environment with tools that are not the project's own; the test is skipped when they cannot be had."""
    programs = empty_environment(folder)
    ran = attempted([*_PIP, "--python", programs / "python", "install", "--quiet", *wanted])
    if ran.returncode:
        pytest.skip(f"no {' and no '.join(wanted)} from the package registry: {last_line(ran.stderr)}")
    return programs


def last_line(text: str) -> str:
    """The last line that is not empty: where a tool says why it gave up."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "(it did not say why)")


def built_wheel(folder: Path) -> Path:
    """The wheel of this checkout, made in ``folder``."""
    builder = tools(folder / "builder", "hatchling>=1.27")
    made = folder / "dist"
    build: list[str | Path] = [
        *_PIP,
        "--python",
        builder / "python",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    done([*build, "--wheel-dir", made, ROOT])
    [wheel] = made.iterdir()
    return wheel
