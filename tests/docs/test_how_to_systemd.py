"""The units of the timers can be used as they are: systemd takes them, and their commands end as the units expect."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.support.cli import ISSUE, TIMEOUT, Issue, a_spec, force_state, ndjson

DEPLOY = ROOT / "docs" / "deploy"
PAGE = ROOT / "docs" / "how-to" / "run-with-systemd.md"
UNITS = tuple(f"issue-{name}.{kind}" for name in ("sync", "check", "backup") for kind in ("service", "timer"))
SERVICES = UNITS[::2]
PROGRAM = "/opt/issue-core/bin/issue"

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd")


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    return Issue(tmp_path)


def settings(unit: str) -> dict[str, str]:
    """The settings of a unit, of several with one name the last."""
    lines = (DEPLOY / unit).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def run(issue: Issue, unit: str) -> int:
    """The exit code of a unit's command."""
    words = shlex.split(settings(unit)["ExecStart"].replace("/backups", str(issue.folder)))
    assert words[0] == PROGRAM
    return issue.run(*words[1:]).code


@needs_systemd
def test_systemd_takes_the_units_without_a_word(tmp_path: Path) -> None:
    copies = []
    for unit in UNITS:
        copies.append(tmp_path / unit)
        copies[-1].write_text((DEPLOY / unit).read_text(encoding="utf-8").replace(PROGRAM, ISSUE), encoding="utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, copies)], capture_output=True, text=True, timeout=TIMEOUT
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_the_lines_of_the_page_make_units_that_systemd_takes_for_a_user(tmp_path: Path) -> None:
    [lines] = [block.text for block in blocks(PAGE, "sh") if "systemctl --user" in block.text]
    made = tmp_path / ".config" / "systemd" / "user"
    steps = lines.partition("systemctl")[0].replace("/path/to/the/checkout", str(ROOT))
    path = f"{Path(ISSUE).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", steps], env={"HOME": str(tmp_path), "PATH": path}, timeout=TIMEOUT, check=True)

    assert sorted(unit.name for unit in made.iterdir()) == sorted(UNITS)
    for unit in SERVICES:
        text = (made / unit).read_text(encoding="utf-8")
        assert re.search(rf"^ExecStart={re.escape(ISSUE)} ", text, re.MULTILINE)
        assert not re.search(
            r"^(User|StateDirectory|Protect\w+|ReadWritePaths)=|^[^#].*/(etc|backups|opt)/", text, re.MULTILINE
        )
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *map(str, made.iterdir())],
        env=os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("when", [settings(unit)["OnCalendar"] for unit in UNITS[1::2]])
def test_each_time_is_one_that_comes_again(when: str) -> None:
    done = subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, text=True, timeout=TIMEOUT)

    assert (done.returncode, "Next elapse: " in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_little_within_reach_as_that_of_the_server(service: str) -> None:
    server = re.search(r"```ini\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(encoding="utf-8"), re.DOTALL)
    assert server
    bounds = server[1].partition("\n\nProtectSystem=")[2].partition("\n\n")[0].strip()

    assert bounds
    assert (DEPLOY / service).read_text(encoding="utf-8").partition("\n\nProtectSystem=")[2].strip() == bounds


def test_each_unit_is_installed_by_the_page_and_its_timer_is_one_of_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert all(unit in text for unit in UNITS)
    assert [unit for unit in UNITS[1::2] if settings(unit)["WantedBy"] != "timers.target"] == []


def test_the_token_lies_where_a_unit_and_who_types_a_command_can_read_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    [token] = re.findall(r'token = \{ file = "(.+)" \}', text)

    assert f"install -m 0640 -g issue-core /dev/null {token}\n" in text
    assert f"install -d -m 0750 -g issue-core {Path(token).parent}\n" in text
    assert f'token = {{ file = "{token}" }}' in (DEPLOY / "issue-sync.service").read_text(encoding="utf-8")
    assert {settings(unit)["User"] for unit in SERVICES} == {"issue-core"}


def test_the_sync_of_the_unit_makes_issues_and_a_failed_task_is_no_failure_of_it(issue: Issue) -> None:
    issue.run("ingest", input=ndjson(a_spec(1), a_spec(2)))

    assert run(issue, "issue-sync.service") == 0
    assert len(list((issue.folder / "issues").rglob("*.md"))) == 2
    issue.run("ingest", input=ndjson(a_spec(3)))
    (issue.folder / "config.toml").write_text(
        'default_backend = "work"\n[backends.work]\ntype = "github"\ntoken = { env = "NO_SUCH_TOKEN" }\n'
    )
    assert run(issue, "issue-sync.service") == int(settings("issue-sync.service")["SuccessExitStatus"])


def test_the_check_of_the_unit_fails_when_something_needs_a_person(issue: Issue) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))

    assert run(issue, "issue-check.service") == 0
    force_state(issue, 1, "failed")
    assert run(issue, "issue-check.service") == 3
    assert "SuccessExitStatus" not in settings("issue-check.service")


def test_the_backup_of_the_unit_makes_a_copy_and_fails_where_there_is_none(issue: Issue) -> None:
    issue.run("ingest", input=ndjson(a_spec(1)))
    words = settings("issue-backup.service")
    (copies := issue.folder / "issue-core").mkdir()

    assert run(issue, "issue-backup.service") == 0
    assert len(list(copies.glob("ledger-*.db"))) == 1
    assert words["ReadWritePaths"] in words["ExecStart"]
    issue.path.write_text("something else")
    assert run(issue, "issue-backup.service") == 1
