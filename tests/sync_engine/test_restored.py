"""A ledger that was restored makes no issue again that the lost one has made, and makes each that it has not."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from issue_core import ingest
from issue_core.ledger.copies import Restored, backup, restore
from tests.support.specs import a_spec, an_event_id
from tests.support.tracker import ADDRESS, Fault
from tests.sync_engine.rig import SOON, Rig, a_backend

DAY = 86_400.0
ANSWER_LOST = Fault("unknown_after")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the copy is."""
    return tmp_path / "copy.db"


def take(rig: Rig, *numbers: int, repo: str = "acme/web") -> list[str]:
    """The same input for the same numbers, whenever it is run; gives the outcomes."""
    specs = [a_spec(triggering_event_id=an_event_id(n), target_repo=repo) for n in numbers]
    return [receipt.outcome for receipt in ingest(rig.ledger, map(json.dumps, specs))]


def save(rig: Rig, copy: Path) -> None:
    backup(rig.ledger, copy)
    rig.clock.move(60)


def lose(rig: Rig) -> None:
    rig.ledger.close()
    for file in rig.ledger.path.parent.glob("ledger.db*"):
        if file.is_file():
            file.unlink()


def bring_back(rig: Rig, copy: Path, **options: Any) -> Restored:
    """Lose the ledger, restore the copy, and wait until no request of the lost one can be under way."""
    lose(rig)
    done = restore(rig.ledger, copy, **options)
    rig.clock.move(SOON)
    return done


def one_issue_each(rig: Rig, *numbers: int) -> None:
    assert Counter(made.event_id for made in rig.tracker.issues()) == {an_event_id(n): 1 for n in numbers}
    assert rig.states() == {"synced": len(numbers)}


@pytest.mark.parametrize("days", [0.01, 3, 25, 400])
def test_the_same_input_again_makes_one_issue_each_however_old_the_copy_is(rig: Rig, copy: Path, days: float) -> None:
    """The look goes back to the time of the copy: a listing of the issues since the restore would show none."""
    take(rig, 1, 2, 3)
    rig.sync(limit=2)
    save(rig, copy)
    rig.sync()
    take(rig, 4, 5)
    rig.sync()
    rig.clock.move(days * DAY)
    take(rig, 6)
    assert bring_back(rig, copy)[:2] == (3, 1)
    assert take(rig, *range(1, 8)) == ["duplicate"] * 3 + ["created"] * 4
    assert Counter(rig.outcomes()) == {"adopted": 3, "created": 2}
    one_issue_each(rig, *range(1, 8))


def test_only_the_second_look_is_believed_where_one_is_no_proof(rig: Rig, copy: Path) -> None:
    rig.configure(backends=[a_backend(looks=2, look_interval=60.0)])
    take(rig, 1, 2)
    save(rig, copy)
    rig.sync(limit=1)
    rig.clock.move(3 * DAY)
    bring_back(rig, copy)
    assert rig.outcomes() == ["adopted", "deferred"]
    rig.clock.move(60)
    assert rig.outcomes() == ["created"]
    one_issue_each(rig, 1, 2)


def test_what_the_lost_ledger_sent_right_before_the_restore_is_waited_for(rig: Rig, copy: Path) -> None:
    take(rig, 1)
    save(rig, copy)
    rig.tracker.will(Fault("unknown_after", seconds=SOON - 2))
    rig.sync()
    lose(rig)
    restore(rig.ledger, copy)
    take(rig, 1)
    (result,) = rig.sync()
    assert (result.result, result.until) == ("deferred", rig.clock.now() + timedelta(seconds=SOON))
    rig.clock.move(SOON)
    assert rig.outcomes() == ["adopted"]
    one_issue_each(rig, 1)


def test_an_attempt_on_record_does_not_explain_what_was_done_after_the_copy(rig: Rig, copy: Path) -> None:
    """The lost ledger saw that the attempt in the copy had not worked, and tried again at another place."""
    take(rig, 1)
    rig.tracker.will(Fault("unknown_before"))
    rig.sync()
    save(rig, copy)
    rig.configure(backends=[a_backend(projects={"acme/web": "acme/new"})])
    rig.clock.move(SOON)
    rig.sync()
    rig.clock.move(DAY)
    assert rig.outcomes() == ["created"]
    bring_back(rig, copy)
    assert rig.outcomes() == ["adopted"]
    assert {call.project for call in rig.tracker.calls("look")} == {"acme/web", "acme/new"}
    one_issue_each(rig, 1)


def test_an_attempt_on_record_that_worked_is_found_where_it_went(rig: Rig, copy: Path) -> None:
    take(rig, 1)
    rig.tracker.will(ANSWER_LOST)
    rig.sync()
    save(rig, copy)
    rig.configure(backends=[a_backend(projects={"acme/web": "acme/new"})])
    rig.clock.move(3 * DAY)
    rig.sync()
    bring_back(rig, copy)
    assert rig.outcomes() == ["adopted"]
    one_issue_each(rig, 1)


