"""Whether the streams are as they must be, and messages get through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from issue_core.transports.nats.connection import connected
from issue_core.transports.nats.status import read_status
from issue_core.transports.nats.streams import inspect
from issue_core.transports.nats.wanted import all_wanted, setup_command

if TYPE_CHECKING:
    from issue_core.config import NatsSettings

Found = tuple[bool, str, str | None]
"""Whether it is well, what was found, and what to do if it is not."""


async def examine(settings: NatsSettings, *, claims: bool) -> AsyncIterator[Found]:
    """What was found, one after the other; ``claims``: the bucket must be there.

    Raises:
        ConfigError: what the settings name is not there or cannot be.
        NatsError: the server cannot be reached, refuses, or does not answer.
    """
    async with connected(settings) as link:
        yield True, f"NATS at {link.server}", None
        command = setup_command(settings) + (" --claims" if claims else "")
        is_there = True
        for wanted in all_wanted(settings, replicas=None, claims=claims):
            state = await inspect(link, wanted)
            name = f"{wanted.kind} {wanted.name}"
            if state.result == "missing":
                is_there = False
                yield False, f"there is no {name} at {link.server}", f"`{command}` makes it"
            elif not state.drift:
                yield True, f"{name} is as it should be", None
            for each in state.drift:
                yield False, f"{name}: {each.field} is {each.found}, should be {each.wanted}", each.mend
        if not is_there:
            return
        status = await read_status(link, settings)
        if status.dead_letters:
            yield False, f"{status.dead_letters:,} dead letters", "issue dlq list shows them"
        if status.expired_unread:
            text = f"up to {status.expired_unread:,} messages expired before they were read"
            yield False, text, "run more of `issue subscribe`, or have the emitters send them again"
