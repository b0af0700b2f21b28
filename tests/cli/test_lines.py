"""Which line of a file a JSON pointer means."""

import json

from hypothesis import given
from hypothesis import strategies as st

from vishwamai.cli.lines import lines_of
from vishwamai.contract.strict_json import pointer_to

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_members_and_elements_have_their_own_lines():
    text = '\n{"a": {\n"b": [1,\n\n2],\n"c/d~": "x\\n"\n},\n"e"\n:\n{}}'
    assert lines_of(text) == {
        "": 1,
        "/a": 2,
        "/a/b": 3,
        "/a/b/0": 3,
        "/a/b/1": 5,
        "/a/c~1d~0": 6,
        "/e": 8,
    }


@given(values, st.sampled_from([None, 1, 4]))
def test_every_place_is_found_and_its_line_holds_it(value, indent):
    text = json.dumps(value, indent=indent)
    found = lines_of(text)

    def walk(inner: object, path: tuple[str | int, ...]) -> int:
        members = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else []
        places = 1
        for key, member in members:
            line = text.split("\n")[found[pointer_to(*path, key)] - 1]
            if isinstance(key, str):
                assert json.dumps(key) in line
            places += walk(member, (*path, key))
        return places

    assert len(found) == walk(value, ())
