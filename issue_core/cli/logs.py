"""What is said on standard error for whoever asks for more of it, or for a program that reads it.

As text, or with ``--log-format json`` as one JSON object a line: ``at``, ``level``, ``run`` (this process, as the
history rows have it too), ``event``, ``message`` where there are words, and what belongs to the event. Nothing here
is ever a secret: commands hand over what they have done, never what they were given to do it with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from issue_core.ledger import RUN
from issue_core.task import to_text
from issue_core.visible import escape, to_json


def as_json(level: str, event: str, text: str | None, told: Mapping[str, Any]) -> str:
    """One event as one line of JSON."""
    said = {} if text is None else {"message": text}
    return to_json({"at": _now(), "level": level, "run": RUN, "event": event, **said, **told})


def as_text(event: str, told: Mapping[str, Any]) -> str:
    """One event as a person reads it; what is not known is left out."""
    words = (f"{name}={_word(value)}" for name, value in told.items() if value is not None)
    return escape(" ".join((_now(), RUN, event, *words)))


def _word(value: object) -> str:
    if isinstance(value, str) and value.isprintable() and value and not set(value) & set(" \"='"):
        return value
    return to_json(value)


def _now() -> str:
    return to_text(datetime.now(UTC))


class _Requests(logging.Handler):
    """What urllib3 tells of each request: method, path, status. No header, and so no credentials."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        self._hear(record.getMessage())


def hear_requests(hear: Callable[[str], None]) -> None:
    """From here on, ``hear`` is told of each request to a tracker."""
    logger = logging.getLogger("urllib3.connectionpool")
    logger.handlers = [_Requests(hear)]
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
