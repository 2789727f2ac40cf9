"""The protocol of claims, in every state that it can be in; and protocols that are nearly it, which break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.model.claims import STORED, Host, Row, Rules, State, World
from tests.model.promises import (
    PROPERTIES,
    no_issue_is_forgotten,
    nothing_is_dropped,
    one_issue_at_most,
    search,
    what_is_acked_is_somebodys,
)
from tests.model.search import NO_END, Found, Step, explore

BUILT = Rules()

NEW = Host()
"""A host whose ledger was marked before it had any task."""

UNMARKED = Host(is_marked=False)


def among(*hosts: Host, unread: str = "x", claim: str = "") -> State:
    """The state in which these hosts begin."""
    return State(tuple(sorted(hosts)), claim=claim, unread=unread)


def what_breaks(
    rules: Rules,
    world: World | None = None,
    start: State | None = None,
    properties: tuple[Callable[[State], bool], ...] = PROPERTIES,
) -> str:
    """The name of what is broken under these rules; nothing where all holds. One maker too many is one issue too many,
    and is found first; ``properties`` looks only at some."""
    return search(world, rules, start=start, properties=properties).broken


ONE_ISSUE = (one_issue_at_most,)
TWO_ISSUES = one_issue_at_most.__name__


# --- as it is built ----------------------------------------------------------------------------------------------


def holds(found: Found, states: int) -> bool:
    """Whether nothing is broken in as many states as there are known to be: a step that is gone is noticed."""
    assert found.trace == ()
    return not found.broken and found.states == states


def test_two_hosts_make_one_issue_whatever_is_lost_late_or_crashes() -> None:
    assert holds(search(), 3_876)


def test_a_host_that_dies_for_good_takes_with_it_what_it_claimed_and_nothing_else() -> None:
    assert holds(search(World(dies=True)), 5_611)


def test_of_two_contents_under_one_event_id_one_is_the_task_and_the_other_a_reject() -> None:
    assert holds(search(World(texts="xy")), 20_907)


def test_a_ledger_that_is_restored_from_any_backup_makes_what_it_had_claimed_and_nothing_twice() -> None:
    assert holds(search(World(restores=True)), 60_443)


@pytest.mark.parametrize(("row", "states"), [("pending", 597), ("retry", 596), ("doubt", 596), ("synced", 99)])
def test_what_was_there_before_the_claims_is_safe_when_the_first_host_has_acknowledged_it(
    row: Row, states: int
) -> None:
    assert holds(search(World(first=row, once="acknowledged")), states)


@pytest.mark.long
@pytest.mark.parametrize(
    ("world", "states"),
    [
        (World(hosts=3), 38_160),
        (World(hosts=3, dies=True), 62_932),
        (World(hosts=3, texts="xy"), 497_652),
        (World(texts="xy", published="xy"), 378_366),
        (World(texts="xy", restores=True), 1_004_859),
    ],
    ids=["three", "three, one dies", "three, two contents", "two messages", "two contents, one restored"],
)
def test_larger_worlds_hold_as_well(world: World, states: int) -> None:
    assert holds(search(world), states)


# --- what each rule is for ---------------------------------------------------------------------------------------


def test_without_claims_a_redelivery_to_another_host_is_a_second_issue() -> None:
    naive = replace(BUILT, claims=False, marks_before_it_pulls=False)
    assert what_breaks(naive, start=among(UNMARKED, UNMARKED), properties=ONE_ISSUE) == TWO_ISSUES


def test_a_host_that_claims_before_it_stores_may_die_with_a_claim_and_no_task() -> None:
    claims_first = replace(BUILT, claims_before_it_stores=True)
    assert what_breaks(claims_first) == what_is_acked_is_somebodys.__name__
    assert what_breaks(claims_first, properties=ONE_ISSUE) == NO_END


def test_a_task_that_is_pending_before_its_claim_is_known_makes_two_issues() -> None:
    assert what_breaks(replace(BUILT, stores_as="pending"), properties=ONE_ISSUE) == TWO_ISSUES


def test_an_ack_before_the_claim_lets_a_host_that_dies_take_with_it_what_it_never_claimed() -> None:
    acks_early = replace(BUILT, acks_from=STORED)
    assert what_breaks(acks_early) == what_is_acked_is_somebodys.__name__
    assert what_breaks(acks_early, World(dies=True), properties=ONE_ISSUE) == NO_END


@pytest.mark.parametrize("world", [World(dies=True), World(texts="xy")], ids=["dies", "two contents"])
def test_an_ack_between_the_claim_and_the_second_commit_would_do_no_harm(world: World) -> None:
    assert what_breaks(replace(BUILT, acks_when_claimed=True), world) == ""


def test_a_sync_that_takes_held_tasks_makes_two_issues() -> None:
    assert what_breaks(replace(BUILT, sync_takes_held=True), properties=ONE_ISSUE) == TWO_ISSUES


def test_silence_taken_for_a_claim_that_was_won_makes_two_issues() -> None:
    assert what_breaks(replace(BUILT, silence_means="ours"), properties=ONE_ISSUE) == TWO_ISSUES


def test_silence_taken_for_a_claim_that_was_lost_makes_none() -> None:
    silent = replace(BUILT, silence_means="theirs")
    assert what_breaks(silent) == what_is_acked_is_somebodys.__name__
    assert what_breaks(silent, properties=ONE_ISSUE) == NO_END


def test_a_claim_that_does_not_name_its_owner_is_anothers_once_its_answer_was_lost() -> None:
    assert what_breaks(replace(BUILT, claim_names_nobody=True), properties=ONE_ISSUE) == NO_END


def test_a_restored_ledger_that_does_not_know_its_former_claims_leaves_its_tasks_to_nobody() -> None:
    assert what_breaks(replace(BUILT, former_is="theirs"), World(hosts=1, restores=True)) == NO_END


def test_a_former_claim_that_puts_nothing_in_doubt_makes_two_issues() -> None:
    forgetful = replace(BUILT, former_is_in_doubt=False)
    assert what_breaks(forgetful, World(hosts=1, restores=True), properties=ONE_ISSUE) == TWO_ISSUES


def test_a_marking_that_holds_nothing_back_makes_two_issues() -> None:
    assert what_breaks(BUILT, start=among(Host("pending", "x"), NEW), properties=ONE_ISSUE) == TWO_ISSUES
    assert what_breaks(BUILT, start=among(Host("held", "x"), NEW)) == ""


def test_a_task_in_doubt_that_is_left_to_another_ledger_leaves_an_issue_that_nobody_knows() -> None:
    world, watched = World(first="doubt", once="marked"), (no_issue_is_forgotten,)
    cedes_all = replace(BUILT, cedes=("held", "pending", "retry", "doubt"))
    assert what_breaks(cedes_all, world, properties=watched) == no_issue_is_forgotten.__name__
    assert what_breaks(BUILT, world, properties=watched) != no_issue_is_forgotten.__name__


def test_a_loser_that_does_not_keep_its_own_content_among_the_rejects_drops_it() -> None:
    silent = replace(BUILT, keeps_what_it_cedes=False)
    assert what_breaks(silent, World(texts="xy")) == nothing_is_dropped.__name__


# --- what is assumed: where it is not so, there are two issues ------------------------------------------------------


def test_a_claim_that_vanishes_is_claimed_again_by_another() -> None:
    assert what_breaks(BUILT, World(vanishes=True), properties=ONE_ISSUE) == TWO_ISSUES


def test_a_ledger_that_is_not_marked_does_not_ask_whose_a_task_is() -> None:
    assert what_breaks(BUILT, start=among(UNMARKED, NEW), properties=ONE_ISSUE) == TWO_ISSUES


@pytest.mark.parametrize("row", ["doubt", "synced"])
def test_what_may_have_its_issue_before_the_claims_is_not_known_to_a_second_host_that_begins_at_once(row: Row) -> None:
    assert what_breaks(BUILT, World(first=row, once="marked"), properties=ONE_ISSUE) == TWO_ISSUES


def test_what_was_acknowledged_before_the_claims_and_is_sent_again_to_another_host_is_made_again() -> None:
    start = among(Host("synced", "x", issues=1), NEW, unread="")
    assert what_breaks(BUILT, start=start, properties=ONE_ISSUE) == TWO_ISSUES


def test_what_was_tried_in_vain_before_the_claims_would_be_a_second_issue_if_marking_did_not_hold_it() -> None:
    assert what_breaks(BUILT, start=among(Host("retry", "x"), NEW), properties=ONE_ISSUE) == TWO_ISSUES
    assert what_breaks(BUILT, start=among(Host("held", "x"), NEW), properties=ONE_ISSUE) == ""


def test_a_doubt_from_before_the_claims_that_came_to_nothing_waits_for_its_claim() -> None:
    start = among(Host("doubt", "x"), NEW)
    goes_on = replace(BUILT, waits_for_claim_again=False, cedes=("held", "pending"))
    assert what_breaks(BUILT, start=start, properties=ONE_ISSUE) == ""
    assert what_breaks(goes_on, start=start, properties=ONE_ISSUE) == TWO_ISSUES


def test_a_subscriber_that_does_not_see_the_marking_acknowledges_what_was_never_claimed() -> None:
    old = replace(BUILT, marks_before_it_pulls=False)
    assert what_breaks(old, start=among(UNMARKED, NEW)) != ""
    assert what_breaks(old, World(first="pending", once="acknowledged")) == what_is_acked_is_somebodys.__name__


def test_a_copy_that_works_beside_its_ledger_makes_two_issues() -> None:
    start = among(
        Host("pending", "x", owns="ours"), Host("doubt", "x", owns="former", was_restored=True), claim="x", unread=""
    )
    assert what_breaks(BUILT, start=start, properties=ONE_ISSUE) == TWO_ISSUES


def test_a_restored_ledger_that_does_not_read_the_stream_again_misses_what_it_claimed_after_the_backup() -> None:
    assert what_breaks(BUILT, World(hosts=1, restores=True, reads_again=False)) == NO_END


def test_a_held_task_that_could_be_linked_would_leave_the_claim_to_others() -> None:
    start = among(Host("held", "x"), NEW)
    assert what_breaks(BUILT, World(links=True), start, ONE_ISSUE) == TWO_ISSUES


# --- the search itself -------------------------------------------------------------------------------------------


def _count(n: int) -> list[Step[int]]:
    """Up to 4 by ones; a fault leads from 2 to 9, where it ends."""
    return [Step("one more", n + 1)] * (n < 4) + [Step("falls", 9, is_fault=True)] * (n == 2)


def test_the_search_sees_every_state_and_a_shortest_way_to_what_is_broken() -> None:
    def small(n: int) -> bool:
        return n < 9

    found = explore(0, _count, properties=[small], is_done=lambda n: n == 4, is_excused=lambda _: False)
    assert found == Found(6, "small", ("one more", "one more", "falls"))


def test_the_search_finds_a_state_with_no_way_to_the_end_unless_it_is_excused() -> None:
    found = explore(0, _count, properties=[], is_done=lambda n: n == 4, is_excused=lambda _: False)
    assert found == Found(6, NO_END, ("one more", "one more", "falls"))
    assert explore(0, _count, properties=[], is_done=lambda n: n == 4, is_excused=lambda n: n == 9) == Found(6)


def test_no_fault_is_needed_to_come_to_the_end() -> None:
    found = explore(0, _count, properties=[], is_done=lambda n: n == 9, is_excused=lambda _: False)
    assert found.broken == NO_END
