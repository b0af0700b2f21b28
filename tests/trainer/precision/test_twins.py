"""A model that learns in FP8 learns as much as its twin in bfloat16; `python -m bench.twins` trains them for longer."""

from bench.twins import train, twin
from trainer.data import open_data

STEPS, SEQUENCES = 100, 8


def test_fp8_costs_less_than_a_hundredth_of_the_loss():
    plain, fp8 = (twin(STEPS, SEQUENCES, low_precision=kind) for kind in ("none", "fp8"))
    assert (plain.precision.compute, fp8.precision.compute) == ("bfloat16", "bfloat16")
    assert (plain.precision.products, fp8.precision.products) == ("compute", "fp8")
    data = open_data(plain)
    expected, found = train(plain, data), train(fp8, data)
    assert expected.loss < 3.0  # of 5.55 at the start: both have learned something
    assert expected.loss != found.loss
    assert abs(found.loss / expected.loss - 1) < 0.01
    assert found.skipped == 0
