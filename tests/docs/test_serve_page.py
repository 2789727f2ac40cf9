from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from issue_core.config.settings import ServeSettings
from tests.docs.pages import ROOT, blocks, rows_under
from tests.support.cli import Issue, a_spec
from tests.support.serving import KEY, serving

PAGE = ROOT / "docs" / "serve.md"
BOUNDS = ("max_connections", "max_body", "head_timeout", "body_timeout", "idle_timeout", "busy_timeout")

Send = Callable[..., Any]


@pytest.fixture
def send() -> Send:
    """The sender that the page shows."""
    [shown] = blocks(PAGE, "python")
    namespace: dict[str, Any] = {}
    exec(compile(shown.text, str(PAGE), "exec"), namespace)  # noqa: S102 - the page's own program
    sender: Send = namespace["send"]
    return sender


def test_the_sender_shown_stores_each_taskspec_once_and_gives_every_receipt(send: Send, tmp_path: Path) -> None:
    with serving(Issue(tmp_path)) as server:
        sent = [a_spec(1), a_spec(1), a_spec(1, title="Another"), {"no": "spec"}]
        receipts = [send(f"{server.url}/issues", spec, KEY) for spec in sent]

        assert [r["outcome"] for r in receipts] == ["created", "duplicate", "conflict", "invalid"]
        with pytest.raises(HTTPError, match="401") as refused:
            send(f"{server.url}/issues", a_spec(2), "another key")
        refused.value.close()


def test_the_sender_shown_sends_again_where_nothing_was_promised(send: Send) -> None:
    with scripted(503, 408, None, 500, 502, 504, 201) as (url, asked):
        assert send(url, a_spec(1), KEY) == {}
        assert asked == [503, 408, None, 500, 502, 504, 201]


def test_the_sender_shown_gives_up_after_its_tries(send: Send) -> None:
    with scripted(503, 503, 201) as (url, asked):
        with pytest.raises(HTTPError, match="503") as refused:
            send(url, a_spec(1), KEY, tries=2)
        refused.value.close()
        assert asked == [503, 503]


@contextmanager
def scripted(*statuses: int | None) -> Iterator[tuple[str, Sequence[int | None]]]:
    """A server that answers with these statuses, one after another; None: it hangs up. Gives what it has answered."""
    left, asked = list(statuses), list[int | None]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status = left.pop(0)
            asked.append(status)
            if status is None:
                return
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/issues", asked
        finally:
            server.shutdown()
            thread.join()


def test_the_limits_shown_are_those_of_the_settings_with_their_defaults() -> None:
    documented = {cells[0].strip("`"): ast.literal_eval(cells[1].strip("`")) for cells in rows_under(PAGE, "Limits")}
    defaults = {field.name: field.default for field in fields(ServeSettings)}

    assert documented == {name: defaults[name] for name in BOUNDS}


def test_every_key_of_the_server_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert [field.name for field in fields(ServeSettings) if field.name not in text] == []
