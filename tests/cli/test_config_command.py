"""``issue config``: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from issue_core.cli.config import app, secret_findings
from issue_core.errors import ConfigError, IssueCoreError
from tests.config.files import GITEA, loaded

NOTES = '[backends.notes]\ntype = "local"\npath = "notes"\n'
ALL_THERE = '[routes]\n"*" = "notes"\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the configuration file would be: there is none, and a ledger's place beside it."""
    monkeypatch.setenv("ISSUE_CORE_CONFIG", str(tmp_path / "etc" / "config.toml"))
    monkeypatch.setenv("ISSUE_CORE_LEDGER", str(tmp_path / "ledger.db"))
    return tmp_path / "etc" / "config.toml"


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_init_writes_a_file_that_can_be_used_at_once(file: Path) -> None:
    ran = run("init")
    assert (ran.exit_code, ran.stdout) == (0, f"wrote {file}\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("check").exit_code == 0


def test_init_says_as_json_where_it_wrote(file: Path) -> None:
    assert json.loads(run("init", "--json").stdout) == {"path": str(file)}


def test_init_never_overwrites_a_file(file: Path) -> None:
    written(file, NOTES)
    ran = run("init")
    assert isinstance(ran.exception, IssueCoreError)
    assert (ran.exception.exit_code, str(file) in ran.exception.message) == (2, True)
    assert file.read_text() == NOTES


def test_show_prints_toml_with_the_origin_of_each_setting(file: Path) -> None:
    written(file, f"{NOTES}[sync]\nlease = 90\n")
    text = run("show").stdout
    assert tomllib.loads(text)["sync"]["lease"] == 90
    lines = text.splitlines()
    assert lines[0] == f"# configuration file {file}"
    assert f"sync.lease = 90.0  # file {file}" in lines
    assert "sync.max_attempts = 12  # default" in lines
    assert f'ledger = "{file.parent.parent}/ledger.db"  # environment ISSUE_CORE_LEDGER' in lines
    assert f'backends.notes.path = "{file.parent}/notes"  # file {file}' in lines


def test_show_as_json_is_one_object_with_each_value_and_its_origin(file: Path) -> None:
    written(file, f'{NOTES}[routes]\n"b/*" = "notes"\n"a/*" = "local"\n')
    [line] = run("show", "--json").stdout.splitlines()
    shown = json.loads(line)
    assert shown["file"] == str(file)
    assert shown["settings"]["sync.backoff"] == {"value": [5.0, 3600.0], "origin": "default"}
    assert shown["settings"]["backends.notes.settle"] == {"value": None, "origin": "default"}
    assert list(shown["settings"]["routes"]["value"].items()) == [("b/*", "notes"), ("a/*", "local")]


def test_show_prints_no_control_character_of_the_file(file: Path) -> None:
    written(file, f'{NOTES}accounts = ["a\u202eb"]\n')
    assert "\u202e" not in run("show").stdout


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_wrong_file_is_an_error_of_the_configuration(file: Path, command: str) -> None:
    written(file, "[sync]\nlaese = 1\n")
    error = run(command).exception
    assert isinstance(error, ConfigError)
    assert (error.exit_code, "did you mean sync.lease?" in error.message) == (2, True)


def test_check_says_that_there_is_no_file_and_that_the_local_backend_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISSUE_CORE_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("ISSUE_CORE_LEDGER", str(tmp_path / "ledger.db"))
    ran = run("check")
    assert ran.exit_code == 0
    first, second = ran.stdout.splitlines()
    assert first.startswith(f"ok: no configuration file at {tmp_path}")
    assert second.startswith("ok: local: ")


def test_check_looks_at_each_backend_and_ends_with_3_when_one_is_not_ready(file: Path) -> None:
    written(file, NOTES + ALL_THERE)
    (file.parent / "notes").write_text("a file where the folder should be")
    ran = run("check")
    assert ran.exit_code == 3
    assert [line.split(": ")[:2] for line in ran.stdout.splitlines() if "hint" not in line][1:] == [
        ["not ok", "notes"],
        ["ok", "local"],
    ]


def test_check_as_json_is_one_object_a_finding(file: Path) -> None:
    written(file, NOTES + ALL_THERE)
    findings = [json.loads(line) for line in run("check", "--json").stdout.splitlines()]
    assert [(each["ok"], each["backend"]) for each in findings] == [(True, None), (True, "notes"), (True, "local")]
    assert {tuple(each) for each in findings} == {("ok", "backend", "what", "hint")}


def test_check_objects_to_a_file_that_anybody_may_write_to(file: Path) -> None:
    written(file, NOTES).chmod(0o666)
    ran = run("check")
    assert ran.exit_code == 3
    assert f"not ok: anybody may write to {file}\n  hint: take that right away: chmod o-w {file}\n" in ran.stdout


def test_check_says_of_each_secret_whether_it_can_be_had_and_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = loaded(tmp_path, f'{GITEA}token = {{ env = "SOME_TOKEN" }}\n')
    [missing] = secret_findings(settings.backends["work"].options.values())
    assert (missing.ok, "the environment variable SOME_TOKEN is not set" in missing.what) == (False, True)
    monkeypatch.setenv("SOME_TOKEN", "s3cr3t")
    [there] = secret_findings(settings.backends["work"].options.values())
    assert (there.ok, "backends.work.token" in there.what, "s3cr3t" in repr(there)) == (True, True, False)


def test_check_asks_for_the_keys_of_the_server_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(file, '[serve.keys]\nrules = { env = "RULES_KEY" }\n')
    monkeypatch.delenv("RULES_KEY", raising=False)
    assert "not ok: serve.keys.rules: the environment variable RULES_KEY is not set" in run("check").stdout
    monkeypatch.setenv("RULES_KEY", "s3cr3t-s3cr3t-s3cr3t")
    assert "ok: serve.keys.rules: there" in run("check").stdout


def test_check_makes_nothing(file: Path) -> None:
    written(file, NOTES)
    before = sorted(file.parent.parent.rglob("*"))
    run("check")
    assert sorted(file.parent.parent.rglob("*")) == before
