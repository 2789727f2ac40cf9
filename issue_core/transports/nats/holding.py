"""Held tasks are settled: whoever has the claim makes the issue, and the others leave it to that ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from issue_core.ledger import claims, queries, rejects
from issue_core.task import Document, FieldProblem
from issue_core.taskspec import as_document
from issue_core.transports.nats.claims import AT_A_TIME, Bucket, Claim
from issue_core.transports.nats.jetstream import find
from issue_core.transports.nats.streams import inspect, require_usable
from issue_core.transports.nats.waiting import unless
from issue_core.transports.nats.wanted import bucket as wanted_bucket

if TYPE_CHECKING:
    from issue_core.config import NatsSettings
    from issue_core.ledger import Ledger, Transaction
    from issue_core.ledger.claims import Claimable, Identity
    from issue_core.task import TaskState
    from issue_core.transports.nats.connection import Link

GRACE = 2.0
"""Seconds that claims under way have when one is told to stop."""

_DIFFERS = "is not what the ledger that makes the issue has under this event ID"


async def join(link: Link, settings: NatsSettings, ledger: Ledger, stop: asyncio.Event) -> Bucket | None:
    """The bucket, if tasks must be claimed: it is there, or this ledger is marked. One that sees it is marked for good.

    None, too, if ``stop`` was set in between.

    Raises:
        ConfigError: claims would be lost in the bucket as it is.
        NatsError: the server does not answer, or this user may not ask.
        LedgerError: the ledger cannot be written.
    """
    known = await asyncio.to_thread(_identity, ledger)
    if known is None and await unless(stop, _is_there(link, settings)):
        known = await asyncio.to_thread(_marked, ledger)
    if known is None:
        return None
    state = await unless(stop, inspect(link, wanted_bucket(settings)))
    if state is None:
        return None
    require_usable(state, "issue nats setup --claims")
    return Bucket(link, settings.bucket, known)


async def settle(
    bucket: Bucket, ledger: Ledger, tasks: Sequence[Claimable], stop: asyncio.Event
) -> dict[int, TaskState] | None:
    """Claim ``tasks``, and commit what comes of it: the new state of each that has one, by its seq.

    Some at a time, so that a connection that is cut again and again gets on as well. None if ``stop`` was set and the
    claims were not there soon after.

    Raises:
        NatsError: the bucket cannot be written or read now; what is held stays so.
        LedgerError: the ledger cannot be written; asking again gives the same claims.
    """
    states: dict[int, TaskState] = {}
    for start in range(0, len(tasks), AT_A_TIME):
        some = tasks[start : start + AT_A_TIME]
        claimed = await unless(stop, bucket.claim(some), grace=GRACE)
        if claimed is None:
            return None
        states |= await asyncio.to_thread(_write, ledger, bucket.us, list(zip(some, claimed, strict=True)))
    return states


async def settle_held(bucket: Bucket, ledger: Ledger, stop: asyncio.Event) -> int:
    """Settle every held task until ``stop`` is set; gives how many were. Raises what :func:`settle` raises."""
    settled = 0
    pages = claims.held_pages(ledger)
    while not stop.is_set() and (page := await asyncio.to_thread(next, pages, None)):
        settled += len(await settle(bucket, ledger, page, stop) or ())
    return settled


async def _is_there(link: Link, settings: NatsSettings) -> bool:
    return await find(link, f"STREAM.INFO.KV_{settings.bucket}") is not None


def _identity(ledger: Ledger) -> Identity | None:
    with ledger.read() as connection:
        found = claims.identity(connection)
    return found if found or not ledger.claims else _marked(ledger)


def _marked(ledger: Ledger) -> Identity | None:
    with ledger.write() as tx:
        claims.mark(tx)
        return claims.identity(tx.connection)


def _write(ledger: Ledger, us: Identity, claimed: Sequence[tuple[Claimable, Claim]]) -> dict[int, TaskState]:
    own = [task.seq for task, claim in claimed if claim.ledger == us.own]
    former = [task.seq for task, claim in claimed if claim.ledger in us.former]
    others = [(task, claim) for task, claim in claimed if claim.ledger not in (us.own, *us.former)]
    states: dict[int, TaskState] = {}
    with ledger.write() as tx:
        released = claims.release(tx, own) + claims.release(tx, former, in_doubt=True)
        states.update(dict.fromkeys(released, "pending"))
        states.update({task.seq: "elsewhere" for task, claim in others if _cede(tx, task, claim)})
    return states


def _cede(tx: Transaction, task: Claimable, claim: Claim) -> bool:
    ceded = claims.cede(tx, task.seq, claim.ledger)
    if ceded and claim.digest != task.digest.hex():
        spec = queries.spec_of(queries.task(tx.connection, task.seq))
        problem = FieldProblem("document", f"{_DIFFERS} (ledger {claim.ledger})")
        raw = json.dumps(as_document(spec), ensure_ascii=False).encode()
        rejects.keep(tx, Document(raw), "elsewhere", (problem,), "nats", task.event_id)
    return ceded
