"""issue-core: a local-first ledger that turns each TaskSpec into exactly one issue.

The public names are loaded when they are first used, so that the command line starts fast. No module
bears the name of a public function: the import system would put the module in the function's place.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from issue_core.version import __version__ as __version__

if TYPE_CHECKING:
    from issue_core.ingestion import ingest
    from issue_core.ledger import Ledger
    from issue_core.sync_engine import sync
    from issue_core.task import Document, Place, Receipt, Task
    from issue_core.taskspec import TaskIngestionRequest, TaskSpec

__all__ = ["Document", "Ledger", "Place", "Receipt", "Task", "TaskIngestionRequest", "TaskSpec", "ingest", "sync"]

_HOMES = {
    "Document": "issue_core.task",
    "Ledger": "issue_core.ledger",
    "Place": "issue_core.task",
    "Receipt": "issue_core.task",
    "Task": "issue_core.task",
    "TaskIngestionRequest": "issue_core.taskspec",
    "TaskSpec": "issue_core.taskspec",
    "ingest": "issue_core.ingestion",
    "sync": "issue_core.sync_engine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
