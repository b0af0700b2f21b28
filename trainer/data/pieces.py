r"""The bytes of each token of a tokenizer.json, and which tokens stand for no text.

A token's string is not its text. Three ways of writing are read, found by what the file's decoder and pre-tokenizer
say; the text of any ids is then the join of their bytes:

    byte-level      each character stands for one byte, by the alphabet of GPT-2 (printable bytes are themselves)
    SentencePiece   U+2581 stands for a space, and with byte fallback "<0xE2>" for the byte 0xE2
    plain           the characters themselves; added tokens are always plain

Whether a tokenizer's text is the join of its tokens is not taken on trust: see trainer/distill/readings.py.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import tokenizers as huggingface

_SPACE = "\u2581"
_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Pieces(NamedTuple):
    """What the tokens of a vocabulary are made of."""

    texts: list[bytes]
    """The bytes of each id; b"" for an id that stands for nothing."""
    special: frozenset[int]
    """Ids that mark something and are no part of a text, whatever their bytes."""
    prefix: tuple[int, ...] = ()
    """Ids that its own post-processing puts before a text, such as <bos>."""


def pieces_of(tokenizer: huggingface.Tokenizer, vocab_size: int) -> Pieces:
    """The pieces of a tokenizer.json whose ids are below vocab_size."""
    alphabet = _byte_of_character() if _is_byte_level(tokenizer) else None
    spaced = _SPACE in _state(tokenizer.decoder) or _SPACE in _state(tokenizer.pre_tokenizer)
    fallback = bool(getattr(tokenizer.model, "byte_fallback", False))
    texts = [b""] * vocab_size
    for token, number in tokenizer.get_vocab(with_added_tokens=False).items():
        texts[number] = _bytes_of(token, alphabet, spaced=spaced, fallback=fallback)
    added = tokenizer.get_added_tokens_decoder()
    for number, one in added.items():
        texts[number] = one.content.encode()
    special = frozenset(number for number, one in added.items() if one.special)
    return Pieces(texts, special, _prefix(tokenizer))


def _bytes_of(token: str, alphabet: dict[str, int] | None, *, spaced: bool, fallback: bool) -> bytes:
    if alphabet is not None and all(character in alphabet for character in token):
        return bytes(alphabet[character] for character in token)
    if fallback and (found := _FALLBACK.fullmatch(token)):
        return bytes([int(found[1], 16)])
    return (token.replace(_SPACE, " ") if spaced else token).encode()


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the other 68 are numbered from U+0100."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _is_byte_level(tokenizer: huggingface.Tokenizer) -> bool:
    return any('"ByteLevel"' in _state(part) for part in (tokenizer.decoder, tokenizer.pre_tokenizer))


def _state(part: Any) -> str:
    """The JSON of a tokenizer's part."""
    return "" if part is None else part.__getstate__().decode()


def _prefix(tokenizer: huggingface.Tokenizer) -> tuple[int, ...]:
    plain, whole = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    starts: Iterator[int] = (i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return tuple(whole[: next(starts, 0)])
