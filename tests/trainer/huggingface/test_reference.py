"""The oracle of the other tests is itself held to transformers' own output."""

import ml_dtypes  # noqa: F401 - lets safetensors give bfloat16 arrays
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.trainer.huggingface.goldens import FOLDER, NAMES, TOLERANCE, config_of, golden_of
from tests.trainer.huggingface.reference import forward


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_computes_what_transformers_does(name, version):
    golden = golden_of(name)
    tensors = {key: one for file in (FOLDER / name).glob("*.safetensors") for key, one in load_file(file).items()}
    found = forward(config_of(name, version=version), tensors, golden["input_ids"], golden["attention_mask"])
    valid = golden["attention_mask"] == 1
    np.testing.assert_allclose(found.logits[valid], golden["logits"][valid], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.hidden_states[:, valid], golden["hidden_states"][:, valid], rtol=0, atol=TOLERANCE)
