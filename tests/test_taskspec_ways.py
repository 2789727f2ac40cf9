"""The short way and the full way of judging agree, and a digest says which documents ask for the same thing."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from issue_core import taskspec
from issue_core.task import Accepted, Document
from tests.support.specs import OMITTED, UUID_SPELLINGS, a_spec, an_event_id, specs, written, written_oddly

JSON_PARTS = [
    b'"',
    b'":',
    b":",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\0",
    b"\xff",
    b" ",
    b"\n",
]
JSON_PARTS += [
    b"-",
    b"0",
    b"1.0",
    b"1e999",
    b"NaN",
    b"true",
    b"null",
    b'"title": "x",',
    b'"\\u0074itle":"x",',
    b'"a":1,',
]
JSON_PARTS += [b"\xef\xbb\xbf", b"\x0b", b"/*", b'""', b"\xed\xa0\x80", b"\xc2\x85", b"\xe2\x80\xa8", b"\x1c", b"7"]


def judged(spec: dict[str, Any]) -> Accepted:
    result = taskspec.judge(Document(written(spec)))
    assert isinstance(result, Accepted), result.errors
    return result


VALUES: dict[str, list[Any]] = {
    "title": ["x", " x ", 'a":b', "😀é", "a\tb", "\x1cx", "x" * 255, "x" * 256, "", 7, None, "\ud800", "\u2028x\x85"],
    "description": ["", "two\nlines", '{"title": "x"}', "\0", "x" * 60_001, "\x07", None],
    "target_repo": ["acme/web", "a b", "a\u00a0b", "é", "", "a\x1c", "\u200b"],
    "priority": ["high", "medium", "low", "High", "", None, 1],
    "labels": [[], ["a"], ["a", "A"], ["a", "b "], ["ß", "ss"], [""], [1], None, ["x" * 51], ["a"] * 101, ["a\n b"]],
    "due_in_days": [None, 0, 3650, 3651, -1, 1.0, True, "1", 10**30, -0.0, float("nan"), float("inf")],
    "source_type": ["rule", "instruction", "other", None],
    "source_id": ["s", " s ", "s\n", "x" * 201, "", "\x7f"],
    "triggering_event_id": [spell(an_event_id(1)) for spell in UUID_SPELLINGS] + ["", an_event_id(1) + "\n", None, "x"],
    "activity_definition_id": [None, "", "a", "x" * 201, 0],
    "unknown": [1, "a", None, {"a": 1}],
}


def nearly_valid(chance: random.Random) -> bytes:
    """A TaskSpec of which little is wrong, oddly written, with some parts put in, taken out or said twice."""
    spec = a_spec(triggering_event_id=an_event_id(1))
    for field in chance.sample(list(VALUES), k=chance.choice((0, 1, 1, 2, 3))):
        spec[field] = chance.choice(VALUES[field][: chance.choice((2, 2, 3, 99))])
    fields = list(spec.items())
    chance.shuffle(fields)
    for _ in range(chance.choice((0, 0, 0, 1))):
        fields.insert(chance.randrange(len(fields)), chance.choice(fields))
    raw = bytearray(written_oddly(fields, chance) if chance.random() < 0.7 else written(spec))
    for _ in range(chance.choice((0, 0, 1, 1, 3))):
        at = chance.randrange(len(raw) + 1)
        raw[at : at + chance.choice((0, 0, 1, 2, 9))] = chance.choice(JSON_PARTS)
    return bytes(raw)


def test_what_the_short_way_accepts_the_full_way_accepts_with_the_same_result() -> None:
    chance = random.Random(20260301)
    ways: Counter[bool] = Counter()
    for _ in range(6_000):
        document = Document(nearly_valid(chance))
        at_once = taskspec._accepted_at_once(document)
        ways[at_once is not None] += 1
        if at_once is not None:
            assert taskspec._judge_in_full(document, strict=True) == at_once
    assert min(ways.values()) > 1000  # the test is about both


@pytest.mark.parametrize(
    "raw",
    [
        written(a_spec())[:-1] + b', "title" : "x"}',
        written(a_spec())[:-1] + b', "\\u0074itle" : "x"}',
        written(a_spec(title='":', description=OMITTED)),
        written(a_spec(title='":'))[:-1] + b', "title": "x"}',
        b"\xef\xbb\xbf" + written(a_spec()),
        b"\x0c" + written(a_spec()),
        written(a_spec()) + b"\0",
        written(a_spec(labels=["a", "A"])),
        written(a_spec(labels=["a", " a"])),
        written(a_spec(x=1)),
        written(a_spec(due_in_days=float("nan"))),
    ],
)
def test_what_is_out_of_the_ordinary_does_not_go_the_short_way(raw: bytes) -> None:
    assert taskspec._accepted_at_once(Document(raw)) is None


@settings(max_examples=150, deadline=None)
@given(specs(unknown=False))
def test_ordinary_documents_go_the_short_way(spec: dict[str, Any]) -> None:
    labels = [label.strip().casefold() for label in spec.get("labels", ())]
    looks_like_another_key = written(spec).replace(b" ", b"").count(b'":') > len(spec)
    if len(set(labels)) == len(labels) and not looks_like_another_key:
        assert taskspec._accepted_at_once(Document(written(spec))) is not None


# --- the digest -----------------------------------------------------------------------------------------------------

DEFAULTS: dict[str, Any] = {
    "description": "",
    "priority": "medium",
    "labels": [],
    "due_in_days": None,
    "activity_definition_id": None,
}


@st.composite
def the_same_said_twice(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A valid TaskSpec, and the same one written by somebody else."""
    spec = draw(specs())
    chance = random.Random(draw(st.integers(0, 2**32)))
    other = _left_out_or_given(spec, chance)
    other["title"] = chance.choice(("", " ", "\n\u2003")) + other["title"] + chance.choice(("", "\t"))
    other["triggering_event_id"] = chance.choice(UUID_SPELLINGS)(other["triggering_event_id"])
    if "labels" in other:
        labels = [_other_case(label, chance) for label in other["labels"] * 2]
        chance.shuffle(labels)
        other["labels"] = labels
    fields = [(name, _shuffled(value, chance)) for name, value in other.items()]
    chance.shuffle(fields)
    return written(spec), written_oddly(fields, chance)


