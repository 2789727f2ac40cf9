"""The bucket of claims: for each event ID the ledger that makes its issue, which is the one that wrote there first.

A claim is only written by a ledger that has the task on its disk, so it always says: safe there. It names its owner, so
that whoever did not hear the answer may simply ask again.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from issue_core.errors import NatsError, NatsMissing
from issue_core.transports.nats import names
from issue_core.transports.nats.jetstream import TIMEOUT, WRONG_LAST_SEQUENCE, answer_to
from issue_core.transports.nats.stored import get_last
from issue_core.transports.nats.waiting import together

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issue_core.ledger.claims import Claimable, Identity
    from issue_core.transports.nats.connection import Link

AT_A_TIME = 128
"""How many claims are under way at the same time, and settled in one commit."""

TRIES = 5
"""How often one claim is asked for when what stands there changes under our hands."""

_OWN_API = "$JS.API"


class Claim(NamedTuple):
    """Who has a task: the ID of the ledger, and the SHA-256 in hex of the content that it has."""

    ledger: str
    digest: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """The bucket ``name``, as this ledger writes to it: under the first of its IDs."""

    link: Link
    name: str
    us: Identity

    async def prove(self) -> None:
        """See that it can be written: this ledger's own entry, which says where it is.

        Raises:
            NatsError: it cannot, or it is not there.
            NatsRefused: this user may not write to it.
        """
        entry = self._put(f"{names.LEDGERS}.{self.us.own}", {"host": socket.gethostname()}, after=None)
        await self.link.unless_denied(entry)

    async def claim(self, tasks: Sequence[Claimable]) -> list[Claim]:
        """Whose each of ``tasks`` is, in their order: ours, unless it was claimed before. All are asked for at once.

        Raises:
            NatsError: the bucket cannot be written or read now, or it is not there. Some may be claimed by then.
        """
        return await together(self._claim(each) for each in tasks)

    async def _claim(self, task: Claimable) -> Claim:
        ours = Claim(self.us.own, task.digest.hex())
        after = 0
        for _ in range(TRIES):
            if await self._put(task.event_id, ours._asdict(), after=after):
                return ours
            theirs, after = await self._get(task.event_id)
            if theirs:
                return theirs
        raise NatsError(f"the claim of {task.event_id} in the bucket {self.name} changes all the time.")

    async def _put(self, key: str, value: Mapping[str, str], *, after: int | None) -> bool:
        """Write if what stands there has the sequence number ``after`` (0: nothing does; None: whatever does)."""
        headers = {names.EXPECTED_STREAM: f"KV_{self.name}"}
        if after is not None:
            headers[names.EXPECTED_LAST] = str(after)
        # Behind a prefix of its own, a domain's bucket is written to through the API, as every client does.
        prefix = "" if self.link.api == _OWN_API else f"{self.link.api}."
        subject = f"{prefix}$KV.{self.name}.{key}"
        request = self.link.client.request(subject, json.dumps(value).encode(), timeout=TIMEOUT, headers=headers)
        error = (await answer_to(self.link, request, "a claim", nobody=self._missing())).get("error")
        if error and error.get("err_code") != WRONG_LAST_SEQUENCE:
            raise NatsError(
                f"the bucket {self.name} takes no claims: {error.get('description')} ({error.get('err_code')})",
                hint="`nats kv info` shows how full it is",
                api_code=error.get("err_code"),
            )
        return not error

    def _missing(self) -> NatsMissing:
        return NatsMissing(
            f"nobody takes claims: the bucket {self.name} is not there, or its cluster has no leader now.",
            hint="`issue nats setup --claims` makes it",
        )

    async def _get(self, key: str) -> tuple[Claim | None, int]:
        """The claim under ``key`` and its sequence number; none where a person removed it, or what is there is none."""
        message = await get_last(self.link, f"KV_{self.name}", f"$KV.{self.name}.{key}")
        if message is None:
            return None, 0
        try:
            value = json.loads(message.body)
            return Claim(str(value["ledger"]), str(value["digest"])), message.seq
        except (ValueError, KeyError, TypeError):
            return None, message.seq
