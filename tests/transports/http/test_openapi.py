"""The description says what the server does: its routes, its examples, its answers, and what a TaskSpec is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from issue_core import schemas
from issue_core.task import Accepted, Document
from issue_core.taskspec import TaskSpec, judge
from issue_core.transports.http import openapi
from issue_core.transports.http.routes import OPEN, ROUTES
from issue_core.transports.http.wire import LONGEST_HEAD, LONGEST_LINE
from tests.support.cli import Issue
from tests.support.serving import KEY, Answered, Serving, serving
from tests.support.specs import OMITTED, UUID_SPELLINGS, a_spec, written

DESCRIBED: dict[str, Any] = json.loads(openapi.document())
FORMATS = Draft202012Validator.FORMAT_CHECKER

TWO_WAYS = {"/issues/": "/issues"}
"""A path that the description names beside the route that it leads to: in OpenAPI the two are two."""


# --- as a document --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
def test_it_is_valid(keyed: bool, strict: bool) -> None:
    described = json.loads(openapi.document(keyed=keyed, strict=strict))
    assert [str(error) for error in OpenAPIV31SpecValidator(described).iter_errors()] == []
    for name, schema in described["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert "$schema" not in schema, name


def test_it_names_every_route_and_no_other() -> None:
    described = {path: {method.upper() for method in operations} for path, operations in DESCRIBED["paths"].items()}
    there = {route: set(handlers) for route, handlers in ROUTES.items()}
    assert described == there | {path: there[route] for path, route in TWO_WAYS.items()}
    for path, route in TWO_WAYS.items():
        assert without_names(DESCRIBED["paths"][path]) == without_names(DESCRIBED["paths"][route])


def without_names(operations: dict[str, Any]) -> dict[str, Any]:
    return {method: operation | {"operationId": None} for method, operation in operations.items()}


@pytest.mark.parametrize("keyed", [False, True])
def test_a_key_is_asked_for_everywhere_but_where_the_process_is_watched_over(keyed: bool) -> None:
    for path, operations in json.loads(openapi.document(keyed=keyed))["paths"].items():
        for operation in operations.values():
            is_needed = keyed and path not in OPEN
            assert bool(operation["security"]) == ("401" in operation["responses"]) == is_needed, path


def test_of_a_strict_server_it_says_that_unknown_fields_are_refused() -> None:
    shown = json.loads(openapi.document(strict=True))["components"]["schemas"]
    assert shown["TaskSpec"]["additionalProperties"] is False
    assert "Kept" not in shown
    assert not Draft202012Validator(shown["TaskSpec"]).is_valid(a_spec(other=1))


# --- as the server does ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(Issue(tmp_path_factory.mktemp("openapi"))) as running:
        yield running


def test_the_server_gives_it_out(server: Serving) -> None:
    answer = server.ask("GET", "/openapi.json")
    assert (answer.status, answer.json()) == (200, DESCRIBED)


def test_a_server_that_asks_for_no_key_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(Issue(tmp_path_factory.mktemp("open")), "--no-auth", key=None) as running:
        answer = running.ask("GET", "/openapi.json", key=None)
    assert answer.json() == json.loads(openapi.document(keyed=False))


def test_its_examples_are_taken(server: Serving) -> None:
    content = DESCRIBED["paths"]["/issues"]["post"]["requestBody"]["content"]["application/json"]
    one, several = (content["examples"][name]["value"] for name in ("one", "several"))
    created = server.ask("POST", "/issues", one)
    assert (created.status, created.json()["warnings"]) == (201, [])
    assert [receipt["outcome"] for receipt in server.ask("POST", "/issues", several).json()] == ["duplicate"]
    (parameter,) = DESCRIBED["paths"]["/issues/{event_id}"]["get"]["parameters"]
    assert server.ask("GET", f"/issues/{parameter['example']}").json()["title"] == one["title"]


NEVER_HERE = {"405", "408", "500", "503"}
"""What a described method does not give, what takes long, and what only a fault or a busy ledger brings."""


def test_every_answer_to_a_post_is_as_described(server: Serving) -> None:
    ndjson = {"Content-Type": "application/x-ndjson"}
    spec = a_spec()
    answers = [
        server.ask("POST", "/issues", spec),
        server.ask("POST", "/issues", spec),
        server.ask("POST", "/issues", spec | {"title": "Another"}),
        server.ask("POST", "/issues", [spec, {"title": ""}, 5, spec | {"title": "Another"}]),
        server.ask("POST", "/issues", written(a_spec()) + b"\nbad\n", ndjson),
        server.ask("POST", "/issues", {"title": ""}),
        server.ask("POST", "/issues", b"bad"),
        server.ask("POST", "/issues", b" "),
        server.ask("POST", "/issues", a_spec(description="x" * 1_100_000)),
        server.ask("POST", "/issues", spec, key=None),
        server.ask("POST", "/issues", spec, {"Content-Type": "text/plain"}),
        server.ask("POST", "/issues", spec, {"Expect": "the best"}),
        server.ask("POST", "/issues", spec, {"Host": "evil.example"}),
        *without_form(server, "POST"),
        raw(server, "POST /issues HTTP/1.1", "Host: localhost", f"X-API-Key: {KEY}"),
        raw(server, "POST /issues HTTP/1.1", "Host: localhost", "Content-Length: 999999999999"),
    ]
    seen = {check("/issues", "post", answer) for answer in answers}
    assert seen == set(DESCRIBED["paths"]["/issues"]["post"]["responses"]) - NEVER_HERE


READ = [
    ("/issues", "/issues?state=pending&limit=2"),
    ("/issues/{event_id}", f"/issues/{openapi.EXAMPLE['triggering_event_id']}"),
    ("/", "/"),
    ("/", "/?find=1"),
    ("/healthz", "/healthz"),
    ("/readyz", "/readyz"),
    ("/metrics", "/metrics"),
    ("/openapi.json", "/openapi.json"),
]


@pytest.mark.parametrize(("path", "target"), READ)
def test_every_answer_to_a_get_is_as_described(server: Serving, path: str, target: str) -> None:
    server.ask("POST", "/issues", openapi.EXAMPLE)
    assert check(path, "get", server.ask("GET", target)) == "200"
    answers = [
        server.ask("GET", "/issues/0190c7a4-0000-7c3b-8a43-3f2b8a1c9d10"),
        server.ask("GET", "/issues?limit=0"),
        server.ask("GET", target, key=None),
        server.ask("GET", target, headers={"Expect": "the best"}),
        server.ask("GET", target, headers={"Host": "evil.example"}),
        *without_form(server, "GET"),
    ]
    described = set(DESCRIBED["paths"][path]["get"]["responses"])
    seen = {check(path, "get", answer) for answer in answers if str(answer.status) in described}
    assert seen | {"200"} == described - NEVER_HERE


def without_form(server: Serving, method: str) -> list[Answered]:
    """Answers to what is no request, or none that anybody reads."""
    host = "Host: localhost"
    return [
        raw(server, f"{method} /issues HTTP/1.1"),
        raw(server, f"{method} /{'x' * LONGEST_LINE} HTTP/1.1", host),
        raw(
            server,
            f"{method} /issues HTTP/1.1",
            host,
            *(f"X-{n}: {'x' * 8000}" for n in range(LONGEST_HEAD // 8000 + 1)),
        ),
        raw(server, f"{method} /issues HTTP/1.1", host, "Transfer-Encoding: gzip"),
        raw(server, f"{method} /issues HTTP/2.0", host),
    ]


def raw(server: Serving, *lines: str) -> Answered:
    with server.raw() as connection:
        return connection.send("\r\n".join([*lines, "", ""])).answer()


def test_another_method_is_answered_as_described(server: Serving) -> None:
    for path in ROUTES:
        answer = server.ask("DELETE", path.replace("{event_id}", "x"))
        assert check(path, next(iter(DESCRIBED["paths"][path])), answer) == "405"


def check(path: str, method: str, answer: Answered) -> str:
    """Hold an answer against the description; its status."""
    status = str(answer.status)
    described = DESCRIBED["paths"][path][method]["responses"].get(status)
    assert described, f"{method} {path} gave {status}: {answer.body!r}"
    if "$ref" in described:
        described = DESCRIBED["components"]["responses"][described["$ref"].rpartition("/")[2]]
    media_type = answer.headers["content-type"].partition(";")[0]
    body = answer.json() if media_type.endswith("json") and "ndjson" not in media_type else answer.body.decode()
    validate(body, described["content"][media_type]["schema"])
    for name, header in described.get("headers", {}).items():
        if header.get("required"):
            assert name.lower() in answer.headers
        if (value := answer.headers.get(name.lower())) is not None:
            validate(int(value) if header["schema"].get("type") == "integer" else value, header["schema"])
    return status


def validate(value: Any, schema: dict[str, Any]) -> None:
    Draft202012Validator({"components": DESCRIBED["components"], **schema}, format_checker=FORMATS).validate(value)


# --- what a TaskSpec is ---------------------------------------------------------------------------------------------


def _as_ecma_262(validator: Any, pattern: str, value: Any, _: Any) -> Iterator[jsonschema.ValidationError]:
    """In JSON Schema ``$`` is the very end; in Python it also stands before a line's end there."""
    if validator.is_type(value, "string") and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_VALIDATOR = jsonschema.validators.extend(Draft202012Validator, {"pattern": _as_ecma_262})  # type: ignore[no-untyped-call]
