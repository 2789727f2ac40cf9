"""The errors that a user can cause, or must act on.

::

    IssueCoreError
    ├── UsageError               2  the command line asks for what cannot be
    │   └── ConfigError          2  the configuration does
    ├── NotFound                 1  no such task or reject
    ├── LedgerError              1
    │   ├── LedgerBusy              another process kept the write lock too long
    │   ├── LedgerFull              no room on the disk
    │   ├── LedgerReadOnly          it may be read, not written
    │   ├── LedgerUnreachable       it cannot be opened at all
    │   │   └── LedgerMoved         its file went away while it was open
    │   ├── LedgerTooNew            a later release wrote it
    │   ├── NotALedger              some other file
    │   ├── LedgerIsCopy            a backup, or set aside: it takes nothing
    │   └── LedgerCorrupt           SQLite finds it damaged
    ├── NatsError                1  the NATS server did not do what was asked
    │   ├── NatsUnreachable         none can be reached, or the connection is gone
    │   ├── NatsRefused             it refuses the credentials, or a right
    │   └── NatsMissing             no such stream, consumer or bucket
    └── BackendError             1  what a tracker said, told apart by what follows from it
        ├── Unreachable             nothing of the request left      → the backend is parked
        ├── CredentialsRefused      401, or a 403 that means it      → the backend is parked
        ├── ProjectClosed           missing, archived, closed to us  → the project is parked
        ├── Limited                 a rate limit, until a time       → the backend waits
        ├── TryLater                refused for now                  → the task waits
        ├── Refused                 refused for good                 → the task needs a person
        └── OutcomeUnknown          it may have worked               → the task is in doubt

A class has a ``code`` (stable, for machines), an ``exit_code``, and a docstring whose first line is its
default message. A backend's errors also say whether the outcome of a create is ``known``, whether
trying again can help (``retryable``), and after how many seconds (``retry_after``).
"""

from __future__ import annotations


class IssueCoreError(Exception):
    """Something went wrong."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        self.hint = hint
        super().__init__(self.message)


class UsageError(IssueCoreError):
    """The command cannot be run like this."""

    code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """The configuration cannot be used."""

    code = "config"


class NotFound(IssueCoreError):
    """There is no such thing in the ledger."""

    code = "not_found"


class LedgerError(IssueCoreError):
    """The ledger cannot be used."""

    code = "ledger"


class LedgerBusy(LedgerError):
    """Another process kept the ledger's write lock for too long; nothing was stored."""

    code = "ledger_busy"


class LedgerFull(LedgerError):
    """There is no room left for the ledger; nothing of this batch was stored."""

    code = "ledger_full"


class LedgerReadOnly(LedgerError):
    """The ledger may be read but not written."""

    code = "ledger_read_only"


class LedgerUnreachable(LedgerError):
    """The ledger cannot be opened."""

    code = "ledger_unreachable"


class LedgerMoved(LedgerUnreachable):
    """The ledger's file was moved or deleted while it was in use."""

    code = "ledger_moved"


class LedgerTooNew(LedgerError):
    """A later release of issue-core wrote this ledger."""

    code = "ledger_too_new"


class NotALedger(LedgerError):
    """This file is not a ledger of issue-core."""

    code = "not_a_ledger"


class LedgerIsCopy(LedgerError):
    """This is a copy of a ledger, or one that was set aside; it takes nothing."""

    code = "ledger_is_copy"


class LedgerCorrupt(LedgerError):
    """The ledger is damaged."""

    code = "ledger_corrupt"


class NatsError(IssueCoreError):
    """The NATS server did not do what was asked."""

    code = "nats"

    def __init__(self, message: str | None = None, *, hint: str | None = None, api_code: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.api_code = api_code
        """The number that JetStream gives its errors, where it was one (``err_code``)."""


class NatsUnreachable(NatsError):
    """No NATS server can be reached."""

    code = "nats_unreachable"


class NatsRefused(NatsError):
    """The NATS server refuses the credentials, or a right."""

    code = "nats_refused"


class NatsMissing(NatsError):
    """The stream, the consumer or the bucket is not there."""

    code = "nats_missing"


class BackendError(IssueCoreError):
    """The tracker did not do what was asked."""

    code = "backend"
    known = True
    retryable = False

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unreachable(BackendError):
    """The tracker cannot be reached; nothing of the request left."""

    code = "unreachable"
    retryable = True


class CredentialsRefused(BackendError):
    """The tracker refuses the credentials."""

    code = "credentials"


class ProjectClosed(BackendError):
    """The project is missing, archived or closed to this account."""

    code = "project"


class Limited(BackendError):
    """The tracker's rate limit is used up."""

    code = "limited"
    retryable = True


class TryLater(BackendError):
    """The tracker cannot take this task now."""

    code = "try_later"
    retryable = True


class Refused(BackendError):
    """The tracker refuses this task for good."""

    code = "refused"


class OutcomeUnknown(BackendError):
    """The tracker gave no answer that tells whether the issue was made."""

    code = "unknown"
    known = False
    retryable = True
