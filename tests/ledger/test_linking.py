"""A person says which issue is a task's, or that there is none: every doubt ends with it, and the books balance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from issue_core.errors import IssueCoreError, NotFound
from issue_core.ledger import facets, history, linking, outbox, outcomes, queries
from issue_core.ledger.linking import Linked
from issue_core.ledger.outbox import Attempt, Times, Where
from issue_core.ledger.workers import enlisted, is_alive
from issue_core.task import Remote, TaskState
from tests.support.tracker import ACCOUNT, ADDRESS, Fault
from tests.sync_engine.rig import SETTLE, SOON, TIMEOUT, Rig, a_backend
from tests.sync_engine.test_any_order import UNHURRIED, AnyOrder

URL = "https://tracker.example/acme/web/issues/34"
LEASE = 120.0

Say = Callable[[Rig, str], object]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig whose books must balance when the test is over."""
    rig = Rig(tmp_path, monkeypatch)
    yield rig
    rig.audit()
    rig.close()


@pytest.fixture
def other() -> Iterator[ExitStack]:
    """Another worker of the rig's ledger, which lives until this is closed."""
    with ExitStack() as life:
        yield life


def link(rig: Rig, event_id: str, url: str = URL) -> Linked:
    """What ``issue link`` does with the address of an issue."""
    alive = partial(is_alive, rig.ledger.path)
    with rig.ledger.write() as tx:
        seq = queries.find(tx.connection, event_id)
        issue_id = url.rsplit("/", 1)[1]
        return linking.link(
            tx, seq, url=url, issue_id=issue_id, route="work", running=rig.clock.running(), is_alive=alive
        )


def rule_out(rig: Rig, event_id: str) -> None:
    """What ``issue link --none`` does."""
    alive = partial(is_alive, rig.ledger.path)
    with rig.ledger.write() as tx:
        seq = queries.find(tx.connection, event_id)
        linking.rule_out(tx, seq, running=rig.clock.running(), is_alive=alive)


def begin(rig: Rig, life: ExitStack, *, project: str = "acme/web") -> Attempt:
    """The other worker begins an attempt for the first task, and is heard of no more."""
    where, times = Where("work", ADDRESS, project, ACCOUNT), Times(TIMEOUT, SETTLE, LEASE)
    worker = life.enter_context(enlisted(rig.ledger.path))
    running, boot = rig.clock.running(), rig.clock.boot()
    with rig.ledger.write() as tx:
        attempt = outbox.begin(tx, 1, where, owner=worker, times=times, running=running, boot=boot)
    assert attempt is not None
    return attempt


def put(rig: Rig, state: TaskState, *, in_doubt: bool = False) -> None:
    """Put the first task into a state that this release does not lead to."""
    with rig.ledger.write() as tx:
        doubt = tx.now if in_doubt else None
        tx.connection.execute("UPDATE tasks SET state = ?, in_doubt_since = ?", (state, doubt))
        facets.add_state(tx, 1, state)


def attempts(rig: Rig) -> list[tuple[str | None, str | None]]:
    """The outcome of each attempt, and what the tracker said of it."""
    return rig.sql("SELECT outcome, error FROM attempts ORDER BY id")


def test_a_task_that_was_never_tried_is_synced_with_the_issue_and_makes_none(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    assert link(rig, event_id) == "linked"
    task = rig.task(event_id)
    assert (task.state, task.backend, task.attempts) == ("synced", "work", 0)
    assert task.remote == Remote("34", URL, "acme/web", task.updated_at)
    (entry,) = rig.history(event_id, "linked")
    assert (entry["was"], entry["backend"], entry["url"]) == ("pending", "work", URL)
    assert rig.sync() == []
    assert rig.tracker.calls() == []


def test_to_link_a_task_in_doubt_settles_its_attempts_and_nobody_looks_for_it_any_more(rig: Rig) -> None:
    rig.configure(backends=[a_backend(projects={"acme/web": "acme/inbox"})])
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("unknown_before"))
    rig.sync()
    ((_, said),) = attempts(rig)
    assert said
    link(rig, event_id)
    task = rig.task(event_id)
    assert (task.state, task.in_doubt_since, task.last_error) == ("synced", None, None)
    assert task.remote is not None
    assert task.remote.project == "acme/inbox"
    assert attempts(rig) == [("linked", said)]
    rig.clock.move(SOON)
    assert rig.sync() == []


def test_a_failed_task_is_linked_and_its_attempt_stays_what_it_was(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("refused"))
    assert rig.outcomes() == ["failed"]
    before = attempts(rig)
    link(rig, event_id)
    assert (rig.task(event_id).state, rig.task(event_id).last_error) == ("synced", None)
    assert attempts(rig) == before
    assert rig.history(event_id, "linked")[0]["was"] == "failed"
    assert rig.retry() == 0


def test_a_task_that_waits_for_its_next_try_is_linked_and_waits_no_more(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("try_later", retry_after=500))
    rig.sync()
    link(rig, event_id)
    assert (rig.task(event_id).state, rig.task(event_id).next_attempt_at) == ("synced", None)


