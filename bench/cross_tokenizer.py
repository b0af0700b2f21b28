"""What a teacher of another tokenizer is worth: `python -m bench.cross_tokenizer [FOLDER]`.

A student that reads the demo corpus byte by byte learns alone, and beside a larger teacher trained on the same text in
a thousand byte-level BPE tokens, which are trained first; same seed, batches and learning rate. Both ways to count the
tokens that only the teacher has. Three seeds, all shown. A FOLDER keeps the tokenizer and the teacher for another call.
"""

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import tokenizers

from bench.distillation import SECTION, SEEDS, STEPS, STUDENT, TEACHER, TEACHER_STEPS, job_of, train
from trainer.data import builtin

VOCABULARY = 1024
WAYS = ("prefix", "rank")


def main(arguments: list[str]) -> None:
    """Prints the evaluation losses."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments[0] if arguments else temporary)
        teacher, file = folder / "teacher", folder / "tokenizer.json"
        if not file.is_file():
            _train_tokenizer(file)
        data: dict[str, Any] = {"data": {"tokenizer": str(file)}}
        model = TEACHER | {"vocab_size": VOCABULARY}
        print(f"teacher: eval loss {train(job_of(model, TEACHER_STEPS, 0, 3e-3, **data), teacher):.4f} nats per token")
        print(f"student alone and beside the teacher, {STEPS} steps each, {SECTION}", flush=True)
        for seed in SEEDS:
            alone = train(job_of(STUDENT, STEPS, seed, 6e-3), Path(temporary) / f"alone-{seed}")
            told = f"seed {seed}: alone {alone:.4f}"
            for way in WAYS:
                section = {"teacher_model": str(teacher), "unshared_tokens": way}
                job = job_of(STUDENT, STEPS, seed, 6e-3, distillation=SECTION | section)
                loss = train(job, Path(temporary) / f"{way}-{seed}")
                told += f"  {way} {loss:.4f} ({loss / alone - 1:+.2%})"
            print(told, flush=True)


def _train_tokenizer(file: Path) -> None:
    """Byte-level BPE of the demo corpus; <pad> is 0 and <eos> 1, as the configs have it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(builtin.documents(), trainer)
    file.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(file))


if __name__ == "__main__":
    main(sys.argv[1:])
