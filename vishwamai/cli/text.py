"""Text from elsewhere, made safe and short enough to show.

Names, log lines and samples come from other people and from models. Terminals obey control characters and humans obey
direction marks, so both are shown as escapes; Rich's markup is never enabled (see output.py), so brackets are brackets.
"""

import json
import unicodedata
from typing import Any

_SPOKEN = {"\t": "\t", "\n": "\n"}
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that scripts and emoji need; they change shapes, not order."""


def clean(text: str, *, lines: bool = False) -> str:
    """The text with characters that steer a terminal as visible escapes; newlines and tabs stay if `lines`."""
    keep = _SPOKEN if lines else {}
    if text.isascii() and text.isprintable():
        return text
    return "".join(keep.get(char) or _visible(char) for char in text)


def _visible(char: str) -> str:
    if unicodedata.category(char) not in _HIDDEN_CATEGORIES or char in _JOINERS:
        return char
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def shown(value: Any, limit: int = 60) -> str:
    """A JSON value on one line, at most `limit` characters; text and the members of an object go without quotes."""
    if value is None:
        return "—"
    if isinstance(value, dict) and value:
        value = ", ".join(f"{key} {shown(inner, limit)}" for key, inner in value.items())
    text = value if isinstance(value, str) and value.strip() else json.dumps(value, ensure_ascii=False)
    return shortened(clean(text), limit)


def shortened(text: str, limit: int) -> str:
    """The text, cut to `limit` characters with an ellipsis when longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def number(value: float | None, digits: int = 4) -> str:
    """A measurement, or a dash when there is none."""
    return "—" if value is None else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """A large count in the field's way: 1.2k, 3.4M, 5.6B."""
    if value is None:
        return "—"
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.1f}{suffix}"
    return f"{value:.0f}"


def size(value: int | None) -> str:
    """Bytes with a binary unit."""
    if value is None:
        return "—"
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(seconds: float | None) -> str:
    """Seconds as 45s, 3m 20s, 2h 05m or 4d 03h."""
    if seconds is None:
        return "—"
    total = round(max(seconds, 0.0))
    minutes, secs = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {secs:02}s" if minutes else f"{secs}s"
