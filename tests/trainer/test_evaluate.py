"""The figures of an evaluation, on a model whose losses are known: log(1 + target) for each target."""

import math
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from trainer.batch import Batch
from trainer.data.tokenizers import open_tokenizer, spelled_bytes
from trainer.early_stopping import EarlyStopping
from trainer.errors import NonFiniteError
from trainer.evaluate import Evaluator
from vishwamai.contract.config import EarlyStoppingSection, SequenceSection


def batch(*rows):
    """Rows of targets of one length; 0 has no weight."""
    targets = np.array(rows)
    return Batch(np.zeros_like(targets), targets, np.ones_like(targets), (targets > 0).astype(np.float32))


def losses(params, given) -> Any:
    return np.array([(np.log1p(given.targets) * given.weights).sum(), given.weights.sum()])


SPELLED = np.array([0, 0, 1, 3, 0])
"""Bytes of the ids 0 to 4; 1 ends a document."""


def evaluator(**sets):
    return Evaluator(losses, sets, SPELLED, lambda given: given)


class TestFigures:
    def test_every_token_weighs_the_same(self):
        [event] = evaluator(eval=[batch([2, 3, 1], [2, 0, 0]), batch([3, 0, 0])]).evaluate({}, 7)
        total = math.log(3 * 4 * 2 * 3 * 4)
        assert (event.name, event.main, event.step, event.tokens) == ("eval", True, 7, 5)
        assert event.loss == pytest.approx(total / 5, rel=1e-12)
        assert event.perplexity == pytest.approx(math.exp(total / 5), rel=1e-12)
        assert event.bits_per_byte == pytest.approx(total / math.log(2) / (1 + 3 + 0 + 1 + 3), rel=1e-12)

    def test_each_set_has_its_own(self):
        events = evaluator(wiki=[batch([2, 2])], empty=[batch([0, 0])], code=[batch([3, 3])]).evaluate({}, 1)
        assert [(event.name, event.main, event.tokens) for event in events] == [("wiki", True, 2), ("code", False, 2)]
        assert [event.bits_per_byte for event in events] == pytest.approx([math.log2(3), math.log2(4) / 3], rel=1e-12)

    def test_targets_that_spell_nothing(self):
        [event] = evaluator(eval=[batch([4, 1])]).evaluate({}, 1)
        assert event.bits_per_byte is None

    def test_a_loss_that_is_no_number_names_its_set(self):
        def no_numbers(params, given) -> Any:
            return np.array([np.nan, 1.0])

        broken = Evaluator(no_numbers, {"wiki": [batch([2])]}, SPELLED, lambda given: given)
        with pytest.raises(NonFiniteError, match="Evaluation loss nan on wiki at step 3"):
            broken.evaluate({}, 3)

    def test_it_can_be_ended_between_batches(self):
        calls: list[int] = []

        def third_time() -> None:
            calls.append(len(calls))
            if len(calls) == 3:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            evaluator(wiki=[batch([2]), batch([3])], code=[batch([2])]).evaluate({}, 1, third_time)

    def test_nothing_held_out(self):
        assert not evaluator(eval=[]).has_text


class TestSpelledBytes:
    def test_of_bytes(self):
        tokenizer = open_tokenizer("byte", SequenceSection())
        lengths = spelled_bytes(tokenizer)
        assert lengths[[tokenizer.eos_id, tokenizer.pad_id]].tolist() == [0, 0]
        assert lengths[tokenizer.encode("grün")].tolist() == [1] * 5

    def test_of_a_byte_level_tokenizer(self, tmp_path):
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=280,
            special_tokens=["<pad>", "<eos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        text = "Grüße aus München, 東京 und überall; Grüße aus überall\n"
        tokenizer.train_from_iterator([text], trainer)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        opened = open_tokenizer(str(tmp_path), SequenceSection())
        ids = opened.encode(text)
        assert len(ids) < len(text.encode()) == spelled_bytes(opened)[ids].sum()
        assert spelled_bytes(opened)[:2].tolist() == [0, 0]


class TestEarlyStopping:
    @pytest.mark.parametrize(("eval_set", "stops"), [(None, [False, False, True]), ("code", [False, False, False])])
    def test_it_watches_one_set(self, eval_set, stops):
        stopping = EarlyStopping(EarlyStoppingSection(patience=2, eval_set=eval_set))
        reached = []
        for wiki, code in [(1.0, 3.0), (1.0, 2.0), (1.5, 1.0)]:
            stopping.judge({"wiki": wiki, "code": code})
            reached.append(stopping.reached)
        assert reached == stops
