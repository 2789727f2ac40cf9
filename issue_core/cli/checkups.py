"""What ``issue doctor`` looks at: each is a few findings, and none of them changes anything."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from issue_core.backends.base import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issue_core.config import Settings
    from issue_core.ledger import Ledger

LEAST_ROOM = 256 * 1024 * 1024
"""Bytes that should be free where the ledger lies."""

WRONG_CLOCK = timedelta(minutes=5)
"""How far the ledger's times may be ahead of the clock."""


_ONCE_MENDED = "issue retry --all makes it due now once it is mended"
_SETTLED_THERE = "configure it under this name again; a task in doubt can only be settled there, or with issue link"
_GO_ELSEWHERE = "`issue sync` sends them where the routes point now; those that failed need `issue retry` first"


def ledger_file(ledger: Ledger) -> Iterator[Finding]:
    """Whether it is a ledger, whole, of a release that is known, and its owner's alone."""
    from issue_core.cli.needs import missing
    from issue_core.ledger import health
    from issue_core.ledger.connection import how_to_mend
    from issue_core.ledger.schema import SCHEMA_VERSION, is_stand_in
    from issue_core.taskspec.canonical import digest

    path = ledger.path
    with ledger.read() as connection:
        if is_stand_in(connection):
            lost = [_wrong(each.what, each.hint) for each in missing(path)]
            yield from lost or [Finding(ok=True, what=f"no ledger {path} yet; the first task makes it")]
            return
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        copied, damaged = health.is_copy(connection), health.problems(connection, digest=digest)
    yield Finding(ok=True, what=f"ledger {path}: schema {version} of {SCHEMA_VERSION}")
    if copied:
        hint = f"`issue restore {path} --ledger LEDGER` makes a ledger of it, in LEDGER's place or in its own"
        yield _wrong(f"ledger {path} is a copy, and takes no tasks", hint)
    for problem in damaged:
        yield _wrong(f"ledger {path} is damaged: {problem}", how_to_mend(path))
    if not damaged:
        yield Finding(ok=True, what="it is whole")
    yield from _rights(path)


def _rights(path: Path) -> Iterator[Finding]:
    from issue_core.ledger.workers import workers_of

    found, folder = path.stat(), path.parent.stat()
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield _wrong(f"others may use {path} ({stat.filemode(found.st_mode)})", f"chmod 600 {path}")
    if folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not folder.st_mode & stat.S_ISVTX:
        yield _wrong(f"others may write to its folder {path.parent}", f"chmod go-w {path.parent}")
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        yield _wrong(f"you may not write to {path} and its folder", "take the rights to, or use another ledger")
    workers = workers_of(path)
    if workers.exists() and not os.access(workers, os.R_OK | os.W_OK | os.X_OK):
        do = "chmod 700" if workers.stat().st_uid == os.geteuid() else f"chown -R --reference={path}"
        yield _wrong(f"you may not write to {workers}", f"{do} {workers}")
    if found.st_uid != os.geteuid() and os.geteuid():
        yield _wrong(f"{path} belongs to another user", "run issue as that user, or change the owner")


def place(ledger: Ledger) -> Iterator[Finding]:
    """Whether the ledger lies where SQLite's log is safe, and there is room."""
    from issue_core.ledger.health import UNSAFE, file_system_of

    folder = next(each for each in (ledger.path.parent, *ledger.path.parents) if each.exists())
    kind = file_system_of(folder)
    if kind in UNSAFE:
        yield _wrong(
            f"{folder} is on a file system ({kind}) on which the ledger may be damaged",
            "keep it on a disk of this machine (--ledger, ISSUE_CORE_LEDGER), and back it up to there",
        )
    elif kind:
        yield Finding(ok=True, what=f"{folder} is on {kind}")
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free < LEAST_ROOM:
        yield _wrong(f"only {free // 2**20:,} MiB are free in {folder}", "make room: nothing is taken on a full disk")
    else:
        yield Finding(ok=True, what=f"{free // 2**20:,} MiB are free")


