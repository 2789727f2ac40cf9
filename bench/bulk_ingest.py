"""Bulk ingest against a bare loop: json.loads and executemany into one table with a unique key, equally durable."""

from __future__ import annotations

from pathlib import Path

from bench import data
from bench.measure import ISSUE, PYTHON, Command, medians, peak_mib, report

TASKS = 200_000

BARE = """
import itertools, json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA synchronous = FULL")
connection.execute("CREATE TABLE t (seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, body TEXT NOT NULL)")
while lines := list(itertools.islice(sys.stdin, 10000)):
    connection.execute("BEGIN IMMEDIATE")
    rows = ((json.loads(line)["triggering_event_id"], line) for line in lines)
    connection.executemany("INSERT OR IGNORE INTO t (event_id, body) VALUES (?, ?)", rows)
    connection.execute("COMMIT")
"""


def run(folder: Path) -> bool:
    """Print the ratios; gives whether every promise was kept."""
    lines = data.write(folder / "many.ndjson", TASKS)
    few = data.write(folder / "few.ndjson", TASKS // 10)
    bare_db, ledger = folder / "bare.db", folder / "bulk" / "ledger.db"
    env = {"ISSUE_CORE_LEDGER": str(ledger), "ISSUE_CORE_CONFIG": ""}
    bare = Command([PYTHON, "-c", BARE, str(bare_db)], {}, lines, lambda: _remove(bare_db))
    ours = Command([ISSUE, "ingest"], env, lines, lambda: _remove(ledger))
    bare_s, ours_s = medians([bare, ours], runs=3)
    ratio = bare_s / ours_s
    beside = f"({TASKS / ours_s:,.0f} tasks/s; bare loop {TASKS / bare_s:,.0f})"
    kept = report(
        "bulk ingest of 200,000 : bare json + executemany", ratio, promise=">= 0.6", kept=ratio >= 0.6, beside=beside
    )
    _remove(ledger)
    small = peak_mib([ISSUE, "ingest"], env, few)
    _remove(ledger)
    large = peak_mib([ISSUE, "ingest"], env, lines)
    flat = large / small
    beside = f"({small:.0f} MiB for 20,000 lines, {large:.0f} MiB for 200,000)"
    kept &= report(
        "peak memory, 200,000 lines : 20,000",
        flat,
        promise="<= 1.1, below 100 MiB",
        kept=flat <= 1.1 and large < 100,
        beside=beside,
    )
    return kept


def _remove(database: Path) -> None:
    for path in database.parent.glob(database.name + "*"):
        if path.is_file():
            path.unlink()
