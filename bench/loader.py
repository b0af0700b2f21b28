"""The input alone: seeking in a large corpus, reading against a plain loader, and what the step at S waits for.

The plain loader is what scripts begin with: texts are tokenized as they come (`tokenizers`, in threads), laid end to end
and cut. Ours tokenizes once, and packs so that attention stays within documents.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
import tokenizers

from bench.shapes import SHAPES, job_of
from trainer.batch import Batch
from trainer.data import builtin, open_data
from trainer.data.encode import DOCUMENT
from trainer.data.packing import pack
from trainer.data.shards import MANIFEST, Manifest, Shard, documents_file, tokens_file
from trainer.data.tokenizers import open_tokenizer
from trainer.mesh import make_mesh
from trainer.prefetch import Prefetcher
from trainer.step import init_state, make_train_step, put_rows
from vishwamai.contract.resolved import ResolvedJob

STEPS = 12
FAR = 400_000
GIGABYTES = (1, 10)
SHARD_TOKENS, DOCUMENT_TOKENS, WINDOW = 2**26, 700, 2048
VOCABULARY = 8192


def main() -> None:
    """Prints a line for each measurement."""
    _seek()
    _packing()
    with TemporaryDirectory() as folder:
        _against_a_plain_loader(Path(folder))
    with TemporaryDirectory() as folder:
        _waiting(Path(folder))


def _seek() -> None:
    """Opening a prepared corpus and making the batch of a late step, whose windows were worked out before."""
    print("\nFrom nothing to the batch of step", FAR)
    for size in GIGABYTES:
        with TemporaryDirectory() as folder:
            documents = _write_zeros(Path(folder) / "corpus", size * 10**9)
            job = _job(train=[str(Path(folder) / "corpus")], window=WINDOW, vocab=32768)
            began = time.perf_counter()
            open_data(job, Path(folder) / "run")
            planned = time.perf_counter()
            open_data(job, Path(folder) / "run").batch(FAR)
            done = time.perf_counter()
            print(f"{size:3} GB, {documents / 1e6:.1f} M documents: {done - planned:.3f} s "
                  f"(the first time {planned - began:.1f} s, which works out the windows)", flush=True)  # fmt: skip


def _write_zeros(folder: Path, size: int) -> int:
    """A corpus of `size` bytes of uint16 tokens, all of them 0, in sparse files; the number of its documents."""
    folder.mkdir()
    rng, shards = np.random.default_rng(0), []
    for number in range(-(-size // 2 // SHARD_TOKENS)):
        lengths = np.maximum(rng.geometric(1 / DOCUMENT_TOKENS, SHARD_TOKENS // DOCUMENT_TOKENS), 2)
        documents = np.zeros(len(lengths), DOCUMENT)
        documents["tokens"] = documents["bytes"] = lengths
        documents["digest"] = rng.integers(0, 2**64, (len(lengths), 2), np.uint64)
        documents.tofile(documents_file(folder, number))
        with tokens_file(folder, number).open("wb") as file:
            os.truncate(file.fileno(), int(lengths.sum()) * 2)
        shards.append(
            Shard(tokens=int(lengths.sum()), documents=len(lengths), tokens_sha256=f"{number}", documents_sha256="")
        )
    tokens, documents_of_all = sum(one.tokens for one in shards), sum(one.documents for one in shards)
    tokenizer = open_tokenizer("byte", _job(train=["-"], window=WINDOW, vocab=32768).effective.sequence)
    manifest = Manifest(
        tokenizer="byte",
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        dtype="uint16",
        source="",
        files=1,
        documents=documents_of_all,
        tokens=tokens,
        bytes=tokens,
        documents_dropped=0,
        bytes_dropped=0,
        shards=shards,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return documents_of_all


def _packing() -> None:
    """Best-fit decreasing of a million documents with log-normal lengths, median 400."""
    lengths = np.clip(np.random.default_rng(0).lognormal(6, 1.2, 1_000_000).astype(np.int64), 2, 10**6)
    print("\nPacking a million documents")
    for window in (512, 2048, 8192):
        began, pieces, windows = time.perf_counter(), 0, 0
        for packed in pack(np.cumsum(lengths) - lengths, lengths, window):
            pieces, windows = pieces + len(packed.starts), windows + len(packed.firsts) - 1
        seconds = time.perf_counter() - began
        print(f"windows of {window:5}: {pieces / seconds / 1e6:.2f} M pieces/s, "
              f"{100 * (lengths - 1).sum() / windows / window:.3f}% full", flush=True)  # fmt: skip


def _against_a_plain_loader(folder: Path) -> None:
    """Tokens a second of loaders that do nothing else, over the demo corpus with a tokenizer trained on it."""
    texts = list(builtin.documents())
    tokenizer = _train_tokenizer(texts, folder / "tokenizer.json")
    shape = SHAPES["S"]
    job = _job(train=["builtin:python"], window=shape.seq, vocab=VOCABULARY, tokenizer=str(folder / "tokenizer.json"))
    began = time.perf_counter()
    data = open_data(job, folder / "run")
    prepared = time.perf_counter() - began
    steps = data.window_count // shape.batch

    def ours() -> int:
        return sum(int(data.batch(step).weights.sum()) for step in range(1, steps + 1))

    def plain() -> int:
        return sum(batch.size - batch.shape[0] for batch in _plain_batches(texts, tokenizer, shape.seq, shape.batch))

    speeds: dict[Callable[[], int], list[float]] = {ours: [], plain: []}
    for _ in range(3):
        for loader, found in speeds.items():
            began = time.perf_counter()
            tokens = loader()
            found.append(tokens / (time.perf_counter() - began))
    one, other = (sorted(found)[1] / 1e6 for found in speeds.values())
    print(f"\nReading {shape.batch} windows of {shape.seq}: ours {one:.2f} M tokens/s, after {prepared:.1f} s to prepare "
          f"{data.facts()['tokens'] / 1e6:.1f} M; plain {other:.2f} M tokens/s; ratio {one / other:.1f}", flush=True)  # fmt: skip


def _train_tokenizer(texts: list[str], path: Path) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))
    return tokenizer


def _plain_batches(
    texts: list[str], tokenizer: tokenizers.Tokenizer, window: int, sequences: int
) -> Iterator[np.ndarray]:
    """int64 [sequences, window + 1]: inputs and targets of texts end to end."""
    waiting: list[int] = []
    size = sequences * (window + 1)
    for first in range(0, len(texts), 64):
        for encoding in tokenizer.encode_batch_fast(texts[first : first + 64], add_special_tokens=False):
            waiting += [*encoding.ids, 1]
        while len(waiting) >= size:
            yield np.array(waiting[:size]).reshape(sequences, window + 1)
            del waiting[:size]


def _waiting(folder: Path) -> None:
    """How much of a training step at S goes by in waiting for its batch."""
    shape = SHAPES["S"]
    job = job_of(shape)
    mesh, data = make_mesh(job), open_data(job, folder)

    def fetch(step: int) -> Batch:
        return put_rows(data.rows, data.window_ids(step), mesh)

    began = time.perf_counter()
    jax.block_until_ready(fetch(1))
    making = time.perf_counter() - began
    batches, state = Prefetcher(fetch, 1, STEPS), init_state(job, mesh)
    step = make_train_step(job, mesh).lower(state, batches.peek()).compile()
    waits, began = [], time.perf_counter()
    for _ in range(STEPS):
        batch, waited = batches.take()
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        waits.append(waited)
    seconds = time.perf_counter() - began
    print(f"\nAt S {1e3 * sum(waits) / STEPS:.2f} ms of a step of {1e3 * seconds / STEPS:.0f} ms are spent waiting for its batch: "
          f"{100 * sum(waits) / seconds:.3f}%; making one takes {1e3 * making:.1f} ms, in a thread beside the step")  # fmt: skip


def _job(*, train: list[str], window: int, vocab: int, tokenizer: str = "byte") -> ResolvedJob:
    """The job of S, on another corpus."""
    job = job_of(SHAPES["S"])
    changes: dict[str, dict[str, Any]] = {
        "data": {"train": train, "tokenizer": tokenizer},
        "model": {"max_seq_len": window, "vocab_size": vocab},
    }
    config = job.effective
    for section, values in changes.items():
        config = config.model_copy(update={section: getattr(config, section).model_copy(update=values)})
    return job.model_copy(update={"effective": config})


if __name__ == "__main__":
    main()
