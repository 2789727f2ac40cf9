"""``issue backup``: a consistent copy of the ledger, while others write to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption

if TYPE_CHECKING:
    from datetime import datetime

    from issue_core.ledger.copies import Copy

_NAMED = re.compile(r"(ledger-\d{8}T\d{6}Z)(?:-(\d+))?\.db")
_STRANGE = ("", 0)
"""Not named by us."""

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
    made: list[Copy] = []

    def done() -> str:
        return f"the copy is written at {made[0].file}" if made else ""

    with (
        context.open_ledger(context.settings(config, ledger)) as store,
        output.interrupted_says(lambda: done() or "no copy was written"),
        told_all_the_same(done),
    ):
        names = iter([file]) if file else _names(to_dir or Path(), store.clock.now())
        made.append(write_copy(store, next(names), or_else=names))
        target, size = made[0]
        removed = _removed(target, keep) if keep else []
        if json:
            output.json_line({"file": str(target), "bytes": size, "removed": [str(each) for each in removed]})
        else:
            output.line(f"{target}: {size:,} bytes" + (f"; {len(removed)} older removed" if removed else ""))


def _names(folder: Path, now: datetime) -> Iterator[Path]:
    """Names by the time, which come after all others of it, in ``folder``, which is made."""
    from issue_core.errors import LedgerError

    stem = f"ledger-{now:%Y%m%dT%H%M%SZ}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)  # none above it: a disk that is not mounted is to be noticed
        last = max((number for time, number in map(_order, folder.iterdir()) if time == stem), default=0)
    except OSError as error:
        what = f"{folder}: {error.strerror}; there is no copy"
        raise LedgerError(what, hint="Check the folder and its disk.") from error
    yield from (folder / f"{stem}{f'-{n}' if n > 1 else ''}.db" for n in count(last + 1))


def _removed(newest: Path, keep: int) -> list[Path]:
    """Remove the oldest copies that were named by us; gives them. Those named by a later time than ``newest`` stay.

    Another backup may have written them meanwhile, or the clock was wrong.
    """
    from issue_core.errors import LedgerError

    found = (each for each in newest.parent.iterdir() if each.is_file())
    older = sorted((each for each in found if _STRANGE < _order(each) < _order(newest)), key=_order)
    old = older[: max(0, len(older) + 1 - keep)]
    for each in old:
        try:
            each.unlink(missing_ok=True)
        except OSError as error:
            raise LedgerError(f"{each}: {error.strerror}; it stays", hint="Who may remove files there?") from error
    return old


def _order(file: Path) -> tuple[str, int]:
    """What tells which of our copies is the older one: the time in its name, then the number."""
    name = _NAMED.fullmatch(file.name)
    return (name[1], int(name[2] or 1)) if name else _STRANGE
