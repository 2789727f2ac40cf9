"""The page about JSON output, held to what the commands print: each member, its type, and the words it can be."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from issue_core import schemas
from issue_core.cli import needs
from issue_core.ledger.rejects import RejectKind, RejectState
from issue_core.sync_engine.results import SyncOutcome
from issue_core.task import Transport
from issue_core.transports.nats import dead_letters, publishing, replaying, wanted
from tests.docs.pages import ROOT, blocks, rows_under
from tests.support.cli import Issue, a_spec, force_state, ndjson
from tests.support.nats_server import NatsServer, nats_server
from tests.support.reference import commands
from tests.support.trackers import fake
from tests.support.trackers.server import Answer, Fault, TrackerServer
from tests.transports.nats.subscribing import make, put, take_without_an_answer
from tests.transports.nats.test_dead_letters import point

PAGE = ROOT / "docs" / "reference" / "json.md"
RECEIPT, TASK = ROOT / "docs" / "reference" / "receipts.md", ROOT / "docs" / "reference" / "task-object.md"

Printed = dict[str, list[Any]]
"""What commands printed: the command, and its objects."""

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TYPES: dict[str, Callable[[Any], bool]] = {
    "anything": lambda value: True,
    "boolean": lambda value: isinstance(value, bool),
    "integer": is_whole,
    "list of integers": lambda value: isinstance(value, list) and all(map(is_whole, value)),
    "list of objects": lambda value: isinstance(value, list) and all(isinstance(each, dict) for each in value),
    "list of strings": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "null": lambda value: value is None,
    "number": lambda value: is_whole(value) or isinstance(value, float),
    "object": lambda value: isinstance(value, dict),
    "object of integers": lambda value: isinstance(value, dict) and all(map(is_whole, value.values())),
    "object of objects": lambda value: isinstance(value, dict) and all(isinstance(e, dict) for e in value.values()),
    "object of strings": lambda value: isinstance(value, dict) and all(isinstance(e, str) for e in value.values()),
    "string": lambda value: isinstance(value, str),
    "time": lambda value: isinstance(value, str) and TIME.fullmatch(value) is not None,
}
"""The words for types on the page, and what each means."""

# --- what the page says ----------------------------------------------------------------------------------------------


def elsewhere_or_here() -> dict[str, str]:
    return {cells[0].strip("`"): cells[1] for cells in rows_under(PAGE, "Where an object is described")}


def titles() -> list[str]:
    return re.findall(r"^## `issue (.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def rows_of(command: str) -> dict[str, list[str]]:
    """The rows of a command's table, by member; of the reject and the dead letter shown, those of their lists too."""
    rows = {cells[0].strip("`"): cells for cells in rows_under(PAGE, f"`issue {command}`")}
    return rows_of(command.replace("show", "list")) | rows if command in ("rejects show", "dlq show") else rows


def words_of(command: str, member: str) -> list[str]:
    """The words that the meaning of a member names."""
    return re.findall(r"`(\w+)`", rows_of(command)[member][2])


# --- what comes ------------------------------------------------------------------------------------------------------