def clock(ledger: Ledger) -> Iterator[Finding]:
    """Whether the ledger has times that are still to come."""
    from issue_core.ledger.health import latest_time
    from issue_core.task import from_text, to_text

    now = ledger.clock.now()
    with ledger.read() as connection:
        latest = latest_time(connection)
        ahead = latest is not None and from_text(latest) > now + WRONG_CLOCK
    if ahead:
        yield _wrong(
            f"the clock says {to_text(now)}, and the ledger has times up to {latest}",
            "set the clock (timedatectl, chrony): due dates, waits and looks go by it",
        )
    else:
        yield Finding(ok=True, what=f"the clock says {to_text(now)}")


def secret_files(settings: Settings) -> Iterator[Finding]:
    """Whether the files that hold secrets are kept from others."""
    for key, path in _secret_files(settings):
        # Of one that cannot be had, the setting that names it has a finding.
        mode = path.stat().st_mode if os.access(path, os.R_OK) else 0
        if mode & (stat.S_IRWXO | stat.S_IWGRP) and stat.S_ISREG(mode):
            yield _wrong(f"{key}: others may use {path} ({stat.filemode(mode)})", f"chmod o-rwx,g-w {path}")


def _secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    from issue_core.config.secret import Secret

    serve, nats = settings.serve, settings.nats
    named = {"serve.tls_key": serve.tls_key, "nats.creds": nats.creds, "nats.nkey": nats.nkey, "nats.key": nats.key}
    yield from ((key, path) for key, path in named.items() if path)
    options = [each for backend in settings.backends.values() for each in backend.options.values()]
    for secret in (*options, *serve.keys.values(), nats.password, nats.token):
        if isinstance(secret, Secret) and secret.source == "file":
            yield secret.key, Path(secret.place[0])


def routes(ledger: Ledger, settings: Settings) -> Iterator[Finding]:
    """Whether each route can be reached, and each task's backend is there."""
    from issue_core.ledger import health, outbox, queries

    with ledger.read() as connection:
        repos = queries.repos(connection)
        waiting = health.waiting_at(connection)
        in_doubt = outbox.backends_in_doubt(connection)
    left = repos
    for n, (pattern, backend) in enumerate(settings.routes):
        before = [each for each, _ in settings.routes[:n] if each == pattern or fnmatchcase(pattern, each)]
        taken = [repo for repo in left if fnmatchcase(repo, pattern)]
        left = [repo for repo in left if repo not in taken]
        if before:
            yield _wrong(f"the route {pattern!r} is never reached: {before[0]!r} stands before it", "move it up")
        elif repos and not taken:
            yield Finding(ok=True, what=f"the route {pattern!r} to {backend} matches no task so far")
    for name, n in waiting.items():
        if name not in settings.backends:
            yield _wrong(
                f"{n:,} tasks went to a backend {name!r}, which is not configured",
                _SETTLED_THERE if name in in_doubt else _GO_ELSEWHERE,
            )


def nats(ledger: Ledger, settings: Settings) -> Iterator[Finding]:
    """Whether NATS is as it must be, where it is used at all."""
    from issue_core.errors import IssueCoreError
    from issue_core.ledger import claims

    with ledger.read() as connection:
        is_marked = claims.is_marked(connection) or settings.nats.claims
    used = settings.nats
    if not (is_marked or used.url or used.context or used.login):
        return
    try:
        from issue_core.transports.nats import require

        require()
        from issue_core.transports.nats.checkup import examine
        from issue_core.transports.nats.waiting import run

        async def examined() -> list[tuple[bool, str, str | None]]:
            return [each async for each in examine(used, claims=is_marked)]

        found = run(examined())
    except IssueCoreError as error:
        yield _wrong(f"NATS: {error.message}", error.hint or "issue config show says what is in force")
    else:
        yield from (Finding(ok=ok, what=what, hint=hint) for ok, what, hint in found)


def needs(ledger: Ledger) -> Iterator[Finding]:
    """What waits for a person."""
    from issue_core.cli.needs import needs as all_needs
    from issue_core.cli.status import counted

    for each in all_needs(ledger, counted(ledger), None):
        # What is wrong with the backend is a finding of its own, with a hint of its own; so is a ledger that is gone.
        if each.code != "missing":
            yield _wrong(each.what, _ONCE_MENDED if each.code == "parked" else each.hint)


def _wrong(what: str, hint: str) -> Finding:
    return Finding(ok=False, what=what, hint=hint)
