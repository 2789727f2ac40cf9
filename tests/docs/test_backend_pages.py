from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks, name_of

BACKENDS = [page for page in PAGES if name_of(page).startswith("docs/backends/") and blocks(page, "toml")]


@pytest.mark.parametrize("page", BACKENDS, ids=name_of)
def test_whoever_copies_a_configuration_with_a_token_sends_tasks_there(page: Path) -> None:
    for block in blocks(page, "toml"):
        content = tomllib.loads(block.text)
        names = {name for name, table in content["backends"].items() if "token" in table}

        assert names <= {content.get("default_backend"), *content.get("routes", {}).values()}
