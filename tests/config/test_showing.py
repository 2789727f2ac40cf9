"""What is shown, what the starter file says and what the reference says are all the same settings."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from issue_core import backends
from issue_core.config import (
    BackendSettings,
    BackendTypes,
    IngestSettings,
    NatsSettings,
    ServeSettings,
    SyncSettings,
    load,
)
from issue_core.config.keys import KEYS, Key, Kind
from issue_core.config.showing import effective
from issue_core.config.starter import STARTER, write_starter
from issue_core.errors import IssueCoreError
from tests.config.files import loaded

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def test_what_is_shown_can_be_a_configuration_file_that_says_the_same(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        'default_backend = "work"\n'
        '[backends.work]\ntype = "gitea"\ntoken = { env = "X" }\nlookup_back = "1.5h"\naccounts = ["a\\"b"]\n'
        '[backends."git.example"]\ntype = "gitea"\nverify = false\nfields = { "a.b" = "ü" }\n'
        '[routes]\n"z/*" = "local"\n"acme/*" = "work"\n'
        '[serve]\nport = 0\ntls_cert = "c"\ntls_key = "k"\nhosts = ["x.example", "::1"]\nidle_timeout = 0.5\n'
        '[serve.keys]\n"a.b" = { file = "k" }\nmonitor = { env = "X" }\nlast = { command = ["k"] }\n'
        '[nats]\nurl = "nats://a,nats://b"\ncreds = "c"\npassword = { env = "P" }\nclaims = true\nbucket = "B"\n',
    )
    text = "\n".join(each.to_toml() for each in effective(settings))
    again = loaded(tmp_path, text, environ={})
    assert (again.ledger, again.routes, again.sync) == (settings.ledger, settings.routes, settings.sync)
    assert (again.serve, again.nats) == (settings.serve, settings.nats)
    assert again.backends == settings.backends
    assert tomllib.loads(text)["ledger"] == str(settings.ledger)


def test_each_key_of_the_server_is_shown_as_its_place_with_its_origin(tmp_path: Path) -> None:
    text = '[serve.keys]\nmonitor = { env = "X" }\n"a.b" = { command = ["pass", "s3cr3t"] }\n'
    lines = [each.to_toml() for each in effective(loaded(tmp_path, text)) if each.key.startswith("serve.keys")]
    assert lines == [
        f'serve.keys.monitor = {{ env = "X" }}  # file {tmp_path / "config.toml"}',
        f'serve.keys."a.b" = {{ command = ["pass", "…"] }}  # file {tmp_path / "config.toml"}',
    ]


def test_a_server_without_keys_and_certificate_is_shown_without_them(tmp_path: Path) -> None:
    lines = [each.to_toml() for each in effective(loaded(tmp_path, "")) if each.key.startswith("serve.")]
    assert lines[:4] == [
        'serve.host = "127.0.0.1"  # default',
        "serve.port = 8765  # default",
        "serve.keys = {}  # default",
        "# serve.tls_cert: not set",
    ]


def test_no_secret_of_nats_is_shown(tmp_path: Path) -> None:
    environ = {"NATS_URL": "nats://bob:s3cr3t@a", "NATS_PASSWORD": "s3cr3t", "NATS_TOKEN": "s3cr3t"}
    lines = [each.to_toml() for each in effective(loaded(tmp_path, "", environ=environ))]
    assert not [line for line in lines if "s3cr3t" in line or "bob" in line]
    assert 'nats.url = "…@a"  # environment NATS_URL' in lines
    assert 'nats.token = { env = "NATS_TOKEN" }  # environment NATS_TOKEN' in lines
    assert "# nats.creds: not set" in lines


def test_the_starter_file_says_what_holds_without_it(tmp_path: Path) -> None:
    settings = loaded(tmp_path, STARTER)
    assert settings.backends == {"local": BackendSettings("local", "local")}
    assert set(settings.origins) == {"ledger"}


def test_the_starter_file_is_right_when_every_line_in_it_is_put_in_force(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(re.sub(r'(?m)^#(?=["\[a-z])', "", STARTER), encoding="utf-8")
    types = BackendTypes(backends.keys_of, backends.types)
    settings = load(config=file, ledger=None, environ={"ISSUE_CORE_LEDGER": "ledger.db"}, backends=types)
    assert (settings.sync, settings.ingest) == (SyncSettings(), IngestSettings())
    assert replace(settings.serve, keys={}, tls_cert=None, tls_key=None, hosts=()) == ServeSettings()
    nats = settings.nats
    assert (
        NatsSettings(stream=nats.stream, durable=nats.durable, filter=nats.filter, claims=nats.claims) == NatsSettings()
    )
    assert (nats.bucket, nats.user) == (NatsSettings().bucket, "issue-core")
    assert str(settings.serve.keys["activity-core"]) == "the environment variable ACTIVITY_CORE_KEY"
    assert settings.default_backend == "local"
    set_ = {re.sub(r"^backends\.work\.", "backends.NAME.", key) for key in settings.origins}
    assert {key.name for key in KEYS} - set_ == set()


def test_the_starter_file_is_written_for_its_owner_alone_and_over_nothing(tmp_path: Path) -> None:
    file = tmp_path / "new" / "config.toml"
    write_starter(file)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.write_text("mine")
    with pytest.raises(IssueCoreError, match="nothing was changed") as caught:
        write_starter(file)
    assert caught.value.exit_code == 1
    assert file.read_text() == "mine"
    with pytest.raises(IssueCoreError, match=re.escape(str(file))):
        write_starter(file / "below" / "config.toml")


def reference_row(key: Key) -> str:
    """The line of the reference that a key must have."""
    default = key.otherwise or f"`{tomlish(list(key.default) if isinstance(key.default, tuple) else key.default)}`"
    return f"| `{key.name}` | {key.kind} | {default} | {key.meaning} |"


def tomlish(value: object) -> str:
    match value:
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(tomlish, value))}]"
        case bool():
            return str(value).lower()
        case float() | int():
            return f"{value:.0f}"
        case _:
            return str(value)


def test_the_reference_has_exactly_the_keys_of_the_table_with_their_kinds_defaults_and_meanings() -> None:
    lines = REFERENCE.read_text(encoding="utf-8").splitlines()
    documented = [
        line for line in lines if re.match(r"\| `(?:ledger|default_backend|routes|[a-z]+\.[A-Za-z_.]+)` \|", line)
    ]
    assert documented == [reference_row(key) for key in KEYS]


@pytest.mark.parametrize("tracker", backends.types())
def test_the_reference_has_exactly_the_keys_that_each_type_takes_beside_the_common_ones(tracker: str) -> None:
    _, heading, rest = REFERENCE.read_text(encoding="utf-8").partition(f"\n#### Type `{tracker}`\n")
    assert heading
    part = re.split(r"\n##", rest)[0]
    documented = dict(re.findall(r"(?m)^\| `([^`]+)` \| ([^|]+) \|", part))
    assert documented == backends.keys_of(tracker)


def test_every_kind_of_key_is_explained_in_the_reference() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert [kind for kind in get_args(Kind) if f"\n| {kind} | " not in text] == []
