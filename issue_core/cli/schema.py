"""``issue schema``: what a TaskSpec, a receipt and a task look like, as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from issue_core.cli.group import examples, new_app
from issue_core.cli.options import JsonOption

app = new_app()

Kind = Literal["taskspec", "receipt", "task"]


@app.command(epilog=examples("issue schema > taskspec.schema.json", "issue schema receipt"))
def schema(
    kind: Annotated[Kind, typer.Argument(metavar="[taskspec|receipt|task]", help="Which of the three.")] = "taskspec",
    json: JsonOption = False,
) -> None:
    """Print the JSON Schema (2020-12) of a TaskSpec, of a receipt or of a task."""
    from json import dumps

    from issue_core import schemas
    from issue_core.cli import output

    build = {"taskspec": schemas.taskspec, "receipt": schemas.receipt, "task": schemas.task}[kind]
    output.write(dumps(build(), indent=None if json else 2) + "\n")
