"""A file is there whole or not at all, whenever its writer dies and whatever the disk says."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from issue_core.backends.base import Backend, Issue
from issue_core.backends.body import render
from issue_core.backends.local import open_backend
from issue_core.errors import BackendError, OutcomeUnknown, ProjectClosed, Unreachable
from issue_core.task import Task
from tests.support.build import a_task

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LARGE = "A long line of text.\n" * 2500
REPOSITORY = Path(__file__).parents[2]

only_fsync = pytest.mark.skipif(sys.platform == "darwin", reason="macOS syncs with fcntl, not with fsync")


def a_backend(home: Path) -> Backend:
    return open_backend("local", {}, home=home, request_timeout=30)


@pytest.fixture
def local(tmp_path: Path) -> Backend:
    return a_backend(tmp_path)


def create(backend: Backend, task: Task, before_send: Callable[[], object] = lambda: None) -> Issue:
    def announce() -> None:
        before_send()

    return backend.create(task, backend.target(task.target_repo), timeout=30, before_send=announce)


def look(backend: Backend, task: Task) -> list[Issue]:
    target = backend.target(task.target_repo)
    return backend.look(target, [task.event_id], LONG_AGO, keep_lease=lambda: None).get(task.event_id, [])


def files_in(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if not path.is_dir()]


# Killed


def kill_at_every_line(home: Path) -> None:
    """Run one create again and again, killed at its first line, its second, …, and check what each one left."""
    for line in count(1):
        place = home / str(line)
        place.mkdir()
        task = a_task(seq=line, title="x", target_repo="a", description=LARGE)
        if _survives(lambda: _create_until(line, place, task)):  # noqa: B023 - it is called at once
            print(line)
            return
        _is_whole_and_one(place, task)


def _survives(work: Callable[[], object]) -> bool:
    """Whether a child process comes to the end of ``work``; it may only be killed otherwise."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


def _create_until(line: int, home: Path, task: Task) -> None:
    lines = count(1)

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.endswith(("backends/local.py", "backends/folder.py")):
            return None
        if event == "line" and next(lines) == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    backend = a_backend(home)
    sys.settrace(trace)
    create(backend, task)


def _is_whole_and_one(home: Path, task: Task) -> None:
    backend = a_backend(home)
    made = list(home.rglob("*.md"))
    assert [path.read_text() for path in made] == [render(task)] * len(made)
    found = look(backend, task)
    assert len(found) == len(made) <= 1
    assert files_in(home) == made, "the dead writer's draft is swept by the look"
    if not found:
        create(backend, task)
    assert [path.read_text() for path in files_in(home)] == [render(task)]


