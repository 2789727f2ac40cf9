"""What Prometheus is shown can be read by its own parser, adds up, survives a restart, and is all in the docs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from issue_core import Ledger, ingest
from issue_core.ledger import limits, rejects
from issue_core.task import OUTCOMES, STATES, TRANSPORTS, Transport
from issue_core.transports import metrics
from issue_core.transports.metrics import Durations
from issue_core.version import __version__
from tests.docs.pages import ROOT, rows_under
from tests.support.specs import a_spec, written
from tests.support.tracker import Fault
from tests.sync_engine.rig import SOON, Rig, a_backend

PAGE = ROOT / "docs" / "reference" / "metrics.md"

Samples = Mapping[tuple[str, ...], float]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A ledger and a tracker, and a clock that stands still."""
    rig = Rig(tmp_path, monkeypatch)
    yield rig
    rig.close()


def families(text: str) -> dict[str, Metric]:
    """The metrics in ``text``; each sample must be there once."""
    assert text.endswith("\n")
    found = list(text_string_to_metric_families(text))
    samples = [(sample.name, *sorted(sample.labels.items())) for family in found for sample in family.samples]
    assert len(set(samples)) == len(samples)
    by_name = {family.name: family for family in found}
    assert len(by_name) == len(found)
    return by_name


def samples(ledger: Ledger, metric: metrics.Metric) -> Samples:
    """The metric's samples: the values of its labels, in their order → the number."""
    family = families(metrics.text(ledger))[metric.name.removesuffix("_total")]
    assert {sample.name for sample in family.samples} <= {metric.name}
    return {tuple(sample.labels[label] for label in metric.labels): sample.value for sample in family.samples}


def a_mixed_ingest(ledger: Ledger, transport: Transport = "cli") -> None:
    """Three created, one duplicate, one conflict, two invalid."""
    spec = a_spec()
    documents = [spec, spec, a_spec(), spec | {"title": "other"}, a_spec()]
    ingest(ledger, [*map(written, documents), b"{", b"[]"], transport=transport)


def test_a_ledger_that_is_not_there_yet_has_every_count_at_zero(tmp_path: Path) -> None:
    with Ledger(tmp_path / "none.db") as ledger:
        assert samples(ledger, metrics.RECEIVED) == {(way, outcome): 0 for way in TRANSPORTS for outcome in OUTCOMES}
        assert samples(ledger, metrics.TASKS) == {(state,): 0 for state in STATES}
        assert samples(ledger, metrics.REJECTS) == {("open",): 0, ("replayed",): 0, ("dropped",): 0}
        assert samples(ledger, metrics.OLDEST_PENDING) == {(): 0}
        assert samples(ledger, metrics.BUILD_INFO) == {(__version__,): 1}
        assert samples(ledger, metrics.ATTEMPTS) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_counters_add_up_after_a_mixed_ingest(rig: Rig) -> None:
    a_mixed_ingest(rig.ledger, "cli")
    a_mixed_ingest(rig.ledger, "rest")
    rig.tracker.will(Fault("refused"))
    rig.sync(limit=3)
    received = samples(rig.ledger, metrics.RECEIVED)
    for way in ("cli", "rest"):
        assert [received[way, outcome] for outcome in OUTCOMES][:3] == [3, 1, 1]
        assert received[way, "invalid"] == 2
    created = sum(n for (_, outcome), n in received.items() if outcome == "created")
    tasks = samples(rig.ledger, metrics.TASKS)
    assert sum(tasks.values()) == created == 6
    assert (tasks["synced",], tasks["failed",]) == (2, 1)


def test_rejects_are_counted_by_what_a_person_did_with_them(rig: Rig) -> None:
    a_mixed_ingest(rig.ledger)
    with rig.ledger.write() as tx:
        rejects.close(tx, 2, "dropped")
        rejects.close(tx, 3, "replayed")
    assert samples(rig.ledger, metrics.REJECTS) == {("open",): 1, ("replayed",): 1, ("dropped",): 1}


def test_the_oldest_pending_task_ages(rig: Rig) -> None:
    rig.ingest(2)
    rig.clock.move(12.5)
    assert samples(rig.ledger, metrics.OLDEST_PENDING) == {(): 12.5}


def test_attempts_begun_are_those_with_a_known_outcome_and_those_in_doubt(rig: Rig) -> None:
    rig.configure(backends=[a_backend(), a_backend("other")], routes=(("other/*", "other"),))
    rig.ingest(4)
    rig.ingest(1, repo="other/api")
    rig.tracker.will(Fault("unknown_after", project="acme/web"), Fault("refused", project="acme/web"))
    rig.sync()
    assert samples(rig.ledger, metrics.ATTEMPTS_BEGUN) == {("work",): 4, ("other",): 1}
    assert samples(rig.ledger, metrics.ATTEMPTS_UNKNOWN) == {("work",): 1, ("other",): 0}
    assert samples(rig.ledger, metrics.IN_DOUBT) == {("work",): 1, ("other",): 0}
    known = {("work", "created"): 2, ("work", "refused"): 1, ("other", "created"): 1}
    assert samples(rig.ledger, metrics.ATTEMPTS) == known
    rig.clock.move(SOON)
    rig.sync()
    assert samples(rig.ledger, metrics.ATTEMPTS) == known | {("work", "found"): 1}
    assert samples(rig.ledger, metrics.IN_DOUBT) == {("work",): 0, ("other",): 0}


def test_a_restart_changes_nothing(rig: Rig) -> None:
    a_mixed_ingest(rig.ledger)
    rig.tracker.will(Fault("unknown_before"))
    rig.sync()
    before = metrics.text(rig.ledger)
    rig.ledger.close()
    with Ledger(rig.ledger.path, clock=rig.clock) as again:
        assert metrics.text(again) == before


