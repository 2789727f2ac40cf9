"""A progress bar on standard error, for input that takes a while and a person who waits for it."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from issue_core.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.progress import Progress

    from issue_core.transports.stream import Input

    Advanced = Callable[[Input, int, Mapping[str, int]], None]

_LARGE = 8 * 1024 * 1024  # bytes of input for which the bar is there from the start
_PATIENCE = 2.0  # seconds after which it is there for any input


@contextmanager
def progress(sizes: Sequence[int | None]) -> Iterator[Advanced]:
    """A function to call with the input that is being read, how much of it was read, and the outcomes so far.

    ``sizes`` are the inputs' sizes in bytes, where they have one. The bar is shown when the input is large or takes
    long, and standard error is a terminal.
    """
    if not output.is_watched():
        yield lambda source, read, counts: None
        return
    bar = _Bar(sum(size for size in sizes if size) if all(sizes) else None)
    try:
        yield bar.advanced
    finally:
        bar.stop()


class _Bar:
    """rich's bar, made when it is first worth showing: rich costs as much to import as many inputs take."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._due = time.monotonic() + (0 if total and total > _LARGE else _PATIENCE)
        self._read: dict[str, int] = {}
        self._shown: Progress | None = None

    def advanced(self, source: Input, read: int, counts: Mapping[str, int]) -> None:
        """So much of ``source`` was read, and these are the outcomes so far."""
        self._read[source.name] = read
        if self._shown is None:
            if time.monotonic() < self._due:
                return
            self._shown = _new(self._total)
        received = sum(counts.values())
        rejected = _rejected(counts["conflict"] + counts["invalid"])
        task = self._shown.tasks[0]
        rate = received / max(task.elapsed or 0, 0.001)
        self._shown.update(task.id, completed=sum(self._read.values()), received=received, rejected=rejected, rate=rate)
        self._shown.refresh()

    def stop(self) -> None:
        """Take the bar away."""
        if self._shown is not None:
            self._shown.stop()


def _rejected(n: int) -> str:
    """How many were rejected, as rich's markup: in colour once there is one."""
    text = f"{n:,} rejected"
    return f"[{output.STYLES['invalid']}]{text}[/]" if n else text


def _new(total: int | None) -> Progress:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    shown = Progress(
        BarColumn(bar_width=20),
        DownloadColumn(),
        TextColumn("{task.fields[received]:,} TaskSpecs, {task.fields[rate]:,.0f}/s"),
        TextColumn("{task.fields[rejected]}"),
        TimeRemainingColumn(compact=True),
        console=output.console(sys.stderr),
        auto_refresh=False,
        transient=True,
        # What goes to a file or a pipe must not pass through the bar.
        redirect_stdout=sys.stdout.isatty(),
    )
    shown.add_task("", total=total, received=0, rejected=_rejected(0), rate=0.0)
    shown.start()
    return shown
