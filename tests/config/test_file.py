"""What the file can say, and what each mistake in it is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issue_core.config import BackendSettings, IngestSettings, NatsSettings, ServeSettings, SyncSettings, load, route
from issue_core.config.secret import Secret
from issue_core.config.values import LONGEST_TIME, parse_duration
from issue_core.errors import ConfigError
from tests.config.files import BACKENDS, GITEA, loaded, problems

PAIR = "a list of two numbers of seconds, [first, longest]"
DURATION = "a duration like 45s, 30m, 12h or 7d, or a number of seconds"
QUOTES = "a name with a dot in it must stand in quotes"


def test_every_key_of_the_file_is_taken(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        """
        default_backend = "work"
        [backends.work]
        type = "gitea"
        url = "https://git.example.org"
        token = { env = "GITEA_TOKEN" }
        verify = true
        pages = 0
        wait = 1.5
        window = "2h"
        labels = ["a", "b"]
        max_in_flight = 4
        min_interval = 0
        settle = 30
        looks = 2
        look_interval = 60
        lookup = "always"
        lookup_back = "7d"
        accounts = ["other-bot"]
        [backends.work.fields]
        team = "core"
        [backends.work.projects]
        "acme/web" = "web"
        [backends.work.priorities]
        high = "prio/high"
        [routes]
        "acme/*" = "work"
        notes = "local"
        [sync]
        request_timeout = 10
        lease = 60
        backoff = [1, 2.5]
        max_attempts = 3
        [ingest]
        max_document = 2048
        [serve]
        host = "::"
        port = 0
        tls_cert = "/tls/chain.pem"
        tls_key = "/tls/key.pem"
        hosts = ["tasks.example.org", "fd00::1"]
        max_connections = 1
        max_body = 1
        head_timeout = 0.5
        body_timeout = 1
        idle_timeout = 86400
        busy_timeout = 0
        [serve.keys]
        activity-core = { env = "ACTIVITY_CORE_KEY" }
        "git.example" = { command = ["pass", "show", "git"] }
        [nats]
        url = "nats://a.example, tls://b.example:4223"
        creds = "/c.creds"
        nkey = "/n.nk"
        user = "bob"
        password = { file = "/p" }
        token = { env = "T" }
        ca = "/ca.pem"
        cert = "/cert.pem"
        key = "/key.pem"
        context = "work"
        stream = "TASKS"
        durable = "mine"
        filter = "act.tasks.create.acme/*"
        claims = true
        bucket = "CLAIMS"
        """,
    )
    assert settings.default_backend == "work"
    assert settings.routes == (("acme/*", "work"), ("notes", "local"))
    assert settings.sync == SyncSettings(request_timeout=10.0, lease=60.0, backoff=(1.0, 2.5), max_attempts=3)
    assert settings.ingest == IngestSettings(max_document=2048)
    assert settings.serve == ServeSettings(
        host="::",
        port=0,
        keys={
            "activity-core": Secret("serve.keys.activity-core", "env", ("ACTIVITY_CORE_KEY",)),
            "git.example": Secret('serve.keys."git.example"', "command", ("pass", "show", "git")),
        },
        tls_cert=Path("/tls/chain.pem"),
        tls_key=Path("/tls/key.pem"),
        hosts=("tasks.example.org", "fd00::1"),
        max_connections=1,
        max_body=1,
        head_timeout=0.5,
        body_timeout=1.0,
        idle_timeout=86400.0,
        busy_timeout=0.0,
    )
    assert settings.nats == NatsSettings(
        url="nats://a.example, tls://b.example:4223",
        creds=Path("/c.creds"),
        nkey=Path("/n.nk"),
        user="bob",
        password=Secret("nats.password", "file", ("/p",)),
        token=Secret("nats.token", "env", ("T",)),
        ca=Path("/ca.pem"),
        cert=Path("/cert.pem"),
        key=Path("/key.pem"),
        context="work",
        stream="TASKS",
        durable="mine",
        filter="act.tasks.create.acme/*",
        claims=True,
        bucket="CLAIMS",
    )
    assert settings.backends["work"] == BackendSettings(
        name="work",
        type="gitea",
        max_in_flight=4,
        min_interval=0.0,
        settle=30.0,
        looks=2,
        look_interval=60.0,
        lookup="always",
        lookup_back=604800.0,
        accounts=("other-bot",),
        projects={"acme/web": "web"},
        priorities={"high": "prio/high"},
        options={
            "url": "https://git.example.org",
            "token": Secret("backends.work.token", "env", ("GITEA_TOKEN",)),
            "verify": True,
            "pages": 0,
            "wait": 1.5,
            "window": 7200.0,
            "labels": ("a", "b"),
            "fields": {"team": "core"},
        },
    )


def test_the_local_backend_is_there_beside_the_configured_ones(tmp_path: Path) -> None:
    assert loaded(tmp_path, GITEA).backends["local"] == BackendSettings("local", "local")


def test_the_local_backend_can_be_configured_without_saying_its_type(tmp_path: Path) -> None:
    local = loaded(tmp_path, "[backends.local]\nlooks = 3\n").backends["local"]
    assert local == BackendSettings("local", "local", looks=3)


def test_a_backend_name_with_a_dot_stands_in_quotes(tmp_path: Path) -> None:
    settings = loaded(tmp_path, '[backends."git.example"]\ntype = "gitea"\nlooks = 1\n')
    assert settings.backends["git.example"].looks == 1
    assert settings.origins['backends."git.example".looks'].startswith("file ")


def test_a_byte_order_mark_is_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path, "\ufeff[sync]\nmax_attempts = 1\n").sync.max_attempts == 1


@given(
    st.floats(0, 10**6).map(lambda x: round(x, 3)), st.sampled_from([("s", 1), ("m", 60), ("h", 3600), ("d", 86400)])
)
def test_a_duration_is_its_number_times_its_unit(number: float, unit: tuple[str, int]) -> None:
    text, seconds = f"{number:.3f}{unit[0]}", number * unit[1]
    if seconds > LONGEST_TIME:
        with pytest.raises(ValueError, match="ten years"):
            parse_duration(text)
    else:
        assert parse_duration(text) == pytest.approx(seconds)


@given(st.text().filter(lambda text: not re.fullmatch(r"\s*[0-9]+(\.[0-9]+)? ?[smhd]?\s*", text)))
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("90", 90)])
def test_the_usual_durations_are_taken(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


def test_a_duration_may_be_a_number_of_seconds(tmp_path: Path) -> None:
    assert loaded(tmp_path, f"{GITEA}lookup_back = 90\n").backends["work"].lookup_back == 90.0


def test_the_first_route_that_matches_decides_else_the_default(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        f"default_backend = 'work'\n{GITEA}[routes]\n'acme/notes-*' = 'local'\n'acme/*' = 'work'\n'*' = 'local'\n",
    )
    assert route(settings, "acme/notes-2") == "local"
    assert route(settings, "acme/web/api") == "work"
    assert route(settings, "Acme/web") == "local"
    assert route(loaded(tmp_path, f"default_backend = 'work'\n{GITEA}"), "acme/web") == "work"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ledgr = 'x'", "ledgr: there is no such key; did you mean ledger?"),
        ("[synk]\nlease = 1", "synk: there is no such key; did you mean sync?"),
        ("[sync]\nlaese = 150", "sync.laese: there is no such key; did you mean sync.lease?"),
        ("lease = 150", "lease: there is no such key; did you mean sync.lease?"),
        (
            "[sync]\nledger = 'x'",
            "sync.ledger: there is no such key; did you mean ledger? It stands at the top, above every [table]",
        ),
        ("[http]\nport = 1", "http: there is no such key; here there is: ledger, "),
        ("[serve]\nprot = 1", "serve.prot: there is no such key; did you mean serve.port?"),
        ("[serve]\nkey = 's3cr3t'", "serve.key: there is no such key; did you mean serve.keys?"),
        ("[server]\nport = 1", "server: there is no such key; did you mean serve?"),
        ("port = 1", "port: there is no such key; did you mean serve.port?"),
        (f"{GITEA}host = 'x'", "backends.work.host: there is no such key; here there is: url, token, "),
        ("[backend.work]\ntype = 'gitea'", "backend: there is no such key; did you mean backends?"),
        (f"{GITEA}tokn = 'x'", "backends.work.tokn: there is no such key; did you mean backends.work.token?"),
        (f"{GITEA}path = 'x'", "backends.work.path: there is no such key; "),
        (f"{GITEA}zzz = 'x'", "backends.work.zzz: there is no such key; here there is: url, token, verify"),
        (f"{GITEA}[backends.work.priorities]\nhihg = 'x'", "backends.work.priorities: hihg is none of high, "),
    ],
)
def test_an_unknown_key_is_told_the_nearest_right_one(tmp_path: Path, text: str, expected: str) -> None:
    [problem] = problems(tmp_path, text)
    assert problem.startswith(expected)


TOP = "It stands at the top, above every [table]"
PROJECTS = f"{GITEA}[backends.work.projects]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{GITEA}[routes]\ndefault_backend = 'work'", f"routes.default_backend: did you mean default_backend? {TOP}"),
        ("[routes]\n'a/*' = 'local'\nledger = 'my/ledger.db'", f"routes.ledger: did you mean ledger? {TOP}"),
        (
            f"{PROJECTS}default_backend = 'work'",
            f"backends.work.projects.default_backend: did you mean default_backend? {TOP}",
        ),
        (
            f"{PROJECTS}project = 'acme/all'",
            "backends.work.projects.project: did you mean backends.work.project? "
            "It stands above [backends.work.projects]",
        ),
    ],
)
def test_a_key_that_would_be_taken_for_a_repository_is_told_where_it_stands(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert problems(tmp_path, text) == [expected]


def test_a_repository_may_be_called_what_a_key_is_where_no_key_is_meant(tmp_path: Path) -> None:
    assert loaded(tmp_path, "[routes]\nledger = 'local'\nproject = 'local'").routes[0] == ("ledger", "local")
    both = f"{GITEA}project = 'acme/all'\n[backends.work.projects]\nproject = 'acme/project'"
    assert loaded(tmp_path, both).backends["work"].projects == {"project": "acme/project"}
    assert loaded(tmp_path, "[backends.local.projects]\nproject = 'x'").backends["local"].projects


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ledger = 1", "ledger: expected text, found a whole number"),
        ("ledger = ''", "ledger: is empty"),
        ('ledger = "a\\u0000b"', "ledger: has a line break or another control character in it"),
        ("sync = 1", "sync: expected a table, found a whole number"),
        ("sync = []", "sync: expected a table, found a list of 0"),
        ("backends = true", "backends: expected a table, found true or false"),
        ("[[backends.work]]\ntype = 'gitea'", "backends.work: expected a table, found a list of 1"),
        ("[sync]\nlease = '2m'", "sync.lease: expected a number of seconds, found text"),
        ("[sync]\nlease = true", "sync.lease: expected a number of seconds, found true or false"),
        ("[sync]\nlease = 07:32:00", "sync.lease: expected a number of seconds, found a date or time"),
        ("[sync]\nmax_attempts = 1.5", "sync.max_attempts: expected a whole number, found a number with a fraction"),
        ("[sync]\nmax_attempts = true", "sync.max_attempts: expected a whole number, found true or false"),
        ("[sync]\nbackoff = 5", f"sync.backoff: expected {PAIR}, found a whole number"),
        ("[sync]\nbackoff = [5]", f"sync.backoff: expected {PAIR}, found a list of 1"),
        ("[sync]\nbackoff = [5, 'x']", "sync.backoff: expected a number of seconds, found text"),
        ("routes = 'local'", "routes: expected a table, found text"),
        ("[routes]\nacme.web = 'local'", f"routes: acme: expected text, found a table; {QUOTES}"),
        ("[routes]\n'' = 'local'", 'routes: "": is empty'),
        ("serve = 8765", "serve: expected a table, found a whole number"),
        ("[serve]\nport = '8765'", "serve.port: expected a whole number, found text"),
        ("[serve]\nhosts = 'x'", "serve.hosts: expected a list of text, found text"),
        (f"{GITEA}accounts = 'bot'", "backends.work.accounts: expected a list of text, found text"),
        (f"{GITEA}accounts = [1]", "backends.work.accounts: expected text, found a whole number"),
        (f"{GITEA}verify = 1", "backends.work.verify: expected true or false, found a whole number"),
        (f"{GITEA}lookup = 'sometimes'", "backends.work.lookup: sometimes is none of in-doubt, always"),
        (f"{GITEA}lookup_back = '7 weeks'", f"backends.work.lookup_back: expected {DURATION}"),
        (f"{GITEA}lookup_back = []", "backends.work.lookup_back: expected a number of seconds, found a list of 0"),
    ],
)
def test_a_wrong_type_is_told_what_was_found_and_what_is_expected(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sync]\nrequest_timeout = -1", "sync.request_timeout: must be from 0"),
        ("[sync]\nrequest_timeout = nan", "sync.request_timeout: must be from 0"),
        ("[sync]\nlease = inf", "sync.lease: must be from 0"),
        ("[sync]\nlease = 0x" + "f" * 5000, "sync.lease: must be from 0"),
        ("[sync]\nrequest_timeout = 0", "sync.request_timeout: must be more than 0"),
        ("[sync]\nlease = 30", "sync.lease: is 30 and must be more than sync.request_timeout, which is 30"),
        (
            "[sync]\nrequest_timeout = 121",
            "sync.lease: is 120 and must be more than sync.request_timeout, which is 121",
        ),
        ("[sync]\nbackoff = [10, 5]", "sync.backoff: its first wait is longer than its longest"),
        ("[sync]\nbackoff = [-1, 5]", "sync.backoff: must be from 0"),
        ("[sync]\nmax_attempts = 0", "sync.max_attempts: must be 1 or more"),
        ("[sync]\nmax_attempts = 0x" + "f" * 5000, "sync.max_attempts: must be 1000000000 or less"),
        ("[ingest]\nmax_document = 0", "ingest.max_document: must be 1 or more"),
        ("[serve]\nport = -1", "serve.port: must be 0 or more"),
        ("[serve]\nport = 65536", "serve.port: must be 65535 or less"),
        ("[serve]\nport = 0x" + "f" * 5000, "serve.port: must be 65535 or less"),
        ("[serve]\nmax_connections = 0", "serve.max_connections: must be 1 or more"),
        ("[serve]\nmax_body = 0", "serve.max_body: must be 1 or more"),
        ("[serve]\nhead_timeout = 0", "serve.head_timeout: must be more than 0"),
        ("[serve]\nbody_timeout = 0", "serve.body_timeout: must be more than 0"),
        ("[serve]\nidle_timeout = 0", "serve.idle_timeout: must be more than 0"),
        ("[serve]\nidle_timeout = 86400.5", "serve.idle_timeout: must be 86400 or less"),
        ("[serve]\nbusy_timeout = -1", "serve.busy_timeout: must be from 0"),
        (f"{GITEA}max_in_flight = 0", "backends.work.max_in_flight: must be 1 or more"),
        (f"{GITEA}looks = 0", "backends.work.looks: must be 1 or more"),
        (f"{GITEA}settle = -0.1", "backends.work.settle: must be from 0"),
        (f"{GITEA}pages = -1", "backends.work.pages: must be 0 or more"),
        (f"{GITEA}lookup_back = '0s'", "backends.work.lookup_back: must be more than 0"),
    ],
)
def test_a_value_out_of_range_is_told_the_range(tmp_path: Path, text: str, expected: str) -> None:
    [problem] = problems(tmp_path, text)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[backends.work]\n", "backends.work.type: must be set; there is: gitea, local, odd"),
        (
            "[backends.work]\ntype = 'gitae'\nurl = 1",
            "backends.work.type: there is no type 'gitae'; did you mean gitea?",
        ),
        ("[backends.work]\ntype = 7\nurl = 'x'", "backends.work.type: expected text, found a whole number"),
        ("[backends.local]\ntype = 'gitea'", "backends.local.type: the backend named local is always of type local"),
        ("[backends.unrouted]\ntype = 'gitea'", "backends.unrouted: a backend's name has 1 to 50"),
        (f"[backends.{'x' * 51}]\ntype = 'gitea'", f"backends.{'x' * 51}: a backend's name has 1 to 50"),
        ("[backends.'a b']\ntype = 'gitea'", 'backends."a b": a backend\'s name has 1 to 50'),
        ("[backends.odd]\ntype = 'odd'\ntint = 'red'", "backends.odd.tint: this backend's type declares it as "),
        (f"default_backend = 'wrok'\n{GITEA}", "default_backend: there is no backend 'wrok'; did you mean work?"),
        (f"{GITEA}[routes]\n'acme/*' = 'zzz'", "routes.\"acme/*\": there is no backend 'zzz'; there is: work, local"),
    ],
)
def test_a_backend_that_cannot_be_is_told_why(tmp_path: Path, text: str, expected: str) -> None:
    [problem] = problems(tmp_path, text)
    assert problem.startswith(expected)


@pytest.mark.parametrize(("given", "missing"), [("tls_cert", "tls_key"), ("tls_key", "tls_cert")])
def test_a_certificate_and_its_key_go_together(tmp_path: Path, given: str, missing: str) -> None:
    expected = f"serve.{missing}: must be set, as serve.{given} is: the two go together"
    assert problems(tmp_path, f"[serve]\n{given} = 'x.pem'\n") == [expected]
    wrong = f"serve.{missing}: expected text, found a whole number"
    assert problems(tmp_path, f"[serve]\n{given} = 'x.pem'\n{missing} = 1\n") == [wrong]


@pytest.mark.parametrize("host", ["https://x.example", "x.example:8765", "x.example/tasks", "[::1]", "a b", "tâsks"])
def test_a_host_that_no_request_can_name_is_told_how_it_is_written(tmp_path: Path, host: str) -> None:
    [problem] = problems(tmp_path, f"[serve]\nhosts = ['localhost', '{host}']\n")
    assert problem == f"serve.hosts: {host!r} is no host; write its name alone, without scheme, port and path"


@pytest.mark.parametrize(("given", "missing"), [("cert", "key"), ("key", "cert")])
def test_a_certificate_for_nats_and_its_key_go_together(tmp_path: Path, given: str, missing: str) -> None:
    expected = f"nats.{missing}: must be set, as nats.{given} is: the two go together"
    assert problems(tmp_path, f"[nats]\n{given} = 'x.pem'\n") == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stream = 'ACT.TASKS'", "nats.stream: a name has 1 to 200 of A-Z a-z 0-9 _ -; give it another"),
        ("durable = 'a b'", "nats.durable: a name has 1 to 200 of A-Z a-z 0-9 _ -; give it another"),
        ("bucket = 'a.b'", "nats.bucket: a name has 1 to 200 of A-Z a-z 0-9 _ -; give it another"),
        ("filter = 'act tasks'", "nats.filter: is no subject; write it like act.tasks.create.>"),
        ("url = 'a,u:s3cr3t@b'", "nats.url: has credentials in an address; set user, and password = "),
        ("url = 'nats://u:s3cr3t@b'", "nats.url: has credentials in its address; a secret is not written in "),
        ("password = 's3cr3t'", "nats.password: a secret is not written in this file but named: "),
        ("token = 's3cr3t'", "nats.token: a secret is not written in this file but named: "),
        ("pasword = { env = 'X' }", "nats.pasword: there is no such key; did you mean nats.password?"),
        ("port = 4222", "nats.port: there is no such key; here there is: url, creds, "),
        ("claims = 'yes'", "nats.claims: expected true or false, found text"),
    ],
)
def test_a_mistake_in_the_table_of_nats_is_told_without_the_secret_in_it(
    tmp_path: Path, text: str, expected: str
) -> None:
    [problem] = problems(tmp_path, f"[nats]\n{text}\n")
    assert problem.startswith(expected)
    assert "s3cr3t" not in problem


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, f"ledgr = 'x'\n{GITEA}looks = 0\nurl = 1\n[sync]\nlease = 'x'\n[routes]\na = 'b'\n")
    keys = [line.partition(": ")[0] for line in found]
    assert keys == ["ledgr", "sync.lease", "backends.work.looks", "backends.work.url", "routes.a"]


def test_a_file_that_is_no_toml_is_told_the_line_and_the_column(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, 'ledger = "a"\nledger = = "b"\n')
    assert problem.startswith("not TOML: ")
    assert "line 2, column 10" in problem


@pytest.mark.parametrize(
    ("raw", "expected"), [(b'ledger = "\xff"', "not UTF-8 (byte 11)"), (b"a = " + b"[" * 9999, "not TOML")]
)
def test_a_file_that_cannot_be_decoded_is_an_error(tmp_path: Path, raw: bytes, expected: str) -> None:
    (tmp_path / "config.toml").write_bytes(raw)
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load(config=tmp_path / "config.toml", ledger=None, environ={}, backends=BACKENDS)


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}: cannot be read: Is a directory")):
        load(config=tmp_path, ledger=None, environ={}, backends=BACKENDS)
