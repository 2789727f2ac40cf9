"""``python -m bench [NAME…]``: run the benchmarks, all of them or those named; ends with 1 when a promise is missed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench import bulk_ingest, publish, scale, serve, startup, subscribe, sync_local, sync_tracker

BENCHES = {
    "startup": startup.run,
    "bulk_ingest": bulk_ingest.run,
    "sync_local": sync_local.run,
    "sync_tracker": sync_tracker.run,
    "serve": serve.run,
    "subscribe": subscribe.run,
    "publish": publish.run,
    "scale": scale.run,
}


def main() -> int:
    """Run what is asked for."""
    names = sys.argv[1:] or list(BENCHES)
    kept = True
    with tempfile.TemporaryDirectory(prefix="issue-core-bench-") as folder:
        for name in names:
            kept &= BENCHES[name](Path(folder))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
