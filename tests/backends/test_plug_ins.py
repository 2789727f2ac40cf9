"""A package that is installed beside this one can add a type of backend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from issue_core import backends
from issue_core.config import BackendSettings
from issue_core.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "backends" / "plug-ins.md"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, name: str = "wekan", code: str | None = None) -> None:
    """Lay a package there as an installer would: by default the one of the documentation."""
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example
    module = f"plug_in_{folder.name}".replace("-", "_")
    (folder / f"{module}.py").write_text(example[1] if code is None else code, encoding="utf-8")
    info = folder / "its_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: its-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{backends.PLUG_INS}]\n{name} = {module}\n")
    monkeypatch.syspath_prepend(folder)


def test_the_example_of_the_documentation_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    assert "wekan" in backends.types()
    assert backends.keys_of("wekan") == {
        "url": "text",
        "token": "secret",
        "project": "text",
        "ca": "path",
        "former_urls": "list of text",
    }
    settings = BackendSettings("work", "wekan", looks=3, options={"url": "https://wekan.example/"})
    backend = backends.open_backend(settings, home=tmp_path, request_timeout=5.0)
    assert backend.target("acme/web").address == "https://wekan.example"
    assert backend.traits.looks == 3
    backend.close()


def test_a_plug_in_cannot_take_the_name_of_a_type_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, name="local", code="KEYS = {'stolen': 'text'}\nopen_backend = None\n")
    assert backends.keys_of("local") == {"path": "path"}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import what_is_not_there", "cannot be loaded: No module named 'what_is_not_there'"),
        ("KEYS = {}", "lacks open_backend"),
    ],
)
def test_a_plug_in_that_does_not_work_says_which_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    install(tmp_path, monkeypatch, code=code)
    with pytest.raises(ConfigError, match=f"type 'wekan' {told}"):
        backends.keys_of("wekan")


def test_a_type_that_nobody_knows_has_no_keys() -> None:
    assert backends.keys_of("nothing") is None
