"""What a tracker must be able to do, whichever it is.

A backend makes an issue, finds it again by its event ID, and says what an error means. It decides
nothing: what follows from an error, when to look again and how often is the sync engine's business.
Every failure is raised as one of the :class:`~issue_core.errors.BackendError` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from issue_core.task import Task


@dataclass(frozen=True, slots=True)
class Target:
    """Where an attempt goes: the configured backend's name, its address, and the tracker's project.

    It is written into the ledger with the attempt. A look goes to the target that the attempt had,
    whatever the configuration says by then.
    """

    backend: str
    address: str
    project: str


@dataclass(frozen=True, slots=True)
class Traits:
    """How a backend wants to be used. The configuration can set all but the last two otherwise.

    ``settle`` is how many seconds after ``request_timeout`` a request that was cut off may still take effect.
    ``looks`` is how often an absence must be seen, ``look_interval`` seconds apart, before it is believed.
    ``min_interval`` is the time in seconds between two creates; ``per_minute`` and ``per_hour`` are the most
    creates in any such span (0: no limit). ``settles_with_worker``: once the process that made the attempt is
    dead, the attempt can have no further effect. ``lists_whole_address``: a listing of one project has the issues
    of all projects at its address.
    """

    max_in_flight: int = 1
    min_interval: float = 0.0
    settle: float = 30.0
    looks: int = 1
    look_interval: float = 60.0
    per_minute: int = 0
    per_hour: int = 0
    settles_with_worker: bool = False
    lists_whole_address: bool = False


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue that stands in the tracker: ``id`` there, ``url`` for people, ``project``, and the account that made it.

    ``notes`` say what the tracker dropped or changed (a label it would not take); they go into the history.
    """

    id: str
    url: str
    project: str
    account: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that :meth:`Backend.check` looked at: whether it is well, and what to do when it is not."""

    ok: bool
    what: str
    hint: str | None = None


class Backend(Protocol):
    """One configured tracker, at one address. Several threads use it at once."""

    name: str
    traits: Traits

    def target(self, target_repo: str) -> Target:
        """Where a task with this ``target_repo`` goes. Decides by configuration alone: no I/O."""

    def account(self) -> str:
        """The account that creates, as it will be written beside each attempt.

        May ask the tracker once; raises what :meth:`probe` raises.
        """

    def create(self, task: Task, target: Target, *, timeout: float, before_send: Callable[[], None]) -> Issue:
        """Make the issue for ``task`` at ``target``, within ``timeout`` seconds for the whole call.

        ``before_send`` is called right before the first byte leaves; what it raises (the lease is gone)
        must pass through unchanged, and then nothing may be sent.

        Raises:
            BackendError: one of its subclasses; ``OutcomeUnknown`` whenever the issue may exist.
        """

    def look(
        self, target: Target, event_ids: Collection[str], since: datetime, *, keep_lease: Callable[[], None]
    ) -> dict[str, list[Issue]]:
        """The issues at ``target`` that carry one of ``event_ids`` and were made at ``since`` or later, oldest first.

        ``since`` is by this machine's clock: a tracker's own may differ, and its ``Date`` header tells by how much.
        One listing, every page, to its end; an event ID with no issue is not in the answer. ``keep_lease`` is called
        between pages; what it raises (the lease is gone) must pass through.
        Raises what :meth:`probe` raises; a listing that could not be finished raises, it never answers "none".
        """

    def probe(self, target: Target) -> None:
        """Find out, without making anything, whether ``target`` would take an issue.

        Raises:
            Unreachable, CredentialsRefused, ProjectClosed, Limited, TryLater: what stands in the way.
        """

    def check(self) -> list[Finding]:
        """What a person should know before the first sync: address, credentials, rights, project."""

    def close(self) -> None:
        """Let go of connections and files."""


@runtime_checkable
class Lists(Protocol):
    """What a backend can do beside, if its tracker can be asked for it: list all issues that carry a mark of ours."""

    def marked(self, target: Target, since: datetime, *, keep_lease: Callable[[], None]) -> Iterator[tuple[str, Issue]]:
        """Every issue at ``target`` that was made at ``since`` or later and carries a marker, with its event ID.

        They come in the order of the tracker's list, the newest first where it has one; an issue may come twice.
        ``since`` and ``keep_lease`` are those of :meth:`Backend.look`. Raises what that raises.
        """
