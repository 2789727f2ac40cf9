"""``issue schema``: what a TaskSpec, a receipt and a task look like, as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from issue_core.cli.group import examples, new_app

app = new_app()

Kind = Literal["taskspec", "receipt", "task"]


@app.command(epilog=examples("issue schema > taskspec.schema.json", "issue schema receipt"))
def schema(
    kind: Annotated[Kind, typer.Argument(metavar="[taskspec|receipt|task]", help="Which of the three.")] = "taskspec",
) -> None:
    """Print the JSON Schema (2020-12) of a TaskSpec, of a receipt or of a task."""
    from json import dumps

    from issue_core import schemas
    from issue_core.cli import output

    build = {"taskspec": schemas.taskspec, "receipt": schemas.receipt, "task": schemas.task}[kind]
    output.write(dumps(build(), indent=2) + "\n")
