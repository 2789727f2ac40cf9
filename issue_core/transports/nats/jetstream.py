"""The JetStream API, as JSON both ways: nats-py drops the fields that it does not know, which loses settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nats import errors

from issue_core.errors import NatsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from nats.aio.msg import Msg

    from issue_core.transports.nats.connection import Link

TIMEOUT = 10.0
"""Seconds that the server has to answer."""

# The numbers that the server's errors have (errors.json of nats-server).
NO_SUCH_STREAM = 10059
NO_SUCH_CONSUMER = 10014
NO_MESSAGE = 10037
MESSAGE_TOO_LARGE = 10054
WRONG_STREAM = 10060
WRONG_LAST_SEQUENCE = 10071
SUBJECTS_OVERLAP = 10065
NO_CLUSTER = 10074
TOO_FEW_SERVERS = 10005
NOT_FOR_ACCOUNT = 10039
NOT_ENABLED = 10076

_HINTS = {
    NOT_FOR_ACCOUNT: "enable JetStream for this account in the server's configuration, or log in with another one",
    NOT_ENABLED: "enable JetStream in the server's configuration",
    NO_SUCH_STREAM: "`issue nats setup` makes what is missing",
    NO_SUCH_CONSUMER: "`issue nats setup` makes what is missing",
    SUBJECTS_OVERLAP: "`nats stream ls --subjects` names it; take the subjects from it, or remove it",
    NO_CLUSTER: "a server that is alone keeps one replica: --replicas 1",
    TOO_FEW_SERVERS: "there must be as many servers as replicas: fewer --replicas, or more servers",
}


async def ask(link: Link, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answer to ``verb`` (``STREAM.INFO.ACT_TASKS``).

    Raises:
        NatsError: the server refuses, with ``api_code``; or JetStream is not there.
        NatsUnreachable: no answer came, as the connection is gone.
        NatsRefused: no answer came, as it is not allowed to ask.
    """
    payload = json.dumps(body).encode() if body is not None else b""
    nobody = NatsError(
        f"{link.server} has no JetStream for this account, or its cluster has no leader at this moment.",
        hint="enable JetStream in its configuration, or try again in some seconds",
    )
    request = link.unless_denied(link.client.request(f"{link.api}.{verb}", payload, timeout=TIMEOUT))
    answer = await answer_to(link, request, verb, nobody=nobody)
    if error := answer.get("error"):
        raise _refused(verb, error)
    return answer


async def answer_to(link: Link, request: Awaitable[Msg], what: str, *, nobody: NatsError) -> dict[str, Any]:
    """The answer to a ``request``, which was about ``what``; it may be an error of the server's.

    Raises:
        NatsError: ``nobody`` hears such requests; or no answer came.
    """
    try:
        answer: dict[str, Any] = json.loads((await request).data)
    except errors.NoRespondersError:
        raise nobody from None
    except (errors.Error, TimeoutError):
        raise link.why(otherwise=f"{link.server} did not answer {what} within {TIMEOUT:g} seconds.") from None
    return answer


async def find(link: Link, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The same as :func:`ask`, but None where there is no such stream or consumer."""
    try:
        return await ask(link, verb, body)
    except NatsError as error:
        if error.api_code in (NO_SUCH_STREAM, NO_SUCH_CONSUMER):
            return None
        raise


def _refused(verb: str, error: Mapping[str, Any]) -> NatsError:
    code = error.get("err_code")
    return NatsError(
        f"{verb}: the server refuses: {error.get('description', 'no reason given')} ({code})",
        hint=_HINTS.get(code or 0),
        api_code=code,
    )
