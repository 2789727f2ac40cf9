"""TaskSpecs as automation sends them, the same ones in every run."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path


def taskspecs(n: int, *, seed: int = 1, size: int = 0) -> Iterator[bytes]:
    """``n`` TaskSpecs, one line each, of some 420 bytes, or of ``size`` where that is more."""
    dice = random.Random(seed)
    for i in range(n):
        description = f"The nightly backup did not finish.\n\nLog: https://logs.example.org/{i}\n"
        spec = {
            "title": f"Check the backup of host-{i:06d}",
            "description": description,
            "target_repo": f"acme/infra-{i % 20}",
            "priority": dice.choice(["high", "medium", "low"]),
            "labels": ["backup", "ops"],
            "due_in_days": 3,
            "source_type": "rule",
            "source_id": "backup-missed",
            "triggering_event_id": str(uuid.UUID(int=dice.getrandbits(128), version=4)),
            "activity_definition_id": "def-42",
        }
        line = json.dumps(spec)
        if len(line) < size:
            line = json.dumps(spec | {"description": description + "." * (size - len(line))})
        yield line.encode() + b"\n"


def write(path: Path, n: int, *, size: int = 0) -> Path:
    """A file of ``n`` TaskSpecs, of at least ``size`` bytes each."""
    with path.open("wb") as file:
        file.writelines(taskspecs(n, size=size))
    return path
