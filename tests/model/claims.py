"""The protocol of claims as a model, small enough to look at every state it can be in.

One event, its message in the stream (two, where two contents came under one event ID), the bucket, the tracker, and
two or three hosts with a ledger each, which get the event by HTTP as well. The search walks through all states that
any order of steps leads to; ``promises.py`` says what must be true in each.

A host is described as seen from itself (``owns``, ``knows``): states that differ only in which host is which are one.
What a crash takes is ``hand``, ``phase`` and ``knows``; what is under way in the network (``asked``, ``sent``, the
acks) survives it, and may arrive late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.model.search import Step

Row = Literal["none", "held", "pending", "retry", "doubt", "synced", "elsewhere"]
"""What the ledger has of the event. ``retry``: pending, tried, and known to have come to nothing; ``doubt``: pending
and in doubt."""

Whose = Literal["", "ours", "former", "theirs"]
"""Whose the claim is, from where a host stands; ``former``: its own, from before it was restored from a backup."""

PULLED, STORED, SETTLED = range(3)
"""How far a message in hand is: nothing is written yet; the first commit is done; the second one is."""

HAS_OR_MAKES = ("pending", "retry", "doubt", "synced")
"""A ledger with such a row has made the issue, or sync may do so at any time."""


class Host(NamedTuple):
    """One host: its ledger, what its processes have in memory, and what it has sent."""

    row: Row = "none"
    text: str = ""
    rejects: str = ""
    is_marked: bool = True
    hand: str = ""
    phase: int = PULLED
    knows: Whose = ""
    asked: bool = False
    asked_before: bool = False  # by the ledger that was lost, before its backup took its place
    sent: bool = False
    owns: Whose = ""
    issues: int = 0
    backup: Row | Literal[""] = ""
    was_restored: bool = False
    is_dead: bool = False


class State(NamedTuple):
    """All there is: the hosts, the content that the claim names, unread messages, acks on their way."""

    hosts: tuple[Host, ...]
    claim: str = ""
    published: str = "x"
    unread: str = "x"
    acks: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """What there is and may happen: two contents, a host that is restored from a backup (and ``reads_again`` what is
    in the stream, acknowledged or not), or dies for good.


    ``first`` is what the first host's ledger has of the event when it is marked, if it was there before the claims.
    Then the others begin ``once`` it is marked, or has acknowledged all that was in flight, too. What stands last is
    outside of what is promised: a claim that ``vanishes``, a person who ``links`` a held task to an issue.
    """

    hosts: int = 2
    texts: str = "x"
    published: str = "x"
    restores: bool = False
    reads_again: bool = True
    dies: bool = False
    first: Row = "none"
    once: Literal["", "marked", "acknowledged"] = ""
    vanishes: bool = False
    links: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """The protocol. As it stands here it is the one that is built; each change makes a protocol that is not."""

    claims: bool = True
    marks_before_it_pulls: bool = True
    claims_before_it_stores: bool = False
    stores_as: Row = "held"
    acks_from: int = SETTLED
    acks_when_claimed: bool = False
    sync_takes_held: bool = False
    silence_means: Whose = ""
    claim_names_nobody: bool = False
    former_is: Whose = "former"
    former_is_in_doubt: bool = True
    holds_when_marked: tuple[Row, ...] = ("pending", "retry")
    cedes: tuple[Row, ...] = ("held", "pending", "retry")
    keeps_what_it_cedes: bool = True
    waits_for_claim_again: bool = True


# --- the steps ----------------------------------------------------------------------------------------------------


def begin(world: World) -> State:
    """Where the search begins: the message was published, nobody has read it."""
    hosts = [Host()] * world.hosts
    if world.first != "none":
        is_synced = world.first == "synced"
        hosts[0] = Host(world.first, "x", is_marked=False, sent=world.first == "doubt", issues=int(is_synced))
    return State(tuple(sorted(hosts)), published=world.published, unread=world.published)


def steps(state: State, alone: Alone, rules: Rules, world: World) -> Iterator[Step[State]]:
    """Everything that may happen next. ``alone`` gives what :func:`changes` gives for these rules and this world."""
    for text in state.acks:
        rest = state.acks.replace(text, "")
        yield Step(f"the ack of {text} arrives", state._replace(acks=rest, unread=state.unread.replace(text, "")))
        yield Step(f"the ack of {text} is lost", state._replace(acks=rest), is_fault=True)
    if world.vanishes and state.claim:
        hosts = tuple(sorted(host._replace(owns="", knows="") for host in state.hosts))
        yield Step("the claim vanishes", state._replace(hosts=hosts, claim=""), is_fault=True)
    for n, host in enumerate(state.hosts):
        if n and host == state.hosts[n - 1]:
            continue  # whatever it does, its twin did
        for what, changed, is_fault in alone(host, _seen(state, n)):
            yield Step(what, _with(state, n, changed), is_fault)
        yield from _with_the_bucket(state, n, rules)
        if host.hand and _may_ack(host, rules):
            acks = "".join(sorted({*state.acks, host.hand}))
            yield Step(f"acks {host.hand}", _with(state, n, host._replace(hand="", phase=PULLED))._replace(acks=acks))


class Seen(NamedTuple):
    """What a host's next step may depend on, beside itself."""

    claim: str
    unread: str
    is_there: bool  # an issue that a look finds
    are_marked: bool
    one_is_lost: bool  # another host is dead, or on its way into a backup and back


