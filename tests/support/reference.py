"""Writes docs/reference/cli.md from the commands themselves: ``python -m tests.support.reference``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from issue_core.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"

_HEAD = """\
# The command line

<!-- Written by `make docs` from the commands themselves; changes made here are lost. -->

`issue` reads TaskSpecs, keeps them in the ledger, and turns each into one issue. This page has every command
and every option; `issue COMMAND --help` shows the same.

## What all commands have in common

**Output.** What was asked for goes to standard output, everything else to standard error. On a terminal there are
tables and colours (none with `NO_COLOR`); in a pipe, tab-separated values below a line of names, for `cut -f`. With
`--json`, standard output is one JSON object a line, and nothing else: [JSON output](json.md) describes them. Output is
UTF-8 whatever the locale says.
Text that came from outside is shown with control characters, bidirectional overrides and the like escaped, as in
`\\x1b` or `\\u202e`; in JSON they stand as JSON's own escapes.

**Options** `--ledger` and `--config` may stand before the command or behind it; behind it wins.

**Exit codes** are 0, 1, 2, 3, 130 and 141; [Exit codes](exit-codes.md) says which means what. The objects that
`--json` prints are described in [Receipts](receipts.md) and [The task object](task-object.md); `issue schema` has
their JSON Schemas.

An error is one line that begins with `issue:`, on standard error, often followed by one with a hint.

**Logging.** Every command takes `-v`, which says each step on standard error, and `-vv`, which says everything, the
requests and the tasks' descriptions too; never a secret. With `--log-format json` each line there is a JSON object with
`at`, `level`, `run` and `event`, messages and errors too. `run` is this process, in the
[history](../ledger.md#history) as well. Both may stand before the command or behind it. (`issue serve` has a
`--log-format` of its own behind it, for its access log.)
"""


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command there is, with its words; a group comes before its commands."""
    yield from _below(("issue",), typer.main.get_command(app))


def _below(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    if hasattr(command, "list_commands"):
        ctx = typer.Context(command)
        for name in command.list_commands(ctx):
            yield from _below((*path, name), command.get_command(ctx, name))


def reference() -> str:
    """The text of the page."""
    return "\n".join([_HEAD, *(_section(path, command) for path, command in commands())])


def _section(path: tuple[str, ...], command: Any) -> str:
    parts = [f"{'#' * min(len(path) + 1, 4)} `{' '.join(path)}`", "", _usage(path, command), "", _prose(command)]
    if options := list(_options(command)):
        parts += ["", "| argument or option | |", "|---|---|", *options]
    if command.epilog:
        lines = command.epilog.split("\n")[2:]
        parts += ["", "```sh", *(line.removeprefix("  $ ") for line in lines), "```"]
    return "\n".join([*parts, ""])


def _usage(path: tuple[str, ...], command: Any) -> str:
    pieces = command.collect_usage_pieces(typer.Context(command))
    return f"`{' '.join([*path, *pieces])}`"


def _prose(command: Any) -> str:
    return inspect.cleandoc(command.help or "").replace("<", "\\<")


def _options(command: Any) -> Iterator[str]:
    ctx = typer.Context(command)
    for parameter in command.params:
        record = parameter.get_help_record(ctx)
        if record and not getattr(parameter, "hidden", False):
            name, text = (part.replace("|", "\\|").replace("\n", " ") for part in record)
            yield f"| `{name}` | {text} |"


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
