import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.trainer.huggingface.checkpoints import CONFIGS, random_tensors, write_checkpoint
from tests.trainer.huggingface.goldens import FOLDER
from trainer.errors import UserError
from trainer.huggingface import load_params, read_source

LLAMA = CONFIGS["llama_linear"]


def loaded(folder, config=LLAMA, tensors=None):
    return load_params(
        read_source(write_checkpoint(folder, config, random_tensors(config) if tensors is None else tensors))
    )


def refused(folder):
    """What the owner of a folder is told."""
    with pytest.raises(UserError) as caught:
        load_params(read_source(folder))
    return str(caught.value)


def same(params, others):
    if isinstance(params, dict):
        return params.keys() == others.keys() and all(same(params[name], others[name]) for name in params)
    return params.dtype == others.dtype == np.float32 and np.array_equal(params, others)


def test_weights_map_inputs_to_outputs_and_are_stacked(tmp_path):
    tensors = random_tensors(CONFIGS["qwen2_windows"])
    params = loaded(tmp_path, CONFIGS["qwen2_windows"], tensors)
    attention = params["blocks"]["attention"]
    assert attention["key"].shape == (4, 32, 16)
    np.testing.assert_array_equal(attention["key"][2], tensors["model.layers.2.self_attn.k_proj.weight"].T)
    np.testing.assert_array_equal(attention["key_bias"][3], tensors["model.layers.3.self_attn.k_proj.bias"])
    np.testing.assert_array_equal(params["head"], tensors["lm_head.weight"])
    np.testing.assert_array_equal(params["embedding"], tensors["model.embed_tokens.weight"])


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_of_the_decoder(name, tmp_path):
    import jax

    from trainer.model import describe

    source = read_source(write_checkpoint(tmp_path, CONFIGS[name], random_tensors(CONFIGS[name])))
    shapes = jax.tree.map(lambda leaf: leaf.shape, load_params(source))
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, describe(source.model).shapes)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_every_float_becomes_float32(dtype, tmp_path):
    tensors = {name: one.astype(dtype) for name, one in random_tensors(LLAMA).items()}
    wide = {name: one.astype(np.float32) for name, one in tensors.items()}
    assert same(loaded(tmp_path / "a", LLAMA, tensors), loaded(tmp_path / "b", LLAMA, wide))


def test_all_that_does_not_fit_is_told_at_once(tmp_path):
    tensors = random_tensors(LLAMA)
    del tensors["model.layers.1.mlp.up_proj.weight"], tensors["lm_head.weight"]
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.ones(32, np.float32)
    tensors["model.norm.weight"] = np.ones(31, np.float32)
    tensors["model.layers.2.self_attn.o_proj.weight"] = np.ones((32, 32), np.int8)
    told = refused(write_checkpoint(tmp_path, LLAMA, tensors))
    assert "2 tensors missing: model.layers.1.mlp.up_proj.weight, lm_head.weight" in told
    assert "1 tensor unknown: model.layers.0.self_attn.q_proj.bias" in told
    assert "1 tensor of another shape: model.norm.weight [31] instead of [32]" in told
    assert "1 tensor in a format that is not supported: model.layers.2.self_attn.o_proj.weight I8" in told
    assert "tie_word_embeddings is false" in told


@pytest.mark.parametrize("outer", [("language_model.model.", "language_model."), ("model.language_model.", "")])
def test_the_text_part_of_a_model_with_images(outer, tmp_path):
    text = CONFIGS["gemma3"] | {"tie_word_embeddings": False}
    tensors = random_tensors(text)
    prefix, of_head = outer
    whole = {
        of_head + name if name.startswith("lm_head.") else name.replace("model.", prefix, 1): one
        for name, one in tensors.items()
    }
    seeing = "vision_tower.encoder.weight" if of_head else "model.vision_tower.encoder.weight"
    config = {"model_type": "gemma3", "text_config": text, "tie_word_embeddings": False}
    params = loaded(tmp_path / "whole", config, whole | {seeing: np.ones(3, np.float32)})
    assert same(params, loaded(tmp_path / "text", text, tensors))


def test_frequencies_that_old_versions_stored_are_left(tmp_path):
    tensors = random_tensors(LLAMA)
    more = tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}
    assert same(loaded(tmp_path / "a", LLAMA, more), loaded(tmp_path / "b", LLAMA, tensors))


def test_a_tied_head_may_be_stored_twice_but_not_differ(tmp_path):
    config = CONFIGS["gemma2"]
    tensors = random_tensors(config)
    head = tensors["model.embed_tokens.weight"].copy()
    params = loaded(tmp_path / "twice", config, tensors | {"lm_head.weight": head})
    assert same(params, loaded(tmp_path / "once", config, tensors))
    assert "head" not in params
    told = refused(write_checkpoint(tmp_path / "other", config, tensors | {"lm_head.weight": head + 1}))
    assert "lm_head.weight is stored with other numbers" in told


def test_a_folder_that_is_no_checkpoint(tmp_path):
    assert "is not a folder" in refused(tmp_path / "nowhere")
    assert "holds no config.json" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "is no JSON" in refused(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    assert "holds no JSON object" in refused(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert "holds neither model.safetensors nor model.safetensors.index.json" in refused(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "PyTorch's own files are not read" in refused(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.999])
def test_a_file_cut_short(kept, tmp_path):
    file = write_checkpoint(tmp_path, LLAMA, random_tensors(LLAMA)) / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert "cannot be read as safetensors" in refused(tmp_path)


@pytest.fixture
def sharded(tmp_path):
    return shutil.copytree(FOLDER / "llama_sharded_bf16", tmp_path / "sharded")


def test_a_missing_shard_is_named(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert "lacks shards that model.safetensors.index.json lists: model-00002-of-00002" in refused(sharded)


def test_a_tensor_that_its_shard_lacks_is_named(sharded):
    file = sharded / "model-00002-of-00002.safetensors"
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    save_file(tensors, file)
    assert "lists tensors that its files lack: model.norm.weight" in refused(sharded)


@pytest.mark.parametrize("weight_map", [None, {}, {"model.norm.weight": "../model.safetensors"}, {"a": 1}])
def test_an_index_that_cannot_be_used(weight_map, sharded):
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "no usable weight_map" in refused(sharded)
