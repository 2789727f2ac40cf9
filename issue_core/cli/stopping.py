"""Signals that end a long command in its own time."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stop:
    """``event`` is set once one of the signals has come; ``by`` is its number."""

    event: threading.Event = field(default_factory=threading.Event)
    by: int | None = None


@contextmanager
def stopped_by(*signals: signal.Signals) -> Iterator[Stop]:
    """What is set by the first of these signals, until the block ends; a second Ctrl-C ends the process as ever.

    A thread hears of the signal through Python's wake-up descriptor. A handler could not set the event: it runs in the
    main thread, which may hold the event's own lock, and where that thread has just begun to wait it does not run.
    """
    stop = Stop()
    ours, its = socket.socketpair()
    its.setblocking(False)  # as signal.set_wakeup_fd wants it
    before = {number: signal.signal(number, _note) for number in signals}
    descriptor = signal.set_wakeup_fd(its.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(ours, stop, signals), name="signals", daemon=True)
    listener.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            # Who was told to end ends: another SIGTERM on the way there is no reason to be killed by it.
            ended = number == signal.SIGTERM and stop.by is not None
            signal.signal(number, signal.SIG_IGN if ended else handler)
        its.close()
        listener.join()
        ours.close()


def _note(number: int, _: object) -> None:
    if number == signal.SIGINT:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _listen(ours: socket.socket, stop: Stop, signals: tuple[signal.Signals, ...]) -> None:
    while numbers := ours.recv(64):
        told = [number for number in numbers if number in signals]
        if told and stop.by is None:
            stop.by = told[0]
            stop.event.set()
