"""What a shell is told when somebody presses the tab key: quickly, at most :data:`MOST` names, and no word of trouble.

A shell may run what it completes to: only names that mean nothing to it are offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any

from typer._click.shell_completion import CompletionItem, ShellComplete, add_completion_class
from typer._completion_classes import BashComplete, FishComplete, ZshComplete

from issue_core.errors import IssueCoreError, UsageError
from issue_core.ledger import suggestions

if TYPE_CHECKING:
    from issue_core.config import Settings

MOST = 50
"""So many names are offered, at most."""

_PATIENCE = 0.2  # seconds that a name may wait for another process's write
_LONGEST = 60  # characters of what is said about a name
_HARMLESS = frozenset(ascii_letters + digits + "._/@+-")

Offer = tuple[str, str]
"""A name and what is said about it."""


SHELLS = ("bash", "zsh", "fish")


def script(shell: str | None, variable: str) -> str:
    """What makes ``shell`` (None: the one that this runs in) ask, by this environment variable.

    Raises:
        UsageError: it is none of :data:`SHELLS`, or it cannot be found out which one it is.
    """
    from typer._completion_shared import get_completion_script

    return get_completion_script(prog_name="issue", complete_var=variable, shell=_known(shell))


def install(shell: str | None, variable: str) -> tuple[str, Path]:
    """Lay the :func:`script` where ``shell`` finds it, and have it looked at there; gives the shell and the file.

    Raises what :func:`script` raises.
    """
    from typer import _completion_shared

    return _completion_shared.install(_known(shell), prog_name="issue", complete_var=variable)


def _known(shell: str | None) -> str:
    from typer._completion_shared import _get_shell_name

    hint = f"Name one: {', '.join(SHELLS)}."
    if shell is None and (shell := _get_shell_name()) is None:
        raise UsageError("which shell this is cannot be found out", hint=hint)
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell}", hint=hint)
    return shell


def answer(command: Any) -> int:
    """Tell the shell what it asks in its environment variables; gives the exit code."""
    for name, kind in zip(SHELLS, (_Bash, _Zsh, _Fish), strict=True):
        add_completion_class(kind, name)
    try:
        command(prog_name="issue")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except (KeyError, ValueError, IssueCoreError):
        return 1  # what a shell sets is not set, or makes no sense
    return 0


class _Bash(BashComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, and that one. Bash takes ``--repo=acme`` for three."""
        words, incomplete = super().get_completion_args()
        return [word for word in words if word != "="], "" if incomplete == "=" else incomplete


class _WholeWords(ShellComplete):
    """For shells that compare with the whole of ``--repo=acme``, and not with what is behind the sign."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """What is offered, with the option before it where that is a part of the word."""
        option, sign, _ = incomplete.partition("=")
        found = super().get_completions(args, incomplete)
        if not sign or not option.startswith("--"):
            return found
        return [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in found]


class _Zsh(_WholeWords, ZshComplete):
    def format_completion(self, item: CompletionItem) -> str:
        """The value and its help; without rich, which typer imports to find markup in it."""
        value = super().format_completion(CompletionItem(item.value))
        return f"{value}:{super().format_completion(CompletionItem(item.help))}" if item.help else value


class _Fish(_WholeWords, FishComplete):
    def format_completion(self, item: CompletionItem) -> str:
        """The value and its help; without rich, which typer imports to find markup in it."""
        return f"{item.value}\t{' '.join(item.help.split())}" if item.help else item.value


def event_ids(ctx: Any, incomplete: str) -> list[Offer]:
    """The newest tasks whose event ID begins so."""
    with _reading(ctx) as connection:
        return _about_tasks(suggestions.event_ids(connection, incomplete, limit=MOST))


def failed(ctx: Any, incomplete: str) -> list[Offer]:
    """The newest failed tasks whose event ID begins so."""
    with _reading(ctx) as connection:
        return _about_tasks(suggestions.failed(connection, incomplete, limit=MOST))


def _about_tasks(tasks: Iterable[suggestions.TaskName]) -> list[Offer]:
    return [(task.event_id, _plain(f"{task.state} {task.title}")) for task in tasks]


def repos(ctx: Any, incomplete: str) -> list[Offer]:
    """Repos that some task names."""
    return _values(ctx, "repo", incomplete)


def sources(ctx: Any, incomplete: str) -> list[Offer]:
    """Sources that some task names."""
    return _values(ctx, "source", incomplete)


def labels(ctx: Any, incomplete: str) -> list[Offer]:
    """Labels that some task has, in lower case."""
    return _values(ctx, "label", incomplete)


def _values(ctx: Any, facet: str, incomplete: str) -> list[Offer]:
    with _reading(ctx) as connection:
        return [(value, "") for value in suggestions.values(connection, facet, incomplete, limit=MOST)]


def open_rejects(ctx: Any, incomplete: str) -> list[Offer]:
    """The newest open rejects whose ID begins so."""
    return _rejects(ctx, incomplete, "open")


def all_rejects(ctx: Any, incomplete: str) -> list[Offer]:
    """The newest rejects whose ID begins so."""
    return _rejects(ctx, incomplete, None)


def _rejects(ctx: Any, incomplete: str, state: str | None) -> list[Offer]:
    with _reading(ctx) as connection:
        found = suggestions.reject_ids(connection, incomplete, state=state, limit=MOST)
        return [(str(each.id), _plain(f"{each.state} {each.kind} {each.last_at[:10]}")) for each in found]


def backends(ctx: Any, incomplete: str) -> list[Offer]:
    """Backends that the configuration names."""
    named = _settings(ctx).backends
    return [(name, _plain(each.type)) for name, each in named.items() if name.startswith(incomplete)][:MOST]


def offered(find: Callable[[Any, str], list[Offer]], ctx: Any, incomplete: str) -> list[Offer]:
    """What ``find`` finds, without what could mean something to a shell; nothing where nothing can be read."""
    try:
        return [offer for offer in find(ctx, incomplete) if _is_harmless(offer[0])]
    except (IssueCoreError, OSError, UnicodeEncodeError):
        return []


def _is_harmless(word: str) -> bool:
    return word.isascii() and _HARMLESS.issuperset(word) and not word.startswith("-")


def _plain(text: str) -> str:
    """``text`` with nothing in it that a shell, which may evaluate it, could take for more than text."""
    safe = "".join(character if character.isalnum() or character in "._/-" else " " for character in text)
    return " ".join(safe.split())[:_LONGEST].rstrip()


@contextmanager
def _reading(ctx: Any) -> Iterator[Any]:
    """A connection to the ledger that cannot write."""
    from issue_core.ledger import Ledger

    with Ledger(_settings(ctx).ledger, busy_timeout=_PATIENCE) as ledger, ledger.read() as connection:
        yield connection


def _settings(ctx: Any) -> Settings:
    from issue_core.cli import context

    given: dict[str, Path] = {}
    while ctx is not None:  # what stands behind the command wins over what stands before it
        given = {name: Path(ctx.params[name]) for name in ("config", "ledger") if ctx.params.get(name)} | given
        ctx = ctx.parent
    return context.settings(given.get("config"), given.get("ledger"))
