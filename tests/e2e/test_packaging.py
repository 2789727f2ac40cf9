"""The wheel: what is in it, and that the tool runs from it with the packages that it asks for and no others."""

from __future__ import annotations

import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from issue_core.version import __version__
from tests.support.installed import ROOT, Installed, built_wheel, empty_environment, install
from tests.support.reference import commands

IMPORTS_ALL = """
import importlib, pkgutil, issue_core
for module in pkgutil.walk_packages(issue_core.__path__, "issue_core."):
    if module.name != "issue_core.__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as missing:
            print(module.name, missing.name)
"""

ASKS_EACH_FOR_HELP = """
import os, sys
from issue_core.cli import main
for path in sys.stdin.read().splitlines():
    words = path.split()
    sys.argv = [*words, "--help"]
    if (child := os.fork()) == 0:
        os._exit(main())
    print(path, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr)
"""

NEED_NATS = (
    "publish",
    "subscribe",
    "nats setup",
    "nats status",
    "dlq list",
    "dlq show 1",
    "dlq replay 1",
    "dlq drop 1",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def tool(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed without any extra into a fresh environment."""
    folder = tmp_path_factory.mktemp("runtime")
    programs = empty_environment(folder / "venv")
    install(programs, str(wheel))
    return Installed(programs, folder / "home")


def files_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def facts_of(wheel: Path) -> Message:
    return message_from_string(text_in(wheel, f"issue_core-{__version__}.dist-info/METADATA"))


def text_in(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode()


def test_the_wheel_holds_the_package_its_licence_and_nothing_else(wheel: Path) -> None:
    package = {path for path in (ROOT / "issue_core").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    about = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    assert files_in(wheel) == {path.relative_to(ROOT).as_posix() for path in package} | {
        f"issue_core-{__version__}.dist-info/{name}" for name in about
    }
    assert "issue_core/py.typed" in files_in(wheel)


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    facts = facts_of(wheel)
    about = f"issue_core-{__version__}.dist-info"

    assert (facts["Name"], facts["Version"]) == ("issue-core", __version__)
    assert (facts["License-Expression"], facts.get_all("License-File")) == ("MIT", ["LICENSE"])
    assert text_in(wheel, f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text_in(wheel, f"{about}/entry_points.txt").split() == [
        "[console_scripts]",
        "issue",
        "=",
        "issue_core.cli:main",
    ]
    assert facts["Requires-Python"] == ">=3.11"
    assert facts.get_all("Provides-Extra") == ["nats"]
    assert wheel.name.endswith("-py3-none-any.whl")


def test_with_its_own_packages_only_a_task_goes_all_the_way(tool: Installed) -> None:
    tool.smoke()
    assert tool.run("-m", "issue_core", "--version", program="python").stdout == f"issue-core {__version__}\n"


def test_no_module_but_those_for_nats_needs_a_package_that_the_wheel_does_not_ask_for(tool: Installed) -> None:
    missing = [line.split() for line in tool.run("-c", IMPORTS_ALL, program="python").stdout.splitlines()]

    assert missing  # the environment has no extra, or this test would show nothing
    assert {name for _, name in missing} <= {"nats", "nkeys"}
    assert [module for module, _ in missing if not module.startswith("issue_core.transports.nats.")] == []


def test_with_its_own_packages_only_every_command_has_help(tool: Installed) -> None:
    paths = [" ".join(path) for path, _ in commands()]
    asked = tool.run("-c", ASKS_EACH_FOR_HELP, program="python", input="\n".join(paths))

    assert asked.stderr.splitlines() == [f"{path} 0" for path in paths]
    assert [path for path in paths if f"Usage: {path} " not in asked.stdout] == []


@pytest.mark.parametrize("command", NEED_NATS)
def test_without_the_extra_a_command_for_nats_says_which_one_it_needs(tool: Installed, command: str) -> None:
    said = tool.run(*command.split(), code=2)
    assert (said.stdout, said.stderr.splitlines()) == (
        "",
        [
            "issue: this needs the NATS client, and nats is not installed",
            "hint: install issue-core again with its extra nats, as its README says",
        ],
    )


def test_every_command_for_nats_is_tried_without_the_extra() -> None:
    groups = {path[1] for path, command in commands() if len(path) > 1 and hasattr(command, "list_commands")}
    for_nats = {
        path[1:] for path, _ in commands() if len(path) > 1 and path[1] in ("publish", "subscribe", "nats", "dlq")
    }
    assert {path for path in for_nats if path[-1] not in groups} == {
        tuple(word for word in command.split() if word != "1") for command in NEED_NATS
    }
