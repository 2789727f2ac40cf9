"""A real browser shows the page for people as it is meant: on a phone and a wide screen, in both themes, unscripted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from issue_core.config import BackendSettings, Settings
from issue_core.ledger import Ledger
from issue_core.transports.http.page import CONTENT_SECURITY_POLICY, page
from tests.real import chromium
from tests.support import busy_ledger
from tests.support.clock import MovedClock

pytestmark = pytest.mark.real

WIDTHS = (360, 768, 1600)
VIEWS = {"overview": "/", "task": "/?find=17", "lost": "/?find=cafe0000"}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    if reason := chromium.missing():
        pytest.skip(reason)
    with chromium.running(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@contextmanager
def served(path: Path, clock: MovedClock, *, more: str = "") -> Iterator[str]:
    """The page of the ledger at ``path``, and ``more``, with its policy, on a port of its own; gives the address."""
    backends = {name: BackendSettings(name, "gitea") for name in ("work", "desk")}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = urlsplit(self.path)
            found = parse_qs(wanted.query).get("find", [""])[0]
            with Ledger(path, clock=clock) as ledger:
                document = page(ledger, Settings(path, backends=backends), find=found, now=clock.now())
            body = (document + more).encode()
            self.send_response(200 if wanted.path == "/" else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("busy") / "ledger.db"
    clock = MovedClock()
    with Ledger(path, clock=clock) as ledger:
        busy_ledger.fill(ledger, clock)
    with served(path, clock) as url:
        yield url


def shows(tab: chromium.Tab, url: str, *, width: int, dark: bool) -> None:
    """The page fits in the width, wears the theme that was asked for, and the browser has nothing to say about it."""
    tab.complaints.clear()
    tab.open(url, width=width, dark=dark)
    content, window = tab.widths()
    assert (content, window) == (width, width)
    assert tab.background() == ("rgb(21, 20, 19)" if dark else "rgb(250, 249, 247)")
    assert tab.complaints == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("view", VIEWS)
def test_the_page_fits_and_breaks_no_rule(
    tab: chromium.Tab, busy: str, view: str, width: int, dark: bool, tmp_path: Path
) -> None:
    shows(tab, busy + VIEWS[view], width=width, dark=dark)
    tab.screenshot(tmp_path / f"{view}-{width}-{'dark' if dark else 'light'}.png")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_an_empty_ledger_fits_too(tab: chromium.Tab, width: int, dark: bool, tmp_path: Path) -> None:
    with served(tmp_path / "none.db", MovedClock()) as url:
        shows(tab, url + "/", width=width, dark=dark)
    tab.screenshot(tmp_path / f"empty-{width}-{'dark' if dark else 'light'}.png")


def test_a_search_is_sent_and_answered_without_scripts(tab: chromium.Tab, busy: str) -> None:
    tab.complaints.clear()
    tab.open(busy + "/", width=1600, dark=False, script=False)
    assert tab.find("table.tasks tbody tr") == 50
    root = tab.ask("DOM.getDocument")["root"]["nodeId"]
    field = tab.ask("DOM.querySelector", nodeId=root, selector="input[name=find]")["nodeId"]
    tab.ask("DOM.focus", nodeId=field)
    tab.ask("Input.insertText", text="17")
    tab.submit()
    assert tab.find("section.task") == 1
    assert tab.find("script") == 0
    assert tab.complaints == []


@pytest.mark.parametrize(
    "more", ["<script>document.title = 1</script>", "<style>body{color:red}</style>", "<img src=/x.png>"]
)
def test_the_policy_forbids_what_the_page_does_not_hold(tab: chromium.Tab, more: str, tmp_path: Path) -> None:
    tab.complaints.clear()
    with served(tmp_path / "none.db", MovedClock(), more=more) as url:
        tab.open(url + "/", width=1600, dark=False)
    assert any("Content Security Policy" in str(each) for each in tab.complaints)
