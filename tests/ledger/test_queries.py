"""Queries answer what a plain look at every task would, and find a task by whatever a person calls it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from issue_core.errors import NotFound, UsageError
from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, facets, outbox, outcomes, queries
from issue_core.ledger.queries import Filter
from issue_core.task import STATES, Task, to_text
from tests.support.clock import MovedClock
from tests.support.specs import UUID_SPELLINGS, a_spec, an_event_id, written

LABELS = ["ops", "Ops", "straße", "STRASSE", "\u0130", "i", "\u017f", "S", "a,b", "a"]
REPOS = ["acme/web", "acme/Web", "acme/we", "é"]
SOURCES = ["disk-watch", "disk", "\u0130"]

spec_parts = st.fixed_dictionaries(
    {},
    optional={
        "target_repo": st.sampled_from(REPOS),
        "priority": st.sampled_from(["high", "medium", "low"]),
        "labels": st.lists(st.sampled_from(LABELS), max_size=3),
        "source_id": st.sampled_from(SOURCES),
        "source_type": st.sampled_from(["rule", "instruction"]),
    },
)
moves = st.lists(
    st.tuples(st.integers(1, 20), st.sampled_from(["fail", "link", "retry", "forget", "doubt"])), max_size=12
)
times = st.integers(0, 6).map(lambda n: f"2026-03-01T09:0{n}:00.000Z")


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


filters = st.builds(
    Filter,
    state=maybe(st.sampled_from(STATES)),
    repo=maybe(st.sampled_from([*REPOS, "none"])),
    priority=maybe(st.sampled_from(["high", "low"])),
    label=maybe(st.sampled_from([*LABELS, "OPS", "none", ""])),
    source=maybe(st.sampled_from(SOURCES)),
    source_type=maybe(st.sampled_from(["rule", "instruction"])),
    backend=maybe(st.sampled_from(["work", "home"])),
    in_doubt=maybe(st.just(True)),
    created_since=maybe(times),
    created_until=maybe(times),
    after=maybe(st.integers(0, 21)),
)


def is_chosen(task: Task, chosen: Filter) -> bool:
    """What a filter means, in its plainest form."""
    return (
        chosen.state in (None, task.state)
        and chosen.repo in (None, task.target_repo)
        and chosen.priority in (None, task.priority)
        and (chosen.label is None or chosen.label.casefold() in [label.casefold() for label in task.labels])
        and chosen.source in (None, task.source_id)
        and chosen.source_type in (None, task.source_type)
        and chosen.backend in (None, task.backend)
        and (not chosen.in_doubt or task.in_doubt_since is not None)
        and (chosen.created_since is None or task.created_at >= chosen.created_since)
        and (chosen.created_until is None or task.created_at < chosen.created_until)
        and (chosen.after is None or task.seq > chosen.after)
    )


def move(ledger: Ledger, seq: int, how: str) -> None:
    """Change a task's state as the sync engine and people do."""
    issue = {"id": "1", "url": "https://example.org/1", "project": "p"}
    with ledger.write() as tx:
        if how == "fail":
            outcomes.fail(tx, seq, "refused", "no", doubt_ends=True)
        elif how == "link":
            outcomes.link(tx, seq, ("work", "home")[seq % 2], issue=issue, notes=(), adopted=False, attempt=None)
        elif how == "retry":
            outbox.retry(tx, [seq])
        elif how == "doubt":
            tx.connection.execute("UPDATE tasks SET in_doubt_since = ? WHERE seq = ?", (tx.now, seq))
        else:
            for state in STATES:
                facets.forget_empty(tx, state, seq // facets.BLOCK)


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.lists(spec_parts, max_size=8), max_size=5),
    moved=moves,
    asked=st.lists(filters, min_size=6, max_size=6),
    block=st.sampled_from([1, 2, 3, 7, facets.BLOCK]),
)
def test_a_filter_gives_the_tasks_that_a_look_at_each_of_them_would(
    batches: list[list[dict[str, Any]]], moved: list[tuple[int, str]], asked: list[Filter], block: int
) -> None:
    clock = MovedClock()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(facets, "BLOCK", block)
        with Ledger(Path(folder, "ledger.db"), clock=clock) as ledger:
            for batch in batches:
                ingest(ledger, [written(a_spec(**parts)) for parts in batch])
                clock.move(60)
            for seq, how in moved:
                if seq <= sum(map(len, batches)):
                    move(ledger, seq, how)
            with ledger.read() as connection:
                every = [queries.task(connection, seq + 1) for seq in range(sum(map(len, batches)))]
                for chosen in asked:
                    expected = [task for task in every if is_chosen(task, chosen)]
                    assert list(queries.tasks(connection, chosen, limit=None, newest_first=False)) == expected
                    newest = list(queries.tasks(connection, chosen, limit=2, newest_first=True))
                    assert newest == expected[::-1][:2]
                _assert_counted(queries.counts(connection), every)
                assert queries.repos(connection) == sorted({task.target_repo for task in every})
                for state in STATES:
                    assert set(queries.repos_in(connection, state)) == {
                        t.target_repo for t in every if t.state == state
                    }