Change = tuple[str, Host, bool]
Alone = Callable[[Host, Seen], Sequence[Change]]


def _seen(state: State, n: int) -> Seen:
    others = [*state.hosts[:n], *state.hosts[n + 1 :]]
    one_is_lost = any(host.is_dead or host.backup or host.was_restored for host in others)
    are_marked = all(host.is_marked for host in state.hosts)
    return Seen(state.claim, state.unread, issues_of(state) > 0, are_marked, one_is_lost)


def changes(host: Host, seen: Seen, rules: Rules, world: World) -> Iterator[Change]:
    """What may happen to one host with no effect on anything that others see at once: in words, it after that, and
    whether it is a fault."""
    if host.sent:
        yield from _request(host, rules)
    if host.is_dead:
        return
    if not world.once or host.text or (seen.are_marked and not (world.once == "acknowledged" and seen.unread)):
        yield from _way_in(host, seen, rules, world)
    yield from _settle(host, seen, rules)
    yield from _sync(host, seen, rules)
    if not host.is_marked and rules.claims:
        row: Row = "held" if host.row in rules.holds_when_marked else host.row
        yield "is marked", host._replace(row=row, is_marked=True), False
    if host.hand or host.knows:
        yield "crashes", host._replace(hand="", phase=PULLED, knows=""), True
    if world.restores and not seen.one_is_lost:
        yield from _restore(host)
    if world.dies and not seen.one_is_lost:
        yield "dies for good", host._replace(hand="", phase=PULLED, knows="", is_dead=True), True
    if world.links and host.row == "held":
        yield "is told of an issue by a person", host._replace(row="synced", issues=host.issues + 1), True


def _way_in(host: Host, seen: Seen, rules: Rules, world: World) -> Iterator[Change]:
    if host.hand and host.phase == PULLED and not rules.claims_before_it_stores:
        yield "stores", _stored(host, host.hand, rules), False
    # subscribe marks its ledger, where there are claims, before it pulls anything.
    if not host.hand and (host.is_marked or not rules.marks_before_it_pulls):
        for text in world.texts if host.was_restored and world.reads_again else seen.unread:
            yield f"pulls {text}", host._replace(hand=text, phase=PULLED), False
    if host.row == "none":
        for text in world.texts:
            yield f"gets {text} by HTTP", _taken(host, text, rules), True


def _stored(host: Host, text: str, rules: Rules) -> Host:
    is_known = host.row == "elsewhere"
    return _taken(host, text, rules)._replace(phase=STORED if host.is_marked and not is_known else SETTLED)


def _taken(host: Host, text: str, rules: Rules) -> Host:
    """The commit that every way in makes: a new row, a duplicate, or a conflict among the rejects."""
    if host.row == "none":
        return host._replace(row=rules.stores_as if host.is_marked else "pending", text=text)
    return host if host.text == text else _rejected(host, text)


def _rejected(host: Host, text: str) -> Host:
    return host._replace(rejects="".join(sorted({*host.rejects, text})))


def _settle(host: Host, seen: Seen, rules: Rules) -> Iterator[Change]:
    """The second commit, once the claim is known: by whoever settles held tasks, or by who has the message in hand."""
    if not host.knows:
        return
    if rules.claims_before_it_stores and host.hand and host.phase == PULLED:
        row: Row = "elsewhere" if host.knows == "theirs" else "pending"
        new = host._replace(row=row, text=host.hand) if host.row == "none" else host
        yield "stores", new._replace(phase=SETTLED), False
    settled = _settled(host, seen.claim, rules)
    if settled != host:
        yield "settles", settled, False
    if host.hand and host.phase == STORED:
        yield "settles its batch", settled._replace(phase=SETTLED), False


def _settled(host: Host, claim: str, rules: Rules) -> Host:
    if host.knows == "theirs":
        if host.row not in rules.cedes:
            return host
        ceded = host._replace(row="elsewhere")
        return _rejected(ceded, host.text) if claim != host.text and rules.keeps_what_it_cedes else ceded
    if host.row != "held":
        return host
    is_in_doubt = host.knows == "former" and rules.former_is_in_doubt
    return host._replace(row="doubt" if is_in_doubt else "pending")


