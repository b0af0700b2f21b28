"""Words that messages share."""

from collections.abc import Iterable

MEND = "copy or write it anew, or leave it out"
"""What to do about a file that is not whole."""


def named(names: Iterable[object], most: int = 20) -> str:
    """Names in quotes, the first `most` of them."""
    listed = [repr(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "") or "none"
