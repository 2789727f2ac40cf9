"""A tracker for tests that speaks HTTP: what all of the fake trackers share, and the faults that they can have.

One server is one tracker with its own issues, clock and moods. It is stateful: what was received is carried out, even
when the client is gone by then. A subclass adds the API of one product.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from issue_core.backends.markup.markdown import marker
from issue_core.config.secret import Secret
from tests.support.build import a_task
from tests.support.trackers.described import violations
from tests.support.trackers.wire import Answer, Fault, Listener, On, Request

__all__ = ["TOKEN_VARIABLE", "Answer", "Fault", "Made", "Request", "TrackerServer"]

TOKEN_VARIABLE = "ISSUE_CORE_TEST_TOKEN"  # noqa: S105 - the variable's name, not what is in it
"""The environment variable that holds the token while a server runs."""

POLL = 0.02
"""Seconds until the server notices that it is to stop, at most."""

_MARKER = re.compile(r"<!-- issue-core event=([0-9a-fA-F-]{36})")


@dataclass(slots=True)
class Made:
    """An issue in the tracker. ``made_at`` and ``seen_from`` (when lists show it) are by the tracker's clock."""

    number: int
    project: str
    title: str
    body: str
    labels: list[str]
    account: str
    made_at: datetime
    seen_from: datetime
    raw: dict[str, Any] = field(default_factory=dict)