def _sync(host: Host, seen: Seen, rules: Rules) -> Iterator[Change]:
    """The way out: the attempt is on the disk before its request leaves; a look sees whatever bears the event's mark.

    That the tracker is done with the request (it came, or never will) before anybody looks is an assumption.
    """
    if host.sent:
        return
    if host.row in ("pending", "retry") or (host.row == "held" and rules.sync_takes_held):
        yield "begins an attempt", host._replace(row="doubt", sent=True), False
    if host.row == "doubt":
        row: Row = "synced" if seen.is_there else _known_absent(host, rules)
        yield "looks", host._replace(row=row), False


def _request(host: Host, rules: Rules) -> Iterator[Change]:
    """What becomes of a request, and of its answer. One that was counted out changes no row of another state."""
    is_open = host.row == "doubt" and not host.is_dead
    made = host._replace(sent=False, issues=host.issues + 1)
    yield "makes the issue", made._replace(row="synced") if is_open else made, False
    yield "makes the issue, the answer is lost", made, True
    yield "makes no issue, and nobody knows", host._replace(sent=False), True
    if is_open:
        yield "is refused for now", host._replace(sent=False, row=_known_absent(host, rules)), True


def _known_absent(host: Host, rules: Rules) -> Row:
    return "held" if rules.waits_for_claim_again and host.is_marked and not host.owns else "retry"


def _restore(host: Host) -> Iterator[Change]:
    if not host.backup and not host.was_restored:
        yield "is backed up", host._replace(backup=host.row), True
    elif host.backup:
        # What is not known to be synced is in doubt, but for held ones: their claim will tell.
        row: Row = "doubt" if host.backup in ("pending", "retry") else host.backup
        restored = Host(row, host.text if row != "none" else "", sent=host.sent, issues=host.issues, was_restored=True)
        owns: Whose = "former" if host.owns else ""
        yield "is lost, and restored", restored._replace(owns=owns, asked_before=host.asked), True


def _with_the_bucket(state: State, n: int, rules: Rules) -> Iterator[Step[State]]:
    """A claim is asked for, arrives (now or late), is answered or not."""
    host = state.hosts[n]
    if _wants_to_know(host, rules):
        yield Step("asks for the claim", _with(state, n, host._replace(asked=True)))
        if rules.silence_means:
            silent = host._replace(asked=True, knows=rules.silence_means)
            yield Step("asks for the claim, hears nothing", _with(state, n, silent), is_fault=True)
    if host.asked:
        there = _claimed(state, n, "ours")
        unheard = there.hosts[n]._replace(asked=False)
        yield Step("its claim arrives, the answer is lost", _with(there, n, unheard), is_fault=True)
        yield Step("its claim is lost", _with(state, n, host._replace(asked=False)), is_fault=True)
        if not host.is_dead:
            heard = unheard._replace(knows=_answer(state, host, rules))
            yield Step("its claim arrives", _with(there, n, heard))
    if host.asked_before:
        there = _claimed(state, n, "former")
        late = there.hosts[n]._replace(asked_before=False)
        yield Step("a claim of the lost ledger arrives", _with(there, n, late), is_fault=True)


def _wants_to_know(host: Host, rules: Rules) -> bool:
    if host.asked or host.knows or host.is_dead or not rules.claims or not host.is_marked:
        return False
    return host.row == "held" or (bool(host.hand) and host.phase == _asks_from(rules))


def _asks_from(rules: Rules) -> int:
    """From which point on the one with the message in hand asks for its claim."""
    return PULLED if rules.claims_before_it_stores else STORED


def _claimed(state: State, n: int, owns: Whose) -> State:
    """The first claim wins, and stays. The hosts keep their places."""
    if state.claim:
        return state
    host = state.hosts[n]
    hosts = (*state.hosts[:n], host._replace(owns=owns), *state.hosts[n + 1 :])
    return state._replace(hosts=hosts, claim=host.text or host.hand or "x")


def _answer(state: State, host: Host, rules: Rules) -> Whose:
    if not state.claim:
        return "ours"
    if rules.claim_names_nobody:
        return "theirs"
    return rules.former_is if host.owns == "former" else host.owns or "theirs"


def _may_ack(host: Host, rules: Rules) -> bool:
    if host.phase >= rules.acks_from:
        return True
    return rules.acks_when_claimed and host.phase == STORED and bool(host.knows)


def _with(state: State, n: int, host: Host) -> State:
    hosts = state.hosts
    return state._replace(hosts=tuple(sorted((*hosts[:n], host, *hosts[n + 1 :]))))


def issues_of(state: State) -> int:
    """How many issues of the event are at the tracker."""
    return sum(host.issues for host in state.hosts)