def test_a_held_task_is_not_linked_as_another_ledger_may_make_its_issue(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    put(rig, "held")
    with pytest.raises(IssueCoreError, match="task 1 is held"):
        link(rig, event_id)
    assert rig.states() == {"held": 1}


def test_a_synced_task_keeps_its_issue_and_its_own_address_is_nothing_new(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.sync()
    before, kinds = rig.task(event_id), rig.kinds(event_id)
    assert before.remote is not None
    with pytest.raises(IssueCoreError, match=f"task 1 has its issue already: {before.remote.url}"):
        link(rig, event_id)
    with pytest.raises(IssueCoreError, match=f"task 1 is in no doubt: it has its issue, {before.remote.url}"):
        rule_out(rig, event_id)
    assert link(rig, event_id, before.remote.url) == "known"
    assert (rig.task(event_id), rig.kinds(event_id)) == (before, kinds)


@pytest.mark.parametrize("say", [link, rule_out])
def test_a_task_of_another_ledger_is_left_to_it(rig: Rig, say: Say) -> None:
    (event_id,) = rig.ingest()
    put(rig, "elsewhere", in_doubt=True)
    with pytest.raises(IssueCoreError, match="another ledger's"):
        say(rig, event_id)
    put(rig, "elsewhere")


def test_what_is_not_there_cannot_be_linked(rig: Rig) -> None:
    with rig.ledger.write() as tx:
        with pytest.raises(NotFound):
            linking.link(tx, 1, url=URL, issue_id="34", route="work", running=0.0, is_alive=bool)
        with pytest.raises(NotFound):
            linking.rule_out(tx, 1, running=0.0, is_alive=bool)


@pytest.mark.parametrize("say", [link, rule_out])
def test_what_a_living_worker_has_in_hand_is_left_to_it(rig: Rig, other: ExitStack, say: Say) -> None:
    (event_id,) = rig.ingest()
    attempt = begin(rig, other)
    before = rig.task(event_id)
    rig.clock.move(LEASE)
    with pytest.raises(IssueCoreError, match="a sync has this task in hand right now"):
        say(rig, event_id)
    assert rig.task(event_id) == before
    with rig.ledger.write() as tx:
        outcomes.give_back(tx, attempt, "lease", "too late")


def test_a_dead_workers_task_is_linked_at_once(rig: Rig, other: ExitStack) -> None:
    (event_id,) = rig.ingest()
    begin(rig, other, project="acme/inbox")
    other.close()
    link(rig, event_id)
    task = rig.task(event_id)
    assert task.remote is not None
    assert (task.state, task.remote.project) == ("synced", "acme/inbox")
    assert attempts(rig) == [("linked", None)]


def test_the_project_of_a_linked_issue_is_where_the_last_attempt_went(rig: Rig, other: ExitStack) -> None:
    (event_id,) = rig.ingest()
    for project in ("acme/first", "acme/last"):
        attempt = begin(rig, other, project=project)
        with rig.ledger.write() as tx:
            outcomes.give_back(tx, attempt, "limited", "not now")
    link(rig, event_id)
    assert rig.history(event_id, "linked")[0]["project"] == "acme/last"


def test_a_dead_workers_task_is_due_at_once_when_its_issue_is_ruled_out(rig: Rig, other: ExitStack) -> None:
    (event_id,) = rig.ingest()
    begin(rig, other)
    other.close()
    rule_out(rig, event_id)
    assert rig.outcomes() == ["created"]
    assert rig.tracker.calls("look") == []


def test_an_issue_told_of_by_a_worker_whose_lease_ran_out_is_written_down_and_changes_nothing(
    rig: Rig, other: ExitStack
) -> None:
    (event_id,) = rig.ingest()
    attempt = begin(rig, other)
    rig.clock.move(LEASE + 1)
    link(rig, event_id)
    issue = {"id": "35", "url": f"{ADDRESS}/35", "project": "acme/web"}
    with rig.ledger.write() as tx:
        assert not outcomes.succeed(tx, attempt, issue=issue, notes=(), adopted=False)
    task = rig.task(event_id)
    assert task.remote is not None
    assert task.remote.url == URL
    assert rig.kinds(event_id) == ["created", "attempt", "linked", "late"]


def tell(rig: Rig, kind: str, **detail: str) -> None:
    """Write down of the first task what may make its issue one of several."""
    with rig.ledger.write() as tx:
        history.add(tx, 1, kind, **detail)


def doubles(rig: Rig) -> tuple[int, int | None]:
    with rig.ledger.read() as connection:
        return history.doubles(connection)


@pytest.mark.parametrize("kind", ["late", "double", "contested"])
def test_a_double_is_settled_by_naming_the_issue_that_the_task_has_until_there_is_another(rig: Rig, kind: str) -> None:
    (event_id,) = rig.ingest()
    rig.sync()
    tell(rig, kind)
    tell(rig, kind)
    before = rig.task(event_id)
    assert before.remote is not None
    assert doubles(rig) == (2, 1)
    assert link(rig, event_id, before.remote.url) == "settled"
    assert doubles(rig) == (0, None)
    assert rig.task(event_id) == before
    assert rig.history(event_id, "settled")[0]["url"] == before.remote.url
    assert link(rig, event_id, before.remote.url) == "known"
    tell(rig, kind)
    assert doubles(rig) == (1, 1)


def test_of_two_issues_a_person_may_keep_the_one_that_the_task_does_not_have(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.sync()
    tell(rig, "double", url=URL)
    assert link(rig, event_id) == "linked"
    task = rig.task(event_id)
    assert task.remote is not None
    assert (task.state, task.remote.url, task.attempts) == ("synced", URL, 1)
    assert rig.history(event_id, "linked")[0]["was"] == "synced"
    assert doubles(rig) == (0, None)
    with pytest.raises(IssueCoreError, match="task 1 has its issue already"):
        link(rig, event_id, f"{URL}5")
    assert rig.sync() == []


def test_a_double_of_one_task_is_not_settled_by_the_link_of_another(rig: Rig) -> None:
    _, other_id = rig.ingest(2)
    tell(rig, "late")
    link(rig, other_id)
    assert doubles(rig) == (1, 1)


def test_what_was_contested_and_is_given_away_after_all_is_no_double_and_a_late_issue_is_one(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    tell(rig, "contested", ledger="another")
    put(rig, "elsewhere")
    tell(rig, "elsewhere", ledger="another")
    assert doubles(rig) == (0, None)
    tell(rig, "late", url=URL)
    assert doubles(rig) == (1, 1)
    assert link(rig, event_id, f"{URL}5") == "settled"
    assert (rig.task(event_id).state, doubles(rig)) == ("elsewhere", (0, None))


def test_to_rule_an_issue_out_ends_the_doubt_counts_no_try_and_makes_the_task_due(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("unknown_before"))
    rig.sync()
    before = rig.task(event_id)
    rule_out(rig, event_id)
    task = rig.task(event_id)
    assert (task.state, task.in_doubt_since, task.next_attempt_at) == ("pending", None, None)
    assert (task.attempts, task.last_error) == (0, before.last_error)
    assert attempts(rig) == [("absent", before.last_error)]
    assert rig.history(event_id, "ruled_out")[0]["was"] == "pending"
    assert rig.outcomes() == ["created"]
    assert rig.tracker.calls("look") == []


def test_a_task_that_failed_over_a_strangers_issue_is_due_when_that_is_ruled_out(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("unknown_before"))
    rig.sync()
    rig.tracker.plant(event_id, account="stranger")
    rig.clock.move(SOON)
    assert rig.outcomes() == ["failed"]
    assert rig.task(event_id).in_doubt_since is not None
    rule_out(rig, event_id)
    assert rig.history(event_id, "ruled_out")[0]["was"] == "failed"
    assert rig.outcomes() == ["created"]


def test_a_doubt_without_an_attempt_on_record_can_be_ruled_out(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    put(rig, "pending", in_doubt=True)
    rule_out(rig, event_id)
    assert rig.outcomes() == ["created"]


def test_a_held_task_stays_held_when_its_doubt_is_over(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    put(rig, "held", in_doubt=True)
    rule_out(rig, event_id)
    assert (rig.task(event_id).state, rig.task(event_id).in_doubt_since) == ("held", None)


def test_where_there_is_no_doubt_there_is_nothing_to_rule_out(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    with pytest.raises(IssueCoreError, match="task 1 is in no doubt"):
        rule_out(rig, event_id)
    assert rig.kinds(event_id) == ["created"]


class AnyOrderAndAPerson(AnyOrder):
    """Whatever may happen, and a person who tells the truth about it."""

    def _tasks(self) -> list[str]:
        """Those that have no issue yet, first the ones in doubt."""
        query = "SELECT event_id FROM tasks WHERE state <> 'synced' ORDER BY in_doubt_since IS NULL, seq"
        return [row[0] for row in self.rig.sql(query)]

    @rule()
    def lose_a_request(self) -> None:
        self.rig.tracker.lift()
        self.rig.tracker.will(Fault("unknown_before"))
        self.rig.sync(limit=1)

    @rule(nth=st.integers(0, 1))
    def say_what_is_true(self, nth: int) -> None:
        """Of one task's issue: where it is, or that there is none, and none to come."""
        for event_id in self._tasks()[nth : nth + 1]:
            if made := self.rig.tracker.issues(event_id):
                link(self.rig, event_id, f"{made[0].address}/issues/{made[0].id}")
            elif self.rig.task(event_id).in_doubt_since is not None:
                rule_out(self.rig, event_id)


def test_an_event_has_one_issue_whatever_a_person_says_that_is_true() -> None:
    run_state_machine_as_test(AnyOrderAndAPerson, settings=settings(UNHURRIED, max_examples=15, stateful_step_count=20))
