import pytest

from trainer.data.changes import check_unchanged
from trainer.errors import UserError

BEFORE = {"tokenizer_fingerprint": "a" * 64, "corpus_fingerprint": "c" * 64}


def test_the_same_again():
    check_unchanged(BEFORE, dict(BEFORE), 7, allow_change=False)
    check_unchanged({}, BEFORE, 7, allow_change=False)


@pytest.mark.parametrize("allow_change", [True, False])
def test_another_tokenizer_is_refused(allow_change):
    with pytest.raises(UserError, match=r"data\.tokenizer: the checkpoint of step 7 .* aaaa.*, and this is bbbb"):
        check_unchanged(BEFORE, BEFORE | {"tokenizer_fingerprint": "b" * 64}, 7, allow_change=allow_change)


def test_another_corpus_takes_a_word(caplog):
    now = BEFORE | {"corpus_fingerprint": "d" * 64}
    with pytest.raises(UserError, match=r"data\.train: .* cccc.*, and this is dddd.*set data\.allow_change"):
        check_unchanged(BEFORE, now, 7, allow_change=False)
    check_unchanged(BEFORE, now, 7, allow_change=True)
    assert "step 7 was trained with another corpus: cccccccccccccccc, and this is dddddddddddddddd" in caplog.text
