"""Backs up or restores in processes that kill themselves, each a step later than the one before.

``python -m tests.crash.mortal_copier backup|restore [--no-links] FOLDER…`` does it with the ``ledger.db`` and the
``copy.db`` in each folder; in a folder called ``017`` the process dies at its 17th step. Steps are the moments before
and after each statement of SQLite, each part of a copy, and each operation on files. Prints a JSON list: whether each
one died.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from issue_core import Ledger
from issue_core.ledger.copies import backup, restore

OPERATIONS = ("open", "close", "link", "rename", "replace", "unlink", "fsync", "mkdir", "fchmod", "chown")


def main() -> None:
    """Let one process after the other work and die."""
    what, *words = sys.argv[1:]
    if words[0] == "--no-links":
        words.pop(0)
        setattr(os, "link", _no_links)  # noqa: B010 - an overloaded function, which cannot be assigned
    print(json.dumps([_died(what, folder, int(folder.name)) for folder in map(Path, words)]))


def _died(what: str, folder: Path, step: int) -> bool:
    child = os.fork()
    if child == 0:
        _die_at(step)
        with Ledger(folder / "ledger.db") as ledger:
            (backup if what == "backup" else restore)(ledger, folder / "copy.db")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), (folder, code)
    return code != 0


def _no_links(*_: Any, **__: Any) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _die_at(n: int) -> None:
    steps = count(1)

    def step() -> None:
        if next(steps) == n:
            os.kill(os.getpid(), signal.SIGKILL)

    class Mortal(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            step()
            cursor = super().execute(sql, *parameters)
            step()
            return cursor

        def backup(self, target: sqlite3.Connection, **_: Any) -> None:
            super().backup(target, pages=4, progress=lambda *_: step())

        def close(self) -> None:
            step()
            super().close()
            step()

    connect = sqlite3.connect

    def connect_mortal(*arguments: Any, **named: Any) -> sqlite3.Connection:
        return connect(*arguments, factory=Mortal, **named)

    setattr(sqlite3, "connect", connect_mortal)  # noqa: B010 - the same
    for name in OPERATIONS:
        setattr(os, name, _mortal(getattr(os, name), step))


def _mortal(operation: Callable[..., Any], step: Callable[[], None]) -> Callable[..., Any]:
    def mortal(*arguments: Any, **named: Any) -> Any:
        step()
        result = operation(*arguments, **named)
        step()
        return result

    return mortal


if __name__ == "__main__":
    main()
