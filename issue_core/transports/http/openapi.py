"""The description of the API (OpenAPI 3.1), made from the models that the API itself uses."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from issue_core import schemas
from issue_core.task import STATES
from issue_core.transports.http.answers import JSON, NDJSON, PROBLEM
from issue_core.transports.http.reading import LARGEST_PAGE, LARGEST_SEQ, PAGE
from issue_core.version import __version__

EXAMPLE = {
    "title": "Disk of db-1 is 91 % full",
    "description": "Free some space, or add a disk.",
    "target_repo": "acme/infra",
    "priority": "high",
    "labels": ["disk"],
    "due_in_days": 2,
    "source_type": "rule",
    "source_id": "disk-watch",
    "triggering_event_id": "0190c7a4-9d5e-7c3b-8a43-3f2b8a1c9d10",
}
"""A TaskSpec that is taken as it stands."""

_PROBLEMS = {
    "400": "The request is malformed.",
    "401": "A key is needed.",
    "403": "A browser sends it for a page of another origin.",
    "404": "There is no such thing.",
    "405": "The method is not for this path.",
    "408": "The request came too slowly.",
    "411": "The request says nothing about its body's length.",
    "414": "The request's first line is too long.",
    "415": "Neither JSON nor NDJSON, or not in UTF-8.",
    "417": "An expectation that cannot be met.",
    "421": "The Host header names another server.",
    "431": "The headers are too long, or too many.",
    "500": "A fault of issue-core's own; its log has the details.",
    "501": "The request has a transfer coding other than chunked.",
    "503": "The ledger is busy or cannot be used, or all connections are taken; `Retry-After` says when to try again.",
    "505": "The request speaks neither HTTP/1.0 nor HTTP/1.1.",
}

_ANY = ("400", "405", "408", "414", "417", "421", "431", "500", "501", "503", "505")
"""What every path may answer, whoever asks."""

_HEADERS: dict[str, dict[str, Any]] = {
    "401": {"WWW-Authenticate": {"description": "How a key can be sent.", "schema": {"type": "string"}}},
    "405": {"Allow": {"description": "The methods of this path.", "schema": {"type": "string"}}},
    "415": {"Accept-Post": {"description": "What can be posted.", "schema": {"const": f"{JSON}, {NDJSON}"}}},
    "503": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}},
}

_TO_POST: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]
_TO_GET: list[dict[str, list[str]]] = [*_TO_POST, {"basic": []}]


@cache
def document(*, keyed: bool = True, strict: bool = False) -> bytes:
    """The description as JSON, of a server that asks for a key (``keyed``) and refuses unknown fields (``strict``)."""
    described = _document(strict=strict)
    if not keyed:
        for operation in (operation for path in described["paths"].values() for operation in path.values()):
            operation["security"] = []
            operation["responses"].pop("401", None)
    return json.dumps(described, indent=2).replace('"#/$defs/', '"#/components/schemas/').encode()


def _document(*, strict: bool) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "issue-core",
            "version": __version__,
            "description": "Takes TaskSpecs, keeps each one safe, and turns it into exactly one issue.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/issues": {"post": _post("postIssues"), "get": _tasks("listIssues")},
            "/issues/": {"post": _post("postIssuesSlash"), "get": _tasks("listIssuesSlash")},
            "/issues/{event_id}": {"get": _task()},
            "/": {"get": _page()},
            "/healthz": {"get": _open("isAlive", "The process answers.", "alive")},
            "/readyz": {"get": _open("isReady", "The ledger can be written and has room.", "ready")},
            "/metrics": {"get": _get("metrics", "Metrics for Prometheus.", "text/plain", {"type": "string"})},
            "/openapi.json": {"get": _get("describe", "This description.", JSON, {"type": "object"})},
        },
        "components": {
            "schemas": _schemas(strict=strict),
            "responses": {f"Problem{status}": _problem_response(status) for status in _PROBLEMS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "basic": {"type": "http", "scheme": "basic", "description": "The key is the password."},
            },
        },
    }


def _schemas(*, strict: bool) -> dict[str, Any]:
    taskspec = _bare(schemas.taskspec())
    inner = taskspec.pop("$defs")
    if strict:
        taskspec["additionalProperties"], inner = False, {}
    return {
        "TaskSpec": taskspec,
        **inner,
        "Receipt": _bare(schemas.receipt()),
        "Task": _bare(schemas.task()),
        "Problem": _problem(),
        "RefusedReceipt": _refused(),
    }


def _post(name: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": "Store TaskSpecs, each once.",
        "description": "One TaskSpec, an array of them, or NDJSON. When the answer comes, all of it is on the disk.",
        "security": _TO_POST,
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {"anyOf": [_ref("TaskSpec"), _array_of_documents()]},
                    "examples": {"one": {"value": EXAMPLE}, "several": {"value": [EXAMPLE]}},
                },
                NDJSON: {"schema": {"type": "string", "description": "TaskSpecs, one on each line."}},
            },
        },
        "responses": _stored() | _not_stored() | _problems("401", "411", "415", *_ANY[1:]),
    }


def _array_of_documents() -> dict[str, Any]:
    """An element that is no TaskSpec does not stop the others, so it is not the request that is refused."""
    text = "Each is judged on its own, and its receipt says what became of it: what is no TaskSpec is `invalid`."
    return {"type": "array", "items": {"description": text, "anyOf": [_ref("TaskSpec"), {}]}}


def _stored() -> dict[str, Any]:
    at = {"description": "Where the task can be read.", "schema": {"type": "string", "format": "uri-reference"}}
    link = {"task": {"operationId": "getIssue", "parameters": {"event_id": "$response.body#/event_id"}}}
    return {
        "200": {
            "description": "A duplicate: the receipt. Of an array or NDJSON: all receipts, in their order. What came "
            "before the place where an array breaks off is stored; its last receipt is `invalid` and names the place.",
            "headers": {"Location": at | {"description": f"{at['description']} Not where there are many."}},
            "content": {
                JSON: {"schema": {"anyOf": [_receipt("duplicate"), {"type": "array", "items": _ref("Receipt")}]}},
                NDJSON: {"schema": {"type": "string", "description": "Receipts, one on each line."}},
            },
        },
        "201": {
            "description": "Created: the receipt.",
            "headers": {"Location": at | {"required": True}},
            "content": {JSON: {"schema": _receipt("created")}},
            "links": link,
        },
        "409": {
            "description": "The event ID stands for another task. This one is kept; `reject_id` says as which reject.",
            "headers": {"Location": at | {"required": True}},
            "content": {PROBLEM: {"schema": _rejected("conflict")}},
            "links": link,
        },
    }


def _not_stored() -> dict[str, Any]:
    kept = "It is kept; `reject_id` says as which reject."
    any_problem = {"oneOf": [_ref("Problem"), _rejected("invalid")]}
    return {
        "400": _answer(f"Not JSON: {kept} Or the request is malformed.", PROBLEM, any_problem),
        "413": _answer(f"The TaskSpec is too large: {kept} Or the whole body is.", PROBLEM, any_problem),
        "422": _answer(f"No TaskSpec. {kept}", PROBLEM, _rejected("invalid")),
    }


def _receipt(outcome: str) -> dict[str, Any]:
    always = {"outcome": {"const": outcome}, "event_id": {"type": "string"}, "seq": {"type": "integer"}}
    return {"allOf": [_ref("Receipt"), {"properties": always}]}


def _rejected(outcome: str) -> dict[str, Any]:
    return {"allOf": [_ref("RefusedReceipt"), {"properties": {"outcome": {"const": outcome}}}]}


def _task() -> dict[str, Any]:
    event_id = {
        "name": "event_id",
        "in": "path",
        "required": True,
        "description": "The event ID, in any usual spelling of a UUID.",
        "schema": {"type": "string", "pattern": schemas.EVENT_ID_SPELLINGS},
        "example": EXAMPLE["triggering_event_id"],
    }
    operation = _get("getIssue", "One task.", JSON, _ref("Task"), event_id)
    return operation | {"responses": operation["responses"] | _problems("404")}


def _tasks(name: str) -> dict[str, Any]:
    whole = {"type": "integer", "minimum": 0, "maximum": LARGEST_SEQ}
    page = {
        "type": "object",
        "properties": {
            "tasks": {"type": "array", "items": _ref("Task"), "maxItems": LARGEST_PAGE},
            "next": {
                "description": "Null where no more follow.",
                "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
            },
        },
        "required": ["tasks", "next"],
        "additionalProperties": False,
    }
    repo = {"type": "string", "minLength": 1, "maxLength": 200}
    limit = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE}
    return _get(
        name,
        "A page of tasks, by rising `seq`.",
        JSON,
        page,
        _parameter("state", "Only tasks in this state.", {"enum": list(STATES)}),
        _parameter("repo", "Only tasks with exactly this `target_repo`.", repo),
        _parameter("limit", "How many, at most.", limit),
        _parameter("after", "Only tasks behind this `seq`: the `next` of the page before.", whole),
    )


def _page() -> dict[str, Any]:
    find = _parameter("find", "The task that is looked for.", {"type": "string"})
    return _get(
        "showPage", "A page for people: counts, failed tasks, rejects, the newest tasks.", "text/html", {}, find
    )


def _open(name: str, text: str, status: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"status": {"const": status}},
        "required": ["status"],
        "additionalProperties": False,
    }
    operation = _get(name, text, JSON, schema)
    operation["responses"].pop("401")
    return operation | {"security": []}


def _get(
    name: str, text: str, media_type: str, schema: dict[str, Any], /, *parameters: dict[str, Any]
) -> dict[str, Any]:
    operation = {
        "operationId": name,
        "summary": text,
        "security": _TO_GET,
        "responses": {"200": _answer(text, media_type, schema), **_problems("401", *_ANY)},
    }
    return operation | ({"parameters": list(parameters)} if parameters else {})


def _parameter(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _problems(*statuses: str) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/Problem{status}"} for status in statuses}


def _problem_response(status: str) -> dict[str, Any]:
    headers = {name: header | {"required": True} for name, header in _HEADERS.get(status, {}).items()}
    return _answer(_PROBLEMS[status], PROBLEM, _ref("Problem")) | ({"headers": headers} if headers else {})


def _answer(text: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {media_type: {"schema": schema}}}


def _problem() -> dict[str, Any]:
    """RFC 9457's members."""
    members = {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    }
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def _refused() -> dict[str, Any]:
    """A problem that has the members of its receipt beside its own: what was refused is kept."""
    problem, receipt = _problem(), _bare(schemas.receipt())
    return {
        "type": "object",
        "properties": problem["properties"]
        | receipt["properties"]
        | {"outcome": {"enum": ["conflict", "invalid"]}, "reject_id": {"type": "integer", "minimum": 1}},
        "required": [*problem["required"], *receipt["required"], "reject_id", "errors"],
        "additionalProperties": False,
    }


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "$schema"}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