def _assert_counted(counts: queries.Counts, every: list[Task]) -> None:
    states = Counter(task.state for task in every)
    assert counts.total == len(every)
    assert counts.states == dict.fromkeys(STATES, 0) | states
    assert _flat(counts.backends) == Counter((task.backend or "", task.state) for task in every)
    assert _flat(counts.repos) == Counter((task.target_repo, task.state) for task in every)
    assert counts.oldest_pending_at == next((task.created_at for task in every if task.state == "pending"), None)


def _flat(nested: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(name, state): n for name, states in nested.items() for state, n in states.items()}


def test_blocks_meet_where_batches_cross_them(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        for n in range(3):
            ingest(ledger, [written(a_spec(source_id=f"s{n}")) for _ in range(facets.BLOCK - 24)])
        with ledger.read() as connection:
            for n in range(3):
                found = list(queries.tasks(connection, Filter(source=f"s{n}"), limit=None, newest_first=False))
                assert [task.seq for task in found] == list(range(1000 * n + 1, 1000 * n + 1001))


def test_a_query_reads_only_what_it_gives_back(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ingest(ledger, [written(a_spec()) for _ in range(50)])
        with ledger.read() as connection:
            rows: list[str] = []
            found = queries.tasks(connection, Filter(), limit=None, newest_first=True)
            assert [next(found).seq, next(found).seq] == [50, 49]
            connection.set_trace_callback(rows.append)
            assert next(queries.tasks(connection, Filter(repo="none"), limit=5, newest_first=True), None) is None
            connection.set_trace_callback(None)
    assert not any("FROM tasks" in row for row in rows)


def test_a_filter_that_is_no_text_chooses_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ingest(ledger, [written(a_spec())])
        with ledger.read() as connection:
            for chosen in (Filter(repo="caf\udce9"), Filter(label="\udce9"), Filter(backend="\udce9")):
                assert list(queries.tasks(connection, chosen, limit=None, newest_first=True)) == []


# --- finding one task -----------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


def store(ledger: Ledger, *event_ids: str) -> None:
    ingest(ledger, [written(a_spec(triggering_event_id=event_id)) for event_id in event_ids])


def find(ledger: Ledger, wanted: str) -> int:
    with ledger.read() as connection:
        return queries.find(connection, wanted)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.uuids().map(str), min_size=2, max_size=12, unique=True))
def test_a_task_is_found_by_every_beginning_that_is_its_own(event_ids: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "ledger.db")) as ledger:
        store(ledger, *event_ids)
        for seq, event_id in enumerate(event_ids, 1):
            for length in range(4, 37):
                _assert_found(ledger, event_ids, seq, event_id[:length])
                _assert_found(ledger, event_ids, seq, event_id.replace("-", "").upper()[: length - 4])


def _assert_found(ledger: Ledger, event_ids: list[str], seq: int, wanted: str) -> None:
    if wanted.isdigit() or len(wanted) < 4:
        return
    bare = wanted.replace("-", "").lower()
    alike = [event_id for event_id in event_ids if event_id.replace("-", "").startswith(bare)]
    if len(alike) == 1:
        assert find(ledger, wanted) == seq
    else:
        with pytest.raises(UsageError, match="could be any of"):
            find(ledger, wanted)


@pytest.mark.parametrize("spell", UUID_SPELLINGS)
def test_a_task_is_found_by_any_spelling_of_its_event_id(ledger: Ledger, spell: Any) -> None:
    store(ledger, an_event_id(1), an_event_id(2))
    assert find(ledger, spell(an_event_id(2))) == 2


def test_digits_alone_are_a_seq_and_else_the_beginning_of_an_event_id(ledger: Ledger) -> None:
    store(ledger, "12345678-1234-4234-8234-123456789012", "00000002-0000-4000-8000-000000000000")
    assert [find(ledger, wanted) for wanted in ("1", "2", "0002", "12345678", "123456781")] == [1, 2, 2, 1, 1]
    assert find(ledger, "12345678123442348234123456789012") == 1
    for wanted in ("3", "0", "1234", "9" * 18, "9" * 19, "9" * 32, "\u0661"):
        with pytest.raises((NotFound, UsageError)):
            find(ledger, wanted)


