"""One request off a connection, read strictly (RFC 9110, RFC 9112) and against the clock.

What two readers could take in two ways is refused, for whoever stands before us may have taken it in the other:
two lengths, a length beside chunks, white space before a colon, folded lines, a bare CR or LF.
"""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from issue_core.transports.http.answers import HttpError

LONGEST_LINE = 8 * 1024
"""Bytes of a request line."""

LONGEST_HEAD = 32 * 1024
"""Bytes of a request's line and headers together."""

MOST_HEADERS = 100

SLOWEST = 16 * 1024
"""Bytes a second at which a body must come, on the whole, once its first time is over."""

_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/(\d)\.(\d)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]*))(?::[0-9]*)?", re.ASCII)
_AUTHORITY = re.compile(r"https?://([^/?#]*)(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)
_PIECE = 64 * 1024
_LONGEST_CHUNK_LINE = 1024


class Times(NamedTuple):
    """Seconds that a client may take: to begin its next request, to send a head, to send a body or take an answer."""

    idle: float
    head: float
    body: float


class Gone(Exception):
    """The client has closed the connection, never began another request, or does not take its answer."""


@dataclass(slots=True, eq=False)
class Stream:
    """The bytes of one connection, both ways.

    The socket itself waits for as long as it takes. ``deadline`` (``time.monotonic``) says until when: whoever watches
    over the connections hangs up on those that :meth:`is_late` names. So a wait with an end costs no call of its own.
    """

    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    deadline: float = math.inf
    late: bool = False

    def fill(self) -> None:
        """Read what comes next into the buffer.

        Raises:
            TimeoutError: nothing came before the deadline.
            Gone: the client has closed.
        """
        try:
            data = self.socket.recv(_PIECE)
        except OSError:
            data = b""
        if not data:
            raise self._end()
        self.buffer += data

    def _end(self) -> Exception:
        return TimeoutError() if self.late else Gone()

    def send(self, data: bytes | memoryview, seconds: float) -> None:
        """Write all of ``data``, each 64 KiB of it within ``seconds``.

        Raises:
            Gone: the client has closed, or does not take it in time.
        """
        view = memoryview(data)
        try:
            for at in range(0, len(view), _PIECE):
                self.deadline = time.monotonic() + seconds
                self.socket.sendall(view[at : at + _PIECE])
        except OSError:
            raise Gone from None
        self.deadline = math.inf

    def is_late(self, now: float) -> bool:
        """Whether the deadline is over; then whoever reads is told so, once the connection is hung up."""
        if self.deadline >= now:
            return False
        self.late = True
        return True

    def hang_up(self, how: int) -> None:
        """End one direction or both, from whatever thread; whoever waits on the socket hears of it."""
        with suppress(OSError):  # the client may be faster
            socket.socket.shutdown(self.socket, how)


@dataclass(slots=True)
class Request:
    """One request's head. ``headers`` have lower-case names; ``target`` is as it was sent; ``length`` is None where
    the body comes in chunks."""

    method: str
    target: str
    path: str
    query: str
    headers: Mapping[str, str]
    host: str | None
    http_1_1: bool
    keep_alive: bool
    length: int | None
    has_framing: bool

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        return self.http_1_1 and self.headers.get("expect", "").lower() == "100-continue"


def read_head(stream: Stream, times: Times, begun: Callable[[], None]) -> Request:
    """The next request's head; ``begun`` is called when its first byte is there.

    Raises:
        Gone: the connection ended, or stayed idle too long.
        HttpError: it is no request that can be answered; the connection must be closed after the answer.
    """
    buffer = stream.buffer
    stream.deadline = time.monotonic() + times.idle
    started = False
    searched = 0
    while True:
        while not started and buffer[:2] == b"\r\n":  # RFC 9112 §2.2: an empty line before a request is nothing
            del buffer[:2]
        if buffer and not started and buffer != b"\r":
            started = True
            begun()
            stream.deadline = time.monotonic() + times.head
        end = buffer.find(b"\r\n\r\n", searched)
        if end >= 0:
            break
        searched = max(0, len(buffer) - 3)
        _refuse_long(buffer, len(buffer))
        try:
            stream.fill()
        except TimeoutError:
            if not started:
                raise Gone from None
            raise HttpError(408, "the head of the request did not come in time") from None
    _refuse_long(buffer, end)
    head = bytes(buffer[:end])
    del buffer[: end + 4]
    return _parsed(head)


def _refuse_long(buffer: bytearray, end: int) -> None:
    line = buffer.find(b"\r\n", 0, LONGEST_LINE + 2)
    if (line < 0 and end > LONGEST_LINE) or line > LONGEST_LINE:
        raise HttpError(414, f"the request's first line is longer than {LONGEST_LINE:,} bytes")
    if end > LONGEST_HEAD:
        raise HttpError(431, f"the headers are longer than {LONGEST_HEAD:,} bytes")


def _parsed(head: bytes) -> Request:
    first, *lines = head.split(b"\r\n")
    found = _REQUEST_LINE.fullmatch(first)
    if not found:
        raise HttpError(400, "the first line is no request of HTTP/1.1")
    if found[3] != b"1":
        raise HttpError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    http_1_1 = found[4] != b"0"
    if len(lines) > MOST_HEADERS:
        raise HttpError(431, f"more than {MOST_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, value = _header(line)
        if name in headers:
            if name in ("host", "content-length", "transfer-encoding", "content-type", "authorization", "x-api-key"):
                raise HttpError(400, f"the header {name} is given twice")
            headers[name] += f", {value}"
        else:
            headers[name] = value
    target = found[2].decode("ascii")
    host = headers.get("host")
    if host is None and http_1_1:
        raise HttpError(400, "an HTTP/1.1 request needs a Host header")
    if absolute := _AUTHORITY.fullmatch(target):
        host, target = absolute[1], absolute[2] or "/"
    path, _, query = target.partition("?")
    has_framing, length = _framing(headers, http_1_1=http_1_1)
    return Request(
        found[1].decode("ascii"),
        target,
        _decoded(path),
        query,
        headers,
        None if host is None else _host(host),
        http_1_1,
        _keeps_alive(headers, http_1_1=http_1_1),
        length,
        has_framing,
    )


def _header(line: bytes) -> tuple[str, str]:
    found = _HEADER.fullmatch(line)
    if not found:
        raise HttpError(400, "a header is malformed")
    return found[1].decode("ascii").lower(), found[2].strip(b" \t").decode("latin-1")


def _decoded(path: str) -> str:
    if "%" not in path:
        return path
    raw = unquote_to_bytes(path)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise HttpError(400, "the path is not UTF-8") from None


def _host(host: str) -> str:
    """The name in a Host header, in lower case, without port and brackets."""
    found = _HOST.fullmatch(host)
    if not found:
        raise HttpError(400, "the Host header is malformed")
    return (found[1] or found[2] or "").lower()


def _framing(headers: Mapping[str, str], *, http_1_1: bool) -> tuple[bool, int | None]:
    """Whether the request says how long its body is, and the length in bytes; None: it comes in chunks."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise HttpError(400, "a length and a transfer coding exclude each other")
        if not http_1_1:
            raise HttpError(400, "HTTP/1.0 has no transfer coding")
        if coding.lower() != "chunked":
            raise HttpError(501, "the one transfer coding that is understood is chunked")
        return True, None
    if length is None:
        return False, 0
    if not _LENGTH.fullmatch(length.encode("latin-1")):
        raise HttpError(400, "Content-Length must be one whole number")
    return True, int(length)


def _keeps_alive(headers: Mapping[str, str], *, http_1_1: bool) -> bool:
    options = headers.get("connection")
    if options is None:
        return http_1_1
    wanted = {option.strip().lower() for option in options.split(",")}
    return "close" not in wanted and (http_1_1 or "keep-alive" in wanted)


def body_of(stream: Stream, request: Request, times: Times, most: int) -> Iterator[bytes]:
    """The body, piece by piece, of ``most`` bytes or less.

    Raises:
        Gone: the client has closed before its end.
        HttpError: 408, 413, or 400 where the chunks are malformed; the connection must be closed after the answer.
    """
    if (request.length or 0) > most:
        raise too_large(most)
    if request.expects_continue and not stream.buffer:
        stream.send(b"HTTP/1.1 100 Continue\r\n\r\n", times.body)
    stream.deadline = time.monotonic() + times.body
    if request.length is None:
        return _chunks(stream, most)
    return _exactly(stream, request.length)


def too_large(most: int) -> HttpError:
    """The answer to a body of more than ``most`` bytes."""
    return HttpError(
        413, f"the body is larger than {most:,} bytes (max_body in the section [serve] of the configuration)"
    )


def _fill(stream: Stream) -> None:
    """Read more of a body; the more of it has come, the longer it may take."""
    before = len(stream.buffer)
    try:
        stream.fill()
    except TimeoutError:
        raise HttpError(408, "the body did not come in time") from None
    stream.deadline += (len(stream.buffer) - before) / SLOWEST


def _exactly(stream: Stream, left: int) -> Iterator[bytes]:
    while left:
        if not stream.buffer:
            _fill(stream)
        piece = bytes(stream.buffer[:left])
        del stream.buffer[: len(piece)]
        left -= len(piece)
        yield piece


def _chunks(stream: Stream, most: int) -> Iterator[bytes]:
    while size := _chunk_size(_line(stream)):
        most -= size
        if most < 0:
            raise HttpError(413, "the body is too large (max_body in the section [serve] of the configuration)")
        yield from _exactly(stream, size)
        if _line(stream):
            raise HttpError(400, "a chunk is longer than it says")
    trailers = 0
    while line := _line(stream):
        _header(line)
        trailers += 1
        if trailers > MOST_HEADERS:
            raise HttpError(431, f"more than {MOST_HEADERS} trailers")


def _chunk_size(line: bytes) -> int:
    found = _CHUNK.fullmatch(line)
    if not found:
        raise HttpError(400, "the length of a chunk is malformed")
    return int(found[1], 16)


def _line(stream: Stream) -> bytes:
    """A line of a chunked body, without its CRLF."""
    while (end := stream.buffer.find(b"\n")) < 0:
        if len(stream.buffer) > _LONGEST_CHUNK_LINE:
            raise HttpError(400, "a line between chunks is too long")
        _fill(stream)
    line = bytes(stream.buffer[:end])
    del stream.buffer[: end + 1]
    if end > _LONGEST_CHUNK_LINE or not line.endswith(b"\r") or b"\r" in line[:-1]:
        raise HttpError(400, "a line between chunks is malformed")
    return line[:-1]