def test_what_is_parked_is_there_with_the_time_of_its_next_probe_until_a_probe_goes_well(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(Fault("credentials"))
    rig.sync()
    [until] = [parked.until for parked in rig.parked().values()]
    assert samples(rig.ledger, metrics.PARKED) == {("work", limits.WHOLE_BACKEND, "credentials"): 1}
    assert samples(rig.ledger, metrics.PARKED_UNTIL) == {("work", limits.WHOLE_BACKEND): until.timestamp()}
    rig.clock.move(4000)
    rig.sync()
    assert samples(rig.ledger, metrics.PARKED) == samples(rig.ledger, metrics.PARKED_UNTIL) == {}


def test_a_trackers_limit_is_there_with_its_end(rig: Rig) -> None:
    rig.ingest()
    rig.tracker.will(Fault("limited", retry_after=40_000.0))
    rig.sync()
    until = rig.clock.now().timestamp() + 40_000
    assert samples(rig.ledger, metrics.LIMITED_UNTIL) == {("work",): until}


ODD = ('"', "\\", "\n", "\\n", 'a"} 7\n# TYPE x counter\nx 1', "{}", " ", "é 😀", "a,b=c", "\\\\\n", "\r", "\u2028")


@pytest.mark.parametrize("name", ODD)
def test_a_name_with_odd_characters_comes_through_and_makes_no_line_of_its_own(rig: Rig, name: str) -> None:
    with rig.ledger.write() as tx:
        limits.park(tx, name, f"{name}/{name}", code="project", reason="gone", until=rig.clock.now())
    assert samples(rig.ledger, metrics.PARKED) == {(name, f"{name}/{name}", "project"): 1}


def test_every_metric_is_shown_with_its_type_and_its_meaning(rig: Rig) -> None:
    shown = families(metrics.text(rig.ledger, Durations()))
    assert {family.name: (family.type, family.documentation) for family in shown.values()} == {
        metric.name.removesuffix("_total"): (metric.kind, metric.meaning) for metric in metrics.METRICS
    }


def test_without_a_server_there_are_no_durations(rig: Rig) -> None:
    assert metrics.DURATIONS.name not in metrics.text(rig.ledger)


# --- durations -------------------------------------------------------------------------------------------------------


def observed(durations: Durations) -> dict[tuple[str, ...], float]:
    """The histogram's samples: the part, then method, route, status, and the bound of a bucket → the number."""
    text = "\n".join([f"# TYPE {metrics.DURATIONS.name} histogram", *durations.lines(), ""])
    family = families(text)[metrics.DURATIONS.name]
    return {
        (sample.name.removeprefix(f"{metrics.DURATIONS.name}_"), *sample.labels.values()): sample.value
        for sample in family.samples
    }


@given(st.lists(st.floats(0, 20) | st.sampled_from(metrics.BUCKETS), min_size=1, max_size=30))
def test_each_bucket_has_every_request_that_took_no_longer_than_its_bound(seconds: list[float]) -> None:
    durations = Durations()
    for each in seconds:
        durations.observe("GET", "/issues", 200, each)
    shown = observed(durations)
    for bound in (*metrics.BUCKETS, float("inf")):
        name = "+Inf" if bound == float("inf") else str(bound)
        assert shown["bucket", "GET", "/issues", "200", name] == sum(each <= bound for each in seconds)
    assert shown["count", "GET", "/issues", "200"] == len(seconds)
    assert shown["sum", "GET", "/issues", "200"] == pytest.approx(sum(seconds))


def test_requests_are_told_apart_by_method_route_and_status() -> None:
    durations = Durations()
    for method, route, status in (("GET", "/a", 200), ("POST", "/a", 200), ("GET", "/b", 200), ("GET", "/a", 404)):
        durations.observe(method, route, status, 0.5)
    counts = [n for labels, n in observed(durations).items() if labels[0] == "count"]
    assert counts == [1] * 4


def test_methods_that_a_client_makes_up_share_one_series() -> None:
    durations = Durations()
    for n in range(50):
        durations.observe(f"X{n}", "/issues", 405, 0.1)
    assert observed(durations)["count", metrics.OTHER_METHOD, "/issues", "405"] == 50


class Overtaken(str):
    """A route at which another thread comes by, between the look for its counts and the write of new ones."""

    __slots__ = ("lookups", "other")
    lookups: int
    other: threading.Thread

    def __hash__(self) -> int:
        self.lookups += 1
        if self.lookups == 2:
            self.other.start()
            self.other.join(timeout=0.05)  # it gets through at once if nothing makes it wait
        return super().__hash__()


def test_a_request_that_another_thread_counts_meanwhile_is_not_lost() -> None:
    durations = Durations()
    route = Overtaken("/issues")
    route.lookups = 0
    route.other = threading.Thread(target=durations.observe, args=("POST", "/issues", 201, 0.25))
    durations.observe("POST", route, 201, 0.25)
    route.other.join()
    shown = observed(durations)
    assert shown["count", "POST", "/issues", "201"] == 2
    assert shown["sum", "POST", "/issues", "201"] == 0.5


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_has_every_metric_with_its_type_labels_and_meaning_in_their_order() -> None:
    documented = [
        (name.strip("`"), kind, tuple(label.strip(" `") for label in labels.split(",") if label), meaning)
        for name, kind, labels, meaning in rows_under(PAGE, "Every metric")
    ]
    assert documented == list(metrics.METRICS)


def test_the_page_explains_every_label_once() -> None:
    documented = [cells[0].strip("`") for cells in rows_under(PAGE, "Labels")]
    assert sorted(documented) == sorted({label for metric in metrics.METRICS for label in metric.labels})
