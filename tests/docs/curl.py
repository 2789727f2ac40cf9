"""A stand-in for ``curl``, for machines that have none: the few of its options that the pages use, the same output.

Run as a program it is that ``curl``; :func:`stand_in` puts it into a folder for the path.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit


def stand_in(folder: Path) -> Path:
    """Write ``curl`` into ``folder``, which is made, and give the folder."""
    folder.mkdir()
    program = folder / "curl"
    program.write_text(f"#!{sys.executable}\n{Path(__file__).read_text(encoding='utf-8')}", encoding="utf-8")
    program.chmod(0o755)
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-i", action="store_true", help="the head too")
    parser.add_argument("-H", action="append", default=[], dest="headers")
    parser.add_argument("-o", dest="output")
    parser.add_argument("-w", default="", dest="after")
    parser.add_argument("--data-binary", dest="body")
    parser.add_argument("--retry", type=int, default=0)
    parser.add_argument("--retry-connrefused", action="store_true")
    parser.add_argument("url")
    return parser.parse_args()


def _asked(options: argparse.Namespace) -> http.client.HTTPResponse:
    for left in reversed(range(options.retry + 1)):
        try:
            return _asked_once(options)
        except ConnectionRefusedError:
            if not left or not options.retry_connrefused:
                raise
        time.sleep(0.2)
    raise ValueError("--retry is at least 0")


def _asked_once(options: argparse.Namespace) -> http.client.HTTPResponse:
    parts = urlsplit(options.url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    body = Path(options.body.removeprefix("@")).read_bytes() if options.body else None
    headers = dict(header.split(": ", 1) for header in options.headers)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
        # So that the answer, which outlives the connection here, is read to its end.
        connection.request("POST" if body else "GET", target, body, headers | {"Connection": "close"})
        return connection.getresponse()


def main() -> None:
    """Ask once, and print the answer as curl does."""
    options = _options()
    with _asked(options) as answer:
        body = answer.read()
    out = sys.stdout.buffer
    if options.i:
        fields = [f"{name}: {value}" for name, value in answer.getheaders()]
        out.write("\r\n".join([f"HTTP/1.1 {answer.status} {answer.reason}", *fields, "", ""]).encode())
    if options.output is None:
        out.write(body)
    out.write(options.after.replace("\\n", "\n").replace("%{http_code}", str(answer.status)).encode())


if __name__ == "__main__":
    main()
