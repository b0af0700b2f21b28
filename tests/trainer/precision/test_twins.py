"""A model that learns in FP8 learns as much as its twin in bfloat16; `python -m bench.twins` compares larger ones."""

from bench.twins import train, twin
from trainer.data import open_data

SMALL = {"num_layers": 1, "max_seq_len": 64}


def test_after_300_steps_fp8_is_within_one_percent_of_bfloat16():
    plain, fp8 = (twin(300, 16, SMALL, learning_rate=2e-3, low_precision=kind) for kind in ("none", "fp8"))
    assert (plain.precision.compute, fp8.precision.compute) == ("bfloat16", "bfloat16")
    assert (plain.precision.products, fp8.precision.products) == ("compute", "fp8")
    data = open_data(plain)
    expected, found = train(plain, data), train(fp8, data)
    assert expected.loss < 2.3  # of 5.55 at the start: both have learned
    assert expected.loss != found.loss
    # With seeds 0, 1 and 2 FP8 ended 0.31% and 0.11% above its twin and 0.08% below.
    assert abs(found.loss / expected.loss - 1) < 0.01
    assert found.skipped == 0
