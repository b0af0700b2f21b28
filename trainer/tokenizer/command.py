"""`python -m trainer tokenizer`: files in, a tokenizer.json and a few figures out."""

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.data import sources
from trainer.errors import UserError
from trainer.reporting.lines import thousands
from trainer.tokenizer.train import Trained, special_tokens, train
from vishwamai.contract.config import DataSection, SequenceSection

FIELD = "--train"


@dataclass(frozen=True)
class TokenizerRequest:
    """What the command line asks for."""

    train: list[str]
    output: Path
    vocab_size: int
    held_out: float
    data: DataSection
    """Its format and text_field say how files are read."""
    sequence: SequenceSection
    """Its special tokens are the tokenizer's."""


def make_tokenizer(request: TokenizerRequest) -> str:
    """Trains and writes; the lines to print.

    Raises UserError for what is wrong with the request, a file or the place to write to; StorageError where a disk or
    a store fails.
    """
    if not 0.0 <= request.held_out < 1.0:
        raise UserError(f"--held-out is {request.held_out}: give a share from 0 to below 1")
    special = special_tokens(request.sequence.eos_token_id, request.sequence.pad_token_id)
    _check_output(request.output)
    began = time.perf_counter()
    files = sources.expand(request.train, FIELD)
    trained = train(sources.read(files, request.data, FIELD), request.vocab_size, special, request.held_out)
    content = trained.content.encode()
    _write(request.output, content)
    return "\n".join(_summary(request, trained, special, content, time.perf_counter() - began)) + "\n"


def _check_output(path: Path) -> None:
    """Before hours of training: there is a place to write to."""
    if path.is_dir():
        raise UserError(f"--output: {str(path)!r} is a folder: name a file, e.g. {str(path / 'tokenizer.json')!r}")
    if not path.parent.is_dir():
        raise UserError(f"--output: there is no folder {str(path.parent)!r}: make it, or name another file")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"--output: the folder {str(path.parent)!r} cannot be written to: name another file")


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")
    try:
        new.write_bytes(content)
        new.replace(path)
    except OSError as error:
        raise UserError(f"--output: cannot write {str(path)!r}: {error.strerror}") from error


def _summary(
    request: TokenizerRequest, trained: Trained, special: dict[int, str], content: bytes, seconds: float
) -> Iterator[str]:
    size = trained.vocab_size
    names = ", ".join(f"{name} {number}" for number, name in sorted(special.items()))
    yield f"{request.output}: {size} tokens, sha256 {hashlib.sha256(content).hexdigest()[:16]}"
    if size < request.vocab_size:
        yield f"  fewer than the {request.vocab_size} asked for: no other pair of tokens occurs twice in this text"
    yield f"  trained on {trained.documents} documents, {thousands(trained.trained_bytes)}B, in {seconds:.1f} s"
    if trained.bytes_per_token is None:
        yield "  bytes per token were not measured: nothing was held out (give more text, or a larger --held-out)"
    else:
        held = f"{thousands(trained.held_out_bytes)}B of held-out text"
        yield f"  {trained.bytes_per_token:.3f} bytes per token on {held}"
    yield f"  special tokens: {names}"
    yield f'  to train with it: data.tokenizer "{request.output}", model.vocab_size {size} or more'
