"""A restored ledger and the claims of its former lives: what they claimed is its own, and in doubt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from issue_core.backends.body import event_id_in
from tests.support.cli import Issue, a_spec
from tests.support.nats_server import NatsServer
from tests.transports.nats.subscribing import command, make, put, tasks


@pytest.fixture
def configured(issue: Issue, server: NatsServer) -> Issue:
    """A host that claims what it takes."""
    (issue.folder / "config.toml").write_text(f'[nats]\nurl = "{server.url}"\n')
    make(server, claims=True)
    return issue


def take(issue: Issue, server: NatsServer, *numbers: int) -> None:
    """The same messages for the same numbers; whoever publishes them again does so on purpose."""
    put(server, *map(a_spec, numbers))
    assert command(issue, server, "--until-empty").code == 0


def restore(issue: Issue, copy: Path, *, lost: bool) -> None:
    if lost:
        for file in issue.folder.glob("ledger.db*"):
            if file.is_file():
                file.unlink()
    assert issue.run("restore", str(copy)).code == 0


def one_file_each(issue: Issue, *numbers: int) -> None:
    files = (issue.folder / "issues").rglob("*.md")
    wanted = {a_spec(n)["triggering_event_id"]: 1 for n in numbers}
    assert Counter(event_id_in(path.read_bytes()) for path in files) == wanted
    assert {(task["event_id"], task["state"]) for task in tasks(issue)} == {(each, "synced") for each in wanted}


@pytest.mark.parametrize("lost", [True, False])
def test_what_the_lost_ledger_had_claimed_is_made_once_after_the_restore(
    configured: Issue, server: NatsServer, tmp_path: Path, lost: bool
) -> None:
    """The lost one had claimed and made task 2, and claimed task 3; nobody else would ever make that."""
    take(configured, server, 1)
    configured.run("sync")
    configured.run("backup", str(tmp_path / "copy.db"))
    take(configured, server, 2)
    configured.run("sync")
    take(configured, server, 3)
    restore(configured, tmp_path / "copy.db", lost=lost)
    take(configured, server, 1, 2, 3, 4)
    assert configured.run("sync").stdout == "2 created, 1 adopted\n"
    one_file_each(configured, 1, 2, 3, 4)


def test_an_older_copy_restored_after_a_newer_one_makes_what_the_ledger_between_them_had_claimed(
    configured: Issue, server: NatsServer, tmp_path: Path
) -> None:
    take(configured, server, 1)
    configured.run("backup", str(tmp_path / "copy.db"))
    restore(configured, tmp_path / "copy.db", lost=False)
    take(configured, server, 2)
    restore(configured, tmp_path / "copy.db", lost=False)
    take(configured, server, 2)
    assert [task["state"] for task in tasks(configured)] == ["pending", "pending"]
    configured.run("sync")
    one_file_each(configured, 1, 2)


def test_a_copy_from_before_the_first_claim_makes_what_the_ledger_had_claimed(
    issue: Issue, server: NatsServer, tmp_path: Path
) -> None:
    (issue.folder / "config.toml").write_text(f'[nats]\nurl = "{server.url}"\n')
    issue.run("new", "Before all", "--repo", "acme/web")
    issue.run("sync")
    issue.run("backup", str(tmp_path / "copy.db"))
    make(server, claims=True)
    take(issue, server, 1)
    restore(issue, tmp_path / "copy.db", lost=False)
    take(issue, server, 1)
    assert {task["state"] for task in tasks(issue)} == {"synced", "pending"}


def test_a_claim_of_another_ledger_is_not_ours_after_a_restore_either(
    configured: Issue, server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Issue(tmp_path / "other")
    (other.folder / "config.toml").write_text(f'[nats]\nurl = "{server.url}"\n')
    take(configured, server, 1)
    configured.run("backup", str(tmp_path / "copy.db"))
    take(other, server, 2)
    restore(configured, tmp_path / "copy.db", lost=True)
    take(configured, server, 2)
    assert {task["event_id"]: task["state"] for task in tasks(configured)} == {
        a_spec(1)["triggering_event_id"]: "pending",
        a_spec(2)["triggering_event_id"]: "elsewhere",
    }
