import json

import numpy as np
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from trainer.data.tokenizers import ByteTokenizer, open_tokenizer
from trainer.huggingface.tokenizer import byte_level, write_tokenizer
from vishwamai.contract.config import SequenceSection
from vishwamai.contract.load import check_config


@given(text=st.text(), special=st.tuples(st.integers(0, 257), st.integers(0, 257)))
@example(text="naïve\r\n\x00 🦊", special=(1, 0))
def test_bytes_have_the_same_ids_for_transformers(text, special):
    eos, pad = special
    ours, theirs = ByteTokenizer(eos, pad), byte_level(eos, pad)
    ids = theirs.encode(text).ids
    if "<eos>" not in text and "<pad>" not in text:
        np.testing.assert_array_equal(ids, ours.encode(text))
        assert theirs.decode(ids) == text


def test_a_file_is_passed_on_with_its_special_tokens(tmp_path):
    byte_level(7, 9).save(str(tmp_path / "mine.json"))
    config = check_config({"data": {"tokenizer": str(tmp_path / "mine.json")}, "sequence": {"eos_token_id": 7}})
    (tmp_path / "out").mkdir()
    write_tokenizer(config, tmp_path / "out")
    sequence = SequenceSection(eos_token_id=7, pad_token_id=9)
    before, after = (open_tokenizer(str(tmp_path / name), sequence) for name in ("mine.json", "out"))
    np.testing.assert_array_equal(before.encode("abc"), after.encode("abc"))
    said = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert (said["eos_token"], said["model_max_length"]) == ("<eos>", config.model.max_seq_len)
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).token_to_id("<eos>") == 7


def test_one_that_is_gone_is_warned_of(tmp_path, caplog):
    write_tokenizer(check_config({"data": {"tokenizer": "gone.json"}}), tmp_path)
    assert "exported without a tokenizer: gone.json" in caplog.text
    assert list(tmp_path.iterdir()) == []
