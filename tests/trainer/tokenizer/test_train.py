import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.cli import main
from trainer.data.tokenizers import open_tokenizer
from trainer.errors import UserError
from trainer.tokenizer.train import MOST_SPECIAL, pieces, special_tokens, train
from vishwamai.contract.config import SequenceSection

WORDS = ["zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "четыре", "東京", "def", "return", "\n\t"]
TEXTS = [" ".join(WORDS[n * k % 12] for k in range(60)) + f" {n}\n" for n in range(40)]
SPECIAL = {0: "<pad>", 1: "<eos>"}


@pytest.fixture(scope="module")
def trained():
    return train(TEXTS, 300, SPECIAL, 0.1)


class TestReproducible:
    def test_in_fresh_processes(self, trained):
        program = f"""
import sys
from trainer.tokenizer.train import train
sys.stdout.buffer.write(train({TEXTS!r}, 300, {SPECIAL!r}, 0.1).content.encode())
"""
        for threads in ("1", "3"):
            environ = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
            run = subprocess.run(
                [sys.executable, "-c", program],
                env=environ,
                capture_output=True,
                check=True,
                cwd=Path(__file__).parents[3],
            )
            assert run.stdout.decode() == trained.content

    def test_in_any_order(self, trained):
        assert train(reversed(TEXTS), 300, SPECIAL, 0.1).content == trained.content


class TestWhatComesOut:
    def test_ids(self, trained):
        vocabulary = trained.tokenizer.get_vocab()
        assert (trained.vocab_size, vocabulary["<pad>"], vocabulary["<eos>"]) == (300, 0, 1)
        assert sorted(vocabulary.values()) == list(range(300))

    def test_all_text_is_either_trained_on_or_held_out(self, trained):
        assert trained.trained_bytes + trained.held_out_bytes == sum(len(text.encode()) for text in TEXTS)
        assert 0 < trained.held_out_bytes < trained.trained_bytes
        assert trained.documents == len(TEXTS)
        assert trained.bytes_per_token == trained.held_out_bytes / trained.held_out_tokens > 3

    def test_nothing_held_out(self):
        assert train(TEXTS, 300, SPECIAL, 0.0).bytes_per_token is None

    @given(st.text(st.characters(codec="utf-8"), max_size=50))
    def test_every_text_comes_back(self, trained, text):
        ids = trained.tokenizer.encode(text, add_special_tokens=False).ids
        assert trained.tokenizer.decode(ids, skip_special_tokens=False) == text

    def test_specials_of_a_config(self, tmp_path):
        special = special_tokens(eos_id=3, pad_id=1)
        assert special == {0: "<reserved-0>", 1: "<pad>", 2: "<reserved-2>", 3: "<eos>"}
        (tmp_path / "tokenizer.json").write_text(train(TEXTS, 300, special, 0.0).content)
        tokenizer = open_tokenizer(str(tmp_path), SequenceSection(eos_token_id=3, pad_token_id=1))
        assert [tokenizer.describe(number) for number in range(4)] == list(special.values())


@given(st.text(alphabet="ab\n", max_size=60))
def test_pieces_are_the_text(text):
    from trainer.tokenizer import train as module

    size, module._PIECE = module._PIECE, 7
    try:
        cut = list(pieces(text))
    finally:
        module._PIECE = size
    assert "".join(cut) == text
    assert all(0 < len(piece) <= 7 for piece in cut)
    assert all(piece.endswith("\n") for piece in cut[:-1] if "\n" in piece)


class TestBadInput:
    def test_no_room_for_bytes(self):
        with pytest.raises(UserError, match=r"--vocab-size is 257: 256 bytes and 2 special tokens need at least 258"):
            train(TEXTS, 257, SPECIAL, 0.0)

    def test_no_text(self):
        with pytest.raises(UserError, match="there is no text in these files"):
            train(["", ""], 300, SPECIAL, 0.0)

    def test_a_special_token_far_up(self):
        with pytest.raises(UserError, match=f"eos_token_id is 50256: .* give one below {MOST_SPECIAL}"):
            special_tokens(eos_id=50256, pad_id=0)


class TestCommand:
    def test_a_tokenizer_of_a_corpus(self, tmp_path, capsys):
        with (tmp_path / "a.jsonl").open("w") as file:
            file.writelines(json.dumps({"body": text}) + "\n" for text in TEXTS)
        (tmp_path / "config.json").write_text('{"sequence": {"eos_token_id": 2}, "data": {"text_field": "body"}}')
        output = tmp_path / "tokenizer.json"
        arguments = ["--vocab-size", "5000", "--train", str(tmp_path / "*.jsonl"), "--output", str(output)]
        settings = ["--config", str(tmp_path / "config.json"), "--set", "sequence.pad_token_id=1", "--held-out", "0.1"]
        assert main(["tokenizer", *arguments, *settings], {}) == 0
        told = capsys.readouterr().out
        size = open_tokenizer(str(output), SequenceSection(eos_token_id=2, pad_token_id=1)).vocab_size
        assert 259 < size < 5000
        assert f"{output}: {size} tokens, sha256 " in told
        assert "fewer than the 5000 asked for" in told
        assert "trained on 40 documents" in told
        assert "bytes per token on " in told
        assert "special tokens: <reserved-0> 0, <pad> 1, <eos> 2\n" in told

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--train", "none.txt"], "--train: there is no file"),
            (["--output", "."], "--output: '.' is a folder: name a file, e.g. 'tokenizer.json'"),
            (["--output", "none/t.json"], "--output: there is no folder 'none'"),
            (["--held-out", "1"], "--held-out is 1.0: give a share from 0 to below 1"),
            (["--vocab-size", "0"], "--vocab-size is 0"),
        ],
    )
    def test_bad_input(self, tmp_path, capsys, monkeypatch, arguments, words):
        monkeypatch.chdir(tmp_path)
        Path("a.txt").write_text("one")
        usual = ["--vocab-size", "300", "--train", "a.txt", "--output", "t.json"]
        assert main(["tokenizer", *usual, *arguments], {}) == 2
        assert words in capsys.readouterr().err
        assert not Path("t.json").exists()
