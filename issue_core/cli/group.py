"""Groups of commands, and what the help of each command has in common."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typer.core import TyperCommand

    Command = TyperCommand | TyperGroup


class Group(TyperGroup):
    """A group that shows its help when no command is given; that is a wrong usage all the same."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the group's own options; the rest is a command's."""
        if not args and not ctx.resilient_parsing:
            text = ctx.get_help()
            if text:  # rich has printed its help by now
                typer.echo(text)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)


class LazyGroup(Group):
    """A group whose commands are each in a module of its own, which is imported when its command is asked for.

    ``modules`` names them; each has a ``typer.Typer`` called ``app``, with one command or a group of them.
    """

    modules: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in the order of the table."""
        return list(self.modules)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; None if there is none."""
        if cmd_name not in self.modules:
            # All of them are loaded for the error, which suggests the nearest.
            for name in self.modules:
                self.get_command(ctx, name)
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name, self.modules[cmd_name])
        return self.commands[cmd_name]


def _load(name: str, module: str) -> Any:
    command: Any = get_command(import_module(module).app)
    command.name = name
    # All of the first sentence; without this it would be cut to fit beside the name.
    command.short_help = (command.help or "").split("\n\n")[0].replace("\n", " ")
    return command


def new_app(**options: Any) -> typer.Typer:
    """A ``typer.Typer`` as this command line has them: help in boxes on a terminal, plain in a pipe."""
    markup = "rich" if sys.stdout.isatty() else None
    settings: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": markup}
    return typer.Typer(**settings | options)


def examples(*lines: str) -> str:
    """An epilog of examples, one command line each; ``\\b`` keeps typer from wrapping them."""
    return "\b\nExamples:\n" + "\n".join(f"  $ {line}" for line in lines)
