from __future__ import annotations

import re

from tests.docs.pages import ROOT
from tests.support.reference import commands


def test_every_command_is_named_in_the_scope() -> None:
    text = (ROOT / "SCOPE.md").read_text(encoding="utf-8").split("## In\n")[1].split("\n## ")[0]
    named = {word for span in re.findall(r"`([^`]+)`", text) for word in span.split()}

    assert {path[1] for path, _ in commands() if len(path) > 1} - named == set()
