"""Ports for servers that are started a moment later."""

from __future__ import annotations

import os
import re
import socket
from itertools import cycle

_FIRST, _LAST = 12_000, 32_000
"""Below the ports that systems give to outgoing connections (Linux: from 32768 on), which could take one meanwhile."""

_WORKERS = 16


def _ours() -> range:
    """The ports of this process, when several run tests at the same time."""
    number = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % _WORKERS
    each = (_LAST - _FIRST) // _WORKERS
    return range(_FIRST + number * each, _FIRST + (number + 1) * each)


_next = cycle(_ours())


def free_port() -> int:
    """A port on loopback that nobody listens on; another one each time."""
    for port in _next:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("a cycle has no end")
