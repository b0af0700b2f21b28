"""Text in, text out: prompts become ids, what is drawn becomes text, and stop strings end it."""

from collections.abc import Sequence

from jax.sharding import Mesh

from trainer.data.tokenizers import Tokenizer
from trainer.generate.generator import Continuation, Generator, Limits
from trainer.model import Params
from vishwamai.contract.generation import CacheFormat, GeneratedText, Sampling
from vishwamai.contract.resolved import ResolvedJob


class Writer:
    """Writes with one job's model; `eos_ids` end a text, by default the job's."""

    def __init__(
        self,
        job: ResolvedJob,
        mesh: Mesh,
        tokenizer: Tokenizer,
        kept: CacheFormat | None = None,
        eos_ids: tuple[int, ...] | None = None,
    ) -> None:
        self.generator = Generator(job, mesh, kept)
        self._tokenizer = tokenizer
        self._sequence = job.effective.sequence
        self._eos_ids = (self._sequence.eos_token_id,) if eos_ids is None else eos_ids
        # Ids that no text has, and padding, unless that is the end as well.
        meaningless = set(range(tokenizer.vocab_size, job.effective.model.vocab_size)) | {self._sequence.pad_token_id}
        self._limits = Limits(self._sequence.max_length, self._eos_ids, tuple(meaningless - set(self._eos_ids)))

    def write(self, params: Params, prompts: Sequence[str], sampling: Sampling) -> list[GeneratedText]:
        """What the model writes after each prompt, up to an end-of-document token or a stop string.

        Prompt and text together have at most sequence.max_length tokens.
        """
        if sampling.min_length is None:
            sampling = sampling.model_copy(update={"min_length": self._sequence.min_length})
        # A document begins after an end, as in the packed windows.
        first = self._sequence.eos_token_id
        rows = [[int(i) for i in self._tokenizer.encode(prompt)] or [first] for prompt in prompts]

        def stopped(new: list[list[int]]) -> list[bool]:
            texts = (self._text(row, ids) for row, ids in zip(rows, new, strict=True))
            return [any(stop in text for stop in sampling.stop) for text in texts]

        found = self.generator.generate(params, rows, sampling, self._limits, stopped if sampling.stop else None)
        return [
            self._written(prompt, row, one, sampling.stop)
            for prompt, row, one in zip(prompts, rows, found, strict=True)
        ]

    def _written(self, prompt: str, row: list[int], one: Continuation, stops: Sequence[str]) -> GeneratedText:
        text, count = self._text(row, one.tokens), len(one.tokens)
        places = [text.index(stop) for stop in stops if stop in text]
        if places:
            # The first token with which a stop string was whole is the last that counts.
            count = next(
                n for n in range(1, count + 1) if any(stop in self._text(row, one.tokens[:n]) for stop in stops)
            )
            text = text[: min(places)]
        return GeneratedText(
            prompt=prompt,
            text=text,
            prompt_tokens=len(row),
            new_tokens=count,
            ended="stop" if places else "eos" if one.ended else "length",
        )

    def _text(self, row: list[int], new: list[int]) -> str:
        """The new ids' text, as it reads after the prompt: some tokenizers drop a leading space."""
        before, whole = self._tokenizer.decode(row), self._tokenizer.decode(row + new)
        return whole[len(before) :] if whole.startswith(before) else self._tokenizer.decode(new)
