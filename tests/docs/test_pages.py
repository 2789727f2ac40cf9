from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from issue_core import backends
from issue_core.config import BackendTypes, load
from issue_core.transports.metrics import METRICS
from tests.docs import curl, session
from tests.docs.pages import GENERATED, PAGES, ROOT, anchors, blocks, environment, links, name_of, pages_with

LANGUAGES = {
    "bash",  # to be pasted as it stands; run by a test
    "console",  # run by a test, its output compared
    "python",  # run by a test
    "toml",  # loaded as a configuration by a test
    "ini",  # a unit of systemd, judged by systemd-analyze where there is one
    "yaml",  # parsed by a test; the metrics in it exist
    "json",  # parsed by a test
    "mermaid",
    "markdown",
    "text",
    "sh",  # not run: it installs something, or takes the tools that make gives
}


DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is_so_that_no_example_escapes_its_test(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = [link for link in links(page) if "://" not in link and not _leads_somewhere(page, link)]

    assert dead == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(DOCS)], ids=name_of)
def test_no_link_of_the_docs_leaves_them_so_that_they_can_be_a_site_of_their_own(page: Path) -> None:
    paths = [link.partition("#")[0] for link in links(page) if "://" not in link]

    assert [path for path in paths if not (page.parent / path).resolve().is_relative_to(DOCS)] == []


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize("page", pages_with("console"), ids=name_of)
def test_every_console_block_does_and_prints_what_it_shows(page: Path, tmp_path: Path) -> None:
    for program in ("sqlite3", "jq"):
        if _uses(page, program) and not shutil.which(program):
            pytest.skip(f"this machine has no {program}")
    lacks_curl = _uses(page, "curl") and not shutil.which("curl")

    _run_and_compare([page], tmp_path, curl.stand_in(tmp_path / "bin") if lacks_curl else None)


def test_the_pages_can_be_followed_one_after_another_by_somebody_whose_own_tasks_go_to_a_tracker(
    tmp_path: Path,
) -> None:
    pages = [ROOT / "README.md", DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
    for program in ("sqlite3", "jq"):
        if not shutil.which(program):
            pytest.skip(f"this machine has no {program}")
    (own := tmp_path / "home" / ".config" / "issue-core").mkdir(parents=True)
    tracker = 'type = "gitea"\nurl = "http://127.0.0.1:9"\ntoken = { env = "NO_SUCH_TOKEN" }\n'
    (own / "config.toml").write_text(f'default_backend = "work"\n[backends.work]\n{tracker}')

    _run_and_compare(pages, tmp_path, None)


@pytest.mark.parametrize("page", [*(DOCS / "how-to").glob("*.md")], ids=name_of)
def test_a_how_to_needs_no_file_of_the_checkout_to_be_tried(page: Path) -> None:
    assert [block.line for block in blocks(page, "console") if "docs/demo" in block.text] == []


def test_where_there_is_no_curl_another_program_does_as_well(tmp_path: Path) -> None:
    _run_and_compare([DOCS / "serve.md"], tmp_path, curl.stand_in(tmp_path / "bin"))


def _uses(page: Path, program: str) -> bool:
    return any(f"{program} " in block.text for block in blocks(page, "console"))


def _run_and_compare(pages: list[Path], folder: Path, first_on_path: Path | None) -> None:
    work, home = folder / "work", folder / "home"
    shutil.copytree(ROOT / "docs" / "demo", work / "docs" / "demo")
    home.mkdir(exist_ok=True)
    ports = session.free_ports()
    each_block = [(page, session.commands(block, ports)) for page in pages for block in blocks(page) if block.is_run]
    listed = [(page, command, block) for page, block in each_block for command in block]

    results = session.run([command for _, command, _ in listed], work, home, first_on_path=first_on_path)

    assert len(results) == len(listed)
    following = [*(command.text for _, command, _ in listed[1:]), ""]
    for (page, command, block), (printed, code), after in zip(listed, results, following, strict=True):
        told = f"{name_of(page)}:{command.line}: $ {command.text}\nexit code {code}, printed:\n{printed}"
        assert code == 0 or after == "echo $?", told
        if any(each.shown for each in block):
            assert session.matches(command.shown, printed), told


def test_an_output_that_differs_in_one_word_is_noticed() -> None:
    assert session.matches(["created task 1 (...)"], "created task 1 (0190c7a4)\n")
    assert not session.matches(["created task 1 (...)"], "created task 2 (0190c7a4)\n")
    assert not session.matches(["one"], "one\ntwo\n")
    assert not session.matches([], "one\n")
    assert session.matches(["one", "...", "four"], "one\ntwo\nthree\nfour\n")


@pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
def test_every_python_block_runs(page: Path, tmp_path: Path) -> None:
    done = _run_python_of(page, tmp_path)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "how-to" / "send-from-a-rule-engine.md"], ids=name_of)
def test_python_prints_what_is_shown_and_can_be_run_again(page: Path, tmp_path: Path) -> None:
    [shown] = blocks(page, "text")

    assert _run_python_of(page, tmp_path).stdout == shown.text
    assert _run_python_of(page, tmp_path).returncode == 0


def _run_python_of(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    program = "\n".join(block.text for block in blocks(page, "python"))
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment(folder), capture_output=True, text=True
    )


@pytest.mark.parametrize("page", pages_with("toml"), ids=name_of)
def test_every_toml_block_is_a_configuration_that_loads(page: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for block in blocks(page, "toml"):
        file.write_text(block.text, encoding="utf-8")

        settings = load(config=file, ledger=None, environ={}, backends=BackendTypes(backends.keys_of, backends.types))

        assert settings.file == file


@pytest.mark.parametrize("page", pages_with("yaml"), ids=name_of)
def test_every_yaml_block_is_yaml_and_every_metric_in_it_exists(page: Path) -> None:
    for block in blocks(page, "yaml"):
        assert yaml.safe_load(block.text)
        assert set(re.findall(r"issue_core_\w+", block.text)) <= {metric.name for metric in METRICS}


@pytest.mark.parametrize("page", pages_with("ini"), ids=name_of)
def test_every_unit_of_systemd_is_one_that_systemd_takes_without_a_word(page: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("this machine has no systemd")
    command = str(Path(sys.executable).with_name("issue"))
    for block in blocks(page, "ini"):
        unit = tmp_path / "issue-core.service"
        unit.write_text(block.text.replace("/opt/issue-core/bin/issue", command), encoding="utf-8")

        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)

        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", pages_with("json"), ids=name_of)
def test_every_json_block_is_json(page: Path) -> None:
    for block in blocks(page, "json"):
        assert json.loads(block.text)


def test_the_pages_that_are_not_tested_here_are_there() -> None:
    assert {name_of(page) for page in PAGES} >= GENERATED
