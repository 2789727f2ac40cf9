"""Labels, where a tracker has no field for the priority and tells no two labels apart by their case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PRIORITY_LABELS: Mapping[str, str] = {"high": "priority:high", "low": "priority:low"}
"""The labels that say a priority where the configuration names none; a medium one has none."""


def distinct(names: Iterable[str | None]) -> list[str]:
    """The names that are not empty, each once whatever its case, in its first spelling."""
    first: dict[str, str] = {}
    for name in names:
        if name:
            first.setdefault(name.casefold(), name)
    return list(first.values())
