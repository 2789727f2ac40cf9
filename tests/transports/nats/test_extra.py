"""The client library is an extra: not taken along by commands that do without, and missed in words."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.cli import Issue


@pytest.mark.parametrize("module", ["nats", "nkeys"])
@pytest.mark.parametrize("words", [("nats", "status"), ("nats", "setup"), ("publish", "tasks.ndjson")])
def test_without_the_client_library_a_command_says_how_to_install_it(
    issue: Issue, monkeypatch: pytest.MonkeyPatch, module: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    ran = issue.call(*words)
    assert ran.code == 2
    assert ran.stderr == (
        f"issue: this needs the NATS client, and {module} is not installed\n"
        "hint: install issue-core again with its extra nats, as its README says\n"
    )


def test_the_commands_are_known_without_the_client_library_and_without_an_event_loop() -> None:
    code = (
        "import sys\nimport issue_core.cli.nats, issue_core.cli.publish, issue_core.transports.nats\n"
        "print(*{'nats', 'nkeys', 'asyncio', 'ssl'} & set(sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
