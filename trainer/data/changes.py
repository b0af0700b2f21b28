"""Whether a run may go on from a checkpoint with the data that it finds now."""

import logging
from collections.abc import Mapping

from trainer.errors import UserError

_SHOWN = 16

_LOG = logging.getLogger(__name__)


def check_unchanged(before: Mapping[str, str], now: Mapping[str, str], step: int, *, allow_change: bool) -> None:
    """Compares fingerprints that a checkpoint keeps with those of this start, as far as both have them.

    Another tokenizer gives every id another meaning, so no run goes on with it. Other text is another order of windows:
    some are seen twice in an epoch and some never, so it takes a word from the run's owner (data.allow_change).

    Raises:
      UserError: the tokenizer is another, or the corpus is and `allow_change` is false.
    """
    for name in now:  # the tokenizer first: another one makes another corpus, too
        if before.get(name, now[name]) == now[name]:
            continue
        old, new = before[name][:_SHOWN], now[name][:_SHOWN]
        what = f"the checkpoint of step {step} was trained with another {name.split('_')[0]}: {old}, and this is {new}"
        if name == "tokenizer_fingerprint":
            raise UserError(
                f"data.tokenizer: {what} (hashes of its file and the special tokens): name the checkpoint's tokenizer, "
                "or begin a new run"
            )
        if name == "corpus_fingerprint" and not allow_change:
            raise UserError(
                f"data.train: {what} (hashes of the documents that are trained on): the order of windows is another, "
                "so what was seen cannot be told from the rest; bring the text back, or set data.allow_change"
            )
        _LOG.warning("%s", what)
