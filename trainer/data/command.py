"""`python -m trainer prepare`: the corpora of data.train, tokenized ahead of training."""

from collections.abc import Iterator
from pathlib import Path

from trainer.data.cache import Cache, made
from trainer.data.encode import worker_count
from trainer.data.portions import efficiency, files_of, held_out_files, question_of
from trainer.data.prepare import identity, prepare
from trainer.data.shards import MANIFEST, Corpus, is_prepared
from trainer.data.tokenizers import Tokenizer, open_tokenizer
from trainer.errors import UserError
from vishwamai.contract.config import DataSection
from vishwamai.contract.resolved import ResolvedJob

_FIELD = "data.train"


def prepare_corpora(job: ResolvedJob, output: Path, workers: int | None) -> Iterator[str]:
    """Tokenizes each source of data.train and works out the config's windows; yields lines that say what came of it.

    Args:
      job: the job that will train on them.
      output: the corpus of a single source; of a mixture, a folder in it for each.
      workers: processes that tokenize; None: as many as there are cores.

    Raises:
      UserError: a file is at fault, or a folder holds something else.
    """
    data = job.effective.data
    tokenizer = open_tokenizer(data.tokenizer, job.effective.sequence)
    aside = held_out_files(data)
    parts = data.sources()
    for part in parts:
        folder = (output if len(parts) == 1 else output / part.name).absolute()
        if already := [one for one in part.files if is_prepared(one)]:
            raise UserError(f"{_FIELD}: {already[0]!r} is prepared already: name the text that it was made of")
        files, _ = files_of(part.files, _FIELD, aside)
        corpus = _corpus(folder, files, data, tokenizer, workers or worker_count())
        plan, _ = Cache([folder]).plan(corpus, question_of(job, 0.0 if data.eval else data.eval_fraction))
        counts, length = corpus.manifest, plan.question.length
        yield (
            f"{folder}: {counts.documents:,} documents of {counts.files:,} files, {counts.tokens:,} tokens, "
            f"{counts.bytes:,} bytes of text in {len(counts.shards)} shards; "
            f"{counts.documents_dropped:,} empty ones dropped"
        )
        yield (
            f"  {plan.train.windows:,} windows of {length} to train on, "
            f"{100 * efficiency(plan.train, length):.3f}% full; {plan.held_out.windows:,} held out; "
            f"{plan.documents_dropped:,} documents shorter than data.min_length"
        )


def _corpus(folder: Path, files: list[str], data: DataSection, tokenizer: Tokenizer, workers: int) -> Corpus:
    source = identity(files, data, tokenizer)

    def found(at: Path) -> Corpus | None:
        if not (at / MANIFEST).is_file():
            if at.exists() and (not at.is_dir() or any(at.iterdir())):
                raise UserError(f"--output: {str(at)!r} holds something else: name a new folder")
            return None
        corpus = Corpus.open(at, "--output")
        if corpus.manifest.source != source:
            raise UserError(
                f"--output: {str(at)!r} was made of other files, with another tokenizer, or read in another way: "
                "name a new folder"
            )
        corpus.verify("--output")
        return corpus

    def make(at: Path) -> None:
        prepare(at, files, data, tokenizer, _FIELD, source=source, workers=workers)

    return made([folder.parent], folder.name, found, make, "name another folder")
