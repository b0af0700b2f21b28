"""What a corpus turned out to be, as JSON for the `effective` event."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.data.order import Order
from trainer.data.plan import Counts
from trainer.data.portions import Portion, efficiency
from trainer.data.tokenizers import Tokenizer
from vishwamai.contract.config import MAIN_SET
from vishwamai.contract.resolved import ResolvedJob


def facts_of(
    job: ResolvedJob, tokenizer: Tokenizer, train: Sequence[Portion], separate: Mapping[str, Portion], order: Order
) -> dict[str, Any]:
    """Counts, split, packing, shares and fingerprints.

    Args:
      job: the job.
      tokenizer: its tokenizer.
      train: the sources that are trained on.
      separate: the sets that data.eval names.
      order: in which their windows come.
    """
    length, windows = job.effective.model.max_seq_len, job.effective.training.max_steps * job.batch.sequences_per_step
    trained = _sum([portion.plan.train for portion in train])
    sides = [portion.plan.train for portion in separate.values()] or [portion.plan.held_out for portion in train]
    evaluated = _sum(sides)
    by = "data.eval" if separate else train[0].plan.split
    facts = {
        "files": sum(portion.files for portion in train),
        "files_held_out": sum(portion.files_held_out for portion in train),
        "documents_dropped": sum(portion.documents_dropped for portion in train),
        "split": by if evaluated.windows else "none",
        **_counted("", trained, length),
        **_counted("eval_", evaluated, length),
        "epochs": round(windows / trained.windows, 6),
        "tokenizer": tokenizer.name,
        "tokenizer_vocab_size": tokenizer.vocab_size,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "eos_token": tokenizer.describe(tokenizer.eos_id),
        "corpus_fingerprint": _fingerprint(train),
    }
    if list(separate) not in ([], [MAIN_SET]):
        facts["eval_sets"] = {name: _counted("", one.plan.train, length) for name, one in separate.items()}
    return facts | ({"mixture": _mixture(train, order, windows)} if len(train) > 1 else {})


def _mixture(train: Sequence[Portion], order: Order, windows: int) -> dict[str, dict[str, float]]:
    """By source: the share asked for and the one that takes effect, and what is read of it over the whole run."""
    weights = sum(portion.weight for portion in train)
    found = {}
    for number, (portion, count) in enumerate(zip(train, order.counts(windows), strict=True)):
        counts = portion.plan.train
        found[portion.name] = {
            "share_requested": round(portion.weight / weights, 6),
            "share": round(order.share(number), 6),
            "windows": count,
            "tokens": round(count * (counts.tokens - counts.documents) / counts.windows),
            "epochs": round(count / counts.windows, 6),
        }
    return found


def _fingerprint(train: Sequence[Portion]) -> str:
    """Of what is trained on, and of how it is mixed."""
    if len(train) == 1:
        return train[0].plan.fingerprint
    mixed = [(portion.plan.fingerprint, portion.weight) for portion in train]
    return hashlib.sha256(json.dumps(mixed).encode()).hexdigest()


def _counted(prefix: str, counts: Counts, length: int) -> dict[str, Any]:
    return {
        f"{prefix}documents": counts.documents,
        f"{prefix}tokens": counts.tokens,
        f"{prefix}windows": counts.windows,
        f"{prefix}packing_efficiency": round(efficiency(counts, length), 6),
    }


def _sum(parts: Sequence[Counts]) -> Counts:
    totals = {name: sum(getattr(part, name) for part in parts) for name in Counts.model_fields}
    return Counts(**totals)
