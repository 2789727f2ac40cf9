"""What was done is told also where it cannot be told on standard output: whoever does not know it does it again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def told_all_the_same(done: Callable[[], str]) -> Iterator[None]:
    """An error in the block, or when its output is handed on at its end, is told with what was ``done``, if anything.

    Raises what the block raises, and what ``output.flush`` does.
    """
    from issue_core.cli import output
    from issue_core.errors import IssueCoreError

    try:
        yield
        output.flush()
    except IssueCoreError as error:
        if not (what := done()):
            raise
        raise type(error)(f"{error.message}\n{what}", hint=error.hint) from error
