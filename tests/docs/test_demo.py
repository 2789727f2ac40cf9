from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.docs.pages import ROOT, environment

DEMO = ROOT / "docs" / "demo" / "demo.sh"


def run_demo(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        ["sh", str(DEMO), folder.name],
        cwd=folder.parent,
        env=environment(home) | changes,
        capture_output=True,
        text=True,
        timeout=60,
    )


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_demo_does_what_it_says_and_a_second_run_starts_anew(tmp_path: Path) -> None:
    folder = tmp_path / "demo-data"
    for _ in range(2):
        done = run_demo(folder)

        assert done.returncode == 0, done.stdout + done.stderr
        assert len(list((folder / "issues").rglob("*.md"))) == 11
        [shown] = [line for line in done.stdout.splitlines() if line.startswith("  demo-data/issues/")]
        assert (tmp_path / shown.strip()).read_text(encoding="utf-8").startswith('---\nevent_id: "f3c95789-')


def test_the_demo_leaves_a_folder_alone_that_it_did_not_make(tmp_path: Path) -> None:
    folder = tmp_path / "demo-data"
    (folder / "issues").mkdir(parents=True)
    (folder / "issues" / "mine.md").write_text("mine", encoding="utf-8")

    done = run_demo(folder)

    assert done.returncode == 1
    assert "no demo made it" in done.stderr
    assert files_in(folder) == {"issues/mine.md"}


def test_the_demo_touches_neither_the_users_ledger_nor_what_else_lies_in_its_folder(tmp_path: Path) -> None:
    folder, ledger = tmp_path / "demo-data", tmp_path / "mine.db"
    folder.mkdir()
    (folder / ".issue-core-demo").touch()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    ledger.write_bytes(b"mine")

    done = run_demo(folder, ISSUE_CORE_LEDGER=str(ledger), ISSUE_CORE_CONFIG=str(tmp_path / "mine.toml"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert ledger.read_bytes() == b"mine"
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert files_in(tmp_path / "home") == set()


def test_the_demo_fails_when_something_does_not_go_as_it_says(tmp_path: Path) -> None:
    real = shutil.which("issue", path=environment(tmp_path)["PATH"])
    broken = tmp_path / "bin" / "issue"
    broken.parent.mkdir()
    broken.write_text(f'#!/bin/sh\n[ "$1" = sync ] || exec {real} "$@"\n', encoding="utf-8")
    broken.chmod(0o755)
    path = os.pathsep.join([str(broken.parent), environment(tmp_path)["PATH"]])

    done = run_demo(tmp_path / "demo-data", PATH=path)

    assert done.returncode == 1
    assert "should have counted 10 as tasks synced" in done.stderr
