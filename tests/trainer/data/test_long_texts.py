"""A text that is encoded in windows has the ids that it has as a whole."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from trainer.data import builtin, long_texts
from trainer.data.long_texts import encode_long

SOURCE = Path(builtin.__file__).read_text() + Path(long_texts.__file__).read_text()
WORDS = [*SOURCE.split(), "\n\n    ", "    ", "Grüße", "東京", "🦊👩🏽\u200d💻", "3.14159", "aaaaaaaa"]


def byte_level():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer, trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def whole_text_bpe():
    """As Llama 2's: merges go over all of a text, and a space is put before it."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"])


def unigram():
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer, trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"])


@pytest.fixture(scope="module", params=[byte_level, whole_text_bpe, unigram])
def tokenizer(request):
    tokenizer, trainer = request.param()
    trainer.show_progress = False
    tokenizer.train_from_iterator([SOURCE[n : n + 300] for n in range(0, len(SOURCE), 300)], trainer)
    return tokenizer


@settings(max_examples=20)
@given(st.lists(st.sampled_from(WORDS), min_size=200, max_size=400), st.integers(900, 1100))
def test_windows_join(tokenizer, words, longest):
    text = " ".join(words)
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    lengths = []

    def encode(part):
        lengths.append(len(part))
        return tokenizer.encode(part, add_special_tokens=False)

    assert encode_long(encode, text, longest, overlap=300).tolist() == whole
    assert len(lengths) > 1
    assert max(lengths) <= longest


def test_without_a_place_to_join_it_is_encoded_whole():
    """One token for all text: no two windows can agree."""
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    ids = encode_long(lambda part: tokenizer.encode(part), "a" * 5000, 1000, 50)
    assert ids.tolist() == tokenizer.encode("a" * 5000).ids == [0]


def test_many_texts_and_a_long_one(tmp_path, monkeypatch):
    from trainer.data import tokenizers as module
    from vishwamai.contract.config import SequenceSection

    tokenizer, trainer = byte_level()
    trainer.show_progress = False
    tokenizer.train_from_iterator([SOURCE], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    opened = module.open_tokenizer(str(tmp_path), SequenceSection())
    monkeypatch.setattr(module, "LONGEST", 20_000)
    texts = ["short", SOURCE * 12, "", "last"]
    assert len(texts[1]) > 40_000
    for text, ids in zip(texts, opened.encode_many(texts), strict=True):
        np.testing.assert_array_equal(ids, tokenizer.encode(text).ids)
