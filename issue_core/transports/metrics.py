"""The ledger's counters and this process's request durations as Prometheus reads them.

The format is the text format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, product
from typing import Literal, NamedTuple

from issue_core.ledger import Ledger, metrics
from issue_core.ledger.metrics import BEGUN, UNKNOWN, Reading
from issue_core.task import OUTCOMES, TRANSPORTS
from issue_core.version import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What an answer with :func:`text` says it is."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the histogram's buckets, in seconds; the last one, without a bound, comes on top."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""The methods that are told apart (RFC 9110, RFC 5789): a client can make up any number of others."""

OTHER_METHOD = "other"

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One metric: its name, its type, the names of its labels, and what it means."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


BUILD_INFO = Metric("issue_core_build_info", "gauge", ("version",), "Always 1; the label says which release runs.")
RECEIVED = Metric(
    "issue_core_received_total", "counter", ("transport", "outcome"), "Receipts ever given, dry runs apart."
)
TASKS = Metric("issue_core_tasks", "gauge", ("state",), "Tasks in each state.")
REJECTS = Metric("issue_core_rejects", "gauge", ("state",), "Rejects in each state; the open ones wait for a person.")
OLDEST_PENDING = Metric(
    "issue_core_oldest_pending_age_seconds", "gauge", (), "How long the oldest pending task waits; 0 when none does."
)
ATTEMPTS_BEGUN = Metric(
    "issue_core_sync_attempts_started_total", "counter", ("backend",), "Attempts to make an issue ever written down."
)
ATTEMPTS = Metric(
    "issue_core_sync_attempts_total", "counter", ("backend", "result"), "Attempts whose outcome is known, by outcome."
)
ATTEMPTS_UNKNOWN = Metric(
    "issue_core_sync_attempts_unknown_total",
    "counter",
    ("backend",),
    "Attempts that ended without a known outcome, whatever came out later.",
)
IN_DOUBT = Metric(
    "issue_core_in_doubt", "gauge", ("backend",), "Tasks in doubt: an attempt is under way, or may have worked."
)
PARKED = Metric(
    "issue_core_parked", "gauge", ("backend", "project", "code"), "1 while a backend or a project is left alone."
)
PARKED_UNTIL = Metric(
    "issue_core_parked_until_timestamp_seconds",
    "gauge",
    ("backend", "project"),
    "When the next probe of what is parked is due, in Unix time.",
)
LIMITED_UNTIL = Metric(
    "issue_core_limited_until_timestamp_seconds",
    "gauge",
    ("backend",),
    "Until when the tracker itself wants no request, in Unix time; only while that holds.",
)
DURATIONS = Metric(
    "issue_core_http_request_duration_seconds",
    "histogram",
    ("method", "route", "status"),
    "How long answering a request took, since this process started.",
)

METRICS = (
    BUILD_INFO,
    RECEIVED,
    TASKS,
    REJECTS,
    OLDEST_PENDING,
    ATTEMPTS_BEGUN,
    ATTEMPTS,
    ATTEMPTS_UNKNOWN,
    IN_DOUBT,
    PARKED,
    PARKED_UNTIL,
    LIMITED_UNTIL,
    DURATIONS,
)
"""Every metric, in the order in which they are shown."""

Values = Mapping[tuple[str, ...], float]
"""The samples of a metric: the values of its labels → the number."""


class Durations:
    """How long requests took, by method, route and status: a histogram of this process. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, int], list[int]] = {}
        self._sums: dict[tuple[str, str, int], float] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. ``route`` is the pattern that it matched, never its path: each one is kept for good."""
        key = (method if method in METHODS else OTHER_METHOD, route, status)
        bucket = bisect_left(BUCKETS, seconds)
        with self._lock:
            counts = self._counts.get(key)
            if counts is None:
                counts = self._counts[key] = [0] * (len(BUCKETS) + 1)
                self._sums[key] = 0.0
            counts[bucket] += 1
            self._sums[key] += seconds

    def lines(self) -> Iterator[str]:
        """The samples, as Prometheus reads them."""
        with self._lock:
            series = [(key, tuple(counts), self._sums[key]) for key, counts in sorted(self._counts.items())]
        for (method, route, status), counts, total in series:
            values = (method, route, str(status))
            sums = list(accumulate(counts))
            for bound, n in zip((*map(str, BUCKETS), "+Inf"), sums, strict=True):
                yield _sample(f"{DURATIONS.name}_bucket", (*DURATIONS.labels, "le"), (*values, bound), n)
            yield _sample(f"{DURATIONS.name}_sum", DURATIONS.labels, values, total)
            yield _sample(f"{DURATIONS.name}_count", DURATIONS.labels, values, sums[-1])


def text(ledger: Ledger, durations: Durations | None = None) -> str:
    """Every metric in Prometheus's text format; the counters add up, for they are read from one state of the ledger.

    Raises:
        LedgerError: one of its subclasses.
    """
    with ledger.read() as connection:
        reading = metrics.read(connection, ledger.clock.now())
    lines: list[str] = []
    for metric, values in _from(reading):
        lines += samples(metric, values)
    if durations is not None:
        lines += _head(DURATIONS)
        lines += durations.lines()
    return "\n".join(lines) + "\n"


def samples(metric: Metric, values: Values) -> Iterator[str]:
    """The lines of one metric: what it means, and each of its samples."""
    yield from _head(metric)
    for labels, number in values.items():
        yield _sample(metric.name, metric.labels, labels, number)


def _from(reading: Reading) -> Iterator[tuple[Metric, Values]]:
    yield BUILD_INFO, {(__version__,): 1}
    every: dict[tuple[str, ...], float] = dict.fromkeys(product(TRANSPORTS, OUTCOMES), 0)
    yield RECEIVED, every | dict(reading.received.items())
    yield TASKS, _by_name(reading.states)
    yield REJECTS, _by_name(reading.rejects)
    yield OLDEST_PENDING, {(): reading.oldest_pending_age}
    yield from _attempts(reading.attempts)
    yield IN_DOUBT, _by_name(reading.in_doubt)
    yield PARKED, {(each.backend, each.project, each.code): 1 for each in reading.parked}
    yield PARKED_UNTIL, {(each.backend, each.project): each.until.timestamp() for each in reading.parked}
    yield LIMITED_UNTIL, {(backend,): until.timestamp() for backend, until in reading.limited.items()}


def _attempts(counts: Mapping[tuple[str, str], int]) -> Iterator[tuple[Metric, Values]]:
    backends = sorted({backend for backend, _ in counts})
    yield ATTEMPTS_BEGUN, {(backend,): counts.get((backend, BEGUN), 0) for backend in backends}
    yield ATTEMPTS, {labels: n for labels, n in counts.items() if labels[1] not in (BEGUN, UNKNOWN)}
    yield ATTEMPTS_UNKNOWN, {(backend,): counts.get((backend, UNKNOWN), 0) for backend in backends}


def _by_name(counts: Mapping[str, int]) -> Values:
    return {(name,): n for name, n in counts.items()}


def _head(metric: Metric) -> tuple[str, str]:
    meaning = metric.meaning.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {metric.name} {meaning}", f"# TYPE {metric.name} {metric.kind}"


def _sample(name: str, labels: Iterable[str], values: Iterable[str], number: float) -> str:
    shown = ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True))
    return f"{name}{{{shown}}} {number}" if shown else f"{name} {number}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
