"""Groups of commands, and what the help of each command has in common."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from inspect import cleandoc
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_params_convertors_ctx_param_name_from_function

from issue_core.cli import output
from issue_core.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping


def _show_help(ctx: Any, _: Any, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        output.write(ctx.get_help() + "\n")  # on a terminal, rich has printed it by now
        raise typer.Exit


class Group(TyperGroup):
    """A group that shows its help when no command is given; that is a wrong usage all the same."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option that prints the help as everything is printed."""
        return _printing(super().get_help_option(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the group's own options; the rest is a command's."""
        if not args and not ctx.resilient_parsing:
            text = ctx.get_help()
            if text:  # rich has printed its help by now
                output.write(text + "\n")
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
    for each in (command, *getattr(command, "commands", {}).values()):
        # All of the first sentence; without this it would be cut to fit beside the name.
        each.short_help = cleandoc(each.help or "").split("\n\n")[0].replace("\n", " ")
    return command


def _printing(help_option: Any) -> Any:
    if help_option is not None:
        help_option.callback = _show_help
    return help_option


class Command(TyperCommand):
    """A command that says on standard error as much as is asked for, and as it is asked for.

    Its help is wrapped where the terminal ends, and not where the source's lines do.
    """

    def __init__(self, *, params: list[Any], **options: Any) -> None:
        known = {option for each in params for option in each.opts}
        super().__init__(params=params + [each for each in _log_options() if known.isdisjoint(each.opts)], **options)

    def get_help_option(self, ctx: Any) -> Any:
        """The option that prints the help as everything is printed."""
        return _printing(super().get_help_option(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        self.help = "\n\n".join(each.replace("\n", " ") for each in cleandoc(self.help or "").split("\n\n"))
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        output.note("start", command=ctx.command_path, version=__version__)
        return super().invoke(ctx)


def _verbosity(count: int) -> int:
    if count:
        output.log_as(verbosity=count)
    return count


def _form(form: str | None) -> str | None:
    if form:
        output.log_as(as_json=form == "json")
    return form


VerboseOption = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        is_eager=True,
        callback=_verbosity,
        help="Say each step on standard error; -vv: everything.",
    ),
]
LogFormatOption = Annotated[
    Literal["text", "json"] | None,
    typer.Option(
        "--log-format",
        is_eager=True,
        callback=_form,
        help="How it is said on standard error: text, or a JSON object a line.",
    ),
]


def _logged(verbose: VerboseOption = 0, log_format: LogFormatOption = None) -> None:
    """Has the options that every command has."""


@cache
def _log_options() -> list[Any]:
    options = get_params_convertors_ctx_param_name_from_function(_logged)[0]
    for each in options:
        each.expose_value = False
    return options


class _App(typer.Typer):
    def command(self, name: str | None = None, **options: Any) -> Any:
        return super().command(name, **{"cls": Command} | options)


def new_app(**options: Any) -> typer.Typer:
    """A ``typer.Typer`` as this command line has them: help in boxes on a terminal, plain in a pipe."""
    markup = "rich" if sys.stdout.isatty() else None
    settings: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": markup}
    return _App(**settings | options)


def examples(*lines: str) -> str:
    """An epilog of examples, one command line each; ``\\b`` keeps typer from wrapping them."""
    return "\b\nExamples:\n" + "\n".join(f"  $ {line}" for line in lines)
