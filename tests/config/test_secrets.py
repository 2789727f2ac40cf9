"""A secret is named in the file, read when it is needed, and never shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from issue_core.config.secret import Secret
from issue_core.config.showing import effective
from issue_core.errors import ConfigError
from tests.config.files import GITEA, loaded, problems

if TYPE_CHECKING:
    from pathlib import Path


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
        settings = loaded(tmp_path, f"{GITEA}token = {value}\n")
        secret = settings.backends["work"].options["token"]
        assert secret.resolve() == "s3cr3t"
        shown = " ".join(
            [*(each.to_toml() for each in effective(settings)), repr(settings), str(settings), str(secret)]
        )
        assert "s3cr3t" not in shown
        assert "backends.work.token" in shown
