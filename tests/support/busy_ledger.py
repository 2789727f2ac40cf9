"""A ledger as it looks on a bad day: tasks in every state, long titles, refusals, what is parked, rejects."""

from __future__ import annotations

from datetime import timedelta
from itertools import cycle, islice
from typing import Any

from issue_core.ingestion import ingest
from issue_core.ledger import Ledger, limits, outcomes
from issue_core.task import Document, Place
from tests.support.clock import MovedClock
from tests.support.specs import a_spec, an_event_id, written

TITLES = (
    "Disk /var on web-03 is at 93 %",
    "Certificate of shop.example.org ends in 12 days",
    "Backup of the ledger database has not run since Friday night",
    "TLS handshake errors on the edge: 4.2 % of requests from eu-central, rising since the last rollout of the proxy",
    "x" * 250,
    "Nightly build of billing is red",
    "Rotate the deploy key of acme/infrastructure",
    "قرص الخادم ممتلئ تقريبًا",
    "Customers report blank invoices <b>after</b> the update & cannot download them",
    "Queue lag above 15 min",
)
REPOS = ("acme/web", "acme/billing", "acme/infrastructure-as-code-for-the-edge", "notes")
DESCRIPTION = """# Usage

`/var` is at **93 %** and grows by 2 % an hour.

- [ ] remove old kernels
- [ ] ask why the journal is not rotated

    Filesystem      Size  Used Avail Use% Mounted on
    /dev/nvme0n1p3   98G   87G  6.4G  93% /var
"""

REFUSAL = "422 Unprocessable Content: labels: 'ops' is no label of this project; assignees: the list is empty"


def fill(ledger: Ledger, clock: MovedClock) -> None:
    """Fill an empty ledger: 72 tasks, of which 3 failed, 48 synced, 21 pending; rejects; a parked backend."""
    for n, title in enumerate(islice(cycle(TITLES), 72)):
        ingest(ledger, [written(_spec(n, title))], transport="rest" if n % 3 else "cli")
        clock.move(731)
    _sync(ledger)
    clock.move(240)
    _refuse(ledger)
    clock.move(95)


def _spec(n: int, title: str) -> dict[str, Any]:
    return a_spec(
        title=title,
        target_repo=REPOS[n % len(REPOS)],
        triggering_event_id=an_event_id(n),
        priority=("medium", "high", "low", "medium")[n % 4],
        labels=["disk", "ops", f"host-{n % 3}"],
        due_in_days=n % 5 or None,
        description=DESCRIPTION,
        team="platform",
    )


def _sync(ledger: Ledger) -> None:
    for seq in range(1, 52):
        if seq in (17, 40, 51):
            continue
        backend = ("work", "desk")[seq % 2]
        issue = {
            "id": f"{1000 + seq}",
            "url": f"https://git.example.org/acme/web/issues/{1000 + seq}",
            "project": "acme/web",
        }
        if backend == "desk":
            issue = {"id": f"OPS-{seq}", "url": f"https://desk.example.org/browse/OPS-{seq}", "project": "OPS"}
        if seq % 11 == 0:
            issue = {"id": f"00{seq}-disk.md", "url": f"file:///home/ops/issues/00{seq}-disk.md", "project": "notes"}
        with ledger.write() as tx:
            outcomes.link(tx, seq, backend, issue=issue, notes=(), adopted=seq % 7 == 0, attempt=seq)
    with ledger.write() as tx:
        outcomes.fail(tx, 17, "refused", REFUSAL, doubt_ends=True)
        outcomes.fail(tx, 40, "refused", "403 Forbidden: issues are disabled for this repository", doubt_ends=True)
        outcomes.fail(tx, 51, "try_later", "503: the tracker is in maintenance (try 12 of 12)", doubt_ends=True)
        tx.connection.execute("UPDATE tasks SET in_doubt_since = ?, backend = 'work' WHERE seq = 70", (tx.now,))
        tx.connection.execute("UPDATE tasks SET next_attempt_at = '2026-03-02T00:00:00.000Z' WHERE seq = 71")
        in_an_hour = tx.moment + timedelta(hours=1)
        reason = "401 Unauthorized: the token ended on 2026-02-28"
        limits.park(tx, "desk", "", code="credentials", reason=reason, until=in_an_hour)
        limits.park(tx, "work", "acme/gone", code="project", reason="404: no such repository", until=in_an_hour)
        limits.limit(tx, "work", tx.moment + timedelta(minutes=18), "5000 requests an hour (X-RateLimit-Reset)")


def _refuse(ledger: Ledger) -> None:
    inputs = [
        (b'{"title": ""}', Place("/var/spool/activity/tasks-2026-03-01.ndjson", 12)),
        (b"not JSON at all", Place("-", 3)),
        (written(a_spec(title="Something else", triggering_event_id=an_event_id(3))), Place("tasks.json", None, 7)),
        (written(a_spec(labels=["y" * 51], priority="urgent", due_in_days=-1, source_type="cron")), Place()),
    ]
    for raw, place in inputs:
        ingest(ledger, [Document(raw, place)], transport="cli" if place.file else "rest")
    for _ in range(6):
        ingest(ledger, [Document(inputs[1][0], inputs[1][1])])
    ingest(ledger, [written(_spec(n, TITLES[n])) for n in range(5)], transport="rest")
