"""Which path answers what, for whom: the one table behind the server, its description and its 405s."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from issue_core.config import Settings
from issue_core.errors import IssueCoreError, LedgerBusy, LedgerError
from issue_core.group_commit import GroupCommit
from issue_core.ledger import Ledger
from issue_core.transports.http import intake, openapi, reading
from issue_core.transports.http.answers import HTML, Answer, HttpError, encoded, own_fault, problem
from issue_core.transports.http.keys import Keys
from issue_core.transports.http.last_look import LastLook
from issue_core.transports.http.readers import Readers
from issue_core.transports.http.wire import Request
from issue_core.transports.metrics import CONTENT_TYPE, Durations, text

OPEN = ("/healthz", "/readyz")
"""What answers without a key: whoever watches over the process has none."""

BUSY_AGAIN, FULL_AGAIN = 5, 60
"""Seconds after which to try again, where the ledger is busy and where it cannot be written."""

ROOM_NEEDED = 16 * 1024 * 1024
"""Bytes that must be free on the ledger's disk for it to count as ready."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

READY_FOR = 1.0
"""Seconds that an answer of /readyz holds: whoever has no key costs no more than that."""

Body = Callable[[], Iterator[bytes]]
Later = Callable[[Answer], None]


class Asked(NamedTuple):
    """What a handler may need: the request, how to read its body, the name of the key that came with it, the rest of
    the path, and who may hear the answer later."""

    request: Request
    body: Body
    key: str | None
    rest: str
    done: intake.Done | None


@dataclass(slots=True)
class Application:
    """What answers requests. ``keys`` is None where nobody needs one; ``hosts`` are the names that a Host header may
    have, None: any. ``created`` is called when a task was stored."""

    settings: Settings
    group: GroupCommit
    readers: Readers
    probe: Ledger
    keys: Keys | None
    hosts: Collection[str] | None
    durations: Durations
    created: Callable[[], None]
    _readiness: LastLook[HttpError | None] = field(init=False)

    def __post_init__(self) -> None:
        """Nobody has asked yet."""
        self._readiness = LastLook(self._not_ready, seconds=READY_FOR, first=None)

    def answer(self, request: Request, body: Body, later: Later | None = None) -> Answer | None:
        """The answer to one request; or None, and ``later`` hears it when it is there, in whatever thread."""
        route, rest = _route_of(request.path)
        key: str | None = None

        def finished(outcome: Answer | IssueCoreError) -> Answer:
            answer = _failed(outcome) if isinstance(outcome, IssueCoreError) else outcome
            answer.route = route or "none"
            if key:
                answer.told = {"key": key, **answer.told}
            if answer.told.get("outcome") == "created" or answer.told.get("created"):
                self.created()
            return answer

        done = None if later is None else (lambda outcome: later(_surely(finished, outcome)))
        try:
            if self.keys is not None and route not in OPEN:
                key = self.keys.holder(request)
            self._require_host(request)
            _require_own_origin(request)
            answer = self._routed(route, Asked(request, body, key, rest, done))
        except HttpError as error:
            return finished(error.answer())
        except LedgerError as error:
            return finished(error)
        except OSError as error:
            return finished(_retry_later(f"no room for the body: {error.strerror}", FULL_AGAIN))
        return None if answer is None else finished(answer)

    def _require_host(self, request: Request) -> None:
        """Refuse a name that is not ours, with which a page in a browser may have been led here (DNS rebinding)."""
        if self.hosts is not None and request.host is not None and request.host not in self.hosts:
            raise HttpError(421, f"this server is not {request.host!r}: name it in hosts in the section [serve]")

    def _routed(self, route: str | None, asked: Asked) -> Answer | None:
        method = asked.request.method
        if asked.request.target == "*" and method == "OPTIONS":
            return _allowed(("GET", "HEAD", "OPTIONS", "POST"))
        if route is None:
            raise HttpError(404, f"there is nothing at {asked.request.path}")
        handlers = ROUTES[route]
        if method == "OPTIONS":
            return _allowed(methods_of(route))
        handler = handlers.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(methods_of(route))
            raise HttpError(405, f"{method} is not for {route}; there is: {allowed}", headers={"Allow": allowed})
        expectation = asked.request.headers.get("expect", "100-continue").lower()
        if expectation != "100-continue":
            raise HttpError(417, "the one expectation that can be met is 100-continue")
        return handler(self, asked)

    def post(self, asked: Asked) -> Answer | None:
        """Take what was posted."""
        return intake.take(self.group, asked.request, asked.body, asked.key, asked.done)

    def task(self, asked: Asked) -> Answer:
        """One task."""
        _no_query(asked.request)
        with self.readers.one() as ledger:
            return reading.one_task(ledger, asked.rest)

    def tasks(self, asked: Asked) -> Answer:
        """A page of tasks."""
        with self.readers.one() as ledger:
            return reading.page_of_tasks(ledger, asked.request.query)

    def alive(self, _: Asked) -> Answer:
        """That this process answers."""
        return Answer(200, encoded({"status": "alive"}))

    def ready(self, _: Asked) -> Answer:
        """Whether the ledger can be written now, and has room."""
        wrong = self._readiness.found()
        return wrong.answer() if wrong else Answer(200, encoded({"status": "ready"}))

    def _not_ready(self) -> HttpError | None:
        again = {"Retry-After": str(BUSY_AGAIN)}
        try:
            self.group.file.require()
            if self.group.failed:
                self.probe.prove()  # only a commit of something shows whether one succeeds again
            with self.probe.write():
                pass
        except LedgerError as error:
            return HttpError(503, f"the ledger cannot be written: {type(error).code}", headers=again)
        if shutil.disk_usage(self.probe.path.parent).free < ROOM_NEEDED:
            return HttpError(503, "the ledger's disk is full", headers=again)
        return None

    def measured(self, _: Asked) -> Answer:
        """The metrics, as Prometheus reads them."""
        with self.readers.one() as ledger:
            return Answer(200, text(ledger, self.durations).encode(), CONTENT_TYPE)

    def people(self, asked: Asked) -> Answer:
        """The page for people."""
        from issue_core.transports.http.page import CONTENT_SECURITY_POLICY, page

        find = reading.parameters(asked.request.query, {"find": str}).get("find", "")
        with self.readers.one() as ledger:
            shown = page(ledger, self.settings, find=find, now=ledger.clock.now())
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
        return Answer(200, shown.encode(), HTML, headers)

    def described(self, _: Asked) -> Answer:
        """The description of all this."""
        return Answer(200, openapi.document(keyed=self.keys is not None, strict=self.group.strict))


