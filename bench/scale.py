"""Reading a ledger of a million tasks against reading one of a thousand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from bench import data
from bench.measure import ISSUE, Command, medians, report

SIZES = (1_000, 1_000_000)

READS = {
    "status": ["status"],
    "list": ["list"],
    "list --json": ["list", "--json"],
    "list --repo": ["list", "--repo", "acme/infra-7"],
    "list --label": ["list", "--label", "OPS"],
    "list --label, of none": ["list", "--label", "disk"],
    "list --state failed": ["list", "--state", "failed"],
    "list --priority high": ["list", "--priority", "high"],
    "list --source": ["list", "--source", "backup-missed"],
    "list --source-type, of none": ["list", "--source-type", "instruction"],
    "list --since 1h": ["list", "--since", "1h"],
    "list --since, of none": ["list", "--since", "2100-01-01"],
    "list --until, of none": ["list", "--until", "2000-01-01"],
    "list --in-doubt, of none": ["list", "--in-doubt"],
}


def run(folder: Path) -> bool:
    """Print the ratios; gives whether every promise was kept."""
    ledgers = [ledger(folder / f"scale-{n}" / "ledger.db", data.taskspecs(n)) for n in SIZES]
    kept = True
    for name, argv in _commands():
        small, large = medians([Command(argv, _environment(path)) for path in ledgers], runs=7)
        kept &= report(f"{name}, 1,000,000 : 1,000 tasks", large / small, promise="<= 2", kept=large / small <= 2)
    return kept


def ledger(path: Path, documents: Iterable[bytes]) -> Path:
    """A ledger of these documents, stored in batches as a bulk ingest does."""
    from issue_core import Ledger, ingest

    documents = iter(documents)
    with Ledger(path) as store:
        while batch := list(islice(documents, 10_000)):
            ingest(store, batch)
    return path


def _environment(path: Path) -> dict[str, str]:
    return {"ISSUE_CORE_LEDGER": str(path), "ISSUE_CORE_CONFIG": ""}


def _commands() -> Iterator[tuple[str, list[str]]]:
    for name, words in READS.items():
        yield f"issue {name}", [ISSUE, *words]
    event_id = json.loads(next(data.taskspecs(1)))["triggering_event_id"]  # the same in a ledger of any size
    yield "issue show, by 12 characters", [ISSUE, "show", event_id[:12]]
    yield "issue export | head -n 1", ["sh", "-c", '"$0" export | head -n 1', ISSUE]
