"""A family fixes what makes it, proposes the rest, and yields to what was asked."""

from typing import Any

import pytest

from vishwamai.contract.config import ModelSection
from vishwamai.contract.families import FAMILIES
from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob


def job(**model: Any) -> ResolvedJob:
    return resolve(check_config({"model": model}))


def reasons(resolved: ResolvedJob) -> dict[str, str]:
    return {d.setting.removeprefix("model."): d.why for d in resolved.decisions if d.setting.startswith("model.")}


@pytest.mark.parametrize("family", FAMILIES)
def test_open_fields_are_the_familys(family: str):
    resolved = job(family=family)
    facts = FAMILIES[resolved.effective.model.family]
    for field, value in {**facts.fixed, **facts.usual}.items():
        assert getattr(resolved.effective.model, field) == value
        plain = getattr(ModelSection(), field) == value
        assert plain or family in reasons(resolved)[field], field


@pytest.mark.parametrize("family", FAMILIES)
def test_every_value_of_a_family_is_one_its_field_takes(family: str):
    facts = FAMILIES[check_config({"model": {"family": family}}).model.family]
    assert not set(facts.fixed) & set(facts.usual)
    ModelSection.model_validate({**facts.fixed, **facts.usual})


def test_the_usual_yields_and_what_is_fixed_may_be_said():
    resolved = job(family="gemma2", attention_softcap=30.0, post_norms=True, norm_epsilon=1e-5)
    model = resolved.effective.model
    assert (model.attention_softcap, model.logit_softcap, model.norm_epsilon) == (30.0, 30.0, 1e-5)
    assert "attention_softcap" not in reasons(resolved)


@pytest.mark.parametrize(
    ("family", "field", "value", "message"),
    [
        ("gemma", "qkv_bias", True, "model.qkv_bias is true, and family gemma has false"),
        ("llama", "activation", "gelu", 'model.activation is "gelu", and family llama has "swiglu"'),
        ("qwen2", "qkv_bias", False, "model.qkv_bias is false, and family qwen2 has true"),
        ("gemma3", "qk_norm", False, "model.qk_norm is false, and family gemma3 has true"),
    ],
)
def test_what_is_fixed_cannot_be_otherwise(family: str, field: str, value: Any, message: str):
    with pytest.raises(InvalidConfig) as caught:
        job(family=family, **{field: value})
    (problem,) = caught.value.problems
    assert (problem.pointer, problem.message) == (f"/model/{field}", message)
    assert problem.hint == "leave it out, or take family vishwamai, which leaves every field free"
    assert job(family="vishwamai", **{field: value}).effective.model.model_dump()[field] == value


def test_the_guides_own_family_leaves_everything_open():
    assert job(family="vishwamai").effective.model == job().effective.model
    assert reasons(job()) == {}


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        ({}, "ffff"),
        ({"sliding_window": 64}, "ssss"),
        ({"sliding_window": 64, "layer_pattern": ["full", "full", "sliding"]}, "ffsf"),
        ({"family": "gemma2"}, "sfsf"),
        ({"family": "gemma3"}, "ssss"),
        ({"family": "gemma3", "num_layers": 8}, "sssssfss"),
        ({"family": "gemma2", "layer_pattern": ["full"]}, "ffff"),
    ],
)
def test_the_kinds_of_layers(model: dict[str, Any], kinds: str):
    resolved = job(**{"num_layers": 4, **model})
    assert "".join(kind[0] for kind in resolved.effective.model.layer_kinds) == kinds


@pytest.mark.parametrize(
    ("model", "setting", "words"),
    [
        ({"sliding_window": 64, "layer_pattern": ["full"]}, "sliding_window", "not used: no layer is sliding"),
        ({"sliding_window": 2048}, "sliding_window", "holds no more keys"),
        ({"rope_local_theta": 1e4}, "rope_local_theta", "not used: no layer is sliding"),
        ({"num_layers": 1, "sliding_window": 8, "layer_pattern": ["full", "sliding"]}, "layer_pattern", "its first 1"),
        (
            {"rope_scaling": {"kind": "linear", "low_freq_factor": 2.0}},
            "rope_scaling.low_freq_factor",
            "not used: linear",
        ),
        ({"rope_scaling": {"low_freq_factor": 6.0}}, "rope_scaling.high_freq_factor", "low is below high"),
    ],
)
def test_a_setting_that_others_make_idle_is_answered(model: dict[str, Any], setting: str, words: str):
    assert words in reasons(job(**model))[setting]


@pytest.mark.parametrize("field", ["sliding_window", "rope_local_theta"])
def test_a_family_proposes_nothing_for_layers_it_does_not_have(field: str):
    assert getattr(job(family="gemma3", layer_pattern=["full"]).effective.model, field) is None


def test_default_frequency_factors_step_aside():
    raised = job(rope_scaling={"low_freq_factor": 6.0}).effective.model.rope_scaling
    lowered = job(rope_scaling={"high_freq_factor": 0.5}).effective.model.rope_scaling
    assert raised is not None
    assert lowered is not None
    assert (raised.low_freq_factor, raised.high_freq_factor) == (6.0, 24.0)
    assert (lowered.low_freq_factor, lowered.high_freq_factor) == (0.125, 0.5)