ROUTES: Mapping[str, Mapping[str, Callable[[Application, Asked], Answer | None]]] = {
    "/issues": {"GET": Application.tasks, "POST": Application.post},
    "/issues/{event_id}": {"GET": Application.task},
    "/": {"GET": Application.people},
    "/healthz": {"GET": Application.alive},
    "/readyz": {"GET": Application.ready},
    "/metrics": {"GET": Application.measured},
    "/openapi.json": {"GET": Application.described},
}
"""What there is. HEAD goes with GET, and OPTIONS with everything."""


def methods_of(route: str) -> list[str]:
    """The methods of a route, as ``Allow`` lists them."""
    own = ROUTES[route]
    return sorted({*own, "OPTIONS", *(["HEAD"] if "GET" in own else [])})


def _require_own_origin(request: Request) -> None:
    """Refuse what a page of another origin has a browser send: where no key is needed, it could make tasks.

    A browser names the origin with every POST (Fetch standard, "append a request Origin header"); programs name none.
    """
    origin = request.headers.get("origin")
    own = request.headers.get("host", "").lower()
    if origin is not None and request.method not in ("GET", "HEAD") and origin.lower().partition("://")[2] != own:
        raise HttpError(403, "a page of another origin may not send this")


def _route_of(path: str) -> tuple[str | None, str]:
    """The route of a path, and what stands in the place of its parameter."""
    if path in ROUTES and "{" not in path:
        return path, ""
    if path == "/issues/":
        return "/issues", ""
    if path.startswith("/issues/") and "/" not in path[8:]:
        return "/issues/{event_id}", path[8:]
    return None, ""


def _no_query(request: Request) -> None:
    reading.parameters(request.query, {})


def _allowed(methods: Collection[str]) -> Answer:
    return Answer(204, media_type=None, headers={"Allow": ", ".join(methods)})


def _surely(finished: Callable[[Answer | IssueCoreError], Answer], outcome: Answer | IssueCoreError) -> Answer:
    """The answer, whatever happens: whoever waits for it waits in vain otherwise."""
    try:
        return finished(outcome)
    except Exception:  # noqa: BLE001 - said in the log by whoever runs this, and to the client here
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        return own_fault()


def _failed(error: IssueCoreError) -> Answer:
    """Nothing was promised: the same request may be sent again, and what was stored of it is a duplicate then."""
    return _retry_later(error.message, BUSY_AGAIN if isinstance(error, LedgerBusy) else FULL_AGAIN)


def _retry_later(detail: str, seconds: int) -> Answer:
    return problem(503, f"{detail}; send it again later", headers={"Retry-After": str(seconds)})
