"""``issue backup``: a consistent copy of the ledger, while others write to it."""

from __future__ import annotations

import os
import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption

if TYPE_CHECKING:
    from datetime import datetime

_NAMED = re.compile(r"(ledger-\d{8}T\d{6}Z)(?:-(\d+))?\.db")

app = new_app()


@app.command(epilog=examples("issue backup /backups/ledger.db", "issue backup --to-dir /backups --keep 14"))
def backup(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The copy, which must not be there yet.")
    ] = None,
    to_dir: Annotated[
        Path | None,
        typer.Option(
            "--to-dir",
            metavar="DIR",
            help="Write it there, under a name with the time: ledger-20300101T040000Z.db. "
            "Of DIR only the last folder is made.",
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option("--keep", metavar="N", min=1, help="With --to-dir: when it is written, keep the newest N alone."),
    ] = None,
    json: JsonOption = False,
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a copy of the ledger: all of it as it is at one moment, checked, and on the disk.

    Others may use the ledger meanwhile. A copy can be read like a ledger (--ledger FILE); it takes no tasks:
    `issue restore FILE` lays it in the ledger's place.
    """
    from issue_core.cli import context, output
    from issue_core.cli.done import told_all_the_same
    from issue_core.errors import UsageError
    from issue_core.ledger.copies import backup as write_copy

    if (file is None) == (to_dir is None):
        raise UsageError("name the file of the copy, or a folder with --to-dir")
    if file is not None and file.is_dir():
        raise UsageError(f"{file} is a folder", hint="Name a file in it, or give the folder with --to-dir.")
    if keep is not None and to_dir is None:
        raise UsageError("--keep has no meaning without --to-dir")
    with context.open_ledger(context.settings(config, ledger)) as store:
        target = file or _named(to_dir or Path(), store.clock.now())
        with output.interrupted_says(lambda: _written(target) if target.exists() else "no copy was written"):
            size = write_copy(store, target)
            removed = _removed(to_dir, keep, target) if to_dir and keep else []
    with told_all_the_same(lambda: _written(target)):
        if json:
            output.json_line({"file": str(target), "bytes": size, "removed": [str(each) for each in removed]})
        else:
            output.line(f"{target}: {size:,} bytes" + (f"; {len(removed)} older removed" if removed else ""))


def _written(target: Path) -> str:
    return f"the copy is written at {target}"


def _named(folder: Path, now: datetime) -> Path:
    """A file that is not there yet, named by the time, in ``folder``, which is made."""
    from issue_core.errors import LedgerError

    try:
        folder.mkdir(mode=0o700, exist_ok=True)  # none above it: a disk that is not mounted is to be noticed
    except OSError as error:
        what = f"{folder}: {error.strerror}; there is no copy"
        raise LedgerError(what, hint="Check the folder and its disk.") from error
    stem = f"ledger-{now:%Y%m%dT%H%M%SZ}"
    names = (folder / f"{stem}{f'-{n}' if n > 1 else ''}.db" for n in count(1))
    return next(name for name in names if not os.path.lexists(name))


def _removed(folder: Path, keep: int, newest: Path) -> list[Path]:
    """Remove the oldest copies that were named by us, but never ``newest``, whatever the clock said; gives them."""
    found = ((_NAMED.fullmatch(each.name), each) for each in folder.iterdir() if each.is_file() and each != newest)
    ours = sorted(((name[1], int(name[2] or 1)), each) for name, each in found if name)
    old = [each for _, each in ours[: len(ours) - keep + 1]] if len(ours) >= keep else []
    for each in old:
        each.unlink(missing_ok=True)
    return old