class TrackerServer:
    """A tracker on 127.0.0.1, running as long as the ``with`` block; :data:`TOKEN_VARIABLE` is set meanwhile."""

    redirects: ClassVar[bool] = False
    """Whether this tracker redirects requests for a renamed project (``renamed``) to its new name."""

    descriptions: ClassVar[tuple[str, ...]] = ()
    """The API descriptions (``api/NAME.json``) that its requests and answers keep to; none: nothing is checked."""

    project: str = "acme/web"
    other_project: str = "acme/api"
    unknown_project: str = "acme/nowhere"
    account: str = "our-bot"
    stranger: str = "stranger"
    token: str = "s3cret-token"  # noqa: S105 - of a tracker that lives as long as a test

    def __init__(self) -> None:
        self.projects = {self.project, self.other_project}
        self.closed: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.issues: list[Made] = []
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lag = 0.0
        self.skew = timedelta()
        self.page_size: int | None = None
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self.bugs: list[BaseException] = []
        self._chance, self._dice = 0.0, random.Random(0)
        self._outer_token: str | None = None
        self._http = Listener(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(POLL,), daemon=True)

    def __enter__(self) -> Self:
        self._outer_token = os.environ.get(TOKEN_VARIABLE)
        os.environ[TOKEN_VARIABLE] = self.token
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        if self._outer_token is None:
            os.environ.pop(TOKEN_VARIABLE, None)
        else:
            os.environ[TOKEN_VARIABLE] = self._outer_token
        if self.bugs and error is None:
            raise AssertionError("the fake tracker itself failed") from self.bugs[0]

    # --- what a product adds ------------------------------------------------------------------------------------

    def route(self, request: Request) -> Answer:
        """Carry the request out, and answer it. It is called under :attr:`lock`."""
        raise NotImplementedError

    def is_create(self, request: Request) -> bool:
        """Whether the request makes an issue."""
        raise NotImplementedError

    def limited(self) -> list[tuple[Answer, float | None]]:
        """Each kind of answer with which this tracker limits its clients, and the seconds that it tells, if any."""
        return [
            (Answer(429, {"message": "slow down"}, {"Retry-After": "17"}), 17.0),
            (Answer(429, "slow down"), None),
        ]

    def event_ids(self) -> list[str]:
        """The event IDs that its issues carry, in the order in which they were made."""
        return [event_id.lower() for made in self.issues for event_id in _MARKER.findall(made.body)]

    def plant(
        self, event_id: str, *, project: str | None = None, account: str | None = None, minutes_ago: float = 0
    ) -> Made:
        """Put an issue with this event ID there, as if ``account`` (``None``: the stranger) had made it."""
        body = f"Somebody's text.\n\n{marker(a_task(event_id=event_id))}\n"
        account = account or self.stranger
        return self.make(project or self.project, "Planted", body, account=account, minutes_ago=minutes_ago)

    def close_issue(self, made: Made) -> None:
        """Close an issue, as a person would who is done with it."""
        made.raw["state"] = "closed"

    def options(self) -> dict[str, Any]:
        """The options with which the backend of this product is opened."""
        secret = Secret("backends.work.token", "env", (TOKEN_VARIABLE,))
        return {"url": self.url, "token": secret, "project": self.project, "projects": {}, "priorities": {}}

    # --- what a product uses ------------------------------------------------------------------------------------

    def make(
        self,
        project: str,
        title: str,
        body: str,
        *,
        labels: Sequence[str] = (),
        account: str | None = None,
        minutes_ago: float = 0,
        **raw: Any,
    ) -> Made:
        """Make an issue; lists show it once :attr:`lag` seconds have gone by."""
        with self.lock:
            at = self.now() - timedelta(minutes=minutes_ago)
            number = self.next_number(project)
            seen = at + timedelta(seconds=self.lag)
            made = Made(number, project, title, body, list(labels), account or self.account, at, seen, raw)
            self.issues.append(made)
            return made

    def next_number(self, project: str) -> int:
        """The number of the project's next issue."""
        return 1 + sum(made.project == project for made in self.issues)

    def listed(self, project: str) -> list[Made]:
        """The project's issues that lists show by now, newest first."""
        with self.lock:
            now = self.now()
            seen = [made for made in self.issues if made.project == project and made.seen_from <= now]
            return sorted(seen, key=lambda made: (made.made_at, made.number), reverse=True)

    def size(self, asked: str, *, default: int, most: int) -> int:
        """How many entries a page has when ``asked`` for so many (empty: not asked); never more than ``page_size``."""
        wanted = min(int(asked), most) if asked.isdecimal() and int(asked) else default
        return min(wanted, self.page_size) if self.page_size else wanted

    def page(
        self, request: Request, found: Sequence[Made], *, default: int, most: int, size: str = "per_page"
    ) -> tuple[list[Made], dict[str, str]]:
        """One page of ``found``, as ``page`` and the parameter called ``size`` ask for, and its ``Link`` header."""
        each = self.size(request.first(size), default=default, most=most)
        number = max(1, int(request.first("page", "1")))
        last = max(1, -(-len(found) // each))
        places = {"next": number + 1, "last": last} if number < last else {}
        links = ", ".join(f'<{self._page_url(request, n)}>; rel="{rel}"' for rel, n in places.items())
        return list(found[(number - 1) * each : number * each]), {"Link": links} if links else {}

    def _page_url(self, request: Request, number: int) -> str:
        query = {**request.query, "page": [str(number)]}
        return f"{self.url}{request.path}?{urlencode(query, doseq=True)}"

    # --- what a test uses ---------------------------------------------------------------------------------------

    @property
    def type(self) -> str:
        """The backend type that speaks with this tracker: its module's name."""
        return self.__class__.__module__.rpartition(".")[2]

    @property
    def url(self) -> str:
        """The tracker's address."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def creates(self) -> list[Request]:
        """The requests that wanted to make an issue, carried out or not."""
        with self.lock:
            return [request for request in self.requests if self.is_create(request)]

    def now(self) -> datetime:
        """The time by the tracker's clock."""
        return datetime.now(UTC) + self.skew

    def toml(self, name: str = "work", **more: object) -> str:
        """The configuration's table for this tracker; ``more`` are further keys of it."""
        options = {key: value for key, value in self.options().items() if key not in ("projects", "priorities")}
        lines = [f"{key} = {_toml(value)}" for key, value in {"type": self.type, **options, **more}.items()]
        return "\n".join([f"[backends.{name}]", *lines, ""])

    def chaos(self, chance: float, seed: int | float | str = 0) -> None:
        """From now on each request meets a random fault with this probability (0: none does)."""
        with self.lock:
            self._chance, self._dice = chance, random.Random(seed)

    def refuse(self) -> None:
        """Stop listening, and end every connection: from now on nothing can connect."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        if self._thread.is_alive():
            self._http.shutdown()
        self._http.server_close()
        self._http.end_connections()

    # --- how a request goes -------------------------------------------------------------------------------------

    def handle(self, request: Request) -> tuple[Answer | None, Fault | None]:
        """The answer (``None``: the connection is dropped), and the fault that says how it is given."""
        with self.lock:
            self.requests.append(request)
            fault = self._fault(request)
        if fault is None:
            return self._act(request), None
        if fault.kind == "drop_before":
            return None, fault
        if fault.kind == "answer_before":
            return fault.answer, fault
        if fault.kind == "late":
            self.stopping.wait(fault.seconds)
        answer = self._act(request)
        if fault.kind == "delay":
            self.stopping.wait(fault.seconds)
        if fault.kind == "drop_after":
            return None, fault
        answer = fault.answer or answer
        return (answer._replace(status=fault.status) if fault.status else answer), fault

    def _act(self, request: Request) -> Answer:
        with self.lock:
            answer = self.route(request)
        self.bugs += map(AssertionError, violations(self.descriptions, request, answer))
        return answer

    def _fault(self, request: Request) -> Fault | None:
        kind: On = "create" if self.is_create(request) else "read"
        for fault in self.faults:
            if fault.times == 0 or fault.on not in (kind, "any") or fault.path not in request.path:
                continue
            if fault.after:
                fault.after -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return self._random_fault() if self._chance and self._dice.random() < self._chance else None

    def _random_fault(self) -> Fault:
        """A short one, and of a kind that passes."""
        soon = {"Retry-After": "0"}
        error = Answer(self._dice.choice((500, 502, 504)), "<h1>Something went wrong</h1>")
        busy = Answer(self._dice.choice((429, 503)), {"message": "too many requests"}, soon)
        seconds = self._dice.uniform(0, 0.1)
        return self._dice.choice(
            (
                Fault("drop_before"),
                Fault("drop_after"),
                Fault("answer_before", answer=error),
                Fault("answer_after", answer=error),
                Fault("answer_before", answer=busy),
                Fault("delay", seconds=seconds),
                Fault("late", seconds=seconds),
                Fault("cut"),
            )
        )


def _toml(value: object) -> str:
    match value:
        case Secret():
            return "{ " + ", ".join(f"{key} = {_toml(place)}" for key, place in value.to_json().items()) + " }"
        case Mapping():
            return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case bool() | int() | float():
            return json.dumps(value)
        case _:
            return json.dumps(str(value))
