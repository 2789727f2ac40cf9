"""Fake trackers that speak HTTP: one module for each type of backend, with a class ``Server``."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from issue_core import backends

if TYPE_CHECKING:
    from tests.support.trackers.server import TrackerServer

_SECOND_PRODUCTS = {"jira-dc": ("jira", "ServerDC")}
"""What one type of backend speaks with beside its first product: name → type and class."""

TRACKERS = tuple(
    each
    for each in (*backends.types(), *_SECOND_PRODUCTS)
    if find_spec(f"tests.support.trackers.{each.partition('-')[0]}")
)
"""The names of all fake trackers there are."""


def fake(tracker: str) -> TrackerServer:
    """A new tracker of this name, with nothing in it; ``with`` starts it."""
    module, server = _SECOND_PRODUCTS.get(tracker, (tracker, "Server"))
    made: TrackerServer = getattr(import_module(f"tests.support.trackers.{module}"), server)()
    return made
