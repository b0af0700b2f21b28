"""Names that look alike: what someone probably meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like the given one, however it is spelt (batchSize, Batch-Size); None when nothing comes close."""
    by_core = {_core(candidate): candidate for candidate in names}
    close = difflib.get_close_matches(_core(name[:80]), by_core, n=1, cutoff=0.68)
    return by_core[close[0]] if close else None


def _core(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "").replace(" ", "")