TASKSPEC = _VALIDATOR(schemas.taskspec())

CHARACTERS = st.sampled_from("a" * 20 + "é 😀\t\n\r\v\0\x1c\x1f\x7f\x80\x85\xa0\u180e\u200b\u2028\u2029\u3000\ufeff")
LENGTHS = st.sampled_from([1] * 20 + [2, 48, 49, 50, 51, 198, 199, 200, 201, 253, 254, 255, 256])
TEXT = st.lists(st.builds(lambda one, times: one * times, CHARACTERS, LENGTHS), max_size=4).map("".join)
SPELLINGS = st.builds(
    lambda spell, before, after: before + spell(str(openapi.EXAMPLE["triggering_event_id"])) + after,
    st.sampled_from(UUID_SPELLINGS),
    st.sampled_from(["", "", "", "{", " ", "urn:uuid:"]),
    st.sampled_from(["", "", "", "}", "\n", "0"]),
)
SCALARS = TEXT | st.sampled_from([None, True, 0, -1, 5, 3650, 3651, 1.5, "high", "rule"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2), max_leaves=4
)
OF_ITS_KIND = {"labels": st.lists(TEXT, max_size=3), "triggering_event_id": SPELLINGS}
A_FIELD = st.sampled_from(sorted(TaskSpec.model_fields)).flatmap(
    lambda name: st.tuples(st.just(name), OF_ITS_KIND.get(name, SCALARS) | VALUES | st.just(OMITTED))
)
# One or two at a time: where ten fields are anything, one of them is wrong nearly always, and hides the rest.
CHANGES = st.lists(A_FIELD | st.tuples(TEXT, VALUES), min_size=1, max_size=2).map(dict)


@settings(max_examples=300, deadline=None)
@given(CHANGES)
@example({"title": "\n" + "x" * 255 + "\u3000"})
@example({"title": "x" * 256})
@example({"labels": [" " * 60 + "x" * 50]})
@example({"target_repo": "a\ufeffb"})
@example({"source_id": "x\n"})
@example({"due_in_days": True})
@example({"": {"": ["x", {"y": None}]}})
@example({"x": {"\x7f": 1}})
def test_the_schema_takes_what_ingest_takes_and_nothing_else(changes: dict[str, Any]) -> None:
    spec = a_spec(**changes)
    is_taken = isinstance(judge(Document(written(spec))), Accepted)
    assert TASKSPEC.is_valid(spec) == is_taken


@pytest.mark.parametrize(
    "name", ["1 MiB", "surrogate", "twice", "infinite", "4,300", "fraction", "100 labels", "100 levels"]
)
def test_what_the_schema_cannot_say_it_says_in_words(name: str) -> None:
    assert name in schemas.taskspec()["description"]
