"""A teacher's cache: what the job does with it, what it keeps, and how large it gets.

    bytes a token = k x (2 or 4 for a word, 2 for the log of its probability) + 4 for the rest + 4 for the target

k x (2 + 2) where the vocabulary has at most 65,536 words. Windows are kept once, however often training visits them.
"""

import re

from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.problems import Notice
from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolution.lowering import in_bytes
from vishwamai.contract.resolved import Batch

USUAL_TOP_K = 64
_CACHE, _TOP_K = "distillation.cache", "distillation.cache_top_k"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_address(place: str) -> bool:
    """Whether a place is somewhere else than in a folder."""
    return bool(_ADDRESS.match(place))


def writes_cache(config: TrainingConfig) -> bool:
    """Whether the job writes a cache instead of training."""
    return config.run.kind == "cache_teacher"


def reads_cache(draft: Draft) -> bool:
    """Whether the job learns from a cache."""
    return draft["distillation.cache"] is not None and draft["run.kind"] == "train"


def token_bytes(top_k: int, vocabulary: int) -> int:
    """Bytes of a token in a cache."""
    return top_k * ((2 if vocabulary <= 2**16 else 4) + 2) + 8


def settle_cache(draft: Draft) -> list[Notice]:
    """Decides what concerns the cache; a notice forbids the launch with one that this release cannot reach."""
    folder: str | None = draft[_CACHE]
    if folder is None:
        for name in ("cache_top_k", "cache_rest"):
            if f"distillation.{name}" in draft.asked:
                draft.explain(f"distillation.{name}", draft[f"distillation.{name}"], "not used: no cache")
        return []
    if draft["run.kind"] == "cache_teacher":
        if draft[_TOP_K] is None:
            draft.decide(_TOP_K, min(USUAL_TOP_K, draft["model.vocab_size"]), "not given")
        why = "writes the cache; what concerns the student's training waits for run.kind train"
        draft.explain("run.kind", "cache_teacher", why)
    else:
        _explain_reading(draft, folder)
    if not is_address(folder):
        return []
    message = f"The cache {folder} is an address, and this release keeps caches in folders."
    return [
        Notice(
            code="cache-address",
            pointer="/distillation/cache",
            message=message,
            fix="Mount it, and name the folder.",
            blocks_launch=True,
        )
    ]


def announce_cache(draft: Draft, batch: Batch) -> None:
    """Says how large the cache gets that a job writes, at most: the corpus may be smaller than the run is long."""
    if draft["distillation"] is None or draft[_CACHE] is None or draft["run.kind"] != "cache_teacher":
        return
    top_k, steps = draft[_TOP_K], draft["training.max_steps"]
    a_token, tokens = token_bytes(top_k, draft["model.vocab_size"]), steps * batch.tokens_per_step
    draft.explain(
        _CACHE,
        draft[_CACHE],
        f"written: {top_k} words of a token take {a_token:,} bytes, so {in_bytes(a_token * 1e6)} a million tokens and "
        f"at most {in_bytes(a_token * tokens)} for the {tokens:,} of {steps:,} steps; a window that is visited twice "
        "is kept once",
    )


def _explain_reading(draft: Draft, folder: str) -> None:
    draft.explain(_CACHE, folder, "read in place of the teacher, which is not loaded")
    if draft[_TOP_K] is not None:
        draft.explain(_TOP_K, draft[_TOP_K], "the likeliest words that are read; the cache may keep more")
    if draft["distillation.cache_rest"] == "one_word":
        why = "words that the cache does not keep count as one word more, so that their share is learned, too"
        draft.explain("distillation.cache_rest", "one_word", why)
