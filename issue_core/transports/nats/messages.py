"""Messages as documents: what came, where from, and what of it is no TaskSpec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issue_core.task import Accepted, Document, Place, Rejected, to_text
from issue_core.taskspec import judge
from issue_core.transports.nats import names

if TYPE_CHECKING:
    from nats.aio.msg import Msg


def document(message: Msg) -> Document:
    """The message as it came, with where it came from."""
    known = message.metadata
    stream, sequence = known.stream, known.sequence.stream
    meta = {
        "stream": stream,
        "sequence": sequence,
        "subject": message.subject,
        "published_at": to_text(known.timestamp),
    }
    return Document(message.data, Place(stream, sequence), broken=_broken(message), meta=meta)


def _broken(message: Msg) -> str | None:
    """Why the message is no JSON: what it says itself. One that says nothing is taken for JSON."""
    for name, value in (message.headers or {}).items():
        if name.lower() == names.CONTENT_TYPE.lower():
            kind = str(value).partition(";")[0].strip().lower()
            return None if kind in ("", names.JSON) else f"its Content-Type is {kind}, not {names.JSON}"
    return None


def judged(message: Msg, *, strict: bool, max_document: int) -> Accepted | Rejected:
    """What the message is. A subject that is not that of its target_repo is a warning: the body decides."""
    item = judge(document(message), strict=strict, max_document=max_document)
    if isinstance(item, Accepted) and message.subject != names.create_subject(item.spec.target_repo):
        warning = f"it came under {message.subject}, which is not the subject of its target_repo"
        return item._replace(warnings=(*item.warnings, warning))
    return item