def flat(value: Mapping[str, Any], documented: Mapping[str, object], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every member of an object, and those of the objects in it that the page describes."""
    for name, each in value.items():
        path = f"{before}{name}"
        yield path, each
        if isinstance(each, list) and any(other.startswith(f"{path}[].") for other in documented):
            for inner in each:
                yield from flat(inner, documented, f"{path}[].")
        if isinstance(each, dict) and any(other.startswith(f"{path}.KEY.") for other in documented):
            for inner in each.values():
                yield from flat(inner, documented, f"{path}.KEY.")


class Scene:
    """Runs commands with ``--json``, and keeps what each prints under its name."""

    def __init__(self) -> None:
        self.printed: Printed = {}

    def run(self, issue: Issue, name: str, *words: str, env: Mapping[str, str] | None = None) -> list[Any]:
        """Run the command ``name`` with these words."""
        environment = issue.environment if env is None else dict(env)
        ran = issue.run(*name.split(), "--json", *words, env=environment)
        assert ran.code in (0, 3), ran.stderr
        self.printed.setdefault(name, []).extend(ran.objects)
        return ran.objects


def written(issue: Issue, text: str) -> str:
    file = issue.folder / "in.json"
    file.write_text(text, encoding="utf-8")
    return str(file)


def play_configuration(scene: Scene, issue: Issue) -> None:
    scene.run(issue, "config init", "--config", str(issue.folder / "new.toml"))
    scene.run(issue, "config show")
    no_file = {name: value for name, value in issue.environment.items() if name != "ISSUE_CORE_CONFIG"}
    scene.run(issue, "config show", env=no_file)
    config = issue.folder / "config.toml"
    config.write_text('[backends.work]\ntype = "gitea"\nurl = "http://127.0.0.1:9"\ntoken = { env = "NO_SUCH" }\n')
    for command in ("config check", "doctor"):
        scene.run(issue, command)
    config.write_text("")


def play_tracker(scene: Scene, issue: Issue, tracker: TrackerServer) -> None:
    """Tasks that are planned, refused, put off and created."""
    token = issue.folder / "token"
    token.write_text(tracker.token)
    token.chmod(0o600)
    (issue.folder / "config.toml").write_text(f'default_backend = "work"\n{tracker.toml(token={"file": str(token)})}')
    scene.run(issue, "ingest", written(issue, ndjson(a_spec(1), a_spec(2))))
    scene.run(issue, "status", "--check")
    scene.run(issue, "sync", "--dry-run")
    tracker.faults += [
        Fault("answer_before", answer=Answer(422, {"message": "no"})),
        Fault("answer_before", answer=Answer(429, {"message": "slow down"}, {"Retry-After": "60"})),
    ]
    scene.run(issue, "sync", "--limit", "1")
    scene.run(issue, "sync")
    scene.run(issue, "retry", "--all")
    scene.run(issue, "link", "1", f"{tracker.url}/acme/web/issues/7")
    (issue.folder / "config.toml").write_text("")


def play_local(scene: Scene, issue: Issue) -> None:
    """Issues as files, one twice, one of nobody's, one gone."""
    scene.run(issue, "status")
    scene.run(issue, "ingest", written(issue, ndjson(a_spec(1), a_spec(2))))
    scene.run(issue, "sync")
    scene.run(issue, "new", "A task", "--repo", "acme/web")
    for words in (("list",), ("show", "1"), ("export",), ("export", "--format", "taskspec"), ("schema",)):
        scene.run(issue, *words)
    doubled, gone = sorted((issue.folder / "issues").rglob("*.md"))
    stranger = doubled.read_text().replace(a_spec(1)["triggering_event_id"], "0b0b0b0b-0000-4000-8000-000000000000")
    stranger = stranger.replace(a_spec(2)["triggering_event_id"], "0b0b0b0b-0000-4000-8000-000000000000")
    shutil.copy(doubled, doubled.with_name("copy.md"))
    doubled.with_name("stranger.md").write_text(stranger)
    gone.unlink()
    scene.run(issue, "sync --verify")
    force_state(issue, 1, "failed")
    scene.run(issue, "status", "--check")


def play_rejects(scene: Scene, issue: Issue) -> None:
    conflict, invalid = a_spec(1, title="Another"), {"no": "spec"}
    for text in (ndjson(conflict), json.dumps([invalid, {"no": "other"}])):
        scene.run(issue, "ingest", written(issue, text))
    scene.run(issue, "rejects list")
    for reject in ("1", "2"):
        scene.run(issue, "rejects show", reject)
    scene.run(issue, "rejects replay", "2")
    scene.run(issue, "rejects replay", "1", "--as-new")
    scene.run(issue, "rejects drop", "2", "3")
    scene.run(issue, "rejects list", "--state", "all")
    scene.run(issue, "rejects show", "1")


def play_copies(scene: Scene, issue: Issue, other: Issue) -> None:
    for _ in range(2):
        [backup] = scene.run(issue, "backup", "--to-dir", str(issue.folder / "copies"), "--keep", "1")
    for where in (issue, other):
        scene.run(where, "restore", backup["file"])


def play_nats(scene: Scene, issue: Issue, server: NatsServer) -> None:
    at = ("--nats-url", server.url)
    scene.run(issue, "nats setup", *at)
    scene.run(issue, "nats status", *at)
    scene.run(
        issue, "nats setup", *at, "--replicas", "1", "--claims", "--durable", "another", "--filter", "act.tasks.>"
    )
    scene.run(issue, "nats setup", *at, "--filter", "act.tasks.create.acme.>")
    scene.run(issue, "nats status", *at)
    spec = a_spec(1, host="web-1")
    for text in (ndjson(spec, spec), json.dumps([{"no": "spec"}])):
        scene.run(issue, "publish", *at, written(issue, text))
    scene.run(issue, "subscribe", *at, "--until-empty")


def play_dead_letters(scene: Scene, issue: Issue, server: NatsServer) -> None:
    """One that can be replayed, one that cannot, one of which nothing is left, and one that somebody put there."""
    at = ("--nats-url", server.url)
    make(server)
    put(server, a_spec(8), headers={"X-From": "a test"})
    put(server, b"nothing")
    take_without_an_answer(server, 2)
    point(server, 1, 2, 99)
    put(server, a_spec(9), subject="act.dlq.create.acme/web")
    found = scene.run(issue, "dlq list", *at)
    for each in found:
        scene.run(issue, "dlq show", str(each["seq"]), *at)
    scene.run(issue, "dlq replay", "--all", *at)
    scene.run(issue, "dlq drop", "--all", "--yes", *at)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Printed:
    """What every command prints, each in states that differ."""
    scene = Scene()
    places = [Issue(tmp_path_factory.mktemp(name)) for name in ("local", "work", "other", "nats")]
    play_configuration(scene, places[0])
    play_local(scene, places[0])
    play_rejects(scene, places[0])
    play_copies(scene, places[0], places[2])
    with fake("gitea") as tracker:
        play_tracker(scene, places[1], tracker)
    for play in (play_nats, play_dead_letters):
        with nats_server(tmp_path_factory.mktemp("server")) as server:
            play(scene, places[3], server)
    return scene.printed


# --- the tests -------------------------------------------------------------------------------------------------------


def test_every_command_with_json_output_is_on_the_page_and_no_other() -> None:
    with_json = {
        " ".join(path)
        for path, command in commands()
        if any("--json" in parameter.opts for parameter in command.params)
    }

    assert set(elsewhere_or_here()) == with_json


def test_what_the_page_describes_itself_it_names_at_its_beginning() -> None:
    here = [command.removeprefix("issue ") for command, place in elsewhere_or_here().items() if "[here]" in place]

    assert sorted(titles()) == sorted([*here, "sync --verify"])


@pytest.mark.parametrize("command", titles())
def test_each_object_has_the_members_on_the_page_and_no_other(command: str, printed: Printed) -> None:
    rows = rows_of(command)
    optional = {name for name, cells in rows.items() if cells[2].startswith("only ")}
    assert printed[command]
    for each in printed[command]:
        top = {name for name in rows if "." not in name}
        assert set(each) <= top
        assert top - set(each) <= optional
        assert {path for path, _ in flat(each, rows)} <= set(rows)
    assert {path for each in printed[command] for path, _ in flat(each, rows)} == set(rows)


@pytest.mark.parametrize("command", titles())
def test_each_member_has_the_type_on_the_page_and_each_of_its_types_is_seen(command: str, printed: Printed) -> None:
    rows = rows_of(command)
    seen: dict[str, set[str]] = {name: set() for name in rows}
    for each in printed[command]:
        for path, value in flat(each, rows):
            fitting = {kind for kind in rows[path][1].split(" or ") if TYPES[kind](value)}
            assert fitting, (path, value)
            seen[path] |= fitting
    unseen = {(name, kind) for name, cells in rows.items() for kind in cells[1].split(" or ") if kind not in seen[name]}

    assert unseen == set()


@pytest.mark.parametrize(
    ("command", "page"),
    [
        *((name, RECEIPT) for name in ("ingest", "new", "subscribe", "rejects replay")),
        *((name, TASK) for name in ("list", "show", "link")),
    ],
)
def test_what_is_described_on_another_page_has_its_members(command: str, page: Path, printed: Printed) -> None:
    documented = {cells[0].strip("`") for cells in rows_under(page, "Members")}

    assert f"({page.name})" in elsewhere_or_here()[f"issue {command}"]
    assert printed[command]
    assert all(set(each) <= documented for each in printed[command])


def test_what_export_and_schema_print_is_what_the_page_says(printed: Printed) -> None:
    task = {cells[0].strip("`") for cells in rows_under(TASK, "Members")}
    n = len(printed["list"])
    tasks, specs = printed["export"][:n], printed["export"][n:]

    assert all(set(each) <= task for each in tasks)
    assert all(set(each) <= set(schemas.taskspec()["properties"]) for each in specs)
    assert printed["schema"] == [schemas.taskspec()]


WORDS: list[tuple[str, str, Any]] = [
    ("sync", "result", SyncOutcome),
    ("sync --verify", "finding", Literal["double", "unknown", "missing"]),
    ("rejects list", "kind", RejectKind),
    ("rejects list", "state", RejectState),
    ("rejects list", "transport", Transport),
    ("publish", "outcome", publishing.Outcome),
    ("dlq list", "state", dead_letters.State),
    ("dlq replay", "outcome", replaying.Outcome),
    ("nats setup", "kind", wanted.Kind),
]


@pytest.mark.parametrize(("command", "member", "words"), WORDS, ids=lambda each: each if isinstance(each, str) else "")
def test_a_member_that_is_one_of_some_words_names_them_all(command: str, member: str, words: Any) -> None:
    assert sorted(words_of(command, member)) == sorted(get_args(words))


def test_every_code_of_what_needs_a_person_is_named() -> None:
    calls = [node for node in ast.walk(ast.parse(Path(needs.__file__).read_text())) if isinstance(node, ast.Call)]
    codes = {ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func) == "Need"}

    assert set(words_of("status", "needs[].code")) == codes


def test_the_page_has_no_example_that_no_test_runs() -> None:
    assert blocks(PAGE) == []
