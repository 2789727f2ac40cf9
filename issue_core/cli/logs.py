"""What is said on standard error for whoever asks for more of it, or for a program that reads it.

As text, or with ``--log-format json`` as one JSON object a line: ``at``, ``level``, ``run`` (this process, as the
history rows have it too), ``event``, ``message`` where there are words, and what belongs to the event. Nothing here
is ever a secret: commands hand over what they have done, never what they were given to do it with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from issue_core.cli import output
from issue_core.ledger import RUN
from issue_core.task import to_text


def as_json(level: str, event: str, text: str | None, told: Mapping[str, Any]) -> str:
    """One event as one line of JSON."""
    said = {} if text is None else {"message": text}
    return output.to_json({"at": _now(), "level": level, "run": RUN, "event": event, **said, **told})


def as_text(event: str, told: Mapping[str, Any]) -> str:
    """One event as a person reads it; what is not known is left out."""
    words = (f"{name}={_word(value)}" for name, value in told.items() if value is not None)
    return output.escape(" ".join((_now(), RUN, event, *words)))


def _word(value: object) -> str:
    if isinstance(value, str) and value.isprintable() and value and not set(value) & set(" \"='"):
        return value
    return output.to_json(value)


def _now() -> str:
    return to_text(datetime.now(UTC))


class _Requests(logging.Handler):
    """What urllib3 tells of each request: method, path, status. No header, and so no credentials."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        output.detail("http", said=record.getMessage())


def hear_requests() -> None:
    """Say each request to a tracker."""
    logger = logging.getLogger("urllib3.connectionpool")
    logger.handlers = [_Requests()]
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
