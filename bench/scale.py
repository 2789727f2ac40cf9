"""Reading a ledger of a million tasks against reading one of a thousand."""

from __future__ import annotations

from pathlib import Path

from bench import data
from bench.measure import ISSUE, Command, medians, report

SIZES = (1_000, 1_000_000)

READS = {
    "issue list": ["list"],
    "issue list --repo": ["list", "--repo", "acme/infra-7"],
    "issue list --label": ["list", "--label", "OPS"],
    "issue list --state failed": ["list", "--state", "failed"],
    "issue list --priority high": ["list", "--priority", "high"],
    "issue status": ["status"],
}


def run(folder: Path) -> bool:
    """Print the ratios; gives whether every promise was kept."""
    ledgers = [_ledger(folder / f"scale-{n}" / "ledger.db", n) for n in SIZES]
    kept = True
    for name, arguments in READS.items():
        commands = [
            Command([ISSUE, *arguments], {"ISSUE_CORE_LEDGER": str(ledger), "ISSUE_CORE_CONFIG": ""})
            for ledger in ledgers
        ]
        small, large = medians(commands, runs=7)
        kept &= report(f"{name}, 1,000,000 tasks : 1,000", large / small, promise="<= 2", kept=large / small <= 2)
    return kept


def _ledger(path: Path, n: int) -> Path:
    from issue_core import Ledger, ingest

    with Ledger(path) as ledger:
        batch: list[bytes] = []
        for line in data.taskspecs(n):
            batch.append(line)
            if len(batch) == 10_000:
                ingest(ledger, batch)
                batch.clear()
        ingest(ledger, batch)
    return path
