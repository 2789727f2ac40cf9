"""``issue config``: write a first configuration file, show what is in force, try it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from issue_core.cli import context, output
from issue_core.cli.group import Group, examples, new_app
from issue_core.cli.options import ConfigOption, JsonOption, LedgerOption

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from issue_core.backends.base import Finding
    from issue_core.config import Settings

app = new_app(
    cls=Group,
    help="Write, show and check the configuration.",
    epilog=examples("issue config init", "issue config show"),
)


@app.command(epilog=examples("issue config init", "issue config init --config ./issue-core.toml"))
def init(json: JsonOption = False, config: ConfigOption = None) -> None:
    """Write a first configuration file that explains each key. Never overwrites one.

    It is written to where the configuration is read from: --config, else ISSUE_CORE_CONFIG, else the user's
    configuration folder.
    """
    import os

    from issue_core.config.starter import write_starter
    from issue_core.errors import UsageError

    path = context.config_place(config).path
    if os.path.lexists(path):
        raise UsageError(
            f"{path}: there is something at this place already; nothing was changed.",
            hint="Edit it, or move it away and run this again.",
        )
    write_starter(path)
    if json:
        output.json_line({"path": str(path)})
    else:
        output.line(f"wrote {path}")


@app.command(epilog=examples("issue config show", "issue config show --json | jq .settings.ledger"))
def show(json: JsonOption = False, ledger: LedgerOption = None, config: ConfigOption = None) -> None:
    """Show every setting in force and where it comes from. No secret is shown, only its place.

    The text is TOML: it can be a configuration file itself.
    """
    from issue_core.config.showing import effective

    settings = context.settings(config, ledger)
    shown = list(effective(settings))
    if json:
        values = {each.key: {"value": each.value, "origin": each.origin} for each in shown}
        output.json_line({"file": settings.file and str(settings.file), "settings": values})
        return
    output.line(f"# {_file_text(settings)}")
    for each in shown:
        output.line(each.to_toml())


@app.command(epilog=examples("issue config check", "issue config check --config ./issue-core.toml"))
def check(json: JsonOption = False, ledger: LedgerOption = None, config: ConfigOption = None) -> None:
    """Read the file, fetch each secret, and see whether each backend is ready. Nothing is created.

    Ends with 0 when all is well, with 3 when something is not, with 2 when the file itself is wrong.
    """
    settings = context.settings(config, ledger)
    wrong = 0
    for backend, finding in findings(settings):
        wrong += not finding.ok
        _print_finding(backend, finding, json=json)
    conclude(wrong, json=json)


def findings(settings: Settings) -> Iterator[tuple[str | None, Finding]]:
    """What was found, each with the name of the backend that it is about, if it is about one."""
    from issue_core.backends.base import Finding
    from issue_core.config.settings import LOCAL, BackendSettings

    yield None, Finding(ok=True, what=_file_text(settings))
    if settings.file and settings.file.is_file() and settings.file.stat().st_mode & 0o002:
        # It names commands that are run to fetch secrets: who may write to it may run anything.
        hint = f"take that right away: chmod o-w {settings.file}"
        yield None, Finding(ok=False, what=f"anybody may write to {settings.file}", hint=hint)
    yield from ((None, finding) for finding in secret_findings(settings.serve.keys.values()))
    nats = settings.nats
    yield from ((None, finding) for finding in secret_findings((nats.password, nats.token, nats.login)))
    named = {settings.default_backend, *(name for _, name in settings.routes)}
    for name, backend in settings.backends.items():
        secrets = list(secret_findings(backend.options.values()))
        yield from ((name, finding) for finding in secrets)
        if all(finding.ok for finding in secrets):
            yield from ((name, finding) for finding in _backend_findings(settings, name))
        if name not in named and backend != BackendSettings(LOCAL, LOCAL):
            yield name, Finding(ok=True, what="no task goes there: neither default_backend nor a route names it")


def secret_findings(values: Iterable[object]) -> Iterator[Finding]:
    """Whether each secret among these values can be had."""
    from issue_core.backends.base import Finding
    from issue_core.config.secret import Secret
    from issue_core.errors import ConfigError

    for secret in values:
        if isinstance(secret, Secret):
            try:
                secret.resolve()
            except ConfigError as error:
                yield Finding(ok=False, what=error.message, hint=error.hint)
            else:
                yield Finding(ok=True, what=f"{secret.key}: there, from {secret}")


def _backend_findings(settings: Settings, name: str) -> Iterator[Finding]:
    from issue_core.backends import open_backend
    from issue_core.backends.base import Finding
    from issue_core.errors import IssueCoreError

    try:
        backend = open_backend(
            settings.backends[name], home=settings.ledger.parent, request_timeout=settings.sync.request_timeout
        )
        try:
            yield from backend.check()
        finally:
            backend.close()
    except IssueCoreError as error:
        yield Finding(ok=False, what=error.message, hint=error.hint)


def _file_text(settings: Settings) -> str:
    if settings.file:
        return f"configuration file {settings.file}"
    return f"no configuration file at {context.config_place(None).path}; the defaults hold"


def _print_finding(backend: str | None, finding: Finding, *, json: bool) -> None:
    if json:
        output.json_line({"ok": finding.ok, "backend": backend, "what": finding.what, "hint": finding.hint})
        return
    print_in_words(backend, finding)


def print_in_words(about: str | None, finding: Finding) -> None:
    """A finding as a person reads it."""
    if output.on_terminal():
        _show(about, finding)
        return
    what = f"{about}: {finding.what}" if about else finding.what
    output.line(f"{'ok' if finding.ok else 'not ok'}: {what}")
    if finding.hint and not finding.ok:
        output.line(f"  hint: {finding.hint}")


def _show(about: str | None, finding: Finding) -> None:
    from rich.text import Text

    judged = output.styled(*(("ok", output.STYLES["synced"]) if finding.ok else ("not ok", output.STYLES["failed"])))
    names = about is None or _says(about, finding.what)
    what = output.escape(finding.what if names else f"{about}: {finding.what}")
    hint = f"\n  hint: {output.escape(finding.hint)}" if finding.hint and not finding.ok else ""
    # There are paths and commands in them, to be copied.
    output.show(Text.assemble(judged, f": {what}{hint}"), soft_wrap=True)


def _says(about: str, what: str) -> bool:
    """Whether a finding says itself, at its beginning, what it is about."""
    return about.lower() in [word.strip(":,'").lower() for word in what.split()[:2]]


def conclude(wrong: int, *, json: bool) -> None:
    """Say on a terminal how many of the findings are wrong.

    Raises:
        typer.Exit: one of them is.
    """
    if output.on_terminal() and not json:
        things = f"{wrong} thing{'' if wrong == 1 else 's'} {'is' if wrong == 1 else 'are'} wrong"
        output.line(things if wrong else "nothing is wrong")
    if wrong:
        raise typer.Exit(3)
