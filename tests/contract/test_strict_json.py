"""Text that is not JSON, or that two readers could understand differently, is refused with its place."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.strategies import json_values
from vishwamai.contract.load import parse_json
from vishwamai.contract.problems import InvalidConfig, Problem


def problems(text: str | bytes) -> list[Problem]:
    with pytest.raises(InvalidConfig) as caught:
        parse_json(text)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('{"a": 1} x', "line 1, column 10", "follows the end"),
        ('{\n "a": 1\n "b": 2}', "line 3, column 2", "',' delimiter"),
        ('{"a": 1,}', "line 1, column", "not JSON"),
        ("{'a': 1}", "line 1, column 2", "double quotes"),
        ('{"a": True}', "line 1, column 7", "not JSON"),
        ('{"a": // one\n 1}', "line 1, column 7", "not JSON"),
        ('{"a": 01}', "line 1, column 8", "not JSON"),
        ('{"a": "x', "line 1, column 7", "unterminated string"),
        ('{"a": "x\ny"}', "line 1, column 9", "control character"),
        ('{"a":', "line 1, column 6", "end of the text"),
        ('{"a": NaN}', "line 1, column 7", "NaN is not a JSON number"),
        ('{"a": [1, -Infinity]}', "line 1, column 11", "-Infinity is not"),
        ('{"a": 1e999}', "line 1, column 7", "larger than any"),
        ('{"a": ' + "9" * 5000 + "}", "line 1, column 7", "5000 digits"),
        ('{"a": 1,\n "a": 2}', "line 2, column 2", '"a" is given twice'),
        (r'{"a": "\ud800"}', "line 1, column 7", "surrogate"),
        ("[" * 100_000, "line 1, column 65", "nested more than 64 deep"),
        ('{"a":' * 70 + "1" + "}" * 70, "line 1, column 321", "nested more than 64 deep"),
        (b'{"a": "\xff"}', "line 1, column 8", "0xff is not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "line 1, column 1", "0xff is not UTF-8"),
    ],
)
def test_the_place_is_named(text: str | bytes, place: str, words: str):
    (problem,) = problems(text)
    assert problem.message.startswith(place)
    assert words in problem.message


@pytest.mark.parametrize("text", ["", "  \n", b"", "\ufeff"])
def test_no_text_at_all(text: str | bytes):
    assert "empty" in problems(text)[0].message


@pytest.mark.parametrize(
    ("text", "kind"), [("[]", "a list"), ("3", "a whole number"), ('"x"', "a string"), ("null", "null")]
)
def test_the_document_is_an_object(text: str, kind: str):
    assert f"The document is {kind}" in problems(text)[0].message


def test_all_ambiguities_at_once_with_pointers():
    found = problems('{"training": {"batch_size": 8, "batch_size": NaN}, "data": {"train": ["x", 1e400]}}')
    assert [problem.pointer for problem in found] == ["/training/batch_size", "/training/batch_size", "/data/train/1"]


def test_a_control_character_is_named_in_a_sentence():
    (problem,) = problems('{"a": "\x1b"}')
    assert problem.message == "line 1, column 8: this is not JSON: invalid control character, at '\\x1b\"}'."


def test_a_byte_order_mark_is_no_mistake():
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert parse_json('\ufeff{"a": 1}') == {"a": 1}


@settings(max_examples=40)
@given(st.dictionaries(st.text(), json_values()))
def test_json_goes_through(document: dict[str, Any]):
    assert parse_json(json.dumps(document)) == document
    assert parse_json(json.dumps(document, ensure_ascii=False).encode()) == document


@given(st.text(alphabet='{}[]",:019.-eE \\untrlfaseNIy"') | st.text() | st.binary())
def test_any_text_is_an_object_or_a_problem(text: str | bytes):
    try:
        found = parse_json(text)
    except InvalidConfig as error:
        said = error.problems
    else:
        assert isinstance(found, dict)
        return
    assert said
    json.dumps([problem.model_dump() for problem in said]).encode()
