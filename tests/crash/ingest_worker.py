"""Ingests NDJSON from standard input in small batches, and prints each receipt once its batch is on the disk."""

from __future__ import annotations

import json
import os
import sys
from itertools import islice

from issue_core import Ledger, ingest

BATCH = 3


def main() -> None:
    """Read to the end of the input; the ledger is where ``ISSUE_CORE_LEDGER`` says."""
    with Ledger(os.environ["ISSUE_CORE_LEDGER"]) as ledger:
        while batch := list(islice(sys.stdin.buffer, BATCH)):
            receipts = ingest(ledger, [line.rstrip(b"\n") for line in batch])
            print("\n".join(json.dumps(receipt.to_json()) for receipt in receipts), flush=True)


if __name__ == "__main__":
    main()
