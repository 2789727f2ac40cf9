"""Whose issue it is that carries a task's event ID, and what becomes of a second one."""

from __future__ import annotations

import pytest

from tests.support.tracker import ACCOUNT, ADDRESS, Fault, Kind
from tests.sync_engine.rig import SOON, Rig, a_backend


def in_doubt(rig: Rig) -> str:
    """A task whose request was lost and may be looked for now."""
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault("unknown_before"))
    rig.sync()
    rig.clock.move(SOON)
    return event_id


def test_a_strangers_mark_fails_the_task_and_says_where_it_is(rig: Rig) -> None:
    event_id = in_doubt(rig)
    issue_id = rig.tracker.plant(event_id, account="mallory")
    (result,) = rig.sync()
    assert result.result == "failed"
    assert f"{ADDRESS}/acme/web/{issue_id}" in (result.error or "")
    assert "mallory" in (result.error or "")
    assert rig.task(event_id).remote is None
    rig.clock.move(10**6)
    assert rig.sync() == []


def test_a_retry_looks_for_a_strangers_mark_again(rig: Rig) -> None:
    event_id = in_doubt(rig)
    rig.tracker.plant(event_id, account="mallory")
    rig.sync()
    rig.retry()
    assert rig.outcomes() == ["failed"]
    assert len(rig.tracker.calls("look")) == 2
    rig.configure(backends=[a_backend(accounts=("mallory",))])
    rig.retry()
    assert rig.outcomes() == ["adopted"]
    assert len(rig.tracker.calls("create")) == 1


def test_an_issue_of_a_trusted_account_is_adopted(rig: Rig) -> None:
    rig.configure(backends=[a_backend(accounts=("other-bot",))])
    event_id = in_doubt(rig)
    rig.tracker.plant(event_id, account="other-bot")
    assert rig.outcomes() == ["adopted"]


def test_an_issue_of_the_attempts_account_is_adopted_after_the_account_has_changed(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(Fault("unknown_after"))
    rig.sync()
    rig.configure(backends=[a_backend(options={"account": "new-bot"})])
    rig.clock.move(SOON)
    assert rig.outcomes() == ["adopted"]


def test_an_issue_of_nobody_is_a_strangers(rig: Rig) -> None:
    """A tracker may name no account, such as that of a user who was removed."""
    (event_id,) = rig.ingest()
    with rig.ledger.write() as tx:
        tx.connection.execute("UPDATE tasks SET in_doubt_since = created_at")
    rig.tracker.plant(event_id, account="")
    assert rig.outcomes() == ["failed"]


def test_of_two_issues_the_older_is_adopted_and_the_other_is_written_down(rig: Rig) -> None:
    event_id = in_doubt(rig)
    first = rig.tracker.plant(event_id, account=ACCOUNT)
    rig.configure(backends=[a_backend(accounts=("other-bot",))])
    second = rig.tracker.plant(event_id, account="other-bot")
    assert rig.outcomes() == ["adopted"]
    remote = rig.task(event_id).remote
    assert remote is not None
    assert remote.id == str(first)
    assert [entry["id"] for entry in rig.history(event_id, "double")] == [str(second)]


@pytest.mark.parametrize("account", [ACCOUNT, "other-bot"])
def test_where_several_ledgers_feed_a_tracker_an_issue_that_is_there_is_adopted(rig: Rig, account: str) -> None:
    rig.configure(backends=[a_backend(lookup="always", accounts=("other-bot",))])
    there, missing = rig.ingest(2)
    rig.tracker.plant(there, account=account)
    assert rig.outcomes() == ["adopted", "created"]
    assert [call.event_id for call in rig.tracker.calls("create")] == [missing]
    assert len(rig.tracker.calls("look")) == 2
    assert rig.kinds(there) == ["created", "attempt", "adopted"]


def test_the_look_before_the_create_goes_back_as_far_as_it_is_told(rig: Rig) -> None:
    (event_id,) = rig.ingest()
    rig.tracker.plant(event_id, account="other-bot")
    rig.configure(backends=[a_backend(lookup="always", lookup_back=3600.0, accounts=("other-bot",))])
    rig.clock.move(3601)
    assert rig.outcomes() == ["created"]
    assert [call.operation for call in rig.tracker.calls()] == ["account", "look", "create"]


def test_a_strangers_mark_that_is_there_before_the_create_fails_the_task(rig: Rig) -> None:
    rig.configure(backends=[a_backend(lookup="always")])
    (event_id,) = rig.ingest()
    rig.tracker.plant(event_id, account="mallory")
    (result,) = rig.sync()
    assert result.result == "failed"
    assert "mallory" in (result.error or "")
    assert rig.tracker.calls("create") == []


@pytest.mark.parametrize(
    ("kind", "attempts"), [("unreachable", 0), ("limited", 0), ("credentials", 0), ("try_later", 0)]
)
def test_a_look_before_the_create_that_fails_creates_nothing_and_puts_nothing_in_doubt(
    rig: Rig, kind: Kind, attempts: int
) -> None:
    rig.configure(backends=[a_backend(lookup="always")])
    (event_id,) = rig.ingest()
    rig.tracker.will(Fault(kind, "look"))
    assert rig.outcomes() == ["deferred"]
    assert rig.tracker.calls("create") == []
    task = rig.task(event_id)
    assert (task.attempts, task.in_doubt_since) == (attempts, None)
    rig.clock.move(100)
    assert rig.outcomes() == ["created"]


def test_looks_before_the_create_whose_answers_are_lost_cost_no_task_anything(rig: Rig) -> None:
    rig.configure(backends=[a_backend(lookup="always", max_in_flight=1)])
    event_ids = rig.ingest(9)
    rig.tracker.will(Fault("unknown_before", "look", times=None))
    assert rig.outcomes() == ["deferred"] * 9
    assert len(rig.tracker.calls("look")) == 5
    assert list(rig.parked()) == [""]
    assert {rig.task(event_id).in_doubt_since for event_id in event_ids} == {None}
    assert {rig.task(event_id).attempts for event_id in event_ids} == {0}
    assert rig.tracker.calls("create") == []


def test_a_second_try_is_not_looked_for_again(rig: Rig) -> None:
    rig.configure(backends=[a_backend(lookup="always")])
    rig.ingest()
    rig.tracker.will(Fault("try_later"))
    rig.sync()
    rig.clock.move(100)
    assert rig.outcomes() == ["created"]
    assert len(rig.tracker.calls("look")) == 1
