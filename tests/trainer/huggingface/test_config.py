import json

import pytest

from tests.trainer.huggingface.checkpoints import CONFIGS
from tests.trainer.huggingface.goldens import NAMES, config_of
from tests.trainer.huggingface.reference import slides
from trainer.errors import UserError
from trainer.huggingface.config import read_config
from trainer.huggingface.write import exportable, write_config
from vishwamai.contract.config import ModelSection
from vishwamai.contract.families import FAMILIES


def refused(config, **changes):
    """What the owner is told about a config."""
    with pytest.raises(UserError) as caught:
        read_config(config | changes)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_both_styles_say_the_same(name):
    assert read_config(config_of(name)) == read_config(config_of(name, version=5))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_what_transformers_5_writes(name):
    theirs = config_of(name, version=5)
    ours = write_config(exportable(read_config(theirs)), theirs["dtype"], theirs)
    # For readers of version 4, which know neither rope_parameters nor that they miss something.
    for_version_4 = {"rope_theta", "rope_scaling"}
    # Where layer_types says it all, the number of full layers is our own to choose.
    free = {"max_window_layers"}
    assert {key: ours[key] for key in ours.keys() - for_version_4 - free} == {
        key: theirs[key] for key in theirs.keys() - free
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_written_and_read_again_it_is_the_same_model(name):
    model = read_config(CONFIGS[name])
    written = json.loads(json.dumps(write_config(exportable(model), "float32", {})))
    assert read_config(written) == model
    only_old = {key: value for key, value in written.items() if key != "rope_parameters"}
    assert read_config(only_old) == model
    only_new = {key: value for key, value in written.items() if not key.startswith("rope_") or key == "rope_parameters"}
    assert read_config(only_new) == model


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_slide_where_transformers_lets_them(name):
    config = CONFIGS[name]
    kinds = ["sliding" if slides(config, layer) else "full" for layer in range(config["num_hidden_layers"])]
    assert list(read_config(config).layer_kinds) == kinds


@pytest.mark.parametrize("model_type", ["gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3"])
def test_silence_means_the_defaults_of_transformers(model_type):
    model = read_config({"model_type": model_type})
    assert model.family == model_type.removesuffix("_text")
    facts = FAMILIES[model.family]
    assert {name: getattr(model, name) for name in facts.fixed} == facts.fixed
    expected = {
        "gemma": (256000, 3072, 28, 16, 16, 256, 24576, 8192, True, 1e4, None),
        "gemma2": (256000, 2304, 26, 8, 4, 256, 9216, 8192, True, 1e4, 4096),
        "gemma3_text": (262208, 2304, 26, 8, 4, 256, 9216, 131072, True, 1e6, 4096),
        "llama": (32000, 4096, 32, 32, 32, 128, 11008, 2048, False, 1e4, None),
        "mistral": (32000, 4096, 32, 32, 8, 128, 14336, 131072, False, 1e4, 4096),
        "qwen2": (151936, 4096, 32, 32, 32, 128, 22016, 32768, False, 1e4, None),
        "qwen3": (151936, 4096, 32, 32, 32, 128, 22016, 32768, False, 1e4, None),
    }[model_type]
    found = (
        model.vocab_size,
        model.hidden_dim,
        model.num_layers,
        model.num_heads,
        model.kv_heads,
        model.head_dim,
        model.mlp_dim,
        model.max_seq_len,
        model.tie_embeddings,
        model.rope_theta,
        model.sliding_window,
    )
    assert found == expected
    caps = (model.attention_softcap, model.logit_softcap)
    assert caps == ((50.0, 30.0) if model_type == "gemma2" else (None, None))
    assert model.attention_scale is None
    assert model.norm_epsilon == 1e-6


def test_a_window_of_training_may_be_shorter():
    assert read_config(CONFIGS["qwen3"]).max_seq_len == 128
    assert read_config(CONFIGS["qwen3"], max_seq_len=64).max_seq_len == 64


def test_the_text_part_of_a_model_with_images():
    text = {key: value for key, value in CONFIGS["gemma3"].items() if key != "model_type"}
    whole = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **text}, "vision_config": {}}
    assert read_config(whole) == read_config(CONFIGS["gemma3"])
    assert not read_config(whole | {"tie_word_embeddings": False}).tie_embeddings
    assert "no text_config" in refused({"model_type": "gemma3"})


def test_token_ids_may_be_lists_or_missing():
    config = CONFIGS["qwen3"]
    assert read_config(config | {"eos_token_id": [1, 2], "bos_token_id": None}) == read_config(config)


def test_an_unknown_family_is_told_with_those_there_are():
    told = refused({"model_type": "mixtral"})
    assert "'mixtral'" in told
    assert "gemma, gemma2, gemma3, gemma3_text, llama, mistral, qwen2, qwen3" in told
    assert "None" in refused({})


