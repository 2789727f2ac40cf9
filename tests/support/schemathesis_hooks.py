"""What schemathesis is told of ``issue serve`` beside its description; ``SCHEMATHESIS_HOOKS`` names this module."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure


@schemathesis.hook
def map_body(_: HookContext, body: Any) -> Any:
    """Send whole numbers without a fraction, which JSON Schema cannot ask for: to it, 7.0 is the integer 7.

    A TaskSpec takes no 7.0, and its schema says so in words.
    """
    if isinstance(body, list):
        return [map_body(_, each) for each in body]
    if isinstance(body, dict) and isinstance(days := body.get("due_in_days"), float) and days.is_integer():
        return body | {"due_in_days": int(days)}
    return body


@schemathesis.hook
def filter_failure(_: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Let two answers be, to what breaks the schema: 414 and 431, which refuse it as well as any other status does
    (schemathesis does not count them), and 200 to an array that breaks off, though it is no JSON.

    What came before the break is stored by then, and only receipts can say so: the last one says that the rest is
    invalid, and this is looked at here instead.
    """
    if failure.code == "ST201" and response.status_code in (414, 431):
        return False
    if failure.code != "ST201" or not isinstance(case.body, bytes) or not _begins_an_array(case.body):
        return True
    return not (response.status_code == 200 and response.json()[-1]["outcome"] == "invalid")


def _begins_an_array(body: bytes) -> bool:
    return body.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").startswith(b"[")


@schemathesis.deserializer("text/html")
def page(_: Any, response: Response) -> str:
    """The page for people: that it is text is all that the description says of it."""
    return response.content.decode()


@schemathesis.check
def a_location_leads_to_the_task(ctx: Any, response: Response, case: Case[Any]) -> None:
    """Where an answer names a place, the task that it tells of is there."""
    del ctx
    for location in response.headers.get("location", ()):
        event_id = response.json()["event_id"]
        assert location == f"/issues/{event_id}", f"{case.method} {case.path} names {location} for {event_id}"


@schemathesis.check
def every_answer_says_how_to_handle_it(ctx: Any, response: Response, case: Case[Any]) -> None:
    """What no browser may guess at, and no cache may keep."""
    del ctx, case
    assert response.headers["cache-control"] == ["no-store"]
    assert response.headers["x-content-type-options"] == ["nosniff"]
