"""From a JSON pointer to the line that its author wrote.

Python's json module forgets positions, so a valid text is walked once more: objects and arrays here, scalars and keys
by the json module's own decoder.
"""

import json
import re
from bisect import bisect_right

from vishwamai.contract.strict_json import pointer_to

_SPACE = re.compile(r"[ \t\r\n]*")


def lines_of(text: str) -> dict[str, int]:
    """Line, from 1, of every member and element of a text that parse_json accepts, by its pointer."""
    walk = _Walk(text)
    walk.value(walk.skip(0), "")
    return walk.found


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [match.end() for match in re.finditer("\n", text)]
        self._decoder = json.JSONDecoder()
        self.found = {"": 1}

    def skip(self, at: int) -> int:
        """The next position that is not white space."""
        space = _SPACE.match(self._text, at)
        return space.end() if space else at

    def value(self, at: int, where: str) -> int:
        """Walks the value that begins at `at`; returns the position after it."""
        opening = self._text[at]
        if opening not in "{[":
            return self._decoder.raw_decode(self._text, at)[1]
        at = self.skip(at + 1)
        index = 0
        while self._text[at] not in "}]":
            start, key = at, str(index)
            if opening == "{":
                key, at = self._decoder.raw_decode(self._text, at)
                at = self.skip(self.skip(at) + 1)
            inner = where + pointer_to(key)
            self.found[inner] = 1 + bisect_right(self._starts, start)
            at = self.skip(self.value(at, inner))
            if self._text[at] == ",":
                at = self.skip(at + 1)
            index += 1
        return at + 1
