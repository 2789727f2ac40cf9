"""Sync to the local backend against a bare loop that writes the same files equally durably."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import data
from bench.measure import ISSUE, PYTHON, Command, medians, report

TASKS = 1_000

BARE = """
import json, os, sys
folder = sys.argv[1]
os.makedirs(folder)
for line in sys.stdin:
    spec = json.loads(line)
    path = os.path.join(folder, spec["triggering_event_id"] + ".md")
    with open(path + ".tmp", "w") as file:
        file.write(spec["title"] + "\\n\\n" + spec["description"])
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".tmp", path)
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
"""


def run(folder: Path) -> bool:
    """Print the ratio. No promise rests on it; it shows what the attempts and outcomes cost on disk."""
    lines = data.write(folder / "sync.ndjson", TASKS)
    home = folder / "sync"
    env = {"ISSUE_CORE_LEDGER": str(home / "ledger.db"), "ISSUE_CORE_CONFIG": ""}

    def fill() -> None:
        from issue_core import Ledger, ingest

        shutil.rmtree(home, ignore_errors=True)
        with Ledger(home / "ledger.db") as ledger, lines.open("rb") as file:
            ingest(ledger, list(file))

    files = folder / "files"
    bare = Command([PYTHON, "-c", BARE, str(files)], {}, lines, lambda: shutil.rmtree(files, ignore_errors=True))
    bare_s, ours_s = medians([bare, Command([ISSUE, "sync"], env, None, fill)], runs=3)
    beside = f"({TASKS / ours_s:,.0f} issues/s; bare loop {TASKS / bare_s:,.0f})"
    return report(
        "sync of 1,000 to files : bare durable writes", bare_s / ours_s, promise="-", kept=True, beside=beside
    )
