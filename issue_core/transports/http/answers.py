"""What goes back: an answer, and errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import IO, Any

JSON = "application/json"
PROBLEM = "application/problem+json"
NDJSON = "application/x-ndjson"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    422: "Unprocessable Content",
}
_NO_BODY = (204, 304)


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
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, '')}", f"Date: {_date()}", "Server: issue-core"]
        if self.status not in _NO_BODY:
            if self.media_type:
                lines.append(f"Content-Type: {self.media_type}")
            lines.append(f"Content-Length: {self.size()}")
        lines += ["Cache-Control: no-store", "X-Content-Type-Options: nosniff"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if not keep_alive:
            lines.append("Connection: close")
        elif not http_1_1:
            lines.append("Connection: keep-alive")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class HttpError(Exception):
    """A request that cannot be answered as it asks: a status, what is wrong, headers, and what the log says of it."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.told = told or {}

    def answer(self) -> Answer:
        """The error as it is answered."""
        return problem(self.status, self.detail, headers=self.headers, told=self.told)


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


def encoded(value: object) -> bytes:
    """``value`` as JSON on one line, without the line's end."""
    return _to_json(value).encode()


_to_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

_date_now = (0, "")


def _date() -> str:
    """The time as HTTP writes it (RFC 9110 §5.6.7), made once a second."""
    global _date_now
    now = int(time.time())
    if _date_now[0] != now:
        _date_now = (now, formatdate(now, usegmt=True))
    return _date_now[1]
