"""``issue doctor`` finds what is wrong, says how to mend it, and changes nothing."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest

from issue_core.ledger import claims, health
from issue_core.ledger.workers import workers_of
from tests.support.cli import Issue, a_spec, force_state, ndjson


@pytest.fixture
def one(issue: Issue) -> Issue:
    """A ledger with a task."""
    (issue.folder / "in").write_text(ndjson(a_spec(1)))
    assert issue.call("ingest", str(issue.folder / "in")).code == 0
    return issue


def wrong(issue: Issue, *words: str) -> list[str]:
    """What it found wrong, each with the hint."""
    ran = issue.call("doctor", "--json", *words)
    found = [each for each in ran.objects if not each["ok"]]
    assert all(each["hint"] for each in found)
    assert ran.code == (3 if found else 0)
    return [f"{each['about']}: {each['what']} ({each['hint']})" for each in found]


def test_all_is_well_with_a_ledger_and_before_there_is_one(issue: Issue, one: Issue) -> None:
    assert wrong(one) == []
    ran = issue.call("doctor", "--ledger", str(issue.folder / "new" / "ledger.db"))
    assert (ran.code, "the first task makes it" in ran.stdout) == (0, True)
    assert not (issue.folder / "new").exists()


def test_a_ledger_that_is_gone_and_left_its_companions_is_told_once(one: Issue) -> None:
    one.path.unlink()
    workers_of(one.path).mkdir()
    [told] = wrong(one)
    assert told.startswith(f"ledger: no ledger at {one.path}, but there was one (is its disk mounted?")


def test_a_ledger_that_others_may_read_is_told(one: Issue) -> None:
    one.path.chmod(0o644)
    assert wrong(one) == [f"ledger: others may use {one.path} (-rw-r--r--) (chmod 600 {one.path})"]


def test_a_folder_that_others_may_write_to_is_told(one: Issue) -> None:
    one.folder.chmod(0o777)
    assert [each for each in wrong(one) if "others may write to its folder" in each]


def test_a_damaged_ledger_is_told_with_what_is_damaged(one: Issue) -> None:
    with one.ledger as ledger, ledger.write() as tx:
        tx.connection.execute("PRAGMA writable_schema = ON")
        tx.connection.execute("UPDATE sqlite_master SET rootpage = 3 WHERE name = 'attempts_of_task'")
    found = wrong(one)
    assert found
    assert all(each.startswith("ledger: ") for each in found)
    assert f"issue restore BACKUP --ledger {one.path}" in found[0]


def test_what_sqlite_calls_whole_is_told_when_a_row_cannot_be_what_it_says(one: Issue) -> None:
    (one.folder / "more").write_text(ndjson(*map(a_spec, range(2, 9))))
    assert one.call("ingest", str(one.folder / "more")).code == 0
    with closing(sqlite3.connect(one.path)) as connection, connection:
        connection.execute("UPDATE tasks SET description = 'other words'")
    found = wrong(one)
    told = f"ledger: ledger {one.path} is damaged: task 1: what it asks for has another digest"
    assert found[0].startswith(told)
    assert f"issue restore BACKUP --ledger {one.path}" in found[0]
    assert len(found) == 5


DAMAGED = (
    "UPDATE tasks SET created_at = substr(created_at, 1, 23) || 's'",
    "UPDATE tasks SET state = 'qending'",
    "UPDATE tasks SET labels = '{}'",
    "UPDATE tasks SET title = x'41'",
    'UPDATE tasks SET sightings = \'{"cli": "x"}\'',
    "UPDATE tasks SET description = CAST(x'ff41' AS TEXT)",
    "UPDATE rejects SET errors = '[1, 2]'",
    "UPDATE rejects SET transport = 'clj'",
    "UPDATE rejects SET last_at = 'x'",
    "UPDATE attempts SET started_at = 'x'",
    "UPDATE tallies SET target_repo = x'41'",
    "INSERT INTO parked VALUES ('local', '', 'unreachable', 'gone', 'x', 'x', 0)",
)
READING = (
    *("status", "status --json", "status --check", "list", "list --json", "show 1", "export", "export -f csv"),
    *("rejects list", "rejects list --json", "rejects show 1", "sync --dry-run", "sync --verify", "backup copy.db"),
)


@pytest.mark.parametrize("statement", DAMAGED)
def test_no_command_that_reads_ends_in_a_traceback_whatever_stands_in_a_row(
    one: Issue, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(one.folder)
    (one.folder / "refused").write_text("{}")
    one.call("ingest", str(one.folder / "refused"))
    assert one.call("sync").stdout == "1 created\n"
    with closing(sqlite3.connect(one.path)) as connection, connection:
        connection.execute(statement)
    assert [each for each in wrong(one) if "is damaged" in each]
    ran = [one.call(*command.split()) for command in READING]
    assert [each for each in ran if each.code not in (0, 1, 3) or "Traceback" in each.stderr] == []
    refused = [each.stderr for each in ran if each.code == 1]
    assert [each for each in refused if "is damaged" not in each or "hint: " not in each] == []


def test_a_file_that_is_no_ledger_is_told(issue: Issue) -> None:
    issue.path.write_text("something else")
    assert "is not a ledger of issue-core" in wrong(issue)[0]


def test_a_ledger_with_times_that_are_still_to_come_is_told(one: Issue) -> None:
    with one.ledger as ledger, ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET created_at = '2999-01-01T00:00:00.000Z'")
    assert [each for each in wrong(one) if "the ledger has times up to 2999-01-01" in each]


@pytest.mark.parametrize(("mounted", "kind"), [("nfs4", "nfs4"), ("9p", "9p"), ("ext4", None)])
def test_a_file_system_on_which_the_ledger_may_be_damaged_is_told(
    one: Issue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mounted: str, kind: str | None
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/home {one.folder} {mounted} rw 0 0\n")
    monkeypatch.setattr(health, "_MOUNTS", mounts)
    found = [each for each in wrong(one) if "on which the ledger may be damaged" in each]
    assert [f"({kind})" in each for each in found] == [True] * (kind is not None)


def test_a_route_that_is_never_reached_is_told_and_one_that_matches_nothing_yet_is_no_fault(one: Issue) -> None:
    (one.folder / "config.toml").write_text('[routes]\n"acme/*" = "local"\n"acme/web" = "local"\n"other" = "local"\n')
    assert wrong(one) == ["routes: the route 'acme/web' is never reached: 'acme/*' stands before it (move it up)"]
    assert "the route 'other' to local matches no task so far" in one.call("doctor").stdout


def test_tasks_in_doubt_at_a_backend_that_is_gone_are_told(one: Issue) -> None:
    force_state(one, 1, "pending", backend="work", in_doubt_since="2026-01-01T00:00:00.000Z")
    [found] = [each for each in wrong(one) if "1 tasks went to a backend 'work', which is not configured" in each]
    assert "(configure it under this name again; a task in doubt can only be settled there" in found


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_other_tasks_of_a_backend_that_is_gone_go_where_the_routes_point_as_the_hint_says(
    one: Issue, state: Literal["pending", "failed"]
) -> None:
    force_state(one, 1, state, backend="work")
    [found] = [each for each in wrong(one) if "1 tasks went to a backend 'work', which is not configured" in each]
    assert "(`issue sync` sends them where the routes point now; those that failed need `issue retry` first)" in found
    assert one.call("retry", "--all").code == 0
    assert one.call("sync").stdout == "1 created\n"
    assert wrong(one) == []


def test_what_needs_a_person_is_told(one: Issue) -> None:
    force_state(one, 1, "failed")
    assert wrong(one) == ["tasks: 1 failed (issue list --state failed)"]


def test_a_backend_that_is_not_ready_is_told(one: Issue) -> None:
    (one.folder / "config.toml").write_text(
        '[backends.work]\ntype = "gitea"\nurl = "http://127.0.0.1:1"\ntoken = { env = "NO_SUCH_TOKEN" }\n'
    )
    assert [each for each in wrong(one) if each.startswith("backend work: ") and "NO_SUCH_TOKEN" in each]


def secrets(issue: Issue) -> list[Path]:
    """Files with secrets, one of each kind, that the configuration names."""
    files = [issue.folder / name for name in ("token", "key", "tls.pem", "password", "x.creds")]
    for each in files:
        each.write_text("a-secret-of-enough-characters")
        each.chmod(0o600)
    (issue.folder / "config.toml").write_text(
        '[backends.work]\ntype = "gitea"\nurl = "http://127.0.0.1:1"\ntoken = { file = "token" }\n'
        '[serve]\nkeys.rules = { file = "key" }\ntls_cert = "no.pem"\ntls_key = "tls.pem"\n'
        '[nats]\ncreds = "x.creds"\npassword = { file = "password" }\n'
    )
    return files


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o666])
def test_a_file_with_a_secret_that_others_may_use_is_told(one: Issue, mode: int) -> None:
    files = secrets(one)
    assert [each for each in wrong(one) if "others may use" in each] == []
    for each in files:
        each.chmod(mode)
    found = [each.removeprefix("configuration: ") for each in wrong(one) if "others may use" in each]
    keys = ["backends.work.token", "nats.creds", "nats.password", "serve.keys.rules", "serve.tls_key"]
    assert sorted(each.partition(":")[0] for each in found) == keys
    token = files[0]
    told = f"backends.work.token: others may use {token} ({stat.filemode(0o100000 | mode)}) (chmod o-rwx,g-w {token})"
    assert told in found
    for told in found:
        assert one.shell(told.rpartition("(")[2].removesuffix(")")).code == 0
    assert [each for each in wrong(one) if "others may use" in each] == []


def test_a_file_with_a_secret_may_be_read_by_a_group_and_one_that_is_missing_is_told_once(one: Issue) -> None:
    token, *files = secrets(one)
    for each in files:
        each.chmod(0o640)
    token.unlink()
    assert [each for each in wrong(one) if "others may use" in each] == []
    assert len([each for each in wrong(one) if "backends.work.token" in each]) == 1


@pytest.mark.parametrize("command", ["doctor", "config check"])
def test_a_backend_that_nothing_goes_to_is_told_as_no_fault(one: Issue, command: str) -> None:
    says = "no task goes there: neither default_backend nor a route names it"
    notes = '[backends.notes]\ntype = "local"\npath = "notes"\n'
    config = one.folder / "config.toml"

    def told() -> list[str]:
        ran = one.call(*command.split())
        assert ran.code == 0
        return [each.removesuffix(f": {says}") for each in ran.stdout.splitlines() if each.endswith(says)]

    of = "backend " if command == "doctor" else ""
    config.write_text(notes)
    assert told() == [f"ok: {of}notes"]
    config.write_text(f"{notes}[backends.local]\npath = 'here'\n[routes]\n'*' = 'notes'\n")
    assert told() == []
    config.write_text(f"default_backend = 'notes'\n{notes}")
    assert told() == []  # the local one, which is always there, nobody has asked for
    config.write_text(f"default_backend = 'notes'\n{notes}[backends.local]\npath = 'here'\n")
    assert told() == [f"ok: {of}local"]


def test_nats_is_looked_at_where_it_is_used(one: Issue) -> None:
    (one.folder / "config.toml").write_text('[nats]\nurl = "nats://127.0.0.1:1"\n')
    assert [each for each in wrong(one) if each.startswith("nats: NATS: nats://127.0.0.1:1 cannot be reached")]
    (one.folder / "config.toml").write_text("")
    assert wrong(one) == []
    with one.ledger as ledger, ledger.write() as tx:
        claims.mark(tx)
    assert [each for each in wrong(one) if each.startswith("nats: ")]


def test_it_changes_nothing(one: Issue) -> None:
    one.call("doctor")  # whoever reads first makes the two files that SQLite needs beside it
    before = {path: path.stat().st_mtime_ns for path in one.folder.rglob("*") if path.is_file()}
    one.call("doctor")
    after = {path: path.stat().st_mtime_ns for path in one.folder.rglob("*") if path.is_file()}
    changed = {path.name for path in before | after if before.get(path) != after.get(path)}
    assert changed <= {"ledger.db-shm", "config.toml"}  # the latter is touched by the test itself


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_ledger_that_this_user_may_not_write_is_told(one: Issue) -> None:
    one.path.chmod(0o400)
    assert [each for each in wrong(one) if "you may not write to" in each]


CLOSED = "2026-01-01T00:00:00.000Z"


def park(issue: Issue, until: str) -> None:
    with issue.ledger as ledger, ledger.write() as tx:
        row = ("work", "acme/web", "project", "404", CLOSED, until)
        tx.connection.execute("INSERT INTO parked VALUES (?, ?, ?, ?, ?, ?, 0)", row)


def test_what_is_parked_says_since_when_when_it_is_tried_and_what_makes_that_now(one: Issue) -> None:
    park(one, "2999-01-01T00:00:00.000Z")
    [parked] = wrong(one)
    assert re.fullmatch(
        r"tasks: work acme/web is parked for [\d,]+ d, tried again in [\d,]+ d: 404 "
        r"\(issue retry --all makes it due now once it is mended\)",
        parked,
    )


def test_a_park_whose_time_is_over_is_tried_by_the_next_sync(one: Issue) -> None:
    park(one, CLOSED)
    [parked] = wrong(one)
    assert re.search(r"is parked for [\d,]+ d, tried again by the next sync: 404", parked)


@pytest.mark.parametrize("command", ["doctor", "config check"])
def test_a_person_sees_in_colour_what_is_wrong_and_at_the_end_how_much(one: Issue, command: str) -> None:
    well = one.on_terminal(*command.split()).stdout
    assert "\x1b[38;5;28mok\x1b[0m: " in well
    assert well.splitlines()[-1] == "nothing is wrong"
    config = one.folder / "config.toml"
    config.write_text('[backends.a]\ntype = "local"\npath = "/no/such"\n')
    ran = one.on_terminal(*command.split())
    assert ran.code == 3
    assert "\x1b[1;38;5;160mnot ok\x1b[0m: " in ran.stdout
    assert ran.stdout.splitlines()[-1] == "1 thing is wrong"
    config.write_text(config.read_text() + '[backends.b]\ntype = "local"\npath = "/no/such"\n')
    assert one.on_terminal(*command.split()).stdout.splitlines()[-1] == "2 things are wrong"
    plain = one.on_terminal(*command.split(), environment={"NO_COLOR": "1"}).stdout
    assert "38;5" not in plain


def test_what_is_held_says_for_how_long(one: Issue) -> None:
    force_state(one, 1, "held", created_at=CLOSED)
    [held] = wrong(one)
    assert re.fullmatch(r"tasks: 1 held for [\d,]+ d \(issue sync says what keeps their claims\)", held)


def test_a_pipe_and_json_get_the_findings_alone(one: Issue) -> None:
    assert one.call("doctor").stdout.splitlines()[-1].startswith("ok: clock: the clock says")
    assert "is wrong" not in one.on_terminal("doctor", "--json").stdout


def test_a_person_reads_what_a_finding_is_about_once(one: Issue) -> None:
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", each) for each in one.on_terminal("doctor").stdout.splitlines()]
    assert [each for each in lines if re.search(r"ledger: ledger|configuration: conf|clock: the clock", each)] == []
    assert "ok: ledger: it is whole" in lines
    assert any(each.startswith(f"ok: ledger {one.path}: schema") for each in lines)


def test_a_workers_folder_that_cannot_be_used_is_told(one: Issue) -> None:
    workers = workers_of(one.path)
    workers.touch(0o600)
    assert wrong(one) == [f"ledger: you may not write to {workers} (chmod 700 {workers})"]


def test_a_configuration_that_everybody_writes_to_without_effect_is_well(one: Issue) -> None:
    assert wrong(one, "--config", "/dev/null") == []
