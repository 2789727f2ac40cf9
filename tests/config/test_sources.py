"""Flags win over the environment, that over the file, that over the defaults."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from issue_core.config import (
    BackendSettings,
    IngestSettings,
    NatsSettings,
    ServeSettings,
    SyncSettings,
    config_place,
    load,
)
from issue_core.config.keys import KEYS
from issue_core.config.secret import Secret
from issue_core.errors import ConfigError
from tests.config.files import BACKENDS, GITEA, loaded, problems


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with nothing in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def test_with_nothing_set_every_setting_is_at_its_default(home: Path) -> None:
    settings = load(config=None, ledger=None, environ={}, backends=BACKENDS)
    assert settings.ledger.is_relative_to(home)
    assert settings.ledger.name == "ledger.db"
    assert settings.backends == {"local": BackendSettings("local", "local")}
    assert (settings.default_backend, settings.routes, settings.file) == ("local", (), None)
    assert (settings.sync, settings.ingest, settings.serve) == (SyncSettings(), IngestSettings(), ServeSettings())
    assert settings.nats == NatsSettings()
    assert {settings.origins[key.name] for key in KEYS} == {"default"}


def test_the_default_file_is_read_where_the_user_keeps_configuration(home: Path) -> None:
    file = config_place(None, {}).path
    assert file.is_relative_to(home)
    file.parent.mkdir(parents=True)
    file.write_text("[sync]\nlease = 90\n")
    settings = load(config=None, ledger=None, environ={}, backends=BACKENDS)
    assert (settings.file, settings.sync.lease) == (file, 90.0)


@pytest.mark.parametrize(
    ("flag", "variable", "expected", "origin"),
    [
        ("/flag.db", "/variable.db", "/flag.db", "flag --ledger"),
        (None, "/variable.db", "/variable.db", "environment ISSUE_CORE_LEDGER"),
        (None, "", "/file.db", "file {file}"),
        (None, None, "/file.db", "file {file}"),
    ],
)
def test_the_ledger_is_where_the_flag_else_the_environment_else_the_file_says(
    tmp_path: Path, flag: str | None, variable: str | None, expected: str, origin: str
) -> None:
    environ = {} if variable is None else {"ISSUE_CORE_LEDGER": variable}
    settings = loaded(tmp_path, 'ledger = "/file.db"', ledger=flag and Path(flag), environ=environ)
    assert settings.ledger == Path(expected)
    assert settings.origins["ledger"] == origin.format(file=tmp_path / "config.toml")


def test_the_file_is_the_one_that_the_flag_else_the_environment_names(tmp_path: Path) -> None:
    for name in ("flag", "variable"):
        (tmp_path / name).write_text(f'ledger = "/{name}.db"')
    environ = {"ISSUE_CORE_CONFIG": str(tmp_path / "variable")}
    by_variable = load(config=None, ledger=None, environ=environ, backends=BACKENDS)
    by_flag = load(config=tmp_path / "flag", ledger=None, environ=environ, backends=BACKENDS)
    assert (by_variable.ledger, by_flag.ledger) == (Path("/variable.db"), Path("/flag.db"))


def test_a_missing_file_is_an_error_when_it_was_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=re.escape(f"{missing}: there is no such file (flag --config")):
        load(config=missing, ledger=None, environ={}, backends=BACKENDS)
    with pytest.raises(ConfigError, match="environment ISSUE_CORE_CONFIG"):
        load(config=None, ledger=None, environ={"ISSUE_CORE_CONFIG": str(missing)}, backends=BACKENDS)


def test_each_setting_of_the_file_has_the_file_as_its_origin_and_no_other(tmp_path: Path) -> None:
    settings = loaded(tmp_path, f'{GITEA}url = "https://x"\n[sync]\nlease = 200\n')
    from_file = {key for key, origin in settings.origins.items() if origin == f"file {settings.file}"}
    assert from_file == {"backends.work.type", "backends.work.url", "sync.lease"}
    assert settings.origins["sync.backoff"] == settings.origins["backends.work.settle"] == "default"


def test_each_key_of_the_server_has_an_origin_of_its_own(tmp_path: Path) -> None:
    settings = loaded(tmp_path, '[serve.keys]\nmonitor = { env = "A" }\n"git.example" = { env = "B" }\n')
    file = f"file {settings.file}"
    assert settings.origins["serve.keys.monitor"] == settings.origins['serve.keys."git.example"'] == file
    assert settings.origins["serve.port"] == settings.origins["serve.keys.other"] == "default"


def test_a_relative_path_of_a_flag_starts_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(
        config=None, ledger=Path("my.db"), environ={"ISSUE_CORE_CONFIG": _empty(tmp_path)}, backends=BACKENDS
    )
    assert settings.ledger == tmp_path / "my.db"


def test_relative_paths_of_the_file_start_from_its_folder(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        'ledger = "my.db"\n[backends.local]\npath = "issues"\n'
        '[serve]\ntls_cert = "chain.pem"\ntls_key = "/key.pem"\nkeys.monitor = { file = "monitor.key" }\n',
        environ={},
    )
    assert settings.ledger == tmp_path / "my.db"
    assert settings.backends["local"].options["path"] == tmp_path / "issues"
    assert (settings.serve.tls_cert, settings.serve.tls_key) == (tmp_path / "chain.pem", Path("/key.pem"))
    assert settings.serve.keys["monitor"].place == (str(tmp_path / "monitor.key"),)


def test_the_variables_of_the_nats_cli_win_over_the_file(tmp_path: Path) -> None:
    names = ("URL", "CREDS", "NKEY", "USER", "PASSWORD", "TOKEN", "CA", "CERT", "KEY", "CONTEXT")
    environ = {f"NATS_{name}": f"/{name.lower()}" for name in names} | {"NATS_STREAM": "OTHER"}
    settings = loaded(tmp_path, '[nats]\nurl = "nats://file"\nstream = "FILE"\n', environ=environ)
    assert settings.nats == NatsSettings(
        url="/url",
        creds=Path("/creds"),
        nkey=Path("/nkey"),
        user="/user",
        password=Secret("nats.password", "env", ("NATS_PASSWORD",)),
        token=Secret("nats.token", "env", ("NATS_TOKEN",)),
        ca=Path("/ca"),
        cert=Path("/cert"),
        key=Path("/key"),
        context="/context",
        stream="FILE",
    )
    assert {settings.origins[f"nats.{name.lower()}"] for name in names} == {
        f"environment NATS_{name}" for name in names
    }
    assert settings.origins["nats.stream"] == f"file {settings.file}"


def test_an_empty_variable_of_the_nats_cli_is_none(tmp_path: Path) -> None:
    settings = loaded(tmp_path, '[nats]\nuser = "bob"\n', environ={"NATS_USER": "", "NATS_URL": ""})
    assert settings.nats == NatsSettings(user="bob")


@pytest.mark.parametrize(
    "url", ["nats://bob:s3cr3t@a:4222", "nats://a,tls://s3cr3t@b", "nats://bob:s3,cr3t@b", "nats://bob:s3/cr3t@x@b"]
)
def test_of_an_address_in_the_environment_no_credentials_are_in_the_settings(tmp_path: Path, url: str) -> None:
    settings = loaded(tmp_path, "", environ={"NATS_URL": url})
    assert settings.nats.url == f"…@{url.rpartition('@')[2]}"
    assert settings.nats.login == Secret("nats.url", "env", ("NATS_URL",))
    assert not re.search("s3|cr3t|bob", repr(settings))


def test_a_tilde_is_the_home_folder_in_every_source(home: Path) -> None:
    settings = loaded(home, "[backends.local]\npath = '~/issues'\n", environ={"ISSUE_CORE_LEDGER": "~/my.db"})
    assert settings.ledger == home / "my.db"
    assert settings.backends["local"].options["path"] == home / "issues"


def test_a_home_folder_that_is_not_known_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no absolute path"):
        load(
            config=None,
            ledger=Path("~nobody-of-this-name/x.db"),
            environ={"ISSUE_CORE_CONFIG": _empty(tmp_path)},
            backends=BACKENDS,
        )
    assert "no home folder" in problems(tmp_path, 'ledger = "~nobody-of-this-name/x.db"')[0]


def _empty(folder: Path) -> str:
    (folder / "empty.toml").touch()
    return str(folder / "empty.toml")


def test_without_a_file_nothing_is_imported_that_only_a_file_needs(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom issue_core.config import BackendTypes, load\n"
        "load(config=None, ledger=Path('x.db'), environ={}, backends=BackendTypes(lambda _: {}, lambda: []))\n"
        "heavy = {'tomllib', 'difflib', 'json', 'subprocess', 'issue_core.config.keys', 'issue_core.config.values'}\n"
        "print(*heavy & set(sys.modules))\n"
    )
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
