"""Texts to token ids, in worker processes where there is enough of it; the result does not depend on how many.

Texts are taken in chunks whose bounds follow from the texts alone, and chunks come back in their order.
"""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from trainer.data.tokenizers import ByteTokenizer, Tokenizer
from trainer.errors import StorageError

DOCUMENT = np.dtype([("tokens", "<i8"), ("bytes", "<i8"), ("digest", "<u8", (2,))])
"""What is known of a document: its tokens with eos, its UTF-8 bytes, and a hash of its text."""

CHUNK = 2**20
"""Characters in a chunk, at least, except in the last."""
FEW = 16 * CHUNK
"""Characters that are tokenized in this process before others are started, which takes them a second or two."""
MOST_WORKERS = 32
"""One process reads for all of them; beyond this it is what they wait for."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A chunk of documents end to end, each ended by eos."""

    read: int
    """Texts in the chunk."""
    tokens: np.ndarray
    """uint16 or uint32 ids."""
    documents: np.ndarray
    """DOCUMENT [documents]: of the texts that gave any token."""
    bytes_dropped: int
    """Of the texts that gave none."""


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest type that holds every id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def worker_count() -> int:
    """How many processes tokenize: one a core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def encode_all(texts: Iterable[str], tokenizer: Tokenizer, workers: int, few: int = FEW) -> Iterator[Encoded]:
    """The chunks of all texts, in order.

    Raises:
      StorageError: a worker process was killed.
    """
    chunks = _chunks(texts)
    # Bytes are looked up faster than they are sent to another process.
    alone = workers < 2 or isinstance(tokenizer, ByteTokenizer)
    done = 0
    for chunk in chunks:
        yield encode(chunk, tokenizer)
        done += sum(map(len, chunk))
        if done >= few and not alone:
            break
    yield from _in_workers(chunks, tokenizer, workers)


def encode(texts: Sequence[str], tokenizer: Tokenizer) -> Encoded:
    """One chunk."""
    dtype = token_dtype(tokenizer.vocab_size)
    eos = np.array([tokenizer.eos_id], dtype)
    pieces: list[np.ndarray] = [np.zeros(0, dtype)]
    documents: list[tuple[int, int, np.ndarray]] = []
    dropped = 0
    for text, ids in zip(texts, tokenizer.encode_many(texts), strict=True):
        content = text.encode()
        if not len(ids):
            dropped += len(content)
            continue
        pieces += (ids.astype(dtype), eos)
        digest = hashlib.blake2b(content, digest_size=16).digest()
        documents.append((len(ids) + 1, len(content), np.frombuffer(digest, "<u8")))
    return Encoded(len(texts), np.concatenate(pieces), np.array(documents, DOCUMENT), dropped)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text) + 1  # so that many empty texts end a chunk, too
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _in_workers(chunks: Iterator[list[str]], tokenizer: Tokenizer, workers: int) -> Iterator[Encoded]:
    """Chunks in order, two a worker under way at most. Nothing is started for no chunks."""
    first = next(chunks, None)
    if first is None:
        return
    # Spawned: a fork would copy the threads' locks of JAX and of the tokenizer.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, _begin_worker, (tokenizer,))
    under_way: deque[Future[Encoded]] = deque([pool.submit(_encode_here, first)])
    try:
        for chunk in chunks:
            if len(under_way) >= 2 * workers:
                yield under_way.popleft().result()
            under_way.append(pool.submit(_encode_here, chunk))
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise StorageError(
            "a process that tokenizes was killed, perhaps for want of memory: what is done is kept; start again"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_tokenizer: Tokenizer
"""The tokenizer of this worker process."""


def _begin_worker(tokenizer: Tokenizer) -> None:
    global _tokenizer
    _tokenizer = tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each worker has one core
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker holds both ends of its queue's pipe, so it would never learn that its parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode_here(chunk: list[str]) -> Encoded:
    return encode(chunk, _tokenizer)