@pytest.mark.parametrize("wanted", ["", "a", "abc", "{}", "-", "urn:uuid:", "urn:uuid:ab"])
def test_what_is_too_short_to_tell_is_told(ledger: Ledger, wanted: str) -> None:
    with pytest.raises(UsageError, match="too short") as caught:
        find(ledger, wanted)
    assert caught.value.hint


@pytest.mark.parametrize(
    "wanted", ["abcd", "caf\udce9", "\ud800" * 9, "%%%%", "____", "a'; --", "\0\0\0\0", "é" * 40, "zzzz*"]
)
def test_what_nothing_begins_with_is_not_found(ledger: Ledger, wanted: str) -> None:
    store(ledger, an_event_id(1))
    with pytest.raises(NotFound) as caught:
        find(ledger, wanted)
    assert caught.value.hint


def test_what_is_longer_than_an_event_id_is_none(ledger: Ledger) -> None:
    store(ledger, an_event_id(1))
    for wanted in (an_event_id(1) + "0", an_event_id(1).replace("-", "") + "0", an_event_id(1) + "-"):
        with pytest.raises(NotFound):
            find(ledger, wanted)


def test_what_could_be_several_is_told_with_a_few_of_them(ledger: Ledger) -> None:
    event_ids = [f"abcdef0{n}-0000-4000-8000-000000000000" for n in range(9)]
    store(ledger, *event_ids)
    with pytest.raises(UsageError) as caught:
        find(ledger, "ABCD")
    assert str(caught.value) == f"'ABCD' could be any of {', '.join(event_ids[:5])}, …"
    with pytest.raises(UsageError) as caught:
        find(ledger, "abcdef0")
    assert caught.value.hint


def test_a_task_that_is_not_there_is_not_found(ledger: Ledger) -> None:
    with ledger.read() as connection, pytest.raises(NotFound, match="no task 1"):
        queries.task(connection, 1)


def test_since_and_until_are_the_beginning_and_the_end_of_a_span(ledger: Ledger) -> None:
    clock = MovedClock()
    ledger.clock = clock
    store(ledger, an_event_id(1))
    now = to_text(clock.now())
    clock.move(0.001)
    later = to_text(clock.now())
    with ledger.read() as connection:
        asked = [Filter(created_since=now), Filter(created_since=later), Filter(created_until=now)]
        asked.append(Filter(created_since=now, created_until=later))
        found = [len(list(queries.tasks(connection, each, limit=None, newest_first=True))) for each in asked]
    assert found == [1, 0, 0, 1]


def test_a_clock_that_went_back_hides_no_task(ledger: Ledger) -> None:
    clock = MovedClock()
    ledger.clock = clock
    store(ledger, an_event_id(1))
    began = to_text(clock.now())
    clock.jump(-3600)
    earlier = to_text(clock.now())
    store(ledger, an_event_id(2))
    with ledger.read() as connection:
        since = list(queries.tasks(connection, Filter(created_since=earlier), limit=None, newest_first=False))
        until = list(
            queries.tasks(connection, Filter(created_until="2026-03-01T08:30:00.000Z"), limit=9, newest_first=True)
        )
        recent = list(queries.tasks(connection, Filter(created_since=began), limit=None, newest_first=False))
    assert [task.seq for task in since] == [1, 2]
    assert [task.seq for task in until] == [2]
    assert [task.seq for task in recent] == [1]


def _undo_a_task_of(ledger: Ledger, repo: str) -> None:
    with ledger.write() as tx:
        spec = queries.spec_of(queries.task(tx.connection, 1))._replace(target_repo=repo)
        facets.add(tx, 2, "pending", [spec])
        assert tx.connection.execute("SELECT count(*) FROM facets WHERE value = ?", (repo,)).fetchone() == (1,)
        raise NotFound("the transaction is undone")


def test_a_value_whose_first_task_was_undone_is_found_when_the_next_one_is_stored(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ingest(ledger, [written(a_spec())])
        with pytest.raises(NotFound):
            _undo_a_task_of(ledger, "acme/new")
        ingest(ledger, [written(a_spec(triggering_event_id=an_event_id(2), target_repo="acme/new"))])
        with ledger.read() as connection:
            found = queries.tasks(connection, Filter(repo="acme/new"), limit=None, newest_first=False)
            assert [task.seq for task in found] == [2]
