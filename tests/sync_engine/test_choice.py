"""A run may be about some of the tasks only, or about none: then it says what it would do."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from issue_core import sync
from issue_core.errors import ConfigError, UsageError
from issue_core.sync_engine import Choice, Result
from tests.support.tracker import Fault
from tests.sync_engine.rig import SOON, Rig, a_backend


def databases(rig: Rig) -> dict[str, bytes]:
    """The digest of each database, by name. SQLite's files beside them come and go with readers too."""
    files = rig.ledger.path.parent.glob("*.db")
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in files}


def rehearse(rig: Rig, **choice: object) -> list[Result]:
    """A dry run, which must leave the ledger and the tracker as they are."""
    rig.ledger.close()
    before = databases(rig)
    calls = rig.tracker.calls()
    told: list[Result] = []
    rig.summary = sync(rig.ledger, rig.settings, choice=Choice(**choice), dry_run=True, tell=told.append)  # type: ignore[arg-type]
    rig.ledger.close()
    assert databases(rig) == before
    assert rig.tracker.calls() == calls
    return told


def test_a_limit_is_kept_over_all_backends(rig: Rig) -> None:
    rig.configure(backends=[a_backend(), a_backend("other")], routes=(("other/*", "other"),))
    rig.ingest(5, repo="acme/web")
    rig.ingest(5, repo="other/api")
    assert rig.outcomes(limit=4) == ["created"] * 4
    assert rig.outcomes(limit=100) == ["created"] * 6


def test_a_task_that_was_only_met_does_not_count_for_the_limit(rig: Rig) -> None:
    rig.configure(backends=[a_backend(max_in_flight=1)])
    rig.ingest(4)
    rig.tracker.will(Fault("unknown_before"))
    rig.sync(limit=1)
    assert rig.outcomes(limit=2) == ["deferred", "created", "created"]
    rig.clock.move(SOON)
    assert rig.outcomes(limit=1).count("created") == 1


def test_a_task_that_could_not_be_had_does_not_count_for_the_limit(rig: Rig) -> None:
    rig.configure(backends=[a_backend(max_in_flight=1)])
    rig.ingest(1, repo="acme/closed")
    rig.ingest(3, repo="acme/web")
    rig.tracker.will(Fault("project", project="acme/closed"))
    assert rig.outcomes(limit=2) == ["deferred", "created", "created"]


def test_a_filter_on_the_backend_leaves_the_others_alone(rig: Rig) -> None:
    rig.configure(backends=[a_backend(), a_backend("other")], routes=(("other/*", "other"),))
    rig.ingest(2, repo="acme/web")
    rig.ingest(2, repo="other/api")
    assert [result.backend for result in rig.sync(backend="other")] == ["other"] * 2
    assert {call.project for call in rig.tracker.calls("create")} == {"other/api"}


def test_a_backend_that_is_not_there_cannot_be_chosen(rig: Rig) -> None:
    rig.ingest()
    with pytest.raises(UsageError, match="'wrok'"):
        rig.sync(backend="wrok")


@pytest.mark.parametrize("route", [{"default_backend": "wrok"}, {"routes": (("x/*", "wrok"),)}])
def test_no_task_goes_to_a_backend_that_is_not_configured(rig: Rig, route: dict[str, Any]) -> None:
    rig.ingest()
    rig.configure(**route)
    with pytest.raises(ConfigError, match="'wrok'"):
        rig.sync()


@pytest.mark.parametrize("repo", ["acme/web", "acme/w*"])
def test_a_filter_on_the_repo_leaves_the_others_alone_also_those_in_doubt(rig: Rig, repo: str) -> None:
    rig.ingest(1, repo="acme/api")
    rig.tracker.will(Fault("unknown_after"))
    rig.sync()
    rig.clock.move(SOON)
    rig.ingest(2, repo="acme/web")
    assert rig.outcomes(repo=repo) == ["created"] * 2
    assert rig.tracker.calls("look") == []
    assert rig.outcomes() == ["adopted"]


def test_a_dry_run_says_what_goes_where_and_writes_nothing(rig: Rig) -> None:
    rig.configure(backends=[a_backend(), a_backend("other")], routes=(("other/*", "other"),))
    rig.ingest(1, repo="acme/web")
    rig.ingest(1, repo="other/api")
    first, second = rehearse(rig)
    assert (first.result, first.backend, first.reason) == ("planned", "work", "to acme/web at https://tracker.example")
    assert (second.result, second.backend) == ("planned", "other")
    assert [result.result for result in rehearse(rig, limit=1)] == ["planned"]
    assert [result.seq for result in rehearse(rig, repo="other/*")] == [2]
    assert [result.seq for result in rehearse(rig, backend="work")] == [1]


def test_a_dry_run_says_what_waits_and_for_what(rig: Rig) -> None:
    rig.configure(backends=[a_backend(max_in_flight=1)])
    rig.ingest(3)
    rig.tracker.will(Fault("unknown_after"), Fault("try_later", retry_after=500), Fault("unreachable"))
    told = rig.sync()
    in_doubt, waiting, parked = rehearse(rig)
    assert (in_doubt.result, "in doubt" in (in_doubt.reason or "")) == ("planned", True)
    assert (waiting.result, waiting.until, waiting.parked) == ("deferred", told[1].until, False)
    assert (parked.result, parked.until, parked.parked) == ("deferred", rig.parked()[""].until, True)


def test_a_dry_run_says_that_a_limit_is_waited_for(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(Fault("limited", retry_after=500))
    (told,) = rig.sync()
    (result,) = rehearse(rig)
    assert (result.result, result.until) == ("deferred", told.until)


def test_a_dry_run_without_a_ledger_makes_none(rig: Rig) -> None:
    assert rehearse(rig) == []
    assert not rig.ledger.path.exists()
    rig.ingest()


def test_a_backend_that_is_down_is_told_apart_from_one_that_is_slow(rig: Rig) -> None:
    """What waits says for what, and the summary says from when on it is worth another run."""
    rig.configure(backends=[a_backend(max_in_flight=1), a_backend("other")], routes=(("other/*", "other"),))
    rig.ingest(2, repo="acme/web")
    rig.ingest(1, repo="other/api")
    rig.tracker.will(replace(Fault("unreachable"), project="acme/web"), Fault("try_later", project="other/api"))
    *down, slow = rig.sync()
    assert {result.parked for result in down} == {True}
    assert not slow.parked
    assert rig.summary.next_at == slow.until
