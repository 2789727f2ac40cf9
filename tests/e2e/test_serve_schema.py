"""``issue serve`` is what its description says: schemathesis asks it whatever the description allows, and more."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import Issue
from tests.support.serving import KEY, serving

SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
ROOT = Path(__file__).parents[2]

CONFIG = "[warnings]\nfail-on = true\n"


def findings(issue: Issue, *words: str, key: str | None = KEY, examples: int, seed: int, seconds: float) -> str:
    """What schemathesis finds at the real server with every check that it has; nothing is the empty text."""
    config, description = issue.folder / "schemathesis.toml", issue.folder / "openapi.json"
    config.write_text(CONFIG)
    environment = issue.environment | {
        "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
        "PYTHONPATH": str(ROOT),
    }
    authorization = ["--header", f"Authorization: Bearer {key}"] if key else []
    with serving(issue, *words, key=key) as running:
        # From a file: where it was given an address, it would leave that very path out.
        description.write_bytes(running.ask("GET", "/openapi.json", key=key).body)
        command = [SCHEMATHESIS, "--config-file", str(config), "run", str(description), "--url", running.url]
        chosen = ["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--mode", "all"]
        effort = ["--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure"]
        ran = subprocess.run(
            [*command, *authorization, *chosen, *effort, "--generation-database", "none", "--no-color"],
            env=environment,
            cwd=issue.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        faults = [line for line in running.log if "issue-core's own" in line]
        assert running.process.poll() is None
    operations = sum(len(path) for path in json.loads(description.read_bytes())["paths"].values())
    assert f"  Tested: {operations}\n" in ran.stdout, ran.stdout + ran.stderr
    return "" if ran.returncode == 0 and not faults else "\n".join([ran.stdout, ran.stderr, *faults])


def test_the_server_and_its_description_agree(issue: Issue) -> None:
    found = findings(issue, examples=1, seed=1, seconds=120)
    assert not found, found


@pytest.mark.long
@pytest.mark.parametrize("words", [(), ("--no-auth",)], ids=" ".join)
def test_the_server_and_its_description_agree_whatever_is_asked(issue: Issue, words: tuple[str, ...]) -> None:
    seed = random.randrange(2**32)  # what is found names it
    found = findings(issue, *words, key=None if "--no-auth" in words else KEY, examples=1000, seed=seed, seconds=1800)
    assert not found, found
