"""What goes back: an answer, and errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import IO, Any

from pydantic_core import to_json

JSON = "application/json"
PROBLEM = "application/problem+json"
NDJSON = "application/x-ndjson"
HTML = "text/html; charset=utf-8"

_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    422: "Unprocessable Content",
}
_NO_BODY = (204,)
_FIXED = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"


@dataclass(slots=True)
class Answer:
    """One answer. ``body`` is bytes, or a file of ``length`` bytes that is read from its beginning and closed.

    ``told`` is what the access log says beside the request (which key, which outcome); ``route`` is the metrics' name
    for what was asked.
    """

    status: int
    body: bytes | IO[bytes] = b""
    media_type: str | None = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    route: str = "none"

    def size(self) -> int:
        """The length of the body in bytes."""
        return len(self.body) if isinstance(self.body, bytes) else (self.length or 0)

    def head(self, *, http_1_1: bool, keep_alive: bool) -> bytes:
        """The status line and the headers, up to the empty line."""
        text = f"HTTP/1.1 {self.status} {_PHRASES[self.status]}\r\n{_common()}"
        if self.status not in _NO_BODY:
            text += f"Content-Type: {self.media_type}\r\nContent-Length: {self.size()}\r\n"
        for name, value in self.headers.items():
            text += f"{name}: {value}\r\n"
        if not keep_alive:
            text += "Connection: close\r\n"
        elif not http_1_1:
            text += "Connection: keep-alive\r\n"
        return f"{text}\r\n".encode("latin-1")


class HttpError(Exception):
    """A request that cannot be answered as it asks: a status, what is wrong, headers."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def answer(self) -> Answer:
        """The error as it is answered."""
        return problem(self.status, self.detail, headers=self.headers)


def problem(
    status: int,
    detail: str,
    members: Mapping[str, Any] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    told: Mapping[str, Any] | None = None,
) -> Answer:
    """An error for the program that sent the request and the person who reads its log, with ``members`` of our own."""
    shown = {"type": "about:blank", "title": _PHRASES[status], "status": status, "detail": detail, **(members or {})}
    return Answer(status, encoded(shown), PROBLEM, headers or {}, told=told or {})


def own_fault() -> Answer:
    """The answer where the fault is issue-core's own."""
    return problem(500, "a fault of issue-core's own; its log has the details")


def encoded(value: object) -> bytes:
    """``value`` as JSON on one line, without the line's end."""
    return to_json(value)


_common_now = (0, "")


def _common() -> str:
    """The headers that every answer has; the time in them (RFC 9110 §5.6.7) is made once a second."""
    global _common_now
    now = int(time.time())
    if _common_now[0] != now:
        date = formatdate(now, usegmt=True)
        _common_now = (now, f"Date: {date}\r\nServer: issue-core\r\n{_FIXED}")
    return _common_now[1]
