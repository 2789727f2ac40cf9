"""A headless Chromium, told what to do over a pipe (DevTools protocol: NUL-ended JSON on descriptors 3 and 4)."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0
"""Seconds in which the browser must answer, on a slow machine."""

# A shell's redirections take one digit alone. The copies keep clear of 3 and 4, which either pipe may have.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_TOLD = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Audits.issueAdded")


def missing() -> str | None:
    """Why there can be no browser here and what to do about it; ``None`` where there can be one."""
    if any(map(shutil.which, PROGRAMS)):
        return None
    return "no browser to test with. On Debian 12, as root: apt-get install --no-install-recommends chromium"


@dataclass(slots=True)
class Tab:
    """One tab: what it is asked, and all complaints that it made (console, errors, what a policy forbade)."""

    reader: int
    writer: int
    session: str | None = None
    complaints: list[dict[str, Any]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    _asked: int = 0
    _read: bytes = b""

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command; gives its result."""
        self._asked += 1
        message: dict[str, Any] = {"id": self._asked, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._asked:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str, *, width: int, dark: bool, script: bool = True) -> None:
        """Show a page at so many CSS pixels of width, and wait until it is there."""
        self.ask("Emulation.setScriptExecutionDisabled", value=not script)
        phone = width < 700
        shape = {"width": width, "height": 800, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.ask("Emulation.setDeviceMetricsOverride", **shape)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[theme])
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self._wait_for_load()

    def submit(self) -> None:
        """Press the return key, and wait for the page that it leads to."""
        self.events.clear()
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **key)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **key)
        self._wait_for_load()

    def _wait_for_load(self) -> None:
        while "Page.loadEventFired" not in self.events:
            self._note(self._next())

    def widths(self) -> tuple[float, float]:
        """The width of what the page holds, and of the window, in CSS pixels."""
        metrics = self.ask("Page.getLayoutMetrics")
        return metrics["cssContentSize"]["width"], metrics["cssLayoutViewport"]["clientWidth"]

    def background(self) -> str:
        """The colour behind the page, as the browser works it out."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        body = self.ask("DOM.querySelector", nodeId=root, selector="body")["nodeId"]
        styles = self.ask("CSS.getComputedStyleForNode", nodeId=body)["computedStyle"]
        return next(str(each["value"]) for each in styles if each["name"] == "background-color")

    def find(self, selector: str) -> int:
        """How many elements the page has that match."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        return len(self.ask("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"])

    def screenshot(self, path: Path) -> None:
        """Write all of the page to ``path``, as PNG."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            if not select.select([self.reader], [], [], PATIENCE)[0]:
                raise RuntimeError("the browser does not answer")
            if not (read := os.read(self.reader, 1 << 20)):
                raise RuntimeError("the browser has ended")
            self._read += read
        message, self._read = self._read.split(b"\0", 1)
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def _note(self, message: dict[str, Any]) -> None:
        if method := message.get("method"):
            self.events.append(method)
        if method in _TOLD:
            self.complaints.append(message["params"])


@contextmanager
def running(folder: Path) -> Iterator[Tab]:
    """A browser with one tab and a profile in ``folder``; it is ended at the end.

    Raises:
        RuntimeError: it could not be started.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    options = ["--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"]
    options += [f"--user-data-dir={folder}", "--hide-scrollbars", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with (folder / "browser.log").open("wb") as log:
        browser = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), program, *options, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=log,
            stderr=log,
        )
    for theirs in (theirs_in, theirs_out):
        os.close(theirs)
    try:
        yield _attached(Tab(ours_in, ours_out))
    finally:
        for ours in (ours_in, ours_out):
            os.close(ours)  # which is how the browser is told to end
        with suppress(subprocess.TimeoutExpired):
            browser.wait(timeout=10)
        if browser.poll() is None:
            browser.kill()
            browser.wait()


def _attached(tab: Tab) -> Tab:
    target = tab.ask("Target.createTarget", url="about:blank")["targetId"]
    tab.session = tab.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "DOM", "CSS", "Log", "Runtime", "Audits"):
        tab.ask(f"{domain}.enable")
    return tab