def _left_out_or_given(spec: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    other = {name: value for name, value in spec.items() if name not in DEFAULTS or value != DEFAULTS[name]}
    return other | {name: value for name, value in DEFAULTS.items() if name not in other and chance.random() < 0.5}


def _other_case(label: str, chance: random.Random) -> str:
    other = chance.choice((label, label.upper(), label.lower(), label.swapcase(), label.casefold(), f" {label}"))
    return other if other.strip().casefold() == label.strip().casefold() and len(other.strip()) <= 50 else label


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(name, _shuffled(inner, chance)) for name, inner in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [_shuffled(inner, chance) for inner in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None)
@given(the_same_said_twice())
def test_the_same_content_has_the_same_digest_however_it_is_written(documents: tuple[bytes, bytes]) -> None:
    one, other = (taskspec.judge(Document(raw)) for raw in documents)
    assert isinstance(one, Accepted)
    assert isinstance(other, Accepted)
    assert one.digest == other.digest
    assert taskspec.differing_fields(one.spec, other.spec) == []


CHANGES: dict[str, list[Any]] = {
    "title": ["Disk is full", "disk is nearly full", "Disk is nearly  full"],
    "description": ["x", " ", "x "],
    "target_repo": ["acme/Web", "acme/web2"],
    "priority": ["high", "low"],
    "labels": [["a"], ["a", "b"], ["ab"], ["a,b"], ["\u00e9"], ["e\u0301"]],
    "due_in_days": [0, 1, 10],
    "source_type": ["instruction"],
    "source_id": ["disk-watch ", "Disk-watch"],
    "triggering_event_id": [an_event_id(2)],
    "activity_definition_id": ["", "a"],
    "x": [None, 0, 1, 1.0, True, "1", [], {}, [1, 2], [2, 1], {"a": 1}, {"a": {}}, {"A": 1}, 10**30, 10**30 + 1],
}


def test_any_other_content_has_another_digest_and_the_field_is_named() -> None:
    first = judged(a_spec(triggering_event_id=an_event_id(1)))
    digests = {first.digest}
    for field, values in CHANGES.items():
        same_field: list[Accepted] = []
        for value in values:
            other = judged(a_spec(**{"triggering_event_id": an_event_id(1), field: value}))
            assert taskspec.differing_fields(first.spec, other.spec) == [field]
            assert taskspec.differing_fields(other.spec, first.spec) == [field]
            assert all(taskspec.differing_fields(one.spec, other.spec) == [field] for one in same_field)
            same_field.append(other)
            digests.add(other.digest)
    assert len(digests) == 1 + sum(map(len, CHANGES.values()))


@settings(max_examples=300, deadline=None)
@given(specs(event_ids=st.just(an_event_id(1))), specs(event_ids=st.just(an_event_id(1))))
def test_digests_differ_exactly_where_some_field_differs(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = judged(one), judged(other)
    assert (first.digest == second.digest) == (taskspec.differing_fields(first.spec, second.spec) == [])


@settings(max_examples=300, deadline=None)
@given(specs())
def test_judging_again_what_was_kept_gives_the_same_spec_and_digest(spec: dict[str, Any]) -> None:
    first = judged(spec)
    again = taskspec.judge_again(first.spec)
    assert isinstance(again, Accepted)
    assert again.spec == first.spec
    assert again.digest == first.digest
    assert taskspec.as_document(first.spec).keys() <= {*spec, "priority"}


def test_a_field_at_its_default_is_left_out_of_the_digest() -> None:
    """So that a field which a later release adds, with a default, changes no digest of today."""
    given_in_full = judged(a_spec(triggering_event_id=an_event_id(1)) | DEFAULTS)
    assert given_in_full.digest == judged(a_spec(triggering_event_id=an_event_id(1))).digest


_COMMON = "source_id|disk-watch|source_type|rule|target_repo|acme/web|title|Disk is nearly full|triggering_event_id|"
_COMMON += "bf5dd1e0-2246-59aa-a13f-a7b7748cfdcc"

CANONICAL: list[tuple[dict[str, Any], str]] = [
    ({}, _COMMON),
    (
        {
            "description": "# Why\n\u2028é😀/",
            "priority": "high",
            "labels": ["Zeta", "Straße"],
            "due_in_days": 3,
            "activity_definition_id": "a-1",
        },
        "activity_definition_id|a-1|description|# Why\n\u2028é😀/|due_in_days|3|labels|strasse\nzeta|priority|high|"
        + _COMMON,
    ),
    (
        {"team": {"b": [1, 2.5, None], "a": "é"}, "a": 10**20},
        _COMMON + '|{"a":100000000000000000000,"team":{"a":"\\u00e9","b":[1,2.5,null]}}',
    ),
]


@pytest.mark.parametrize(("changes", "form"), CANONICAL)
def test_the_digest_is_the_same_in_every_release(changes: dict[str, Any], form: str) -> None:
    """The ledgers of all releases hold such digests; where one changes, each of its tasks is judged again."""
    spec = a_spec(triggering_event_id="bf5dd1e0-2246-59aa-a13f-a7b7748cfdcc") | changes
    assert judged(spec).digest == hashlib.sha256(form.replace("|", "\0").encode()).digest()
