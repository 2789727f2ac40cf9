"""What a TaskSpec may be, field by field, and in which words the rest is refused."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest

from issue_core.task import Accepted, Document, FieldProblem, Oversize, Rejected, Spec
from issue_core.taskspec import TaskIngestionRequest, TaskSpec, judge
from issue_core.taskspec.problems import MAX_PROBLEMS
from tests.support.specs import OMITTED, UUID_SPELLINGS, a_spec, an_event_id, written

EVENT_ID = an_event_id(1)


def accepted(raw: bytes | None = None, /, **changes: Any) -> Accepted:
    strict = changes.pop("strict", False)
    judged = judge(Document(written(a_spec(**changes)) if raw is None else raw), strict=strict)
    assert isinstance(judged, Accepted), judged.errors
    return judged


def refused(raw: bytes | None = None, /, **changes: Any) -> list[tuple[str, str]]:
    strict = changes.pop("strict", False)
    judged = judge(Document(written(a_spec(**changes)) if raw is None else raw), strict=strict)
    assert isinstance(judged, Rejected)
    for error in judged.errors:
        assert error.field
        (error.field + error.problem).encode()  # it can be stored and shown
    return [(error.field, error.problem) for error in judged.errors]


def with_raw(json_text: str, field: str = "x", **changes: Any) -> bytes:
    """A TaskSpec in which ``field`` has a value that only text can say."""
    return written(a_spec(**{field: "@@"} | changes)).replace(b'"@@"', json_text.encode("utf-8", "surrogatepass"))


# --- what passes ----------------------------------------------------------------------------------------------------


def test_a_spec_with_only_the_required_fields_has_the_defaults() -> None:
    assert accepted(triggering_event_id=EVENT_ID).spec == Spec(
        event_id=EVENT_ID,
        title="Disk is nearly full",
        description="",
        target_repo="acme/web",
        priority="medium",
        labels=[],
        due_in_days=None,
        source_type="rule",
        source_id="disk-watch",
        activity_definition_id=None,
        extra=None,
    )


def test_every_field_is_kept_as_it_was_given() -> None:
    given = {
        "title": "Certificate of «web» expires 🔒",
        "description": "# Why\n\n\tIt ends *soon*.\r\n",
        "target_repo": "acme/web#2",
        "priority": "high",
        "labels": ["tls", "Ops"],
        "due_in_days": 0,
        "source_type": "instruction",
        "source_id": "cert watch",
        "triggering_event_id": EVENT_ID,
        "activity_definition_id": "",
    }
    judged = accepted(written(given))
    assert judged.spec._asdict() == {"event_id": given.pop("triggering_event_id"), **given, "extra": None}
    assert judged.warnings == ()


def test_the_older_name_of_the_model_is_the_same_model() -> None:
    assert TaskIngestionRequest is TaskSpec


@pytest.mark.parametrize("spell", UUID_SPELLINGS)
def test_an_event_id_in_any_usual_spelling_is_the_same_from_then_on(spell: Any) -> None:
    assert accepted(triggering_event_id=spell(EVENT_ID)).spec.event_id == EVENT_ID


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("title", "  a title\n", "a title"),
        ("title", "\u00a0\u2003\u3000a  title\u2029\x85", "a  title"),
        ("labels", [" ops\t"], ["ops"]),
        ("description", "  \n kept \n", "  \n kept \n"),
        ("source_id", " kept ", " kept "),
        ("activity_definition_id", " kept ", " kept "),
    ],
)
def test_only_title_and_labels_are_trimmed(field: str, given: Any, kept: Any) -> None:
    assert getattr(accepted(**{field: given}).spec, field) == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["Ops", "ops", "OPS"], ["Ops"]),
        (["straße", "STRASSE", "Straße"], ["straße"]),
        (["\u017f", "s", "S"], ["\u017f"]),
        (["İ", "i", "I", "i̇"], ["İ", "i"]),
        (["ΟΔΟΣ", "οδος", "οδοσ"], ["ΟΔΟΣ"]),
        (["ops ", " OPS"], ["ops"]),
        (["b", "a", "B"], ["b", "a"]),
    ],
)
def test_a_repeated_label_counts_once_and_keeps_its_first_spelling(given: list[str], kept: list[str]) -> None:
    assert accepted(labels=given).spec.labels == kept


def test_a_hundred_labels_pass_however_often_they_are_repeated() -> None:
    labels = [f"label-{n}" for n in range(100)]
    assert accepted(labels=labels).spec.labels == labels
    assert accepted(labels=labels + [label.upper() for label in labels] * 3).spec.labels == labels


LIMITS = [("title", 255), ("description", 60_000), ("target_repo", 200), ("source_id", 200)]
LIMITS += [("activity_definition_id", 200)]


@pytest.mark.parametrize(("field", "most"), LIMITS)
@pytest.mark.parametrize("character", ["x", "é", "中", "😀"])
def test_lengths_are_counted_in_characters_and_the_last_one_passes(field: str, most: int, character: str) -> None:
    assert getattr(accepted(**{field: character * most}).spec, field) == character * most
    problem = f"is {most + 1:,} characters long; {most:,} are allowed"
    assert refused(**{field: character * (most + 1)}) == [(field, problem)]


def test_what_is_trimmed_does_not_count() -> None:
    assert accepted(title=" " * 90 + "x" * 255 + "\n" * 90).spec.title == "x" * 255
    assert refused(title="  " + "x" * 256) == [("title", "is 256 characters long; 255 are allowed")]
    assert accepted(labels=[" " + "x" * 50]).spec.labels == ["x" * 50]
    assert refused(labels=["ok", " " + "x" * 51]) == [("labels[1]", "is 51 characters long; 50 are allowed")]


@pytest.mark.parametrize("days", [0, 1, 3650, None])
def test_days_until_due_pass_from_0_to_3650(days: int | None) -> None:
    assert accepted(due_in_days=days).spec.due_in_days == days


# --- what does not --------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"title": OMITTED}, [("title", "is required")]),
    ({"target_repo": OMITTED, "source_id": OMITTED}, [("target_repo", "is required"), ("source_id", "is required")]),
    ({"source_type": OMITTED}, [("source_type", "is required")]),
    ({"title": ""}, [("title", "must not be empty")]),
    ({"title": " \n\u2028 "}, [("title", "must not be empty")]),
    ({"title": 7}, [("title", "must be a string, not the number 7")]),
    ({"title": None}, [("title", "must be a string, not null")]),
    ({"title": ["a"]}, [("title", "must be a string, not a list")]),
    ({"title": {}}, [("title", "must be a string, not an object")]),
    ({"title": "two\nlines"}, [("title", "must not hold a control character (U+000A at character 4)")]),
    ({"title": " \ttwo\u2028lines"}, [("title", "must not hold a control character (U+2028 at character 6)")]),
    ({"title": "a\0"}, [("title", "must not hold a control character (U+0000 at character 2)")]),
    ({"title": "\x1ca"}, [("title", "must not hold a control character (U+001C at character 1)")]),
    ({"title": "a\x1f"}, [("title", "must not hold a control character (U+001F at character 2)")]),
    ({"title": "a\x7f"}, [("title", "must not hold a control character (U+007F at character 2)")]),
    ({"description": None}, [("description", "must be a string, not null")]),
    ({"description": "\nab\0"}, [("description", "must not hold a control character (U+0000 at character 4)")]),
    ({"target_repo": ""}, [("target_repo", "must not be empty")]),
    ({"target_repo": "acme /web"}, [("target_repo", "must not hold white space (character 5)")]),
    ({"target_repo": "acme\u00a0web"}, [("target_repo", "must not hold white space (character 5)")]),
    ({"target_repo": "acme\n"}, [("target_repo", "must not hold white space (character 5)")]),
    ({"target_repo": "a\x01"}, [("target_repo", "must not hold a control character (U+0001 at character 2)")]),
    ({"priority": "High"}, [("priority", 'must be "high", "medium" or "low", not "High"')]),
    ({"priority": None}, [("priority", 'must be "high", "medium" or "low", not null')]),
    ({"priority": "x" * 99}, [("priority", f'must be "high", "medium" or "low", not "{"x" * 56}…"')]),
    ({"labels": None}, [("labels", "must be a list of strings, not null")]),
    ({"labels": "ops"}, [("labels", "must be a list of strings, not a string")]),
    ({"labels": {"ops": 1}}, [("labels", "must be a list of strings, not an object")]),
    ({"labels": ["a", 7, None]}, [
        ("labels[1]", "must be a string, not the number 7"), ("labels[2]", "must be a string, not null"),
    ]),
    ({"labels": [" "]}, [("labels[0]", "must not be empty")]),
    ({"labels": ["a\tb"]}, [("labels[0]", "must not hold a control character (U+0009 at character 2)")]),
    ({"labels": ["\x1d"]}, [("labels[0]", "must not hold a control character (U+001D at character 1)")]),
    ({"labels": [str(n) for n in range(101)]}, [("labels", "has 101 different labels; 100 are allowed")]),
    ({"labels": ["a"] * 10_001}, [("labels", "has 10,001 labels; 100 different ones are allowed")]),
    ({"due_in_days": "7"}, [("due_in_days", "must be a whole number, not a string")]),
    ({"due_in_days": 7.0}, [("due_in_days", "must be a whole number, not the number 7.0")]),
    ({"due_in_days": True}, [("due_in_days", "must be a whole number, not true")]),
    ({"due_in_days": -1}, [("due_in_days", "must be between 0 and 3650, not -1")]),
    ({"due_in_days": 3651}, [("due_in_days", "must be between 0 and 3650, not 3651")]),
    ({"due_in_days": 10**70}, [("due_in_days", f"must be between 0 and 3650, not 1{'0' * 56}…")]),
    ({"source_type": "Rule"}, [("source_type", 'must be "rule" or "instruction", not "Rule"')]),
    ({"source_type": 1}, [("source_type", 'must be "rule" or "instruction", not 1')]),
    ({"source_id": ""}, [("source_id", "must not be empty")]),
    ({"source_id": "a\n"}, [("source_id", "must not hold a control character (U+000A at character 2)")]),
    ({"source_id": "\x85"}, [("source_id", "must not hold a control character (U+0085 at character 1)")]),
    ({"activity_definition_id": "\r"}, [
        ("activity_definition_id", "must not hold a control character (U+000D at character 1)"),
    ]),
    ({"activity_definition_id": 4}, [("activity_definition_id", "must be a string, not the number 4")]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "errors"), REFUSED, ids=lambda part: repr(part)[:40])
def test_what_breaks_a_rule_is_refused_with_the_field_and_the_rule(
    changes: dict[str, Any], errors: list[tuple[str, str]]
) -> None:
    assert refused(**changes) == errors


@pytest.mark.parametrize(
    "value",
    [
        *("", "7", "{}", "g" * 32, "\uff11" * 32, "urn:uuid:", "urn:uu\u0130d:" + EVENT_ID, "uuid:" + EVENT_ID),
        *(" " + EVENT_ID, EVENT_ID + "\n", EVENT_ID[:-1], EVENT_ID + "0", "{" + EVENT_ID, EVENT_ID + "}"),
        *(EVENT_ID.replace("-", "_"), EVENT_ID.replace("-", "", 1), EVENT_ID.replace("-", "\u2010")),
    ],
)
def test_what_is_no_uuid_is_no_event_id(value: str) -> None:
    problem = "must be a UUID, such as 0190c7a4-9d5e-7c3b-8a43-3f2b8a1c9d10"
    assert refused(triggering_event_id=value) == [("triggering_event_id", problem)]


@pytest.mark.parametrize("value", [7, None, [EVENT_ID], True])
def test_an_event_id_of_another_type_is_refused(value: Any) -> None:
    ((field, problem),) = refused(written(a_spec() | {"triggering_event_id": value}))
    assert field == "triggering_event_id"
    assert problem.startswith("must be a string, not ")


def test_all_problems_of_a_document_are_told_at_once() -> None:
    errors = refused(strict=True, title="", priority=1, due_in_days=-1, prioritty="high", x="a\0")
    assert [field for field, _ in errors] == ["title", "priority", "due_in_days", "x", "prioritty", "x"]


def test_a_refused_document_tells_its_event_id_where_it_has_one() -> None:
    judged = judge(Document(written(a_spec(triggering_event_id=EVENT_ID.upper(), title=""))))
    assert isinstance(judged, Rejected)
    assert judged.event_id == EVENT_ID
    judged = judge(Document(written(a_spec(triggering_event_id="x", title=""))))
    assert isinstance(judged, Rejected)
    assert judged.event_id is None


# --- fields that a TaskSpec does not have ---------------------------------------------------------------------------


def test_unknown_fields_are_kept_and_named_in_a_warning() -> None:
    judged = accepted(prioritty="high", team={"name": "web", "on_call": [1, 2.5, None, True]})
    assert judged.spec.extra == {"prioritty": "high", "team": {"name": "web", "on_call": [1, 2.5, None, True]}}
    assert judged.warnings == (
        'unknown field "prioritty" kept (did you mean "priority"?)',
        'unknown field "team" kept',
    )


def test_strict_refuses_unknown_fields() -> None:
    assert refused(strict=True, prioritty="high", team=1) == [
        ("prioritty", 'is no field of a TaskSpec (did you mean "priority"?)'),
        ("team", "is no field of a TaskSpec"),
    ]
    assert accepted(strict=True).spec.extra is None


@pytest.mark.parametrize(
    "name", ["model_config", "model_extra", "__class__", "__dict__", "event_id", "extra", "", "a.b"]
)
def test_an_unknown_field_may_have_any_name(name: str) -> None:
    assert accepted(**{name: 1}).spec.extra == {name: 1}


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        ("a\n", [("x", "must not hold a control character (U+000A at character 2)")]),
        ("\0", [("x", "must not hold a control character (U+0000 at character 1)")]),
        ([1, {"y": "\u2029"}], [("x[1].y", "must not hold a control character (U+2029 at character 1)")]),
        ({"a\0b": 1}, [("x", "a field's name must not hold a control character (U+0000 at character 2)")]),
        (["\ud83d"], [("x[0]", "must not hold half of a surrogate pair (U+D83D at character 1)")]),
    ],
)
def test_what_a_known_field_refuses_an_unknown_one_refuses_at_any_depth(
    value: Any, errors: list[tuple[str, str]]
) -> None:
    assert refused(x=value) == errors


@pytest.mark.parametrize("strict", [False, True])
def test_the_name_of_an_unknown_field_must_be_text(strict: bool) -> None:
    errors = refused(strict=strict, **{"\ud800": 1, "a\0": [["\n"]]})
    assert errors[:3] == [
        ("document", "a field's name must not hold half of a surrogate pair (U+D800 at character 1)"),
        ("document", "a field's name must not hold a control character (U+0000 at character 2)"),
        ('"a\\u0000[0][0]"', "must not hold a control character (U+000A at character 1)"),
    ]
    assert [field for field, _ in errors[3:]] == (['"\\ud800"', '"a\\u0000"'] if strict else [])


def nested(depth: int) -> Any:
    return json.loads("[" * depth + "]" * depth)


def test_an_unknown_field_may_be_nested_a_hundred_levels_deep() -> None:
    assert accepted(x=nested(100)).spec.extra == {"x": nested(100)}
    ((field, problem),) = refused(x=nested(101))
    assert field == "x" + "[0]" * 66 + "…"
    assert problem == "is nested more than 100 levels deep"
    (_, (field, _)) = refused(**{"\ud800": nested(500)})
    assert field.startswith('"\\ud800[0][0]')


def test_integers_of_any_size_that_can_be_read_are_kept_exactly() -> None:
    assert accepted(x=[2**63, -(2**64), 10**4000]).spec.extra == {"x": [2**63, -(2**64), 10**4000]}


# --- what is no document at all -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "is not JSON: expecting value at column 1"),
        (b" \n ", "is not JSON: expecting value at line 2, column 2"),
        (b"[]", "must be a JSON object, not a list"),
        (b"null", "must be a JSON object, not null"),
        (b"7", "must be a JSON object, not the number 7"),
        (b"NaN", "must be a JSON object, not NaN"),
        (b'"title"', "must be a JSON object, not a string"),
        (b"{", "is not JSON: expecting property name enclosed in double quotes at column 2"),
        (b'{"title": "a"} x', "is not JSON: extra data at column 16"),
        (b'{"title":\n"a"\n"b"}', "is not JSON: expecting ',' delimiter at line 3, column 1"),
        (b'{"title": "a\nb"}', "is not JSON: invalid control character at column 13"),
        (b'{"title": "\xff"}', "is not valid UTF-8: the byte 0xff at byte 12 fits nowhere"),
        (b'{"title": "\xed\xa0\x80"}', "is not valid UTF-8: the byte 0xed at byte 12 fits nowhere"),
        (b'{"title": "\xc3', "is not valid UTF-8: the byte 0xc3 at byte 12 fits nowhere"),
        ("{}".encode("utf-16"), "is not valid UTF-8: the byte 0xff at byte 1 fits nowhere"),
        (b"[" * 100_000, "is nested too deeply to be read"),
        (b'{"x":' * 100_000, "is nested too deeply to be read"),
        (b'{"x": ' + b"9" * 5000 + b"}", "holds a number of more than 4,300 digits"),
        (b'{"title": 1, "title": 1}', 'gives the key "title" twice'),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_place_where_it_breaks(raw: bytes, problem: str) -> None:
    ((field, said),) = refused(raw)
    assert field == "document"
    assert said.lower() == problem.lower()


def test_a_document_of_whole_brackets_is_refused_however_deep() -> None:
    for opened, closed in ((b"[", b"]"), (b'{"x":', b"}")):
        raw = b'{"x":' + opened * 50_000 + b"1" + closed * 50_000 + b"}"
        assert refused(raw) == [("document", "is nested too deeply to be read")]


def test_what_the_reader_could_not_make_one_document_is_refused_in_its_words() -> None:
    judged = judge(Document(written(a_spec()), broken="ends in the middle of a string"))
    assert isinstance(judged, Rejected)
    assert judged.errors == (FieldProblem("document", "ends in the middle of a string"),)


def test_what_is_over_the_size_limit_is_refused_though_its_head_may_be_valid() -> None:
    judged = judge(Document(written(a_spec()), oversize=Oversize(2_000_000, "ab" * 32, 1_048_576)))
    assert isinstance(judged, Rejected)
    (error,) = judged.errors
    assert error.problem.startswith("is 2,000,000 bytes long; 1,048,576 are allowed")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("NaN", "must not be NaN: JSON has no such number"),
        ("-Infinity", "must not be -Infinity: JSON has no such number"),
        ("1e999", "must be a whole number, not the number Infinity"),
    ],
)
def test_a_known_field_refuses_what_is_no_number_of_json(value: str, problem: str) -> None:
    assert refused(with_raw(value, "due_in_days")) == [("due_in_days", problem)]


@pytest.mark.parametrize("field", ["title", "priority", "labels", "triggering_event_id", "source_type"])
def test_not_a_number_is_named_in_any_known_field(field: str) -> None:
    assert refused(with_raw("NaN", field)) == [(field, "must not be NaN: JSON has no such number")]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_an_unknown_field_refuses_what_is_no_number_of_json(value: str) -> None:
    problem = "must not be NaN or infinite: JSON has no such number"
    assert refused(with_raw(value)) == [("x", problem)]
    assert refused(with_raw(f'{{"y": [0, {value}]}}')) == [("x.y[1]", problem)]


@pytest.mark.parametrize("field", ["title", "description", "target_repo", "source_id", "activity_definition_id", "x"])
@pytest.mark.parametrize("half", ["\\ud800", "\\udfff", "\\ude00\\ud83d"])
def test_half_of_a_surrogate_pair_is_refused_with_its_place(field: str, half: str) -> None:
    shown = half[2:6].upper()
    problem = f"must not hold half of a surrogate pair (U+{shown} at character 3)"
    assert refused(with_raw(f'"ab{half}"', field)) == [(field, problem)]


def test_a_surrogate_pair_is_one_character() -> None:
    assert accepted(with_raw('"\\ud83d\\ude00"', "title")).spec.title == "😀"


@pytest.mark.parametrize(
    "second",
    ['"title": "b"', '"title" : "b"', '"title"\t\r\n:\n"b"', '"\\u0074itle": "b"', '"t\\u0069tle"  : "b"'],
)
def test_a_key_given_twice_is_refused_however_it_is_written(second: str) -> None:
    raw = written(a_spec())
    assert refused(raw[:-1] + b", " + second.encode() + b"}") == [("document", 'gives the key "title" twice')]
    assert refused(b"{" + second.encode() + b", " + raw[1:]) == [("document", 'gives the key "title" twice')]


@pytest.mark.parametrize("inner", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "\\u0061" :3}}]'])
def test_a_key_given_twice_inside_an_unknown_field_is_refused(inner: str) -> None:
    assert refused(with_raw(inner)) == [("document", 'gives the key "a" twice')]


# --- a hostile megabyte ---------------------------------------------------------------------------------------------

HOSTILE = {
    "ninety thousand keys, one of them twice": b"{" + b",".join(b'"k%d":1' % n for n in range(90_000)) + b',"k9":1}',
    "the last key twice": b"{" + b",".join(b'"k%d":1' % n for n in range(90_000)) + b',"k89999":1}',
    "eighty thousand unknown fields": written(a_spec(**{f"k{n}": 1 for n in range(80_000)})),
    "a long name over many values": written(a_spec(**{"k" * 400_000: [1] * 150_000})),
    "a long name over many NaNs": written(a_spec(**{"k" * 400_000: [float("nan")] * 90_000})),
    "a long list at the greatest depth": with_raw("[" * 99 + "1,1," * 200_000 + "1" + "]" * 99),
    "labels that are no strings": written(a_spec(labels=[1] * 340_000)),
    "names that are no text": written(a_spec(**{f"\ud800{n}": 1 for n in range(50_000)})),
    "one label, over and over": written(a_spec(labels=["a"] * 200_000)),
    "long numbers": with_raw("[" + ",".join(["9" * 4299] * 200) + "]"),
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_document_within_the_limit_costs_much_time_or_room(raw: bytes, strict: bool) -> None:
    assert len(raw) < 1_100_000
    started = time.process_time()
    judged = judge(Document(raw), strict=strict)
    assert time.process_time() - started < 5  # seconds; ten times what it takes
    told = judged.warnings if isinstance(judged, Accepted) else judged.errors
    assert len(told) <= MAX_PROBLEMS + 1
    assert len(str(told)) < 100_000


def test_the_paths_of_a_hostile_document_are_not_all_held_at_once() -> None:
    raw = HOSTILE["a long name over many values"]
    tracemalloc.start()
    try:
        judge(Document(raw))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 50 * len(raw)


def test_more_problems_than_a_person_reads_are_counted_off() -> None:
    errors = refused(x=["\0"] * 200)
    assert errors[0] == ("x[0]", "must not hold a control character (U+0000 at character 1)")
    assert errors[99:] == [
        ("x[99]", "must not hold a control character (U+0000 at character 1)"),
        ("document", "has more problems than these 100"),
    ]
    warnings = accepted(**{f"k{n}": n for n in range(101)}).warnings
    assert warnings[99:] == ('unknown field "k99" kept', "1 more unknown fields kept")
