"""``issue serve``: TaskSpecs over HTTP."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import ConfigOption, LedgerOption
from issue_core.config.settings import ServeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from issue_core.config import Settings
    from issue_core.transports.http.access_log import Writer

KEY_VARIABLE = "ISSUE_CORE_API_KEY"

_HURRY = 0.8  # seconds that a Ctrl-C leaves for what is under way; SIGTERM leaves more

_UNANSWERED = "not everything under way ended in time: what was not answered was not promised"
_IN_HAND = ", and what sync had in hand stays in doubt, and is looked for by the next run"

_DEFAULTS = ServeSettings()

_SHORT_KEY = 16  # characters; a shorter one can be guessed

app = new_app()


@app.command(
    epilog=examples(
        "issue serve --no-auth --sync",
        "issue serve --port 8080 --log-format json",
        "issue serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem",
    )
)
def serve(
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="HOST", help=f"Listen on this address. Default: {_DEFAULTS.host}."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
            min=0,
            max=65535,
            help=f"Listen on this port; 0: any that is free. Default: {_DEFAULTS.port}.",
        ),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Ask nobody for a key; only on a loopback address.")
    ] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Also make issues, whenever something is due: no cron is needed.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse fields that a TaskSpec does not have.")] = False,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="The certificate with its chain, PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key, PEM.")] = None,
    log_format: Annotated[
        str,
        typer.Option("--log-format", metavar="FORMAT", help="The access log on standard error: text, json, or none."),
    ] = "text",
    ledger: LedgerOption = None,
    config: ConfigOption = None,
) -> None:
    """Take TaskSpecs over HTTP: POST /issues answers when they are on the disk.

    Whoever asks needs a key: the value of ISSUE_CORE_API_KEY, or one that serve.keys in the configuration names, sent
    as Authorization: Bearer KEY or X-API-Key: KEY. GET /openapi.json describes all of it.

    SIGTERM ends it when what has come is answered; Ctrl-C does not wait longer than a second for that.
    """
    from signal import SIGINT, SIGTERM

    from issue_core.cli import context, output
    from issue_core.cli.stopping import stopped_by
    from issue_core.errors import UsageError
    from issue_core.transports.http.service import GRACE, Choices, Service

    settings = _settings(context.settings(config, ledger), host, port, tls_cert, tls_key)
    secrets = _secrets(settings, no_auth=no_auth)
    if log_format not in ("text", "json", "none"):
        raise UsageError(f"--log-format is text, json or none, not {log_format!r}")
    gc.freeze()  # what was imported stays: no need to look through it again
    gc.enable()  # this one lives long
    store = context.open_ledger(settings, long_lived=True)
    with _logging(log_format) as log, stopped_by(SIGTERM, SIGINT) as stop:
        choices = Choices(
            secrets, strict=strict, sync=sync, log=log, say=lambda text: log.line(output.said(text, multiline=True))
        )
        service = Service(store, settings, choices)
        try:
            _greet(settings, service.url, secrets, is_tls=settings.serve.tls_cert is not None)
            answered = service.run(stop.event, lambda: _HURRY if stop.by == SIGINT else GRACE)
        finally:
            service.close()
        if not answered:
            log.line(_UNANSWERED + (_IN_HAND if sync else ""))
    if stop.by == SIGINT:
        raise KeyboardInterrupt("what was answered is stored, and nothing else was promised")


def _settings(
    settings: Settings, host: str | None, port: int | None, tls_cert: Path | None, tls_key: Path | None
) -> Settings:
    """The settings with what the options say in place of the file's."""
    from issue_core.errors import UsageError

    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together")
    serve = settings.serve
    serve = replace(
        serve,
        host=host or serve.host,
        port=serve.port if port is None else port,
        tls_cert=tls_cert or serve.tls_cert,
        tls_key=tls_key or serve.tls_key,
    )
    return replace(settings, serve=serve)


def _secrets(settings: Settings, *, no_auth: bool) -> Mapping[str, str] | None:
    """The keys by name; None where nobody is asked for one."""
    import os

    from issue_core.cli import output
    from issue_core.errors import UsageError
    from issue_core.transports.http.service import is_loopback

    if no_auth:
        if not is_loopback(settings.serve.host):
            raise UsageError(
                f"--no-auth is for a loopback address, and {settings.serve.host} is none",
                hint="Without a key everybody who reaches it could make tasks. Set ISSUE_CORE_API_KEY.",
            )
        return None
    secrets = {name: secret.resolve() for name, secret in settings.serve.keys.items()}
    if value := os.environ.get(KEY_VARIABLE, "").strip():
        if KEY_VARIABLE in secrets:
            raise UsageError(f"{KEY_VARIABLE} is set, and [serve.keys] has a key of this name too: rename that one")
        secrets[KEY_VARIABLE] = value
    if not secrets:
        raise UsageError(
            "there is no key: everybody who reaches this server could make tasks",
            hint=f"Set {KEY_VARIABLE}, or name keys in [serve.keys] of the configuration; on this machine, --no-auth",
        )
    for name, value in secrets.items():
        if len(value) < _SHORT_KEY:
            output.message(f"warning: the key {name} has only {len(value)} characters, and could be guessed")
    return secrets


def _greet(settings: Settings, url: str, secrets: Mapping[str, str] | None, *, is_tls: bool) -> None:
    from issue_core.cli import output
    from issue_core.transports.http.service import is_loopback

    if not is_loopback(settings.serve.host) and not is_tls:
        output.message(
            "warning: keys and tasks go over the network in the clear; give it --tls-cert and --tls-key, or put it "
            "behind a proxy that has TLS"
        )
    keys = "no key needed" if secrets is None else f"keys: {', '.join(secrets)}"
    output.message(f"serving {settings.ledger} at {url} ({keys})")


@contextmanager
def _logging(log_format: str) -> Iterator[Writer]:
    """What writes lines on standard error until the block ends, without keeping anybody waiting."""
    import os
    import sys
    from contextlib import suppress

    from issue_core.transports.http import access_log

    def write(lines: str) -> None:
        # Each line is visible ASCII, or escaped already. Not through sys.stderr: where nobody takes the lines, this
        # thread waits here for ever, and would keep its lock. Where nobody can hear it, it is not said.
        rest = memoryview(f"{lines}\n".encode())
        with suppress(OSError):
            while rest:
                rest = rest[os.write(sys.stderr.fileno(), rest) :]

    renders = {"text": access_log.as_text, "json": access_log.as_json, "none": lambda _: None}
    writer = access_log.Writer(renders[log_format], write)
    try:
        yield writer
    finally:
        writer.close()
