"""Byte-level BPE on texts: the words of a vocabulary, and how well they fit text that was not trained on.

Every byte is a token, and a merge joins the pair of tokens that is most frequent inside words, until the vocabulary is
full (Sennrich et al. 2016; bytes and words as in GPT-2, Radford et al. 2019). Special tokens have the lowest ids, then
come the 256 bytes, then the merges in their order. Ties fall to the lower ids, so the same texts in any order give the
same bytes of tokenizer.json, whatever the machine and its number of cores.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import tokenizers as huggingface
from tokenizers import decoders, models, pre_tokenizers, trainers

from trainer.errors import UserError

BYTES = 256
MOST_SPECIAL = 16
"""Ids of special tokens lie below."""
_PIECE = 2**13
"""Characters of a piece: texts are cut at line breaks into pieces of about so many, and some pieces are held out."""
_HELD_OUT_BYTES = 2**23
"""So much held-out text is measured, at most."""


@dataclass
class Trained:
    """A tokenizer, and what it was made of."""

    tokenizer: huggingface.Tokenizer
    documents: int = 0
    trained_bytes: int = 0
    held_out_bytes: int = 0
    held_out_tokens: int = 0
    """Of the held-out text, up to _HELD_OUT_BYTES of it; 0 when there was none."""

    @property
    def vocab_size(self) -> int:
        """Tokens, special ones among them."""
        return self.tokenizer.get_vocab_size()

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes of held-out text that a token stands for, on average."""
        return self.held_out_bytes / self.held_out_tokens if self.held_out_tokens else None

    @property
    def content(self) -> str:
        """The tokenizer.json."""
        return self.tokenizer.to_str(pretty=True) + "\n"


def special_tokens(eos_id: int, pad_id: int) -> dict[int, str]:
    """Special tokens by id: <eos> and <pad> where a config has them, and <reserved-N> on ids below the higher of them.

    Raises UserError for ids beyond MOST_SPECIAL.
    """
    highest = max(eos_id, pad_id)
    if highest >= MOST_SPECIAL:
        name = "eos" if eos_id == highest else "pad"
        raise UserError(
            f"sequence.{name}_token_id is {highest}: special tokens have the lowest ids; give one below {MOST_SPECIAL}"
        )
    named = {number: f"<reserved-{number}>" for number in range(highest + 1)}
    return named | {pad_id: "<pad>"} | {eos_id: "<eos>"}


def train(texts: Iterable[str], vocab_size: int, special: Mapping[int, str], held_out: float) -> Trained:
    """A tokenizer of at most vocab_size tokens; fewer when the texts hold no more pairs that occur twice.

    Args:
      texts: read once.
      vocab_size: tokens, special ones and the 256 bytes among them.
      special: the special tokens, by ids from 0 on.
      held_out: share of the pieces of text that are not trained on, and measured instead; chosen by their hashes.

    Raises UserError when there is no room for the bytes, or no text.
    """
    least = BYTES + len(special)
    if vocab_size < least:
        raise UserError(
            f"--vocab-size is {vocab_size}: {BYTES} bytes and {len(special)} special tokens need at least {least}"
        )
    tokenizer = huggingface.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[special[number] for number in sorted(special)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained = Trained(tokenizer)
    kept: list[str] = []
    tokenizer.train_from_iterator(_pieces_to_train(texts, held_out, trained, kept), trainer)
    if not trained.trained_bytes:
        raise UserError("--train: there is no text in these files: name some that hold text")
    for piece in kept:
        trained.held_out_tokens += len(tokenizer.encode(piece, add_special_tokens=False))
    trained.held_out_bytes = sum(len(piece.encode()) for piece in kept)
    return trained


def _pieces_to_train(texts: Iterable[str], held_out: float, trained: Trained, kept: list[str]) -> Iterator[str]:
    """The pieces that are trained on; the others, as far as they are measured, go into `kept`."""
    room = _HELD_OUT_BYTES
    for text in texts:
        trained.documents += bool(text)
        for piece in pieces(text):
            content = piece.encode()
            if _place(content) >= held_out:
                trained.trained_bytes += len(content)
                yield piece
            elif room > 0:
                room -= len(content)
                kept.append(piece)


def pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most _PIECE characters, cut behind line breaks where there are any."""
    start = 0
    while start < len(text):
        stop = min(start + _PIECE, len(text))
        if stop < len(text):
            stop = max(text.rfind("\n", start, stop) + 1, 0) or stop
        yield text[start:stop]
        start = stop


def _place(content: bytes) -> float:
    """A number in [0, 1) drawn from the content."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") / 2.0**64
