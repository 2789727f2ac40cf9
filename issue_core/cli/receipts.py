"""Receipts in words: what a person reads of rejected input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from issue_core.cli.output import escape, note, says_steps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from issue_core.task import FieldProblem, Receipt

_NOTED = ("outcome", "event_id", "seq", "state", "reject_id", "stream", "stream_seq", "file", "line", "index")

_LONGEST = 600  # characters of one line about a reject; `issue rejects show` has the rest


def rejected(receipt: Receipt) -> str:
    """One line about rejected input: where it stood, under which ID it is kept, and why it was refused."""
    kept = f"reject {receipt.reject_id}" if receipt.reject_id is not None else "rejected"
    what = f"conflict with task {receipt.seq}" if receipt.outcome == "conflict" and receipt.seq else receipt.outcome
    return shortened(f"{receipt.place.shown()}: {kept} ({what}): {problems(receipt.errors)}")


class Outcome(Protocol):
    """What became of one thing of many: a receipt, or what is like one."""

    def to_json(self) -> dict[str, Any]:
        """As one JSON object."""
        ...


def noted(outcomes: Iterable[Outcome], event: str = "receipt") -> None:
    """Tell of each outcome, for whoever said ``-v``; without what is wrong with what was refused, which quotes it."""
    if says_steps():
        for outcome in outcomes:
            told = outcome.to_json()
            note(event, **{name: told[name] for name in _NOTED if told.get(name) is not None})


def problems(errors: Iterable[FieldProblem]) -> str:
    """What is wrong, and with which fields."""
    fields: dict[str, list[str]] = {}
    for error in errors:
        fields.setdefault(error.problem, []).append(error.field)
    return "; ".join(f"{', '.join(names)}: {problem}" for problem, names in fields.items())


def shortened(text: str) -> str:
    """``text`` as it will be shown, cut if it is too long for one line."""
    shown = escape(text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
