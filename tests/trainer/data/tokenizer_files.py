"""Tokenizers of several makes, trained in a moment, and texts that are hard on them."""

import json
from pathlib import Path

import tokenizers
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

TRAINED_ON = [
    "the quick brown fox, naïve café; def f(x):\n\treturn x ** 2",
    "Зелёная миля и зелёная трава",
    "東京タワー 東京都",
    "line 12: 144 is 12 times 12.\n" * 3,
]
SNIPPETS = [
    *TRAINED_ON,
    " ",
    "\r\n",
    "\n\n\t",
    "नमस्ते दुनिया",
    "مرحبا بالعالم",
    "👩🏽\u200d💻🦊",
    "🏳️\u200d🌈",
    "e\u0301o\u0308",  # combining marks, which NFC would compose
    "<eos>",
    "½ №5",
]
TEXTS = st.lists(st.sampled_from(SNIPPETS) | st.text(max_size=6), max_size=5).map("".join)


def byte_level(folder: Path, words: int = 320, normalizer: normalizers.Normalizer | None = None) -> Path:
    """Byte-level BPE, as of GPT-2, Llama 3 or Qwen; <pad> is 0, <eos> 1, and <bos> comes before every text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<eos>", "<bos>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=words, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINED_ON, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    return _saved(tokenizer, folder)


def sentencepiece(folder: Path) -> Path:
    """Like Llama 2's: U+2581 for spaces, one before every text, and bytes for characters that it lacks."""
    learned = tokenizers.Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>", "<eos>"], show_progress=False)
    learned.train_from_iterator(["\u2581" + text.replace(" ", "\u2581") for text in TRAINED_ON[:2]], trainer)
    model = json.loads(learned.to_str())["model"]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = [token for token in model["vocab"] if token not in ("<unk>", "<eos>")]
    vocabulary = {token: number for number, token in enumerate(["<unk>", "<eos>", *fallback, *letters])}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.add_special_tokens(["<unk>", "<eos>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _saved(tokenizer, folder)


def _saved(tokenizer: tokenizers.Tokenizer, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"
