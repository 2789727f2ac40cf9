"""Every command and every option with values that nobody means: no traceback, a known exit code, and an end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.cli import Issue, Ran, a_spec, force_state, ndjson
from tests.support.reference import commands

EXIT_CODES = {0, 1, 2, 3, 130, 141}
SECONDS = 20  # that one call may take on a busy machine

LEAVES = {path[1:]: command for path, command in commands() if not hasattr(command, "list_commands")}
LONG_LIVED = {("serve",), ("subscribe",)}

NOWHERE = "nats://127.0.0.1:1"

NEEDED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("new",): ("title", "--repo", "acme/web"),
    ("show",): ("1",),
    ("link",): ("1", "--none"),
    ("retry",): ("1",),
    ("rejects", "show"): ("1",),
    ("rejects", "replay"): ("1",),
    ("rejects", "drop"): ("1",),
    ("dlq", "show"): ("1",),
    ("dlq", "replay"): ("1",),
    ("dlq", "drop"): ("1", "--yes"),
    ("subscribe",): ("--until-empty",),
    ("serve",): ("--no-auth", "--port", "0"),
}
"""What each command is given, so that it comes to what it does; an argument is left out where it is the odd one."""

ODD = {
    "empty": "",
    "a space": " ",
    "huge": "x" * 100_000,
    "unicode": "日本語 ünï 👩\u200d👧",
    "control characters": "a\x1b[2J\x07\r\n\tb",
    "a reversed line": "\u202egnp.exe",
    "no UTF-8": "\udcff",
    "markup": "[red]%s{0}[/]",
    "a large number": "99999999999999999999",
    "a negative number": "-1",
    "zero": "0",
    "no number": "nan",
    "infinity": "1e999",
    "a missing file": "missing/file",
    "a folder": "folder",
    "some file": "file",
    "an option": "--no-such-option",
}


@pytest.fixture
def issue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Issue:
    """The command with a ledger that holds a little of each, in a folder with a file and a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("neither JSON nor TOML: \x1b[2J\n")
    (tmp_path / "in.ndjson").write_text(ndjson(a_spec(1), a_spec(2), "bad", a_spec(1, title="other")))
    made = Issue(tmp_path)
    made.call("ingest", "in.ndjson")
    force_state(made, 2, "failed")
    return made


@contextmanager
def _at_most(seconds: int, words: tuple[str, ...]) -> Iterator[None]:
    def too_long(_: int, __: object) -> None:
        pytest.fail(f"took more than {seconds} s: {_shown(words)}")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _shown(words: tuple[str, ...]) -> str:
    return " ".join(word if len(word) < 60 else f"{word[:20]}…" for word in words)


def _call(issue: Issue, words: tuple[str, ...]) -> Ran:
    with (
        _at_most(SECONDS, words),
        Path("/dev/null").open() as nothing,
        mock.patch.object(sys, "stdin", nothing),
        mock.patch.dict("os.environ", {}),
    ):
        try:
            return issue.call(*words)
        except SystemExit as end:
            pytest.fail(f"exits past main with {end.code!r}: {_shown(words)}")
        except Exception as error:  # noqa: BLE001 - any at all is the finding
            pytest.fail(f"{type(error).__name__}: {error}: {_shown(words)}")


def _judge(ran: Ran, words: tuple[str, ...]) -> None:
    assert ran.code in EXIT_CODES, _shown(words)
    assert "Traceback" not in ran.stderr, _shown(words)
    assert ran.code not in (1, 2) or f"\n{ran.stderr}".count("\nissue: ") >= 1, _shown(words)
    assert len(ran.stderr) < 500_000, _shown(words)
    for text in (ran.stdout, ran.stderr):
        assert {"\x1b", "\x07", "\r", "\u202e"} & set(text) == set(), _shown(words)


def _around(path: tuple[str, ...], odd: Any) -> tuple[str, ...]:
    """What the command needs beside the odd parameter."""
    given = list(NEEDED.get(path, ()))
    if odd is not None and odd.param_type_name == "argument":
        given = [word for word in given if word.startswith("-")] if path != ("new",) else given[1:]
    if any("--nats-url" in each.opts for each in LEAVES[path].params) and (odd is None or odd.name != "nats_url"):
        given += ["--nats-url", NOWHERE]
    return tuple(given)


def _calls(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Each call of a command with one odd value in it, and each of its flags."""
    for each in LEAVES[path].params:
        if each.name in ("help", "watch", "wait"):
            continue
        around = _around(path, each)
        for value in ODD.values():
            if each.param_type_name == "argument":
                yield (*path, *around, "--", value)
            elif getattr(each, "is_flag", False):
                yield (*path, *around, each.opts[0])
                break
            else:
                yield (*path, *around, each.opts[0], value)


@pytest.mark.parametrize("path", sorted(LEAVES.keys() - LONG_LIVED), ids=" ".join)
def test_a_command_takes_odd_values_without_a_traceback(issue: Issue, path: tuple[str, ...]) -> None:
    for words in _calls(path):
        _judge(_call(issue, words), words)


def test_the_options_before_the_command_take_odd_values_too(issue: Issue) -> None:
    for value in ODD.values():
        for words in (("--ledger", value, "list"), ("--config", value, "list"), (value,), (value, "list")):
            _judge(_call(issue, words), words)


@pytest.mark.parametrize("words", ["sync --watch {}", "sync --watch={}"])
def test_a_pause_that_is_none_is_refused(issue: Issue, words: str) -> None:
    for value in ODD.values():
        call = (*words.split(" ")[:-1], *([value] if words.endswith(" {}") else [f"--watch={value}"]))
        assert _call(issue, call).code == 2


@pytest.mark.long
@pytest.mark.parametrize("path", sorted(LONG_LIVED), ids=" ".join)
def test_a_command_that_runs_on_takes_odd_values_or_refuses_them_and_ends_when_told(
    issue: Issue, path: tuple[str, ...]
) -> None:
    values = [ODD[name] for name in ("empty", "control characters", "a folder")]
    calls = [words for words in _calls(path) if words[-1] in values or words[-1].startswith("--")]
    for start in range(0, len(calls), 12):
        _judge_together(issue, calls[start : start + 12])


def _judge_together(issue: Issue, calls: list[tuple[str, ...]]) -> None:
    running = [(words, issue.start(*words, stdin=None)) for words in calls]
    told = time.monotonic() + 3
    for words, process in running:
        try:
            out, err = process.communicate(timeout=max(0.1, told - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=SECONDS)
            # 2: it had found the value odd in this moment, on a machine that was busy until then.
            assert process.returncode in (2, 130), (_shown(words), err)
        _judge(Ran(process.returncode, out.decode(), err.decode()), words)


def test_an_address_where_something_else_listens_is_said_at_once(issue: Issue) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = ("serve", "--no-auth", "--port", str(taken.getsockname()[1]))
        ran = issue.run(*words)
        assert (ran.code, ran.stderr.startswith("issue: ")) == (1, True)
