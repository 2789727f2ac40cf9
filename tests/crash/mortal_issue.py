"""The command ``issue``, which kills itself at a chosen point: see :data:`tests.support.sync_worker.DIES_AT`."""

from __future__ import annotations

import os
import sys

from issue_core.cli import main
from tests.support.sync_worker import DIES_AT, die_at

if __name__ == "__main__":
    if DIES_AT in os.environ:
        event, number = os.environ[DIES_AT].split()
        die_at(event, int(number))
    sys.exit(main())
