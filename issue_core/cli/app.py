"""The command ``issue``: its subcommands, and how what typer raises becomes an exit code or an error of ours."""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar

import typer

from issue_core.cli import context
from issue_core.cli.group import LazyGroup, LogFormatOption, VerboseOption, examples, new_app
from issue_core.cli.options import ConfigOption, LedgerOption
from issue_core.errors import UsageError

_COMPLETION = "_ISSUE_COMPLETE"

_SCRIPT_OPTIONS = ("--install-completion", "--show-completion")
_THIS_SHELL = "this"  # in place of a shell's name: the one that the command runs in


class _Commands(LazyGroup):
    modules: ClassVar = {
        "ingest": "issue_core.cli.ingest",
        "new": "issue_core.cli.new",
        "sync": "issue_core.cli.sync",
        "list": "issue_core.cli.listing",
        "show": "issue_core.cli.show",
        "status": "issue_core.cli.status",
        "retry": "issue_core.cli.retry",
        "link": "issue_core.cli.link",
        "rejects": "issue_core.cli.rejects",
        "export": "issue_core.cli.export",
        "backup": "issue_core.cli.backup",
        "restore": "issue_core.cli.restore",
        "config": "issue_core.cli.config",
        "doctor": "issue_core.cli.doctor",
        "serve": "issue_core.cli.serve",
        "subscribe": "issue_core.cli.subscribe",
        "publish": "issue_core.cli.publish",
        "nats": "issue_core.cli.nats",
        "dlq": "issue_core.cli.dlq",
        "schema": "issue_core.cli.schema",
    }

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the options; the two for completion may have a shell's name behind them."""
        for at, word in enumerate(args):
            if word in _SCRIPT_OPTIONS and (args[at + 1 :] or ["-"])[0].startswith("-"):
                args = [*args[: at + 1], _THIS_SHELL, *args[at + 1 :]]
                break
        return super().parse_args(ctx, args)


app = new_app(
    cls=_Commands,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=examples(
        "issue ingest tasks.ndjson",
        "issue new 'Renew the certificate' --repo acme/web --priority high",
        "issue list --state failed",
        "issue status",
    ),
)


def _version(asked: bool) -> None:
    if asked:
        from issue_core import __version__
        from issue_core.cli import output

        output.line(f"issue-core {__version__}")
        raise typer.Exit


def _install_completion(ctx: typer.Context, shell: str | None) -> None:
    if shell and not ctx.resilient_parsing:
        from issue_core.cli import completion, output

        name, path = completion.install(_shell(shell), _COMPLETION)
        output.line(f"{name} completion installed in {path}")
        output.line("Completion will take effect once you restart the terminal")
        raise typer.Exit


def _show_completion(ctx: typer.Context, shell: str | None) -> None:
    if shell and not ctx.resilient_parsing:
        from issue_core.cli import completion, output

        output.write(completion.script(_shell(shell), _COMPLETION) + "\n")
        raise typer.Exit


def _shell(named: str) -> str | None:
    return None if named == _THIS_SHELL else named


def _shells(incomplete: str) -> list[str]:
    from issue_core.cli import completion

    return [name for name in completion.SHELLS if name.startswith(incomplete)]


def _script_option(name: str, callback: Any, what: str) -> Any:
    return typer.Option(
        name,
        metavar="[SHELL]",
        callback=callback,
        is_eager=True,
        autocompletion=_shells,
        help=f"{what} for a shell: bash, zsh or fish; without a name, the one that it is typed in.",
    )


@app.callback()
def _issue(
    ledger: LedgerOption = None,
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    install_completion: Annotated[
        str | None, _script_option("--install-completion", _install_completion, "Install the tab key's completion")
    ] = None,
    show_completion: Annotated[
        str | None, _script_option("--show-completion", _show_completion, "Print the script of that")
    ] = None,
    verbose: VerboseOption = 0,
    log_format: LogFormatOption = None,
) -> None:
    """Take TaskSpecs from automation, keep each one safe, and turn it into exactly one issue."""
    context.given_before_the_command(config=config, ledger=ledger)


def run(arguments: list[str]) -> int:
    """Run the command that ``arguments`` ask for; gives the exit code.

    Raises:
        UsageError: there is no such command or option, or a value is wrong.
        IssueCoreError: what the command raises.
    """
    command = typer.main.get_command(app)
    if _COMPLETION in os.environ:
        from issue_core.cli import completion

        return completion.answer(command)
    try:
        with command.make_context("issue", arguments) as ctx:
            command.invoke(ctx)
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as wrong:
        raise UsageError(wrong.format_message(), hint=_help_of(wrong)) from None
    except UnicodeEncodeError as wrong:
        # Bytes of an argument that are no UTF-8 arrive as lone surrogates, which neither SQLite nor JSON can hold.
        raise UsageError(f"{wrong.object!r} is not UTF-8", hint="Write it in UTF-8.") from None
    finally:
        context.given_before_the_command(config=None, ledger=None)
    return 0


def _help_of(wrong: typer.TyperException) -> str:
    ctx = getattr(wrong, "ctx", None)
    return f"{ctx.command_path if ctx else 'issue'} --help shows how it is used."
