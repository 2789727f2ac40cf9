"""An explicit-state search: every state that some order of steps leads to, breadth first, so that what is found to be
broken comes with a shortest way to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)

NO_END = "no_way_to_the_end"
"""What is broken where a state has no way to the end."""


class Step(NamedTuple, Generic[S]):
    """Something that happens: in words, the state after it, and whether it is a fault."""

    what: str
    after: S
    is_fault: bool = False


class Found(NamedTuple):
    """What a search came to: how many states it saw, and what is broken, if anything, with a shortest way there."""

    states: int
    broken: str = ""
    trace: tuple[str, ...] = ()


def explore(
    start: S,
    steps: Callable[[S], Iterable[Step[S]]],
    *,
    properties: Sequence[Callable[[S], bool]],
    is_done: Callable[[S], bool],
    is_excused: Callable[[S], bool],
) -> Found:
    """Look at every state. The first in which one of ``properties`` is false ends it.

    Then, from every state that is not excused there must be a way to one that is done, without the help of a fault.
    """
    numbers = {start: 0}
    states = [start]
    before: list[tuple[int, str]] = [(0, "")]
    good_before: list[list[int]] = [[]]
    for n, state in enumerate(states):  # it grows meanwhile
        for holds in properties:
            if not holds(state):
                return Found(len(states), holds.__name__, _trace(n, before))
        for what, after, is_fault in steps(state):
            number = numbers.setdefault(after, len(states))
            if number == len(states):
                states.append(after)
                before.append((n, what))
                good_before.append([])
            if not is_fault:
                good_before[number].append(n)
    ends = [n for n, state in enumerate(states) if is_done(state)]
    reached = _backwards(ends, good_before)
    stuck = next((n for n, state in enumerate(states) if n not in reached and not is_excused(state)), None)
    return Found(len(states)) if stuck is None else Found(len(states), NO_END, _trace(stuck, before))


def _backwards(ends: Iterable[int], before: Sequence[Sequence[int]]) -> set[int]:
    reached = set(ends)
    queue = deque(reached)
    while queue:
        for n in before[queue.popleft()]:
            if n not in reached:
                reached.add(n)
                queue.append(n)
    return reached


def _trace(n: int, before: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    told = []
    while n:
        n, what = before[n]
        told.append(what)
    return tuple(reversed(told))
