"""One start of a command against a bare Typer command that does the least of the same, and a bare interpreter."""

from __future__ import annotations

import itertools
from pathlib import Path

from bench import data
from bench.measure import ISSUE, PYTHON, Command, medians, report

READS_ONE_ROW = """
import sqlite3, sys, typer
app = typer.Typer(add_completion=False)
@app.command()
def main(path: str):
    print(sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("SELECT * FROM tasks LIMIT 1").fetchone())
app()
"""

STORES_ONE = """
import sqlite3, sys, typer
app = typer.Typer(add_completion=False)
@app.command()
def main(path: str):
    from pydantic import BaseModel
    class Spec(BaseModel):
        title: str
        triggering_event_id: str
    spec = Spec.model_validate_json(sys.stdin.buffer.read())
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS t (event_id TEXT UNIQUE, body TEXT)")
    connection.execute("INSERT OR IGNORE INTO t VALUES (?, ?)", (spec.triggering_event_id, spec.title))
    print("ok")
app()
"""


def run(folder: Path) -> bool:
    """Print the ratios; gives whether every promise was kept."""
    ledger = folder / "start" / "ledger.db"
    env = {"ISSUE_CORE_LEDGER": str(ledger), "ISSUE_CORE_CONFIG": ""}
    one = folder / "one.json"
    events = itertools.count(10)

    def another() -> None:
        one.write_bytes(next(iter(data.taskspecs(1, seed=next(events)))))

    store = Command([ISSUE, "ingest"], env, one, another)
    bare_store = Command([PYTHON, "-c", STORES_ONE, str(folder / "one.db")], {}, one, another)
    status = Command([ISSUE, "status"], env)
    listing = Command([ISSUE, "list", "--limit", "5"], env)
    bare_read = Command([PYTHON, "-c", READS_ONE_ROW, str(ledger)], {})
    nothing = Command([PYTHON, "-c", "pass"], {})
    stored, bare_stored, told, listed, bare, idle = medians(
        [store, bare_store, status, listing, bare_read, nothing], runs=15
    )
    kept = True
    for name, took, baseline in (
        ("issue status : bare Typer command, one row read", told, bare),
        ("issue list --limit 5 : bare Typer command, one row read", listed, bare),
        ("issue ingest of one : bare Typer, one model, one commit", stored, bare_stored),
    ):
        beside = f"(: python -c pass {took / idle:.1f})"
        kept &= report(name, took / baseline, promise="<= 1.3", kept=took / baseline <= 1.3, beside=beside)
    return kept
