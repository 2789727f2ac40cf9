"""A throw-away Redmine: Debian's packages, run from a copy in a folder of its own, with SQLite and puma."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.support.ports import free_port

PACKAGES = ("redmine", "redmine-sqlite", "puma")
"""Debian's names for what is needed."""

INSTALLED = Path("/usr/share/redmine")
"""Where Debian's package lays Redmine."""

SEED = Path(__file__).with_name("seed.rb")

PATIENCE = 120.0
"""Seconds in which Redmine must have started, on a slow machine."""

MIGRATION_PATIENCE = 600.0
"""Seconds for making the database, and for filling it."""


@dataclass(frozen=True, slots=True)
class Redmine:
    """A running Redmine: its address, and what ``seed.rb`` made in it."""

    url: str
    version: str
    bot: int
    bot_key: str
    admin_key: str
    event_field: int
    labels_field: int

    def get(self, path: str) -> Any:
        """What Redmine answers an administrator, by a client that is none of ours."""
        request = Request(f"{self.url}{path}", headers={"X-Redmine-API-Key": self.admin_key})  # noqa: S310 (our own http address)
        with urlopen(request, timeout=60) as reply:  # noqa: S310 (the same)
            return json.load(reply)

    def issues(self, project: str) -> list[dict[str, Any]]:
        """Every issue of the project, open and closed, oldest first."""
        found: list[dict[str, Any]] = []
        while True:
            where = f"/issues.json?project_id={project}&status_id=*&sort=id&limit=100&offset={len(found)}"
            page = self.get(where)
            found += page["issues"]
            if len(found) >= page["total_count"] or not page["issues"]:
                return found


def missing() -> str | None:
    """Why there can be no Redmine here and what to do about it; ``None`` where there can be one."""
    wanted = [
        name
        for name, there in (
            ("redmine", INSTALLED.joinpath("config", "application.rb").is_file()),
            ("redmine-sqlite", _ruby_has("sqlite3")),
            ("puma", _ruby_has("puma")),
            ("bundler", shutil.which("bundle") is not None),
        )
        if not there
    ]
    if not wanted:
        return None
    return (
        f"no Redmine to test with: {', '.join(wanted)} not installed. On Debian 12, as root: "
        f"apt-get install --no-install-recommends {' '.join(PACKAGES)} (no database or web server need be configured)"
    )


def _ruby_has(gem: str) -> bool:
    if shutil.which("ruby") is None:
        return False
    return subprocess.run(["ruby", "-e", f"gem '{gem}'"], capture_output=True, check=False).returncode == 0


@contextmanager
def running(folder: Path) -> Iterator[Redmine]:
    """A Redmine in ``folder``, which must be empty or missing; it is stopped at the end.

    Raises:
        RuntimeError: it could not be set up or started; with the end of what it said.
    """
    app = _lay_out(folder)
    _run(app, "rake", "db:migrate")
    told = _seeded(_run(app, "rails", "runner", str(SEED)))
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as out:
        words = ["bundle", "exec", "puma", "--environment", "production", "--bind", f"tcp://127.0.0.1:{port}"]
        # A session of its own, so that all of it can be ended at once.
        server = subprocess.Popen(
            [*words, "--threads", "4:4"], cwd=app, env=_environment(app), stdout=out, stderr=out, start_new_session=True
        )
    try:
        redmine = Redmine(f"http://127.0.0.1:{port}", **told)
        _wait_for(redmine, server, log)
        yield redmine
    finally:
        _stop(server)


def _lay_out(folder: Path) -> Path:
    """Copy the program: Debian's own place has the system's one configuration, and is nobody's to write in."""
    app = folder / "redmine"
    shutil.copytree(INSTALLED, app, ignore=lambda where, _: _system_s_own(Path(where)))
    instance = app / "instances" / "default"
    for name in ("config", "log", "tmp/cache", "files"):
        (instance / name).mkdir(parents=True)
    database = f"production:\n  adapter: sqlite3\n  database: {folder / 'redmine.db'}\n  timeout: 20000\n"
    for place in (app / "config", instance / "config"):
        (place / "database.yml").write_text(database)
    (instance / "config" / "secret_key.txt").write_text("0" * 64)
    gemfile = app / "Gemfile"
    gemfile.write_text(gemfile.read_text().replace(f"{INSTALLED}/", f"{app}/"))
    (app / "Gemfile.local").write_text("gem 'puma'\n")
    return app


def _system_s_own(where: Path) -> set[str]:
    """What of a folder is not copied: links to the system's configuration and instances."""
    if where == INSTALLED:
        return {"Gemfile.lock", "instances"}
    return {"database.yml"} if where == INSTALLED / "config" else set()


def _environment(app: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("BUNDLE_", "RUBY", "GEM_"))}
    return own | {
        "HOME": str(app.parent),
        "BUNDLE_GEMFILE": str(app / "Gemfile"),
        "RAILS_ENV": "production",
        "REDMINE_INSTANCE": "default",
        "REDMINE_LANG": "en",
        "SCHEMA": os.devnull,
    }


def _run(app: Path, *words: str) -> str:
    """Run one of Redmine's own commands; gives what it said."""
    done = subprocess.run(
        ["bundle", "exec", *words],
        cwd=app,
        env=_environment(app),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MIGRATION_PATIENCE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Redmine: {' '.join(words)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def _seeded(said: str) -> Mapping[str, Any]:
    (line,) = (line for line in said.splitlines() if line.startswith("SEED "))
    told: dict[str, Any] = json.loads(line.removeprefix("SEED "))
    return told


def _wait_for(redmine: Redmine, server: subprocess.Popen[bytes], log: Path) -> None:
    over = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError, HTTPException):
            redmine.get("/users/current.json")
            return
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=0.1)
        if server.returncode is not None or time.monotonic() > over:
            raise RuntimeError(f"Redmine does not answer:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
