"""``python -m issue_core`` is the command ``issue``."""

from __future__ import annotations

import sys

from issue_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
