import functools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given

from tests.trainer.data.tokenizer_files import TEXTS, byte_level, sentencepiece
from tests.trainer.huggingface.goldens import FOLDER
from trainer.data.tokenizers import open_tokenizer
from vishwamai.contract.config import SequenceSection

MAKES = ("byte", "golden", "byte level", "sentencepiece")


@functools.cache
def tokenizer_of(make):
    if make in ("byte", "golden"):
        return open_tokenizer("byte" if make == "byte" else str(FOLDER / "llama"), SequenceSection())
    with tempfile.TemporaryDirectory() as folder:
        file = byte_level(Path(folder)) if make == "byte level" else sentencepiece(Path(folder))
        return open_tokenizer(str(file), SequenceSection())


@functools.cache
def texts_of(make):
    return tokenizer_of(make).pieces().texts


@given(TEXTS)
def test_the_bytes_of_tokens_are_the_texts(text):
    for make in MAKES:
        if make == "sentencepiece":
            # Its space can be spelled out, and after a special token that is spelled out it puts another one.
            text = text.replace("\u2581", " ").replace("<eos>", "")
        found = b"".join(texts_of(make)[token] for token in tokenizer_of(make).encode(text).tolist())
        assert found in (text.encode(), b" " + text.encode()), make


def test_every_id_has_its_bytes_and_marks_are_told_apart():
    for make in MAKES:
        tokenizer = tokenizer_of(make)
        pieces = tokenizer.pieces()
        assert len(pieces.texts) == tokenizer.vocab_size
        assert {bytes([byte]) for byte in range(256)} <= set(pieces.texts), make
        assert tokenizer.eos_id in pieces.special


@pytest.mark.parametrize(("make", "prefix"), [("byte", ()), ("byte level", (2,)), ("sentencepiece", ())])
def test_what_comes_before_every_text(make, prefix):
    assert tokenizer_of(make).pieces().prefix == prefix
