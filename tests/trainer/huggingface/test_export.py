import filecmp
import json
from functools import partial

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.trainer.huggingface.checkpoints import CONFIGS, random_tensors, write_checkpoint
from tests.trainer.huggingface.goldens import FOLDER, NAMES, config_of
from trainer.cli import main
from trainer.errors import StorageError, UserError
from trainer.huggingface import export_checkpoint, load_params, read_source
from trainer.huggingface.tensor_folder import Pending, write_folder

LIMITS = {"llama_sharded_bf16": 265_000}
"""Bytes in a shard under which a golden was split, give or take a tensor."""


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_comes_back_to_the_last_bit(name, tmp_path):
    source = read_source(FOLDER / name)
    limit = LIMITS.get(name, 10**9)
    export_checkpoint(load_params(source), source.model, tmp_path, max_shard_bytes=limit, source=source)
    expected = {path.name for path in (FOLDER / name).iterdir()} - {"config.transformers5.json", "golden.npz"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert all(filecmp.cmp(FOLDER / name / file, tmp_path / file, shallow=False) for file in expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_comes_back_to_the_last_bit(name, tmp_path):
    """Without a word about where it came from: names, shapes, tied weights and the config are transformers' own."""
    config, tensors = CONFIGS[name], random_tensors(CONFIGS[name])
    source = read_source(write_checkpoint(tmp_path / "a", config, tensors))
    export_checkpoint(load_params(source), source.model, tmp_path / "b", token_ids={"eos_token_id": 7})
    again = load_file(tmp_path / "b" / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(again[key].dtype == np.float32 and np.array_equal(again[key], tensors[key]) for key in tensors)
    with safe_open(tmp_path / "b" / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
    assert read_source(tmp_path / "b").model == source.model
    written = json.loads((tmp_path / "b" / "config.json").read_text())
    assert written["model_type"] == config["model_type"]
    assert (written["eos_token_id"], written["pad_token_id"], written["dtype"]) == (7, None, "float32")


def test_the_text_part_of_a_model_with_images_becomes_a_model_of_its_own(tmp_path):
    text = CONFIGS["gemma3"]
    tensors = random_tensors(text)
    whole = {name.replace("model.", "language_model.model.", 1): one for name, one in tensors.items()}
    config = {"model_type": "gemma3", "text_config": text, "eos_token_id": [1, 106]}
    source = read_source(write_checkpoint(tmp_path / "whole", config, whole))
    export_checkpoint(load_params(source), source.model, tmp_path / "text", source=source)
    again = load_file(tmp_path / "text" / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(np.array_equal(again[key], tensors[key]) for key in tensors)
    written = json.loads((tmp_path / "text" / "config.json").read_text())
    assert (written["model_type"], written["eos_token_id"], written["dtype"]) == ("gemma3_text", [1, 106], "float32")


@pytest.mark.parametrize(("dtype", "style"), [("bfloat16", 4), ("float32", 5)])
def test_a_format_may_be_asked_for(dtype, style, tmp_path):
    """bfloat16 is rounded to nearest, and config.json says so under the key that it had."""
    name = "llama" if dtype == "bfloat16" else "llama_sharded_bf16"
    folder = tmp_path / "source"
    folder.mkdir()
    for path in (FOLDER / name).glob("model*"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_text(json.dumps(config_of(name, version=style)))
    assert main(["export", "--from", str(folder), "--to", str(tmp_path / "out"), "--dtype", dtype], {}) == 0
    before = {key: one for file in folder.glob("*.safetensors") for key, one in load_file(file).items()}
    after = load_file(tmp_path / "out" / "model.safetensors")
    wanted = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}[dtype]
    assert after.keys() == before.keys()
    assert all(after[key].dtype == wanted and np.array_equal(after[key], before[key].astype(wanted)) for key in before)
    said = "torch_dtype" if style == 4 else "dtype"
    expected = config_of(name, version=style) | {said: dtype}
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == expected


def test_a_used_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "kept").write_text("mine")
    assert main(["export", "--from", str(FOLDER / "llama"), "--to", str(tmp_path)], {}) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_neither_a_run_nor_a_checkpoint(tmp_path, capsys):
    assert main(["export", "--from", str(tmp_path), "--to", str(tmp_path / "out")], {}) == 2
    assert "holds no config.json" in capsys.readouterr().err


def test_a_model_that_transformers_does_not_know_is_not_written(tmp_path):
    source = read_source(FOLDER / "llama")
    model = source.model.model_copy(update={"attention_softcap": 3.0})
    with pytest.raises(UserError, match="attention_softcap is 3"):
        export_checkpoint(load_params(source), model, tmp_path / "out", source=source)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_refuses_is_told(tmp_path):
    tensor = Pending("a", 1, 4, lambda: np.ones(1, np.float32))
    with pytest.raises(StorageError, match="could not be written"):
        write_folder(tmp_path / "missing", [tensor], 100)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 60))
def test_shards_hold_every_tensor_once_within_the_limit(tmp_path_factory, sizes, limit):
    folder = tmp_path_factory.mktemp("shards")
    tensors = [
        Pending(f"t{i:02d}", size, 4 * size, partial(np.full, size, i, np.float32)) for i, size in enumerate(sizes)
    ]
    write_folder(folder, tensors, limit)
    files = sorted(folder.glob("*.safetensors"))
    stored = [load_file(file) for file in files]
    assert sorted(name for shard in stored for name in shard) == [tensor.name for tensor in tensors]
    for shard in stored:
        assert len(shard) == 1 or sum(one.nbytes for one in shard.values()) <= limit
    index = folder / "model.safetensors.index.json"
    assert index.exists() == (len(files) > 1)
    if index.exists():
        document = json.loads(index.read_text())
        placed = {name: file.name for file, shard in zip(files, stored, strict=True) for name in shard}
        assert document["weight_map"] == placed
        assert document["metadata"] == {"total_parameters": sum(sizes), "total_size": 4 * sum(sizes)}
