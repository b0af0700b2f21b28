import numpy as np
import pytest

from tests.trainer.huggingface.checkpoints import CONFIGS, random_tensors, random_text, write_checkpoint
from tests.trainer.huggingface.goldens import FOLDER, NAMES, TOLERANCE, golden_of
from tests.trainer.huggingface.reference import forward
from trainer.cli import main


def checked(folder, tmp_path, **inputs):
    """OUT.npz of `python -m trainer check-import` on the inputs."""
    given, wanted = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(given, **inputs)
    assert main(["check-import", str(folder), "--inputs", str(given), "--output", str(wanted)], {}) == 0
    with np.load(wanted) as archive:
        return dict(archive)


def assert_close(found, logits, hidden_states, mask):
    valid = mask == 1
    assert found["logits"].dtype == found["hidden_states"].dtype == np.float32
    np.testing.assert_allclose(found["logits"][valid], logits[valid], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found["hidden_states"][:, valid], hidden_states[:, valid], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_goldens_of_transformers(name, tmp_path):
    golden = golden_of(name)
    found = checked(FOLDER / name, tmp_path, input_ids=golden["input_ids"], attention_mask=golden["attention_mask"])
    assert found["logits"].shape == golden["logits"].shape
    assert found["hidden_states"].shape == golden["hidden_states"].shape
    assert_close(found, golden["logits"], golden["hidden_states"], golden["attention_mask"])
    # 5e-5: a mean of some 90 losses, each as exact as the logits' noise of 2e-5
    assert cross_entropy(found["logits"], golden["labels"]) == pytest.approx(float(golden["loss_float64"]), abs=5e-5)


def cross_entropy(logits, labels):
    logits, labels = logits[:, :-1].astype(np.float64), labels[:, 1:]
    logits = logits[labels != -100]
    chosen = logits[np.arange(len(logits)), labels[labels != -100]]
    return np.mean(np.log(np.exp(logits).sum(-1)) - chosen)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_and_setting(name, tmp_path):
    config = CONFIGS[name]
    tensors, (ids, mask) = random_tensors(config), random_text(config)
    expected = forward(config, tensors, ids, mask)
    folder = write_checkpoint(tmp_path / "model", config, tensors)
    found = checked(folder, tmp_path, input_ids=ids, attention_mask=mask)
    assert_close(found, expected.logits, expected.hidden_states, mask)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gemma2", {"query_pre_attn_scalar": 16}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma2", {"final_logit_softcapping": None}),
        ("gemma2", {"sliding_window": 6}),
        ("gemma3", {"rope_local_base_freq": 1e4}),
        ("gemma3", {"sliding_window_pattern": 5}),
        ("gemma3", {"rms_norm_eps": 1e-4}),
        ("gemma3_pattern", {"rope_scaling": None}),
        ("mistral_windows", {"sliding_window": 4}),
        ("qwen2_windows", {"max_window_layers": 2}),
        ("qwen3", {"rope_theta": 1e5}),
        ("llama32", {"rope_scaling": None}),
        ("llama_linear", {"rope_scaling": {"rope_type": "linear", "factor": 4.5}}),
    ],
)
def test_what_these_checkpoints_would_show(name, changes):
    """Were one of these settings ignored, a logit would move by far more than the comparison above allows."""
    config = CONFIGS[name]
    tensors, (ids, mask) = random_tensors(config), random_text(config)
    right, wrong = (forward(one, tensors, ids, mask).logits[mask == 1] for one in (config, config | changes))
    assert np.abs(right - wrong).max() > 10 * TOLERANCE


def test_padding_disturbs_nobody(tmp_path):
    config = CONFIGS["gemma2"]
    folder = write_checkpoint(tmp_path / "model", config, random_tensors(config))
    ids, mask = random_text(config)
    found = checked(folder, tmp_path, input_ids=ids, attention_mask=mask)
    other = checked(folder, tmp_path, input_ids=np.where(mask, ids, 7), attention_mask=mask)
    np.testing.assert_array_equal(found["logits"][mask == 1], other["logits"][mask == 1])
    alone = checked(folder, tmp_path, input_ids=ids[2:, 7:])  # without its padding, and without a mask
    # 1e-4: the same sums, rotated by other angles
    np.testing.assert_allclose(found["logits"][2:, 7:], alone["logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"tokens": np.ones((1, 4), int)}, "lacks input_ids"),
        ({"input_ids": np.ones(4, int)}, "must be whole numbers [B, T], and are int64 [4]"),
        ({"input_ids": np.ones((1, 4))}, "must be whole numbers [B, T], and are float64 [1, 4]"),
        ({"input_ids": np.full((1, 4), 512)}, "has 512, and the checkpoint's vocabulary is 0 to 511"),
        ({"input_ids": np.ones((1, 4), int), "attention_mask": np.ones((1, 5), int)}, "attention_mask must be"),
        ({"input_ids": np.ones((1, 4), int), "attention_mask": np.full((1, 4), 2)}, "attention_mask must be"),
    ],
)
def test_unusable_inputs(inputs, told, tmp_path, capsys):
    given = tmp_path / "in.npz"
    np.savez(given, **inputs)
    out = tmp_path / "out.npz"
    assert main(["check-import", str(FOLDER / "llama"), "--inputs", str(given), "--output", str(out)], {}) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("content", [None, b"", b"no archive at all"])
def test_inputs_that_are_no_archive(content, tmp_path, capsys):
    given = tmp_path / "in.npz"
    if content is not None:
        given.write_bytes(content)
    code = main(["check-import", str(FOLDER / "llama"), "--inputs", str(given), "--output", str(tmp_path / "out")], {})
    assert code == 2
    assert "cannot be read as an .npz archive" in capsys.readouterr().err
