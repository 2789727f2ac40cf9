"""The connections there are: what each is at, who is late, and who gives way when there are too many."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from issue_core.transports.http import wire

PATIENCE = 1.0
"""Seconds for which a connection gives way only where all others are as new: else it might have no time to ask."""

_POLL = 0.1  # seconds between two looks at who is late, once no more connections are taken

State = Literal["idle", "receiving", "body", "working", "sending"]

_FIRST: tuple[State, ...] = ("idle", "receiving", "body", "sending")  # whoever is at that gives way first


@dataclass(slots=True, eq=False)
class Place:
    """One connection: its bytes, what it is at, since when (``time.monotonic``), and whether it must give way."""

    stream: wire.Stream
    state: State = "idle"
    since: float = field(default_factory=time.monotonic)
    gives_way: bool = False


class Places:
    """The connections there are, who is late, and who gives way when there are too many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._empty = threading.Condition(self._lock)
        self._taken: set[Place] = set()
        self.closing = False

    def take(self, connection: socket.socket) -> Place | None:
        """A place for a new connection; None when all are taken by requests that are being answered."""
        with self._lock:
            while sum(not place.gives_way for place in self._taken) >= self._most:
                if not self._make_room():
                    return None
            place = Place(wire.Stream(connection))
            self._taken.add(place)
            return place

    def make_room(self) -> bool:
        """Have one connection give way; whether there was one that could."""
        with self._lock:
            return self._make_room()

    def _make_room(self) -> bool:
        waiting = [place for place in self._taken if place.state != "working" and not place.gives_way]
        if not waiting:
            return False
        new = time.monotonic() - PATIENCE

        def order(place: Place) -> tuple[bool, int, float]:
            is_new = place.since > new
            return is_new, place.state == "sending" if is_new else _FIRST.index(place.state), place.since

        slowest = min(waiting, key=order)
        slowest.gives_way = True
        slowest.stream.hang_up(socket.SHUT_RDWR)
        return True

    def idles(self, place: Place) -> None:
        """The connection waits for its next request."""
        place.state, place.since = "idle", time.monotonic()
        if self.closing:
            # What has arrived already can still be read and answered; then comes the end.
            place.stream.hang_up(socket.SHUT_RD)

    def works(self, place: Place) -> None:
        """A request has come whole: from now on the connection gives way to nobody.

        Raises:
            Gone: it had to, just before.
        """
        place.stream.deadline = math.inf
        with self._lock:
            if place.gives_way:
                raise wire.Gone
            place.state = "working"

    def leave(self, place: Place, end: Callable[[socket.socket], None]) -> None:
        """The connection has ended: close it with ``end``. Nobody may hang up on it any more, for its descriptor may
        be another connection's by then."""
        with self._lock:
            end(place.stream.socket)
            self._taken.discard(place)
            if not self._taken:
                self._empty.notify_all()

    def hang_up_on_the_late(self) -> None:
        """End each wait whose time is over. Who was too slow to send can still be told so."""
        with self._lock:
            self._hang_up_on_the_late()

    def _hang_up_on_the_late(self) -> None:
        now = time.monotonic()
        for place in self._taken:
            if place.stream.is_late(now):
                place.stream.hang_up(socket.SHUT_RDWR if place.state == "sending" else socket.SHUT_RD)

    def close(self, grace: float) -> bool:
        """Take nothing new, and wait for ``grace`` seconds until what came has been answered; whether it was."""
        deadline = time.monotonic() + grace
        with self._lock:
            self.closing = True
            for place in self._taken:
                if place.state == "idle":
                    place.stream.hang_up(socket.SHUT_RD)
            while self._taken and (left := deadline - time.monotonic()) > 0:
                self._empty.wait(min(left, _POLL))
                self._hang_up_on_the_late()
            return not self._taken
