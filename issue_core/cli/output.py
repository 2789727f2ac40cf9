"""What people and machines read: text with nothing hidden in it, JSON lines, tab-separated values, tables in colour.

Standard output carries what was asked for, standard error everything else. Both are UTF-8, whatever the locale says.
rich is imported when something is shown on a terminal, and not before.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, TypeVar

from issue_core.errors import IssueCoreError
from issue_core.visible import escape as escape
from issue_core.visible import to_json as to_json

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console, RenderableType

T = TypeVar("T")

EXIT_READER_GONE = 141
"""128 and the number of SIGPIPE: what a shell shows for a program that writes to a pipe which nobody reads."""


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


class Log(NamedTuple):
    """How much is said on standard error (0: what matters, 1: each step, 2: everything), and whether as JSON."""

    verbosity: int = 0
    as_json: bool = False


_log = Log()


def log_as(*, verbosity: int | None = None, as_json: bool | None = None) -> None:
    """From here on, say so much, and so; what is None stays as it is."""
    global _log
    _log = Log(_log.verbosity if verbosity is None else verbosity, _log.as_json if as_json is None else as_json)
    if _log.verbosity > 1:
        from issue_core.cli.logs import hear_requests

        hear_requests(lambda said: detail("http", said=said))


def message(text: str) -> None:
    """Say something beside the output, on standard error. Where nobody can hear it, it is not said."""
    _say(said(text))


def said(text: str, *, multiline: bool = False) -> str:
    """``text`` as :func:`message` says it, without the end of the line; in ``multiline`` text line breaks stay."""
    if not _log.as_json:
        return escape(text, multiline=multiline)
    level = "warning" if text.startswith("warning: ") else "info"
    return _as_json(level, "message", text.removeprefix("warning: "))


def is_watched() -> bool:
    """Whether a person reads standard error."""
    return sys.stderr.isatty() and not _log.as_json


def note(event: str, **told: Any) -> None:
    """Tell of one step, for whoever said ``-v``."""
    _note(1, "info", event, told)


def detail(event: str, **told: Any) -> None:
    """Tell of something that only ``-vv`` shows."""
    _note(2, "debug", event, told)


def says_steps() -> bool:
    """Whether :func:`note` says anything: for what costs something to put together."""
    return _log.verbosity > 0


def says_details() -> bool:
    """Whether :func:`detail` says anything: for what costs something to put together."""
    return _log.verbosity > 1


def _note(verbosity: int, level: str, event: str, told: Mapping[str, Any]) -> None:
    if _log.verbosity < verbosity:
        return
    from issue_core.cli import logs

    _say(logs.as_json(level, event, None, told) if _log.as_json else logs.as_text(event, told))


def _as_json(level: str, event: str, text: str, **told: Any) -> str:
    from issue_core.cli import logs

    return logs.as_json(level, event, text, told)


def _say(text: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@contextmanager
def interrupted_says(how_far: Callable[[], str]) -> Iterator[None]:
    """A Ctrl-C in the block is told with these words."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how_far()) from None


def counted(each: Iterable[T], counts: Counter[str], what: str) -> Iterator[T]:
    """The same, counted under this name once it has been taken and the next one is asked for."""
    for item in each:
        yield item
        counts[what] += 1


def show_error(error: IssueCoreError) -> None:
    """Say what went wrong, and what to do next."""
    if _log.as_json:
        _say(_as_json("error", "error", error.message, code=error.code, hint=error.hint))
        return
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


def show(*renderables: RenderableType, stream: TextIO | None = None, soft_wrap: bool = False) -> None:
    """Print what rich can print, to standard output unless told otherwise. Raises what :func:`write` raises.

    ``soft_wrap``: long lines are the terminal's to break.
    """
    with _writing():
        console(stream or sys.stdout).print(*renderables, sep="\n", soft_wrap=soft_wrap)


def console(stream: TextIO) -> Console:
    """What draws on ``stream``. Without 256 colours it draws in none: a theme decides what the others look like."""
    from rich.console import Console

    new = Console(file=stream, highlight=False, emoji=False, markup=False)
    new.no_color = new.no_color or new.color_system not in ("256", "truecolor")
    return new


_GREEN, _ORANGE, _RED, _PURPLE, _BLUE = "color(28)", "color(130)", "color(160)", "color(163)", "color(27)"
# Of the 256 colours, which look the same everywhere, those in the middle between black and white: each has a contrast
# of almost 4:1 or more against either. A terminal's own yellow or green is hard to read on white, its blue on black.

STYLES: Mapping[str, str] = {
    "pending": _ORANGE,
    "synced": _GREEN,
    "failed": f"bold {_RED}",
    "held": _BLUE,
    "elsewhere": "dim",
    "high": f"bold {_RED}",
    "low": "dim",
    "conflict": _PURPLE,
    "invalid": _RED,
    "open": _ORANGE,
    "replayed": _GREEN,
    "dropped": "dim",
    "created": _GREEN,
    "adopted": _GREEN,
    "deferred": _ORANGE,
    "planned": _BLUE,
}
"""The colour of each word that stands for a state, a priority, an outcome or a result."""


def styled(value: object, style: str | None = None) -> Any:
    """``value`` as text for rich, with no markup in it and what is hidden shown; words in :data:`STYLES` in colour."""
    from rich.text import Text

    text = "" if value is None else escape(str(value))
    return Text(text, style=style or STYLES.get(text, ""))
