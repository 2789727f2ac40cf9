"""The calls that the contract's tests make of a backend, with what is the same in all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import pytest

from issue_core.backends.base import Backend, Issue, Target
from issue_core.errors import BackendError
from issue_core.task import Task
from tests.support.build import a_task
from tests.support.trackers.server import TrackerServer

REQUEST_TIMEOUT = 20.0
"""Seconds; nothing that goes well takes anywhere near as long."""

MARGIN = timedelta(seconds=5)
"""How far a look goes back: a ``Date`` header knows no parts of a second."""

E = TypeVar("E", bound=BackendError)


class Desk:
    """A tracker, the backend that speaks with it, and where the tasks go."""

    def __init__(self, tracker: TrackerServer, home: Path) -> None:
        self.tracker = tracker
        self.home = home
        self.backend = self.open()
        self.target = self.backend.target("acme/web")
        self.nowhere = Target("work", self.target.address, tracker.unknown_project)

    def open(self, **changes: Any) -> Backend:
        """A backend of the tracker's type, with other options than usual."""
        module = import_module(f"issue_core.backends.{self.tracker.type}")
        options = {**self.tracker.options(), **changes}
        backend: Backend = module.open_backend("work", options, home=self.home, request_timeout=REQUEST_TIMEOUT)
        return backend

    def create(
        self,
        task: Task | None = None,
        target: Target | None = None,
        *,
        timeout: float = REQUEST_TIMEOUT,
        before_send: Callable[[], None] = lambda: None,
    ) -> Issue:
        """Make an issue, of any task unless one is given."""
        task = task or a_task()
        return self.backend.create(task, target or self.target, timeout=timeout, before_send=before_send)

    def look(
        self,
        *event_ids: str,
        target: Target | None = None,
        ago: timedelta = MARGIN,
        keep_lease: Callable[[], None] = lambda: None,
    ) -> dict[str, list[Issue]]:
        """Look for issues that were made less than ``ago`` ago."""
        wanted: Collection[str] = frozenset(event_ids or (a_task().event_id,))
        return self.backend.look(target or self.target, wanted, datetime.now(UTC) - ago, keep_lease=keep_lease)

    def probe(self, target: Target | None = None) -> None:
        """Ask whether the project would take an issue."""
        self.backend.probe(target or self.target)

    def fails(self, kind: type[E], call: Callable[[], object]) -> E:
        """The error with which ``call`` ends; it is exactly of this kind, and gives no secret away."""
        with pytest.raises(BackendError) as caught:
            call()
        error = caught.value
        assert type(error) is kind, f"{type(error).__name__}: {error.message}"
        assert self.tracker.token not in f"{error.message} {error.hint} {error!r}"
        assert error.message.isprintable()
        return error

    def outcome(self, call: Callable[[], object]) -> BackendError | None:
        """The error with which ``call`` ends, if it does."""
        try:
            call()
        except BackendError as error:
            return error
        return None
