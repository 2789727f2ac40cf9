"""TaskSpecs through NATS JetStream. What is in here needs the extra ``issue-core[nats]``."""

from __future__ import annotations


def require() -> None:
    """See that the client library is there, before anything of this package is imported.

    Raises:
        UsageError: it is not.
    """
    try:
        import nats  # noqa: F401 - whether it can be
        import nkeys  # noqa: F401 - the same
    except ModuleNotFoundError as missing:
        from issue_core.errors import UsageError

        raise UsageError(
            f"this needs the NATS client, and {missing.name} is not installed",
            hint="install issue-core again with its extra nats, as its README says",
        ) from None
