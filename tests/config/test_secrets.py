"""A secret is named in the file, read when it is needed, and never shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from issue_core.config.secret import FORM, Secret
from issue_core.config.showing import effective
from issue_core.errors import ConfigError
from tests.config.files import GITEA, loaded, problems

if TYPE_CHECKING:
    from pathlib import Path

FORMS = f"a secret is not written in this file but named: {FORM}"
NAMED = f"each secret in it has a name: serve.keys.NAME = {FORM}"


def secret_of(folder: Path, value: str) -> Secret:
    secret = loaded(folder, f"{GITEA}token = {value}\n").backends["work"].options["token"]
    assert isinstance(secret, Secret)
    return secret


def command(code: str) -> str:
    return f"{{ command = [{sys.executable!r}, '-c', {code!r}] }}"


def test_a_secret_is_read_from_the_environment_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secret_of(tmp_path, '{ env = "SOME_TOKEN" }')
    monkeypatch.setenv("SOME_TOKEN", "s3cr3t")
    assert secret.resolve() == "s3cr3t"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_a_file_beside_the_configuration_without_its_newline(tmp_path: Path, ending: str) -> None:
    (tmp_path / "token").write_bytes(f"s3cr3t é{ending}".encode())
    assert secret_of(tmp_path, '{ file = "token" }').resolve() == "s3cr3t é"


def test_a_secret_is_read_from_a_command_that_no_shell_interprets(tmp_path: Path) -> None:
    assert secret_of(tmp_path, '{ command = ["printf", "%s\\n", "$HOME; exit 1"] }').resolve() == "$HOME; exit 1"


def test_a_command_cannot_eat_the_standard_input(tmp_path: Path) -> None:
    assert secret_of(tmp_path, command("import sys; print(repr(sys.stdin.read()))")).resolve() == "''"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{ env = "NO_SUCH_VARIABLE" }', "the environment variable NO_SUCH_VARIABLE is not set"),
        ('{ file = "missing" }', "/missing cannot be read: No such file or directory"),
        ('{ file = "empty" }', "/empty gives nothing"),
        ('{ file = "two-lines" }', "/two-lines gives more than one line"),
        ('{ file = "latin-1" }', "/latin-1 gives something that is not UTF-8"),
        ('{ file = "huge" }', "/huge gives more than 65536 bytes"),
        ('{ command = ["/no/such/program", "s3cr3t"] }', "the command /no/such/program cannot be run: No such file"),
        ('{ command = ["false", "s3cr3t"] }', "the command false ended with status 1"),
        ('{ command = ["sleep", "60"] }', "the command sleep did not end within 0.05 seconds"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_its_key_and_its_place_and_nothing_of_it(
    tmp_path: Path, value: str, expected: str
) -> None:
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "two-lines").write_bytes(b"s3cr3t\nmore\n")
    (tmp_path / "latin-1").write_bytes(b"s3cr3t \xe9")
    (tmp_path / "huge").write_bytes(b"s3cr3t" * 20_000)
    timeout = 0.05 if "sleep" in value else 30
    with pytest.raises(ConfigError) as caught:
        secret_of(tmp_path, value).resolve(timeout=timeout)
    assert caught.value.message.startswith("backends.work.token: the ")
    assert expected in caught.value.message
    assert "s3cr3t" not in f"{caught.value.message} {caught.value.hint} {caught.value!r}"


@pytest.mark.parametrize(
    "value",
    [
        '"s3cr3t"',
        '["s3cr3t"]',
        "{}",
        '{ value = "s3cr3t" }',
        '{ env = "s3cr3t-with-hyphens" }',
        '{ env = "A", file = "s3cr3t" }',
        '{ file = "" }',
        '{ command = "echo s3cr3t" }',
        "{ command = [] }",
        '{ command = ["echo", 7] }',
        '{ command = ["echo", "s3cr3t\\u0000"] }',
    ],
)
def test_a_secret_in_the_file_is_told_the_right_form_and_not_repeated(tmp_path: Path, value: str) -> None:
    [problem] = problems(tmp_path, f"{GITEA}token = {value}\n")
    assert problem.startswith("backends.work.token: a secret is not written in this file but named: { env = ")
    assert "s3cr3t" not in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("keys = 's3cr3t'", f"serve.keys: expected a table, found text; {NAMED}"),
        ("keys = ['s3cr3t']", f"serve.keys: expected a table, found a list of 1; {NAMED}"),
        ("keys = { env = 's3cr3t' }", f"serve.keys: {NAMED}"),
        ("keys = { command = ['echo', 's3cr3t'] }", f"serve.keys: {NAMED}"),
        ("keys.activity-core = 's3cr3t'", f"serve.keys.activity-core: {FORMS}"),
        ("keys.env = { value = 's3cr3t' }", f"serve.keys.env: {FORMS}"),
        ("keys.activity.core = { env = 'A' }", f"serve.keys.activity: {FORMS}; a name with a dot in it must stand in"),
        ("keys.'a b' = { env = 'A' }", 'serve.keys."a b": a secret\'s name has 1 to 50 of A-Z a-z 0-9 . _ -'),
        ("keys.'' = { env = 'A' }", 'serve.keys."": a secret\'s name has 1 to 50 of'),
        (f"keys.{'x' * 51} = {{ env = 'A' }}", f"serve.keys.{'x' * 51}: a secret's name has 1 to 50 of"),
    ],
)
def test_a_key_of_the_server_that_is_not_named_is_told_the_right_form_and_not_repeated(
    tmp_path: Path, text: str, expected: str
) -> None:
    [problem] = problems(tmp_path, f"[serve]\n{text}\n")
    assert problem.startswith(expected)
    assert "s3cr3t" not in problem


def test_each_key_of_the_server_that_is_wrong_is_reported_with_the_others(tmp_path: Path) -> None:
    found = problems(tmp_path, "[serve.keys]\na = 's3cr3t'\nb = { env = 'B' }\nc = 7\n[sync]\nmax_attempts = 0\n")
    assert [line.partition(": ")[0] for line in found] == ["sync.max_attempts", "serve.keys.a", "serve.keys.c"]


def test_a_name_of_fifty_characters_is_taken_for_a_key_of_the_server(tmp_path: Path) -> None:
    name = "aZ0._-".ljust(50, "x")
    assert list(loaded(tmp_path, f"[serve.keys]\n'{name}' = {{ env = 'A' }}\n").serve.keys) == [name]


def test_a_key_of_the_server_is_read_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = loaded(tmp_path, "[serve.keys]\nactivity-core = { env = 'SOME_KEY' }\n").serve.keys["activity-core"]
    with pytest.raises(ConfigError, match=r"serve\.keys\.activity-core: the environment variable SOME_KEY is not set"):
        secret.resolve()
    monkeypatch.setenv("SOME_KEY", "s3cr3t")
    assert secret.resolve() == "s3cr3t"


@pytest.mark.parametrize("url", ["https://s3cr3t@git.example.org", "https://me:s3cr3t@git.example.org/x"])
def test_credentials_in_an_address_are_an_error_that_does_not_repeat_them(tmp_path: Path, url: str) -> None:
    [problem] = problems(tmp_path, f"{GITEA}url = '{url}'\n")
    assert problem.startswith("backends.work.url: has credentials in its address")
    assert "s3cr3t" not in problem


def test_an_unknown_key_does_not_show_its_value(tmp_path: Path) -> None:
    assert "s3cr3t" not in problems(tmp_path, f"{GITEA}tokne = 's3cr3t'\n")[0]


def test_no_text_that_settings_give_of_themselves_shows_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "s3cr3t")
    (tmp_path / "token").write_text("s3cr3t")
    for value in ('{ env = "SOME_TOKEN" }', '{ file = "token" }', '{ command = ["echo", "s3cr3t"] }'):
        settings = loaded(tmp_path, f"{GITEA}token = {value}\n[serve.keys]\nmonitor = {value}\n")
        secret = settings.backends["work"].options["token"]
        assert secret.resolve() == "s3cr3t"
        shown = " ".join(
            [*(each.to_toml() for each in effective(settings)), repr(settings), str(settings), str(secret)]
        )
        assert "s3cr3t" not in shown
        assert "backends.work.token" in shown
