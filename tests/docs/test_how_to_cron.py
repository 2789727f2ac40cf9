"""Every crontab line on any page does what is said of it, in the environment that cron gives: a home, and no more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from issue_core import Ledger
from tests.docs.pages import PAGES, ROOT, blocks, name_of
from tests.support.cli import ISSUE, TIMEOUT, a_spec, ndjson
from tests.support.trackers import fake
from tests.support.trackers.server import TOKEN_VARIABLE, Answer, Fault

PAGE = ROOT / "docs" / "how-to" / "run-from-cron.md"
JOB = re.compile(r"((?:[\d*/,-]+ +){5})(.*\bissue .*)")
SETTING = re.compile(r"(\w+)=(\S+)")


def lines(page: Path) -> Iterator[str]:
    for block in blocks(page, "text"):
        yield from block.text.splitlines()


def jobs(page: Path) -> list[str]:
    """The commands of the crontab lines that a page shows."""
    found = (job[2] for line in lines(page) if (job := JOB.fullmatch(line)))
    return [job for job in found if "issue subscribe" not in job]  # it has a server, and a test of its own


WITH_JOBS = [page for page in PAGES if jobs(page)]


@dataclass(frozen=True, slots=True)
class Cron:
    """cron, for a user whose home is ``home``, with the settings of the page's crontab."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a job sees."""
        found = (SETTING.fullmatch(line) for line in lines(PAGE))
        settings = {setting[1]: setting[2] for setting in found if setting}
        path = settings["PATH"].replace("/home/kim/.local/bin", str(Path(ISSUE).parent))
        assert str(Path(ISSUE).parent) in path
        return settings | {"HOME": str(self.home), "LOGNAME": "kim", "PATH": path}

    def run(self, job: str) -> str:
        """What cron would mail of this job; there is a folder for backups, as the page says."""
        (self.home / "backups" / "issue-core").mkdir(parents=True, exist_ok=True)
        assert "%" not in job, "cron takes it for the end of the command"
        command = job.replace("/backups", f"{self.home}/backups")
        done = subprocess.run(
            [self.environment["SHELL"], "-c", command],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
        )
        return done.stdout.decode()

    def ingest(self, *specs: object) -> None:
        """Store TaskSpecs."""
        documents = ndjson(*specs).encode()
        subprocess.run([ISSUE, "ingest"], input=documents, env=self.environment, capture_output=True, timeout=TIMEOUT)

    @property
    def folder(self) -> Path:
        """Where the ledger lies."""
        return next(self.home.rglob("ledger.db")).parent


@pytest.fixture
def cron(tmp_path: Path) -> Cron:
    return Cron(tmp_path)


def test_the_page_has_the_four_lines_that_are_a_whole_installation() -> None:
    told = " ".join(jobs(PAGE))

    assert all(f"issue {words}" in told for words in ("sync", "status --check", "backup --to-dir", "sync --verify"))
    assert {"docs/how-to/run-from-cron.md", "docs/how-to/back-up-and-restore.md"} <= {
        name_of(page) for page in WITH_JOBS
    }


@pytest.mark.parametrize("page", WITH_JOBS, ids=name_of)
def test_while_all_is_well_no_line_has_cron_send_a_mail(page: Path, cron: Cron) -> None:
    cron.ingest(a_spec(1, title="Größe prüfen"), a_spec(2))

    assert [cron.run(job) for job in jobs(PAGE)] == [""] * len(jobs(PAGE))
    told = [printed for job in jobs(page) if (printed := cron.run(job))]
    assert all("bytes" in line for line in told)  # of a backup without `> /dev/null`, on the page about backups

    assert len(list(cron.folder.rglob("*.md"))) == 2
    assert list((cron.home / "backups" / "issue-core").glob("ledger-*.db"))


def test_when_something_needs_a_person_one_line_is_mailed_until_it_is_seen_to(cron: Cron) -> None:
    cron.ingest(a_spec(1), "no TaskSpec")
    [check] = [job for job in jobs(PAGE) if job.startswith("issue status --check")]
    [sync] = [job for job in jobs(PAGE) if job.startswith("issue sync >")]

    assert cron.run(sync) == ""
    assert [cron.run(check) for _ in range(2)] == ["1 rejected (issue rejects list)\n"] * 2
    cron.run("issue rejects drop 1")
    assert cron.run(check) == ""


