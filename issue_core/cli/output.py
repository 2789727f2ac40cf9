"""What people and machines read: text with nothing hidden in it, JSON lines, tab-separated values, tables in colour.

Standard output carries what was asked for, standard error everything else. Both are UTF-8, whatever the locale says.
rich is imported when something is shown on a terminal, and not before.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from json import JSONEncoder
from typing import TYPE_CHECKING, Any, TextIO

from issue_core.errors import IssueCoreError
from issue_core.visible import escape as escape
from issue_core.visible import hidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import RenderableType

EXIT_READER_GONE = 141
"""128 and the number of SIGPIPE: what a shell shows for a program that writes to a pipe which nobody reads."""

_encode = JSONEncoder(ensure_ascii=False).encode


def to_json(value: object) -> str:
    """``value`` as one line of JSON, with hidden characters in JSON's own escapes: safe on a terminal, too."""
    text = _encode(value)
    if text.isprintable():
        return text
    return hidden("").sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def prepare() -> None:
    """Make the output streams fit to write any text to. A closed one is held, so that no file takes its number."""
    if sys.stdout is None:
        sys.stdout = _held(1, os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = _held(2, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]


def _held(number: int, flags: int) -> TextIO:
    """In the place of a closed stream, one that fails when it is written to (or, to hear messages, swallows it)."""
    descriptor = os.open(os.devnull, flags)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    return open(number, "w", encoding="utf-8", closefd=False)


class ReaderGone(Exception):
    """Nobody reads standard output any more. No OSError: those are taken for the ledger's where one is in use."""


def write(text: str) -> None:
    """Write ``text`` to standard output, as it is.

    Raises:
        ReaderGone: nobody reads it any more.
        IssueCoreError: it cannot be written.
    """
    with _writing():
        sys.stdout.write(text)


def write_bytes(raw: bytes) -> None:
    """Write ``raw`` to standard output, as it is. Raises what :func:`write` raises."""
    with _writing():
        sys.stdout.flush()
        rest = memoryview(raw)
        while rest:  # unbuffered, it may take a part at a time
            rest = rest[sys.stdout.buffer.write(rest) :]


def flush() -> None:
    """Hand on what was written, now. Raises what :func:`write` raises."""
    with _writing():
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise IssueCoreError(f"standard output cannot be written: {error.strerror}") from None


def line(text: str) -> None:
    """Write one line; what is hidden in ``text`` is shown. Raises what :func:`write` raises."""
    write(escape(text) + "\n")


def json_line(value: object) -> None:
    """Write ``value`` as one line of JSON. Raises what :func:`write` raises."""
    write(to_json(value) + "\n")


def tsv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write tab-separated values below a line of names, for ``cut -f``. Raises what :func:`write` raises."""
    row(header)
    for values in rows:
        row(values)


def row(values: Sequence[object]) -> None:
    """Write a line of tab-separated values; ``None`` is empty, what is hidden is shown. Raises what `write` raises."""
    write("\t".join("" if value is None else escape(str(value)) for value in values) + "\n")


def message(text: str) -> None:
    """Say something beside the output, on standard error. Where nobody can hear it, it is not said."""
    with suppress(OSError, ValueError):
        sys.stderr.write(escape(text) + "\n")
        sys.stderr.flush()


def show_error(error: IssueCoreError) -> None:
    """Say what went wrong, and what to do next."""
    first, *more = error.message.split("\n")
    message(f"issue: {first}")
    for text in more:
        message(f"  {text}")
    if error.hint:
        message(f"hint: {error.hint}")


def finish(code: int) -> int:
    """Hand on what is left to write; gives the exit code, which is ``code`` if that went well."""
    try:
        flush()
    except ReaderGone:
        _give_up_output()
        return EXIT_READER_GONE
    except IssueCoreError as failed:
        _give_up_output()
        if code == 0:
            show_error(failed)
        return code or failed.exit_code
    return code


def _give_up_output() -> None:
    # The interpreter flushes once more at its end, and would complain.
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def on_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def show(*renderables: RenderableType, stream: TextIO | None = None) -> None:
    """Print what rich can print, to standard output unless told otherwise. Raises what :func:`write` raises."""
    from rich.console import Console

    with _writing():
        Console(file=stream or sys.stdout, highlight=False, emoji=False, markup=False).print(*renderables, sep="\n")


STYLES: Mapping[str, str] = {
    "pending": "yellow",
    "synced": "green",
    "failed": "bold red",
    "held": "dim",
    "elsewhere": "dim",
    "high": "bold red",
    "low": "dim",
    "conflict": "magenta",
    "invalid": "red",
    "open": "yellow",
    "replayed": "green",
    "dropped": "dim",
}
"""The colour of each word that stands for a state, a priority or an outcome."""


def styled(value: object, style: str | None = None) -> Any:
    """``value`` as text for rich, with no markup in it and what is hidden shown; words in :data:`STYLES` in colour."""
    from rich.text import Text

    text = "" if value is None else escape(str(value))
    return Text(text, style=style or STYLES.get(text, ""))
