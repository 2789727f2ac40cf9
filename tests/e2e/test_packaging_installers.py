"""The project put onto a machine by the installers that people use, and run by each newer Python that it names."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installed import (
    ROOT,
    Installed,
    attempted,
    built_wheel,
    done,
    empty_environment,
    install,
    last_line,
    tools,
)

pytestmark = pytest.mark.long

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMED = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
NEWER = [version for version in NAMED if tuple(map(int, version.split("."))) > sys.version_info[:2]]
"""The Pythons that the project says it runs on, but for the one that runs these tests and those before it."""

QUICK = (
    "tests/ledger",
    "tests/cli",
    "tests/config",
    "tests/backends",
    "tests/test_taskspec.py",
    "tests/test_ingestion.py",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program uv."""
    return tools(tmp_path_factory.mktemp("uv") / "venv", "uv") / "uv"


@pytest.fixture(scope="module", params=NEWER)
def python(request: pytest.FixtureRequest, uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of one of the newer versions."""
    return _first_had([request.param], uv, tmp_path_factory)


@pytest.fixture(scope="module")
def newest(uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of the newest version that can be had, newer than the one that runs these tests."""
    return _first_had(NEWER[::-1], uv, tmp_path_factory)


def _first_had(versions: list[str], uv: Path, folders: pytest.TempPathFactory) -> Path:
    """The first of these that is on this machine or that uv gets; the test is skipped where there is none."""
    reasons = []
    for version in versions:
        if here := next((each for each in _candidates(version) if _is_python(each, version)), None):
            return here
        found = _downloaded(uv, version, folders.mktemp("pythons"))
        if isinstance(found, Path):
            return found
        reasons.append(found)
    pytest.skip("; ".join(reasons))


def _candidates(version: str) -> Iterator[Path]:
    if on_path := shutil.which(f"python{version}"):
        yield Path(on_path)
    yield from (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")


def _is_python(program: Path, version: str) -> bool:
    """Whether it runs and is that version: pyenv lays programs on PATH that stand for no Python."""
    ran = attempted([program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    return ran.returncode == 0 and ran.stdout.strip() == version


def _downloaded(uv: Path, version: str, folder: Path) -> Path | str:
    """What uv gets, or why it gets none."""
    environment = {"UV_CACHE_DIR": str(folder / "cache"), "UV_PYTHON_INSTALL_DIR": str(folder)}
    ran = attempted([uv, "python", "install", "--no-bin", version], environment=environment)
    if ran.returncode:
        return f"no Python {version} on this machine, and uv cannot get one ({last_line(ran.stderr)})"
    return Path(done([uv, "python", "find", "--managed-python", version], environment=environment).strip())


def test_pipx_installs_the_checkout(tmp_path: Path) -> None:
    pipx = tools(tmp_path / "venv", "pipx") / "pipx"
    places = {
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_MAN_DIR": str(tmp_path / "man"),
    }

    done([pipx, "install", "--python", sys.executable, "."], environment=places)

    Installed(tmp_path / "bin", tmp_path / "home").smoke()


def test_uv_installs_the_checkout_as_a_tool(uv: Path, tmp_path: Path) -> None:
    names = {"UV_CACHE_DIR": "cache", "UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin"}
    places = {name: str(tmp_path / folder) for name, folder in names.items()}

    done([uv, "tool", "install", "--python", sys.executable, "."], environment=places)

    Installed(tmp_path / "bin", tmp_path / "home").smoke()


def test_a_newer_python_runs_the_wheel_with_its_extra(python: Path, wheel: Path, tmp_path: Path) -> None:
    programs = empty_environment(tmp_path / "venv", python)
    install(programs, f"{wheel}[nats]")
    tool = Installed(programs, tmp_path / "home")

    tool.smoke()
    said = tool.run("nats", "status", "--nats-url", "nats://127.0.0.1:9", code=1).stderr
    assert said.startswith("issue: ")
    assert "not installed" not in said
    assert "Traceback" not in said


def test_the_newest_python_passes_the_quick_tests(newest: Path, wheel: Path, tmp_path: Path) -> None:
    programs = empty_environment(tmp_path / "venv", newest)
    install(programs, f"{wheel}[nats]", "--group", f"{ROOT / 'pyproject.toml'}:dev")
    checkout = tmp_path / "checkout"  # without the package: what is tested is the wheel
    checkout.mkdir()
    for name in ("tests", "bench", "docs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.md"), ROOT / "pyproject.toml"):
        shutil.copy(file, checkout)

    # One file becomes another user where root runs it, and that one need not be able to run an interpreter of root's.
    left_out = ["--ignore=tests/ledger/test_places.py"] if os.geteuid() == 0 else []
    quick: list[str | Path] = [
        programs / "python",
        "-m",
        "pytest",
        "-q",
        "-m",
        "not long and not real",
        *QUICK,
        *left_out,
    ]
    ran = done(quick, cwd=checkout, timeout=1800)

    assert re.search(r"\d+ passed", ran)
