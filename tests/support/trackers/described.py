"""What a tracker's own description of its API (OpenAPI 3 or Swagger 2, in ``api/``) says of a request and its answer.

Requests are held to it strictly: a field that the description does not list is a mistake of ours, though the tracker
may only drop it. Answers are shortened here, so a field may be missing or be a newer one; what is there has its type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.support.trackers.wire import Answer, Request

__all__ = ["Operation", "operation", "operations", "problems", "violations"]

Side = Literal["request", "answer"]

_API = Path(__file__).parent / "api"
_URN = "urn:api"

_MISTAKEN: Mapping[str, Sequence[str]] = {
    # It says that labels are a list. GitLab's own pages: "Comma-separated label names", and so does its code (a list
    # is taken too).
    "gitlab": ["#/components/schemas/NewIssue/properties/labels"],
}
"""What a description has wrong, and is not looked at: its name → JSON pointers."""

_UNSAID: Mapping[str, frozenset[str]] = {
    # GitLab's pages on pagination: every list takes it.
    "gitlab": frozenset({"per_page"}),
    # Rails takes parameters from the query as from the body, and IssuesController decides by this one who may post.
    "redmine": frozenset({"project_id"}),
}
"""Parameters of queries that a tracker takes though its description lacks them."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: its query's parameters, its request's body and the bodies of its good answers."""

    method: str
    template: str
    path: re.Pattern[str]
    parameters: frozenset[str]
    request: Validator | None
    answers: Mapping[int, Validator | None]


def violations(names: Sequence[str], request: Request, answer: Answer) -> Iterator[str]:
    """Where the exchange does not keep to the descriptions of these names; what they do not know is no violation."""
    for name in names:
        if found := operation(name, request.method, request.path):
            for problem in problems(found, request, answer):
                yield f"{name}: {found.method} {found.template}: {problem}"


def problems(found: Operation, request: Request, answer: Answer) -> Iterator[str]:
    """Where a request to this operation, or an answer of 2xx to it, is not as described."""
    if unknown := request.query.keys() - found.parameters:
        yield f"the query has no {', '.join(sorted(unknown))}"
    if found.request and "json" in request.headers.get("content-type", ""):
        yield from _wrong("the request", found.request, request.json())
    if answer.status not in range(200, 300):
        return
    if answer.status not in found.answers:
        yield f"it never answers {answer.status}"
    elif (validator := found.answers[answer.status]) and not isinstance(answer.body, bytes | str):
        yield from _wrong("the answer", validator, answer.body)


def operation(name: str, method: str, path: str) -> Operation | None:
    """The operation that the description of this name has for a request, if it has one."""
    return next((each for each in operations(name) if each.method == method and each.path.fullmatch(path)), None)


@cache
def operations(name: str) -> tuple[Operation, ...]:
    """All operations of the description of this name, those with fewer parameters in their path first."""
    document = json.loads((_API / f"{name}.json").read_text(encoding="utf-8"))
    for pointer in _MISTAKEN.get(name, ()):
        _at(document, pointer).clear()
    server = document.get("basePath") or urlsplit(document.get("servers", [{"url": ""}])[0]["url"]).path
    reader = _Reader(document, _UNSAID.get(name, frozenset()))
    found = [
        reader.operation(method.upper(), server.rstrip("/") + template, item)
        for template, item in document["paths"].items()
        for method in item.keys() - {"parameters"}
    ]
    return tuple(sorted(found, key=lambda each: (each.template.count("{"), each.template, each.method)))


def _wrong(what: str, validator: Validator, body: Any) -> Iterator[str]:
    if validator.is_valid(body):
        return
    if error := best_match(validator.iter_errors(body)):
        yield f"{what} at {error.json_path}: {error.message[:300]}"


def _at(document: Mapping[str, Any], pointer: str) -> Any:
    """What a local JSON pointer (``#/…``) points to."""
    found: Any = document
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


class _Reader:
    """Reads operations out of one document; its schemas are there twice, for requests and for answers."""

    def __init__(self, document: Mapping[str, Any], unsaid: frozenset[str]) -> None:
        self._document = document
        self._unsaid = unsaid
        self._swagger = "swagger" in document
        self._registries = {"request": self._registry("request"), "answer": self._registry("answer")}

    def operation(self, method: str, template: str, item: Mapping[str, Any]) -> Operation:
        """One operation; ``item`` is what the document has for its path."""
        told = item[method.lower()]
        given = [self._resolved(each) for each in [*item.get("parameters", []), *told.get("parameters", [])]]
        bodies = [each for each in given if each["in"] == "body"]
        request = bodies[0] if bodies else self._resolved(told.get("requestBody", {}))
        answers = {int(status): self._resolved(answer) for status, answer in told["responses"].items()}
        literal = re.split(r"\{[^}]+\}", template)
        return Operation(
            method,
            template,
            re.compile("([^/]+)".join(map(re.escape, literal))),
            self._unsaid.union(each["name"] for each in given if each["in"] == "query"),
            self._validator(request, "request"),
            {status: self._validator(answer, "answer") for status, answer in answers.items()},
        )

    def _resolved(self, node: Mapping[str, Any]) -> Any:
        return _at(self._document, node["$ref"]) if "$ref" in node else node

    def _validator(self, holder: Mapping[str, Any], side: Side) -> Validator | None:
        """A validator for the JSON body that a request or an answer has, if it has one."""
        media = holder if self._swagger else holder.get("content", {}).get("application/json", {})
        if "schema" not in media:
            return None
        return Draft202012Validator(self._schema(media["schema"], side), registry=self._registries[side])

    def _registry(self, side: Side) -> Registry[Any]:
        """The schemas that others refer to, where they refer to them."""
        definitions = self._each(self._document.get("definitions", {}), side)
        schemas = self._each(self._document.get("components", {}).get("schemas", {}), side)
        named = {"definitions": definitions, "components": {"schemas": schemas}}
        registry: Registry[Any] = Registry().with_resource(_URN, DRAFT202012.create_resource(named))
        return registry

    # --- from the description's dialect to JSON Schema's ----------------------------------------------------------

    def _each(self, schemas: Mapping[str, Any], side: Side) -> dict[str, Any]:
        return {name: self._schema(schema, side) for name, schema in schemas.items()}

    def _schema(self, node: Any, side: Side) -> Any:
        if isinstance(node, list):
            return [self._schema(each, side) for each in node]
        if not isinstance(node, dict):
            return node
        made: dict[str, Any] = {
            key: self._each(value, side) if key == "properties" else self._schema(value, side)
            for key, value in node.items()
        }
        if "$ref" in made:
            made["$ref"] = _URN + made["$ref"]
        nullable = made.pop("nullable", False) or (side == "answer" and self._is_pointer(made))
        made = _strict(made) if side == "request" else _lenient(made)
        return {"anyOf": [made, {"type": "null"}]} if nullable else made

    def _is_pointer(self, made: Mapping[str, Any]) -> bool:
        """Whether it may be null though Swagger 2 cannot say so: in Go, structures, lists and times are pointers."""
        return self._swagger and ("$ref" in made or made.get("type") == "array" or made.get("format") == "date-time")


def _strict(made: dict[str, Any]) -> dict[str, Any]:
    return {**made, "additionalProperties": False} if made.get("properties") else made


def _lenient(made: dict[str, Any]) -> dict[str, Any]:
    """Nothing is required; with that, more than one of several forms may fit."""
    made = {key: value for key, value in made.items() if key != "required"}
    return made | {"anyOf": made.pop("oneOf")} if "oneOf" in made else made