def test_a_task_that_had_failed_in_the_copy_is_looked_for_when_it_is_retried(rig: Rig, copy: Path) -> None:
    take(rig, 1, 2)
    rig.tracker.will(Fault("refused", times=2))
    assert rig.outcomes() == ["failed", "failed"]
    save(rig, copy)
    rig.retry(an_event_id(1))
    assert rig.outcomes() == ["created"]
    rig.clock.move(3 * DAY)
    bring_back(rig, copy)
    assert rig.sync() == []
    rig.retry()
    assert sorted(rig.outcomes()) == ["adopted", "created"]
    one_issue_each(rig, 1, 2)


def test_a_task_that_waited_in_the_copy_is_looked_for_too(rig: Rig, copy: Path) -> None:
    take(rig, 1)
    rig.tracker.will(Fault("try_later", retry_after=DAY))
    assert rig.outcomes() == ["deferred"]
    save(rig, copy)
    rig.clock.move(DAY)
    assert rig.outcomes() == ["created"]
    bring_back(rig, copy)
    assert rig.outcomes() == ["adopted"]
    one_issue_each(rig, 1)


def test_a_doubt_that_proves_vain_uses_up_no_try(rig: Rig, copy: Path) -> None:
    """A task with one try left, or a configuration that allows one, must not fail for an attempt that nobody made."""
    rig.configure(sync=rig.settings.sync.__class__(request_timeout=30.0, lease=120.0, max_attempts=1))
    take(rig, 1)
    save(rig, copy)
    bring_back(rig, copy)
    take(rig, 2)
    assert rig.outcomes() == ["created", "created"]
    assert rig.kinds(an_event_id(1)) == ["created", "restored", "assumed", "absent", "attempt", "synced"]
    assert rig.kinds(an_event_id(2)) == ["created", "assumed", "absent", "attempt", "synced"]
    assert rig.task(an_event_id(1)).attempts == 1


def test_after_thirty_days_a_new_task_is_sent_without_a_look(rig: Rig, copy: Path) -> None:
    take(rig, 1)
    rig.sync()
    save(rig, copy)
    bring_back(rig, copy)
    rig.clock.move(30 * DAY)
    take(rig, 2)
    assert rig.outcomes() == ["created"]
    assert rig.tracker.calls("look") == []


def test_where_it_is_settled_only_what_the_copy_has_is_looked_for(rig: Rig, copy: Path) -> None:
    take(rig, 1)
    save(rig, copy)
    rig.sync()
    bring_back(rig, copy, settled=True)
    take(rig, 2)
    assert sorted(rig.outcomes()) == ["adopted", "created"]
    assert len(rig.tracker.calls("look")) == 1
    one_issue_each(rig, 1, 2)


def test_two_restores_of_two_ages_make_one_issue_each(rig: Rig, copy: Path, tmp_path: Path) -> None:
    """The input from before the first loss is run again only after the second one."""
    save(rig, copy) if take(rig, 1) else None
    take(rig, 2)
    rig.sync()
    rig.clock.move(4 * DAY)
    bring_back(rig, copy)
    rig.sync()
    rig.clock.move(DAY)
    save(rig, tmp_path / "second.db")
    take(rig, 3)
    rig.sync()
    rig.clock.move(DAY)
    bring_back(rig, tmp_path / "second.db")
    take(rig, 1, 2, 3)
    rig.sync()
    one_issue_each(rig, 1, 2, 3)


def test_a_copy_of_a_copy_looks_back_as_far_as_the_first(rig: Rig, copy: Path, tmp_path: Path) -> None:
    take(rig, 1)
    save(rig, copy)
    rig.sync()
    rig.clock.move(5 * DAY)
    with rig.ledger.__class__(copy, clock=rig.clock) as first:
        backup(first, tmp_path / "second.db")
    bring_back(rig, tmp_path / "second.db")
    assert rig.outcomes() == ["adopted"]
    one_issue_each(rig, 1)


@pytest.mark.parametrize("mistake", ["ran ahead at the copy", "ran behind at the restore"])
def test_a_clock_that_was_wrong_hides_no_issue(rig: Rig, copy: Path, mistake: str) -> None:
    take(rig, 1)
    if "ran ahead" in mistake:
        rig.clock.move(60)
        rig.clock.jump(2 * DAY)
    save(rig, copy)
    if "ran ahead" in mistake:
        rig.clock.jump(-2 * DAY)
    rig.sync()
    rig.clock.move(0.5 * DAY)
    if "ran behind" in mistake:
        rig.clock.jump(-DAY)
    bring_back(rig, copy)
    assert rig.outcomes() == ["adopted"]
    one_issue_each(rig, 1)


def test_an_issue_of_a_stranger_is_not_taken_for_the_lost_ledgers(rig: Rig, copy: Path) -> None:
    take(rig, 1)
    save(rig, copy)
    rig.tracker.plant(an_event_id(1), account="somebody", address=ADDRESS)
    bring_back(rig, copy)
    assert rig.outcomes() == ["failed"]
    assert rig.tracker.calls("create") == []
    with rig.ledger.write() as tx:  # the books are about doubts that are open
        tx.connection.execute("UPDATE attempts SET outcome = 'absent'")
        tx.connection.execute("UPDATE tasks SET in_doubt_since = NULL")