def test_an_issue_that_is_gone_is_mailed_by_the_weekly_comparison(cron: Cron) -> None:
    cron.ingest(a_spec(1))
    cron.run("issue sync")
    [verify] = [job for job in jobs(PAGE) if "--verify" in job]
    assert cron.run(verify) == ""
    next(cron.folder.rglob("*.md")).unlink()

    assert re.match(r"missing: .*\n1? ?0 marked issues: 0 double, 0 unknown, 1 missing\n", cron.run(verify))


def test_the_oldest_backups_go_when_there_are_as_many_as_the_line_says(cron: Cron) -> None:
    cron.ingest(a_spec(1))
    [backup] = [job for job in jobs(PAGE) if job.startswith("issue backup")]
    folder = cron.home / "backups" / "issue-core"
    folder.mkdir(parents=True, exist_ok=True)
    old = [folder / f"ledger-2020010{n}T021500Z.db" for n in range(1, 10)] + [
        folder / f"ledger-202002{n}T021500Z.db" for n in range(10, 20)
    ]
    for each in [*old, folder / "notes.db"]:
        each.touch()

    assert cron.run(backup) == ""
    assert sorted(folder.glob("ledger-*.db"))[:-1] == sorted(old)[-13:]
    assert (folder / "notes.db").exists()


def test_a_ledger_that_cannot_be_read_is_mailed_by_each_line(cron: Cron) -> None:
    cron.ingest(a_spec(1))
    (cron.folder / "ledger.db").write_text("something else")

    assert all("is not a ledger" in cron.run(job) for job in jobs(PAGE))


def test_the_user_who_has_no_mail_is_told_by_what_the_line_is_handed_to(cron: Cron) -> None:
    [line] = [line.split(maxsplit=5)[5] for line in lines(PAGE) if "logger" in line]
    cron.ingest("no TaskSpec")

    assert cron.run(line.replace("logger -t issue-core", "cat")) == "1 rejected (issue rejects list)\n"


def test_a_task_that_failed_is_mailed_once_and_a_tracker_that_is_down_is_waited_for_in_silence(cron: Cron) -> None:
    [sync] = [job for job in jobs(PAGE) if job.startswith("issue sync >")]
    with fake("gitea") as tracker:
        config = cron.home / ".config" / "issue-core" / "config.toml"
        config.parent.mkdir(parents=True)
        (cron.home / "token").write_text(os.environ[TOKEN_VARIABLE])
        text = re.sub(r"token = .*", 'token = { file = "~/token" }', tracker.toml())
        config.write_text(f'default_backend = "work"\n{text}')
        cron.ingest(a_spec(1))
        tracker.faults = [Fault("answer_before", on="create", answer=Answer(422, {"message": "no such thing"}))]

        told = cron.run(sync)
        assert re.fullmatch(r"failed: task 1 \(.*\) at work: .*no such thing.*\n", told)
        assert cron.run(sync) == ""
        cron.ingest(a_spec(2))
        tracker.refuse()
        assert cron.run(sync) == ""


def test_two_lines_at_the_same_moment_make_one_issue_each(cron: Cron) -> None:
    cron.ingest(*(a_spec(n, triggering_event_id=str(uuid.UUID(int=n))) for n in range(60)))
    running = [
        subprocess.Popen(["/bin/sh", "-c", "issue sync"], env=cron.environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for each in running:
        each.communicate(timeout=TIMEOUT)
    cron.run("issue sync")

    assert len(list(cron.folder.rglob("*.md"))) == 60
    with Ledger(cron.folder / "ledger.db") as ledger, ledger.read() as connection:
        assert connection.execute("SELECT count(*) FROM tasks WHERE state = 'synced'").fetchone() == (60,)
    assert json.loads(cron.run("issue status --check --json"))["needs"] == []
