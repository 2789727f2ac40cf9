"""What must be true of the claims in every state, and the search that looks whether it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

from tests.model.claims import HAS_OR_MAKES, Change, Host, Rules, Seen, State, World, begin, changes, issues_of, steps
from tests.model.search import Found, Step, explore


def one_issue_at_most(state: State) -> bool:
    """The tracker has one issue of the event, or none."""
    return issues_of(state) <= 1


def one_maker_at_most(state: State) -> bool:
    """No two ledgers have made the issue, or may do so."""
    return sum(host.row in HAS_OR_MAKES or host.sent for host in state.hosts) <= 1


def what_is_acked_is_somebodys(state: State) -> bool:
    """Each acknowledged message is a task in the ledger whose claim it is.

    A restored ledger may be older than that: it reads the stream again.
    """
    if _was_restored(state) or not set(state.published) - set(state.unread):
        return True
    return any(host.row in HAS_OR_MAKES or (host.row == "held" and host.owns) for host in state.hosts)


def nothing_is_dropped(state: State) -> bool:
    """Each content that was acknowledged, or that a ledger took, is a task or a reject somewhere."""
    acked = set(state.published) - set(state.unread)
    is_kept = all(any(_keeps(host, text, state.claim) for host in state.hosts) for text in acked)
    return _was_restored(state) or (is_kept and all(_keeps(host, host.text, state.claim) for host in state.hosts))


def no_issue_is_forgotten(state: State) -> bool:
    """Whose ledger made an issue, that ledger has it or is in doubt."""
    return _was_restored(state) or all(host.row in HAS_OR_MAKES for host in state.hosts if host.issues)


PROPERTIES = (
    one_issue_at_most,
    one_maker_at_most,
    what_is_acked_is_somebodys,
    nothing_is_dropped,
    no_issue_is_forgotten,
)


def is_done(state: State) -> bool:
    """Whether there is one issue, nothing is left to do, and nothing unread."""
    if state.unread or state.acks or issues_of(state) != 1:
        return False
    return all(host.row in ("none", "synced", "elsewhere") for host in state.hosts if not host.is_dead)


def is_lost(state: State) -> bool:
    """Whether a host that died for good took the event with it: its claim is there, or may yet arrive."""
    return any(host.is_dead and (host.owns or host.asked) for host in state.hosts)


def _was_restored(state: State) -> bool:
    return any(host.was_restored for host in state.hosts)


def _keeps(host: Host, text: str, claim: str) -> bool:
    """Whether the host has this content: as its task, among its rejects, or because another ledger has the same."""
    return text in host.rejects or (host.text == text and (host.row != "elsewhere" or claim in ("", text)))


def search(
    world: World | None = None,
    rules: Rules | None = None,
    *,
    start: State | None = None,
    properties: Sequence[Callable[[State], bool]] = PROPERTIES,
) -> Found:
    """All states of this world under these rules, from ``start`` on (else from :func:`begin`), and what is broken."""
    world, rules = world or World(), rules or Rules()

    @cache
    def alone(host: Host, seen: Seen) -> list[Change]:
        return list(changes(host, seen, rules, world))

    def after(state: State) -> Iterator[Step[State]]:
        return steps(state, alone, rules, world)

    return explore(start or begin(world), after, properties=properties, is_done=is_done, is_excused=is_lost)
