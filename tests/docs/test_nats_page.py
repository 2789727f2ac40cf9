"""The page about NATS, held to the code and to a real server. Its session is run with those of all other pages."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nats
import pytest
from nats.js import JetStreamContext

from issue_core.config import NatsSettings
from issue_core.config.loading import NATS_VARIABLES
from issue_core.transports.nats import names, wanted
from issue_core.transports.nats.connection import connected
from issue_core.transports.nats.copying import keep_copies
from issue_core.transports.nats.streams import shown
from tests.docs.pages import ROOT, blocks, rows_under
from tests.support.cli import Issue, Ran, a_spec
from tests.support.nats_server import NatsServer, nats_server, run

PAGE = ROOT / "docs" / "nats-task-ingestion.md"

Publish = Callable[[JetStreamContext, dict[str, object]], Awaitable[int]]


def cells_under(heading: str) -> list[list[str]]:
    return [[cell.strip("`") for cell in cells] for cells in rows_under(PAGE, heading)]


def settings_of(part: wanted.Wanted) -> dict[str, str]:
    """What it is made with, as the page writes it; what is absent or without a limit is left out."""
    given = {each.name: str(shown(each.name, each.value)) for each in part.settings}
    return {name: value for name, value in given.items() if value not in ("unset", "-1")}


def test_the_settings_shown_are_those_that_setup_makes() -> None:
    tasks, dead, consumer, _ = wanted.all_wanted(NatsSettings(), replicas=None, claims=True)
    streams = cells_under("Streams and consumer")

    assert [streams[0][:2], streams[-1][0]] == [["subjects", *tasks.subjects], "num_replicas"]
    assert {name: value for name, value, _ in streams[1:-1]} == settings_of(tasks)
    assert {name: value for name, _, value in streams[1:-1]} == settings_of(dead)
    filtered = {"filter_subject": consumer.subjects[0]}
    assert dict(cells_under("The consumer")) == filtered | settings_of(consumer)


def test_the_subjects_shown_are_those_of_their_repositories() -> None:
    pairs = cells_under("The subject")

    assert [subject for _, subject in pairs] == [names.create_subject(repo) for repo, _ in pairs]


def test_every_way_to_log_in_is_shown_with_its_key_and_its_variable() -> None:
    text = [cell for cells in rows_under(PAGE, "Credentials") for cell in cells]

    for name in NATS_VARIABLES:
        assert any(f"NATS_{name}" in cell for cell in text) or name == "CONTEXT"
        assert any(f"`{name.lower()}`" in cell for cell in text) or name == "CONTEXT"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server in which the users that the page shows have the rights that it shows."""
    [authorization] = [each.text for each in blocks(PAGE, "text") if each.text.startswith("authorization {")]
    with nats_server(tmp_path, more=authorization) as server:
        yield server


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    return Issue(tmp_path)


PASSWORDS = {"admin": "a secret", "emitter": "another", "host": "a third"}


def url_for(user: str, server: NatsServer) -> str:
    return server.url.replace("://", f"://{user}:{quote(PASSWORDS[user])}@")


def ran_as(user: str, server: NatsServer, issue: Issue, *words: str, given: Any = ()) -> Ran:
    lines = "".join(f"{json.dumps(each)}\n" for each in given)
    return issue.run(*words, input=lines, env=issue.environment | {"NATS_URL": url_for(user, server)})


def counters(server: NatsServer, issue: Issue) -> dict[str, str]:
    return dict(ran_as("admin", server, issue, "nats", "status").rows)


def test_each_user_shown_can_do_its_work_and_no_more(server: NatsServer, issue: Issue) -> None:
    assert ran_as("admin", server, issue, "nats", "setup", "--claims").code == 0
    published = ran_as("emitter", server, issue, "publish", given=[a_spec(1), a_spec(2)])
    assert published.stdout == "2 read: 2 published, 0 duplicate, 0 invalid\n", published.stderr
    taken = ran_as("host", server, issue, "subscribe", "--until-empty", "--json")
    assert [(each["outcome"], each["state"]) for each in taken.objects] == [("created", "pending")] * 2, taken.stderr
    assert counters(server, issue)["claims"] == "2"

    refused = ran_as("emitter", server, issue, "subscribe", "--until-empty")
    assert (refused.code, "does not allow it" in refused.stderr) == (1, True)


def test_the_host_shown_may_keep_copies_of_dead_letters(server: NatsServer, issue: Issue) -> None:
    ran_as("admin", server, issue, "nats", "setup")
    ran_as("emitter", server, issue, "publish", given=[a_spec(1)])

    async def kept() -> int:
        async with connected(NatsSettings(url=url_for("admin", server))) as link:
            # What the server says of a message that it gives up.
            await link.client.publish(names.advisory("ACT_TASKS", "issue-core-ingest"), b'{"stream_seq": 1}')
            await link.client.flush()
        settings = NatsSettings(url=url_for("host", server))
        async with connected(settings) as link:
            return await keep_copies(link, settings)

    assert run(kept()) == 1
    assert [row[1] for row in ran_as("admin", server, issue, "dlq", "list").rows] == ["whole"]


def test_every_counter_of_the_status_is_on_the_page(server: NatsServer, issue: Issue) -> None:
    ran_as("admin", server, issue, "nats", "setup")
    documented = {name.strip(" `") for cells in rows_under(PAGE, "What to watch") for name in cells[0].split(",")}

    of_the_stream = {*counters(server, issue)} - documented

    assert of_the_stream == {"server", "stream", "consumer", "messages", "bytes", "first_seq", "last_seq", "replicas"}


def test_the_publisher_shown_publishes_what_is_taken_without_a_warning(server: NatsServer, issue: Issue) -> None:
    [block] = blocks(PAGE, "python")
    namespace: dict[str, Any] = {}
    exec(compile(block.text, str(PAGE), "exec"), namespace)  # noqa: S102 - the page's own program
    publish: Publish = namespace["publish"]
    repos = ["acme/web", "acme/web.app", "büro", "100%/*"]
    specs = [a_spec(n, target_repo=repo) for n, repo in enumerate(repos)]

    async def published() -> list[int]:
        async with await nats.connect(url_for("emitter", server)) as client:
            return [await publish(client.jetstream(), spec) for spec in [*specs, specs[0]]]

    ran_as("admin", server, issue, "nats", "setup")
    assert run(published()) == [1, 2, 3, 4, 1]
    taken = ran_as("host", server, issue, "subscribe", "--until-empty", "--json")

    assert [(each["outcome"], each["warnings"]) for each in taken.objects] == [("created", [])] * 4
