"""The model of a TaskSpec, and the one spelling of its event ID."""

from __future__ import annotations

import re
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from issue_core.task import Priority, SourceType

MAX_DESCRIPTION = 60_000
MAX_LABELS = 100

_UUID_SPELLINGS = re.compile(
    r"(?:urn:uuid:)?(?:\{(?P<braced>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}"
    r"|(?P<plain>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|(?P<bare>[0-9a-f]{32}))",
    re.IGNORECASE | re.ASCII,
)
CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


def parse_event_id(text: str) -> str:
    """The event ID in the one spelling that the ledger uses: lower case, with hyphens.

    Takes RFC 9562's form in any case, bare or in braces, with or without hyphens or ``urn:uuid:``.

    Raises:
        ValueError: it is no UUID in any usual spelling.
    """
    if CANONICAL_UUID.fullmatch(text):
        return text
    spelled = _UUID_SPELLINGS.fullmatch(text)
    if spelled is None:
        raise ValueError("not a UUID")
    return str(UUID(next(part for part in spelled.groups() if part)))


def _event_id(text: str) -> str:
    try:
        return parse_event_id(text)
    except ValueError:
        raise PydanticCustomError("event_id", "must be a UUID, such as 0190c7a4-9d5e-7c3b-8a43-3f2b8a1c9d10") from None


def _readable_list(labels: Any) -> Any:
    # pydantic keeps half a kilobyte for each wrong one: a hostile megabyte would take a third of a gigabyte.
    if isinstance(labels, list) and len(labels) > 100 * MAX_LABELS:
        raise PydanticCustomError("labels", f"has {len(labels):,} labels; {MAX_LABELS} different ones are allowed")
    return labels


def _each_label_once(labels: list[str]) -> list[str]:
    if len(labels) > 1:
        first_spelling: dict[str, str] = {}
        for label in labels:
            first_spelling.setdefault(label.casefold(), label)
        labels = list(first_spelling.values())
    if len(labels) > MAX_LABELS:
        raise PydanticCustomError("labels", f"has {len(labels)} different labels; {MAX_LABELS} are allowed")
    return labels


_Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50, pattern=_NO_CONTROLS)]
_Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=_NO_CONTROLS)]
_Description = Annotated[str, StringConstraints(max_length=MAX_DESCRIPTION, pattern=r"^[^\x00]*$")]
_Repo = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f-\x9f]*$")]
_SourceId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_CONTROLS)]
_DefinitionId = Annotated[str, StringConstraints(max_length=200, pattern=_NO_CONTROLS)]


class TaskSpec(BaseModel):
    """What automation asks for: one task, under one event ID.

    ``TaskSpec.model_validate`` raises ``pydantic.ValidationError`` when a rule is broken.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    title: _Title = Field(description="One line of 1 to 255 characters after trimming.")
    description: _Description = Field(default="", description="Markdown, at most 60,000 characters.")
    target_repo: _Repo = Field(description="Where the task belongs: 1 to 200 characters without white space.")
    priority: Priority = Field(default="medium", description="high, medium or low.")
    labels: Annotated[list[_Label], BeforeValidator(_readable_list), AfterValidator(_each_label_once)] = Field(
        default=[], description="At most 100 labels of 1 to 50 characters; case does not tell two labels apart."
    )
    due_in_days: Annotated[int, Field(ge=0, le=3650)] | None = Field(
        default=None, description="Days from the UTC date of the first acceptance to the due date, 0 to 3650."
    )
    source_type: SourceType = Field(description="rule or instruction.")
    source_id: _SourceId = Field(description="Which rule or instruction asks, 1 to 200 characters.")
    triggering_event_id: Annotated[str, AfterValidator(_event_id)] = Field(
        description="The event ID: a UUID in any usual spelling, and the one key of the task."
    )
    activity_definition_id: _DefinitionId | None = Field(default=None, description="At most 200 characters.")


class OrdinaryTaskSpec(TaskSpec):
    """The same, without what only Python can put right: pydantic's own code takes or refuses all of it, faster."""

    labels: list[_Label] = Field(default=[], max_length=MAX_LABELS)
    triggering_event_id: Annotated[str, StringConstraints(pattern=f"^{CANONICAL_UUID.pattern}$")]


TaskIngestionRequest = TaskSpec
"""The older name of :class:`TaskSpec`."""