def kill_at_any_moment(home: Path) -> None:
    """Twenty times: a child makes issue after issue, and is killed from outside while it does."""
    chance = random.Random()
    for run in range(20):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            try:
                _create_many(home, run, writing)
            finally:
                os._exit(1)
        os.close(writing)
        for _ in range(chance.randrange(1, 12)):
            assert os.read(reading, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
    backend = a_backend(home)
    made = {path.read_text() for path in home.rglob("*.md")}
    assert all(text.endswith(f"{LARGE}The end.\n") for text in made)
    look(backend, a_task())
    assert len(files_in(home)) == len(made) >= 20
    print(len(made))


def _create_many(home: Path, run: int, pipe: int) -> None:
    """More than anybody waits for; and it ends with its parent, which has the other end of the pipe."""
    backend = a_backend(home)
    for number in range(1, 1000):
        task = a_task(seq=run * 1000 + number, description=f"{LARGE}The end.\n")
        create(backend, task, lambda: os.write(pipe, b"."))


@pytest.mark.parametrize(("scene", "least"), [("kill_at_every_line", 60), ("kill_at_any_moment", 20)])
def test_a_writer_that_is_killed_leaves_a_whole_file_or_none(tmp_path: Path, scene: str, least: int) -> None:
    # In a process of its own, since it forks, and a process with threads (pytest may have some) must not.
    code = f"import pathlib, sys; from tests.backends.test_folder import {scene} as s; s(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least


# Drafts


def test_the_draft_of_a_dead_writer_is_swept_and_that_of_a_living_one_is_not(tmp_path: Path, local: Backend) -> None:
    folder = tmp_path / "issues/acme/web"
    folder.mkdir(parents=True)
    dead, alive, own = (folder / name for name in (f".issue-core-{'0' * 32}.tmp", f".issue-core-{'1' * 32}.tmp", ".x"))
    for path in (dead, alive, own):
        path.write_text("half")
    with alive.open("r+") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        look(local, a_task())
        assert sorted(folder.iterdir()) == sorted([alive, own])
    look(local, a_task())
    assert list(folder.iterdir()) == [own]


def test_a_writer_whose_draft_is_swept_before_it_is_locked_writes_another(
    tmp_path: Path, local: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = fcntl.flock, list[Path]()

    def sweep_first(fd: int, operation: int) -> None:
        if not swept:
            swept.extend(tmp_path.rglob(".issue-core-*"))
            swept[0].unlink()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    task = a_task()
    create(local, task)
    assert swept
    assert [path.read_text() for path in files_in(tmp_path)] == [render(task)]


def test_many_may_write_and_look_at_the_same_time(tmp_path: Path, local: Backend) -> None:
    tasks = [a_task(title="Same") for _ in range(120)]
    with ThreadPoolExecutor(5) as pool:
        looks = [pool.submit(look, local, task) for task in tasks[::4]]
        issues = list(pool.map(lambda task: create(local, task), tasks))
        assert all(len(done.result()) <= 1 for done in looks)
    assert {(tmp_path / "issues" / issue.id).read_text() for issue in issues} == {render(task) for task in tasks}
    assert len(files_in(tmp_path)) == len(tasks)


# The disk


@only_fsync
def test_the_file_and_every_new_name_on_the_way_are_on_the_disk_before_the_answer(
    tmp_path: Path, local: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    before: list[int] = []
    issue = create(local, a_task(target_repo="a/b"), lambda: before.extend(synced))
    root = tmp_path / "issues"
    assert before == [(root / issue.id).stat().st_ino]
    assert [place.stat().st_ino for place in (root / "a/b", root / "a", root, tmp_path)] == synced[1:]
    synced.clear()
    second = create(local, a_task(target_repo="a/b"))
    assert synced == [(root / second.id).stat().st_ino, (root / "a/b").stat().st_ino]
    synced.clear()
    third = create(a_backend(tmp_path), a_task(target_repo="a/b"))
    assert synced[1:] == [place.stat().st_ino for place in (root / "a/b", root / "a", root, tmp_path)], third
    synced.clear()
    look(a_backend(tmp_path), a_task(seq=1, event_id=(root / issue.id).read_text().split('"')[1]))
    assert {place.stat().st_ino for place in (root / "a/b", root / "a", root, tmp_path)} == set(synced)


@only_fsync
@pytest.mark.parametrize(
    ("failing", "kind", "left"), [(1, Unreachable, 0), (2, OutcomeUnknown, 1), (3, OutcomeUnknown, 1)]
)
def test_a_disk_that_fails_makes_doubt_only_once_the_file_may_be_there(
    tmp_path: Path,
    local: Backend,
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
    kind: type[BackendError],
    left: int,
) -> None:
    calls, fsync = count(1), os.fsync

    def fail(fd: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)
    task = a_task()
    with pytest.raises(kind, match="Input/output error"):
        create(local, task)
    assert len(files_in(tmp_path)) == len(look(local, task)) == left


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, Unreachable),
        (errno.EDQUOT, Unreachable),
        (errno.EROFS, Unreachable),
        (errno.EACCES, ProjectClosed),
        (errno.EIO, OutcomeUnknown),
        (errno.ESTALE, OutcomeUnknown),
    ],
)
def test_each_failure_to_give_the_file_its_name_means_one_thing(
    tmp_path: Path, local: Backend, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[BackendError]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(kind) as raised:
        create(local, a_task())
    assert type(raised.value) is kind
    assert raised.value.known == (kind is not OutcomeUnknown)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV])
def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, local: Backend, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", fail)
    task = a_task()
    issue = create(local, task)
    assert files_in(tmp_path) == [tmp_path / "issues" / issue.id]
    assert look(local, task) == [issue]


def test_a_file_over_the_size_limit_leaves_nothing(tmp_path: Path, local: Backend) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(Unreachable, match="no room"):
            create(local, a_task(description=LARGE))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_in(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root on Linux, with the right to mount, can make a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_takes_what_fits_and_leaves_nothing_of_the_rest(small_disk: Path) -> None:
    local = a_backend(small_disk)
    fits, does_not = a_task(description="x"), a_task(description=LARGE * 2)
    create(local, fits)
    with pytest.raises(Unreachable, match="no room") as raised:
        create(local, does_not)
    assert raised.value.hint
    assert [path.read_text() for path in files_in(small_disk)] == [render(fits)]
