"""What a teacher of another tokenizer is worth: `python -m bench.cross_tokenizer [FOLDER [STUDENT]]`.

Students of the demo corpus learn alone, and beside a larger teacher trained on the same text in a thousand byte-level
BPE tokens, which are trained first; same seed, batches and learning rate. One student reads bytes, one 512 BPE tokens.
Both ways to count tokens that only one vocabulary has. Three seeds, all shown. A FOLDER keeps tokenizers and teacher
for another call.
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
STUDENTS = {"byte": 258, "subword": 512}
"""Vocabulary sizes."""
WAYS = ("prefix", "rank")


def main(arguments: list[str]) -> None:
    """Prints the evaluation losses."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments[0] if arguments else temporary)
        wide = TEACHER | {"vocab_size": VOCABULARY}
        loss = train(job_of(wide, TEACHER_STEPS, 0, 3e-3, data=_subwords(folder, VOCABULARY)), folder / "teacher")
        print(f"teacher: eval loss {loss:.4f} nats per token of {VOCABULARY}")
        print(f"students alone and beside the teacher, {STEPS} steps each, {SECTION}", flush=True)
        for name in arguments[1:] or STUDENTS:
            data = {} if name == "byte" else _subwords(folder, STUDENTS[name])
            for seed in SEEDS:
                _compare(name, data, seed, folder / "teacher", Path(temporary))


def _compare(name: str, data: dict[str, Any], seed: int, teacher: Path, outputs: Path) -> None:
    model = STUDENT | {"vocab_size": STUDENTS[name]}
    alone = train(job_of(model, STEPS, seed, 6e-3, data=data), outputs / f"{name}-alone-{seed}")
    told = f"{name}, seed {seed}: alone {alone:.4f}"
    for way in WAYS:
        section = {"teacher_model": str(teacher), "unshared_tokens": way}
        job = job_of(model, STEPS, seed, 6e-3, distillation=SECTION | section, data=data)
        loss = train(job, outputs / f"{name}-{way}-{seed}")
        told += f"  {way} {loss:.4f} ({loss / alone - 1:+.2%})"
    print(told, flush=True)


def _subwords(folder: Path, words: int) -> dict[str, Any]:
    """The section data of a run that reads so many BPE tokens; <pad> is 0 and <eos> 1, as configs have it."""
    file = folder / str(words) / "tokenizer.json"
    if not file.is_file():
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=words, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(builtin.documents(), trainer)
        file.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(file))
    return {"tokenizer": str(file)}


if __name__ == "__main__":
    main(sys.argv[1:])
