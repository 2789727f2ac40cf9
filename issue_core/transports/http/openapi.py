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

_UUID = "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"

_ANY = {
    "400": "The request is malformed.",
    "401": "A key is needed.",
    "405": "The method is not for this path.",
    "408": "The request came too slowly.",
    "421": "The Host header names another server.",
    "503": "The ledger is busy or cannot be used, or all connections are taken; `Retry-After` says when to try again.",
}


@cache
def document() -> bytes:
    """The description as JSON."""
    return json.dumps(_document(), indent=2).encode()


def _document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "issue-core",
            "version": __version__,
            "description": "Takes TaskSpecs, keeps each one safe, and turns it into exactly one issue.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"key": []}],
        "paths": {
            "/issues": {"post": _post("postIssues"), "get": _tasks("listIssues")},
            "/issues/": {"post": _post("postIssuesSlash"), "get": _tasks("listIssuesSlash")},
            "/issues/{event_id}": {"get": _task()},
            "/healthz": {"get": _open("isAlive", "The process answers.", "alive")},
            "/readyz": {"get": _open("isReady", "The ledger can be written and has room.", "ready")},
            "/metrics": {"get": _plain("metrics", "Metrics for Prometheus.", "text/plain", {"type": "string"})},
            "/openapi.json": {"get": _plain("describe", "This description.", JSON, {"type": "object"})},
        },
        "components": {
            "schemas": {
                "TaskSpec": _bare(schemas.taskspec()),
                "Receipt": _bare(schemas.receipt()),
                "Task": _bare(schemas.task()),
                "Problem": _problem(),
                "RefusedReceipt": _refused(),
            },
            "responses": {
                f"Problem{status}": {
                    "description": text,
                    "headers": _headers_of(status),
                    "content": {PROBLEM: {"schema": _ref("Problem")}},
                }
                for status, text in (_ANY | {"404": "There is no such thing."}).items()
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "basic": {"type": "http", "scheme": "basic", "description": "For GET: the key is the password."},
            },
        },
    }


def _post(name: str) -> dict[str, Any]:
    one, many = _ref("TaskSpec"), {"type": "array", "items": _ref("TaskSpec")}
    receipt, receipts = _ref("Receipt"), {"type": "array", "items": _ref("Receipt")}
    location = {"Location": {"schema": {"type": "string"}, "description": "Where the task can be read."}}
    kept = "It is kept among the rejects; `reject_id` says as which."
    return {
        "operationId": name,
        "summary": "Store TaskSpecs, each once.",
        "description": "One TaskSpec, an array of them, or NDJSON. When the answer comes, all of it is on the disk.",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {"anyOf": [one, many]},
                    "examples": {"one": {"value": EXAMPLE}, "several": {"value": [EXAMPLE]}},
                },
                NDJSON: {"schema": {"type": "string", "description": "TaskSpecs, one on each line."}},
            },
        },
        "responses": {
            "200": {
                "description": "A duplicate: the receipt. Of an array or NDJSON: all receipts, in their order.",
                "headers": {"Location": location["Location"] | {"required": False}},
                "content": {
                    JSON: {"schema": {"anyOf": [receipt, receipts]}},
                    NDJSON: {"schema": {"type": "string", "description": "Receipts, one on each line."}},
                },
            },
            "201": {
                "description": "Created: the receipt.",
                "headers": location,
                "content": {JSON: {"schema": receipt}},
            },
            "400": _rejected(f"Not JSON, or a malformed request. {kept}", _ref("Problem")),
            "409": _rejected(f"The event ID stands for another task. {kept}", _ref("RefusedReceipt")),
            "411": _rejected("The request says nothing about its body's length.", _ref("Problem")),
            "413": _rejected("Too large.", _ref("Problem")),
            "415": _rejected("Neither JSON nor NDJSON.", _ref("Problem")),
            "417": _rejected("An expectation that cannot be met.", _ref("Problem")),
            "422": _rejected(f"No TaskSpec. {kept}", _ref("RefusedReceipt")),
            **_problems("401", "405", "408", "421", "503"),
        },
    }


def _task() -> dict[str, Any]:
    return {
        "operationId": "getIssue",
        "summary": "One task.",
        "parameters": [
            {
                "name": "event_id",
                "in": "path",
                "required": True,
                "description": "The event ID, in any usual spelling of a UUID.",
                "schema": {"type": "string"},
                "example": EXAMPLE["triggering_event_id"],
            }
        ],
        "responses": {
            "200": {"description": "The task.", "content": {JSON: {"schema": _ref("Task")}}},
            **_problems("404"),
            **_problems(*_ANY),
        },
    }


def _tasks(name: str) -> dict[str, Any]:
    whole = {"type": "integer", "minimum": 0, "maximum": LARGEST_SEQ}
    page = {
        "type": "object",
        "properties": {
            "tasks": {"type": "array", "items": _ref("Task")},
            "next": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        },
        "required": ["tasks", "next"],
        "additionalProperties": False,
    }
    repo = {"type": "string", "minLength": 1, "maxLength": 200}
    limit = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE}
    return {
        "operationId": name,
        "summary": "A page of tasks, by rising `seq`.",
        "parameters": [
            _parameter("state", "Only tasks in this state.", {"enum": list(STATES)}),
            _parameter("repo", "Only tasks with exactly this `target_repo`.", repo),
            _parameter("limit", "How many, at most.", limit),
            _parameter("after", "Only tasks behind this `seq`: the `next` of the page before.", whole),
        ],
        "responses": {
            "200": {
                "description": "The page; `next` is null where no more follow.",
                "content": {JSON: {"schema": page}},
            },
            **_problems(*_ANY),
        },
    }


def _open(name: str, text: str, status: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"status": {"const": status}}, "required": ["status"]}
    return _plain(name, text, JSON, schema) | {"security": []}


def _plain(name: str, text: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": text, "content": {media_type: {"schema": schema}}}
    return {"operationId": name, "summary": text, "responses": {"200": answer, **_problems(*_ANY)}}


def _parameter(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _problems(*statuses: str) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/Problem{status}"} for status in statuses}


def _headers_of(status: str) -> dict[str, Any]:
    named = {"401": "WWW-Authenticate", "405": "Allow", "503": "Retry-After"}
    return {named[status]: {"schema": {"type": "string"}, "required": True}} if status in named else {}


def _rejected(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {PROBLEM: {"schema": schema}}}


def _problem() -> dict[str, Any]:
    """RFC 9457's members; what was refused and kept has those of its receipt beside them."""
    return {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
        "required": ["type", "title", "status", "detail"],
    }


def _refused() -> dict[str, Any]:
    problem, receipt = _problem(), _bare(schemas.receipt())
    return {
        "type": "object",
        "properties": problem["properties"] | receipt["properties"],
        "required": [*problem["required"], *receipt["required"], "reject_id", "errors"],
    }


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "$schema"}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
