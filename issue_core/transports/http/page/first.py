"""The page for people on an empty ledger: how the first TaskSpec gets into it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from issue_core.transports.http.page.parts import Html, code, element, preformatted, text

if TYPE_CHECKING:
    from issue_core.config.settings import Settings

_POST = """\
curl -sS {url} \\
  -H "Authorization: Bearer $ISSUE_CORE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{
    "title": "Disk is nearly full",
    "description": "`/var` is at **93 %**.",
    "target_repo": "acme/web",
    "source_type": "rule",
    "source_id": "disk-watch",
    "triggering_event_id": "{event_id}"
  }}'"""

_PIPE = """\
issue ingest tasks.ndjson
issue new "Disk is nearly full" --repo acme/web"""

_ANY = ("0.0.0.0", "::", "")  # noqa: S104 - nothing is bound here; these say that everything is


def first_steps(settings: Settings) -> Html:
    """What to do with an empty ledger."""
    post = _POST.format(url=_url(settings), event_id=uuid4())
    sent = (
        text("It answers with a receipt: "),
        code("created"),
        text(". Send it again and it is a "),
        code("duplicate"),
    )
    return element(
        "section",
        element("h2", text("The ledger is empty")),
        element("p", text("No TaskSpec has come in yet. Each one that does stands here, with what became of it.")),
        element("h3", text("Post the first one")),
        preformatted(post, "How to post a TaskSpec"),
        element("p", *sent, text(": the event ID is the key."), class_="note"),
        element("h3", text("Or from this machine")),
        preformatted(_PIPE, "How to store TaskSpecs from a file or by hand"),
        element("p", code("issue sync"), text(" then makes an issue of each task."), class_="note"),
        class_="first",
    )


def _url(settings: Settings) -> str:
    """Where this server takes TaskSpecs, as far as the settings tell: by its public name if it has one."""
    serve = settings.serve
    host = serve.hosts[0] if serve.hosts else "127.0.0.1" if serve.host in _ANY else serve.host
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    scheme = "https" if serve.tls_cert else "http"
    return f"{scheme}://{name}:{serve.port}/issues/"