LLAMA = CONFIGS["llama_linear"]
UNSUPPORTED = [
    (LLAMA, {"attention_bias": True}, "attention_bias"),
    (LLAMA, {"mlp_bias": True}, "mlp_bias"),
    (CONFIGS["qwen3"], {"attention_bias": True}, "attention_bias"),
    (LLAMA, {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    (CONFIGS["gemma2"], {"hidden_activation": "gelu"}, "hidden_activation is 'gelu'"),
    (CONFIGS["gemma3"], {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    (LLAMA, {"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
    (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    *[
        (LLAMA, {"rope_scaling": {"rope_type": kind, "factor": 2.0}}, f"rope_type '{kind}'")
        for kind in ("yarn", "dynamic", "longrope", "su", "mrope")
    ],
    (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "needs low_freq_factor, high_freq_factor"),
    (LLAMA, {"rope_scaling": {"rope_type": "linear"}}, "needs factor"),
    (LLAMA, {"rope_scaling": {"rope_type": "linear", "factor": "2"}}, "factor is '2'"),
    (LLAMA, {"rope_scaling": 2}, "rope_scaling is 2"),
    (LLAMA, {"rope_scaling": None, "rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "gemma3's alone"),
    (CONFIGS["gemma3"], {"rope_parameters": {"rope_theta": 1e4}}, "full_attention and sliding_attention"),
    (
        CONFIGS["gemma3"],
        {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
        "'linear' on sliding layers",
    ),
    (CONFIGS["gemma2"], {"sliding_window": None}, "need a sliding_window"),
    (CONFIGS["gemma2"], {"layer_types": ["full_attention"]}, "num_hidden_layers 4"),
    (CONFIGS["gemma2"], {"layer_types": ["chunked_attention"] * 4}, "chunked_attention"),
    (CONFIGS["gemma3"], {"sliding_window_pattern": 0}, "sliding_window_pattern"),
    (CONFIGS["gemma2"], {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
    (LLAMA, {"num_attention_heads": 5}, "hidden_size 32 is no multiple"),
    (LLAMA, {"num_key_value_heads": 3}, "num_key_value_heads is 3, which does not divide"),
    (LLAMA, {"hidden_size": "32"}, "hidden_size is '32'"),
    (LLAMA, {"vocab_size": None}, "vocab_size is None"),
    (LLAMA, {"rms_norm_eps": 0}, "rms_norm_eps is 0.0"),
    (LLAMA, {"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
    (LLAMA, {"head_dim": 7}, "head_dim is 7"),
]


@pytest.mark.parametrize(("config", "changes", "told"), UNSUPPORTED)
def test_what_is_not_supported_is_named(config, changes, told):
    assert told in refused(config, **changes)


def test_everything_wrong_is_told_at_once():
    told = refused(LLAMA, attention_bias=True, hidden_act="relu", rope_scaling={"rope_type": "yarn", "factor": 2.0})
    assert all(name in told for name in ("attention_bias", "'relu'", "'yarn'"))


def test_the_guides_family_is_written_as_llama():
    model = ModelSection(activation="swiglu", num_layers=2)
    assert read_config(write_config(exportable(model), "float32", {})).family == "llama"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, ["activation is gelu, and it has swiglu", "family vishwamai is exported as llama"]),
        ({"activation": "geglu", "qk_norm": True}, ["activation is geglu", "qk_norm is true, and it has false"]),
        ({"activation": "swiglu", "attention_softcap": 5.0}, ["attention_softcap is 5"]),
        ({"activation": "swiglu", "logit_softcap": 5.0}, ["logit_softcap is 5"]),
        ({"activation": "swiglu", "attention_scale": 0.5}, ["attention_scale is 0.5"]),
        ({"activation": "swiglu", "sliding_window": 8}, ["sliding_window is 8"]),
        ({"activation": "swiglu", "hidden_dim": 100}, ["hidden_dim 100 is no multiple of model.num_heads 12"]),
        (
            {
                **FAMILIES["mistral"].fixed,
                "family": "mistral",
                "sliding_window": 8,
                "layer_pattern": ["full", "sliding"],
                "rope_local_theta": 5.0,
            },
            ["layer_pattern has layers of both kinds", "rope_local_theta is 5"],
        ),
        ({**FAMILIES["gemma2"].fixed, "family": "gemma2", "attention_scale": 0.3}, ["attention_scale is 0.3"]),
        ({**FAMILIES["gemma3"].fixed, "family": "gemma3", "attention_softcap": 9.0}, ["attention_softcap is 9"]),
        (
            {**FAMILIES["gemma3"].fixed, "family": "gemma3", "sliding_window": 9, "rope_scaling": {"kind": "linear"}},
            ["rope_scaling stretches sliding layers"],
        ),
    ],
)
def test_what_transformers_cannot_express_is_named(fields, told):
    with pytest.raises(UserError) as caught:
        exportable(ModelSection.model_validate(fields))
    assert all(words in str(caught.value) for words in told)
