"""The command ``issue``: its subcommands, and how what typer raises becomes an exit code or an error of ours."""

from __future__ import annotations

import os
from typing import Annotated, ClassVar

import typer

from issue_core.cli import context
from issue_core.cli.group import LazyGroup, LogFormatOption, VerboseOption, examples, new_app
from issue_core.cli.options import ConfigOption, LedgerOption
from issue_core.errors import UsageError

_COMPLETION = "_ISSUE_COMPLETE"


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


app = new_app(
    cls=_Commands,
    add_completion=True,
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

        typer.echo(f"issue-core {__version__}")
        raise typer.Exit


@app.callback()
def _issue(
    ledger: LedgerOption = None,
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
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
