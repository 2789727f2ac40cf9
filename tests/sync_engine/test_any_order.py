"""Whatever happens, and in whatever order: no event ever has two issues of ours, and in the end each has one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from issue_core import Ledger, sync
from issue_core.task import from_text
from tests.support import tracker as scripted
from tests.support.clock import Patience
from tests.support.tracker import Fault, Kind
from tests.sync_engine.rig import SOON, Rig, a_backend

DAY = 86_400.0
LOOK_INTERVAL = 60.0
REPOS = ("acme/a", "acme/b")
SPANS = (0.5, 8.0, SOON, 130.0, 3600.0)
OPERATIONS = ("create", "look", "probe", "account")


class Killed(BaseException):
    """What happens to a worker that is killed: it gets to do nothing more."""


class AnyOrder(RuleBasedStateMachine):
    """A ledger, a tracker, and everything that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self._patches = pytest.MonkeyPatch()
        self.rig = Rig(self._folder, self._patches)
        self._work: dict[str, Any] = {"max_in_flight": 1, "looks": 2, "look_interval": LOOK_INTERVAL}
        self._default = "work"
        self._configure()
        self.rig.ingest(1, repo=REPOS[0])

    def _configure(self) -> None:
        other = a_backend("other", max_in_flight=1, looks=2, look_interval=LOOK_INTERVAL, min_interval=2.0)
        self.rig.configure(backends=[a_backend(**self._work), other], default_backend=self._default)

    @rule(n=st.integers(1, 3), repo=st.sampled_from(REPOS))
    def ingest(self, n: int, repo: str) -> None:
        self.rig.ingest(n, repo=repo)

    @rule(
        kind=st.sampled_from(get_args(Kind)),
        operation=st.sampled_from(OPERATIONS),
        times=st.integers(1, 3),
        seconds=st.sampled_from((0.0, SOON / 2, SOON - 1)),
    )
    def meet_a_fault(self, kind: Kind, operation: Any, times: int, seconds: float) -> None:
        self.rig.tracker.will(Fault(kind, operation, times=times, retry_after=None, seconds=seconds))

    @rule()
    def lose_an_answer(self) -> None:
        self.rig.tracker.will(Fault("unknown_after", seconds=SOON - 1))

    @rule(limit=st.sampled_from((None, 1)))
    def sync(self, limit: int | None) -> None:
        self.rig.sync(limit=limit)

    @rule(after=st.booleans())
    def sync_and_be_killed(self, *, after: bool) -> None:
        def die(*_: object) -> None:
            raise Killed

        self._meanwhile("on_answer" if after else "on_create", die)

    @rule(after=st.booleans(), suspended=st.sampled_from((0.0, 130.0)))
    def sync_beside_another_run(self, *, after: bool, suspended: float) -> None:
        def run_another(*_: object) -> None:
            self._patches.setattr(scripted, "on_answer", None)
            self._patches.setattr(scripted, "on_create", None)
            # To be suspended for long before a request is carried out is more than its time-out allows.
            if after:
                self.rig.clock.move(suspended)
            with Ledger(self.rig.ledger.path, clock=self.rig.clock) as ledger:
                sync(ledger, self.rig.settings, stop=Patience(self.rig.clock))

        self._meanwhile("on_answer" if after else "on_create", run_another)

    def _meanwhile(self, hook: str, what: Callable[..., None]) -> None:
        self._patches.setattr(scripted, hook, what)
        try:
            self.rig.sync()
        except Killed:
            pass
        finally:
            self._patches.setattr(scripted, "on_create", None)
            self._patches.setattr(scripted, "on_answer", None)

    @rule(seconds=st.sampled_from(SPANS))
    def wait(self, seconds: float) -> None:
        self.rig.clock.move(seconds)

    @rule(seconds=st.sampled_from((-DAY, -60.0, 60.0, DAY)))
    def set_the_clock(self, seconds: float) -> None:
        self.rig.clock.jump(seconds)

    # Where the time since was long, the running clock has started anew and the other was wrong, nobody knows how far
    # to look back; see WRONG_CLOCK for what is known.
    @precondition(lambda self: self.rig.clock.gone_by < DAY - 3600)
    @rule(off=st.sampled_from((5.0, 500.0)), up=st.sampled_from((1.0, SOON)))
    def restart_the_machine(self, off: float, up: float) -> None:
        self.rig.clock.reboot(off=off, up=up)

    @rule()
    def retry(self) -> None:
        self.rig.retry()

    @rule(default=st.sampled_from(("work", "other")))
    def change_the_route(self, default: str) -> None:
        self._default = default
        self._configure()

    @rule(project=st.sampled_from(REPOS), address=st.sampled_from((scripted.ADDRESS, "https://new.example")))
    def change_the_target(self, project: str, address: str) -> None:
        self._work |= {"projects": {REPOS[0]: project}, "options": {"address": address}}
        self._configure()

    @rule(lookup=st.sampled_from(("always", "in-doubt")))
    def change_the_lookup(self, lookup: str) -> None:
        self._work["lookup"] = lookup
        self._configure()

    @rule(lag=st.sampled_from((0.0, LOOK_INTERVAL - 1)))
    def let_the_list_lag(self, lag: float) -> None:
        self.rig.tracker.be(lag=lag)

    @invariant()
    def the_books_balance(self) -> None:
        self.rig.check_books()

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            self._patches.undo()
            self.rig.close()
            shutil.rmtree(self._folder)

    def _finish(self) -> None:
        """Once nothing is in the way any more, each task becomes its one issue."""
        rig = self.rig
        rig.tracker.lift()
        rig.clock.jump((scripted.clock.now() - rig.clock.now()).total_seconds())
        for _ in range(12):
            rig.clock.move(150)
            rig.retry()
            rig.sync()
            self._wait_for_limits()
        rig.audit()
        assert set(rig.states()) == {"synced"}
        made = sorted(issue.event_id for issue in rig.tracker.issues())
        assert made == sorted(event_id for (event_id,) in rig.sql("SELECT event_id FROM tasks"))
        assert rig.sync() == []

    def _wait_for_limits(self) -> None:
        """A limit that was heard while our clock was days ahead holds for so many days."""
        for (until,) in self.rig.sql("SELECT limited_until FROM limits WHERE limited_until IS NOT NULL"):
            self.rig.clock.move(max(0.0, (from_text(until) - self.rig.clock.now()).total_seconds()))


UNHURRIED = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def test_an_event_has_one_issue_whatever_happens_to_it() -> None:
    run_state_machine_as_test(AnyOrder, settings=settings(UNHURRIED, max_examples=25, stateful_step_count=20))


@pytest.mark.long
def test_an_event_has_one_issue_whatever_happens_to_it_for_long() -> None:
    run_state_machine_as_test(AnyOrder, settings=settings(UNHURRIED, max_examples=300, stateful_step_count=40))
