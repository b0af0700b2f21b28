"""What a device must hold by the estimate, what resolution makes of it, and what would lower it."""

import re
from typing import Any

import pytest
from hypothesis import given, settings

from tests.contract.strategies import configs, sites
from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.load import check_config
from vishwamai.contract.resolution.lowering import lowering
from vishwamai.contract.resolution.memory import Need, Work, estimate
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob, SiteDefaults

GIB = 2**30
V5E = {"accelerator": "v5e", "tpu_topology": "2x4"}
BILLIONS = {"hidden_dim": 4096, "num_heads": 32, "head_dim": 128, "mlp_dim": 16384, "num_layers": 32}


def job(**document: Any) -> ResolvedJob:
    return resolve(check_config(document))


def need(**document: Any) -> Need:
    return estimate(Work.of(job(**document)))


def why(resolved: ResolvedJob, setting: str) -> str:
    (found,) = (entry.why for entry in resolved.decisions if entry.setting == setting)
    return found


def test_the_state_of_the_base_model():
    parameters = job().parameters
    assert need().state == 12 * parameters / 8
    assert need(training={"optimizer": {"state_dtype": "bfloat16"}}).state == parameters
    assert need(optimization={"shard_weights": False}).state == 12 * parameters


def test_gathering_once_holds_all_weights_and_gradients():
    once, by_layer = (need(optimization={"weight_gather": how}) for how in ("step", "layer"))
    parameters = job().parameters
    assert once.gathered == 2 * parameters
    assert once.gradients - by_layer.gradients > 4 * parameters / 3
    assert by_layer.gathered < once.gathered
    assert by_layer.activations == once.activations


def test_policies_keep_what_they_say():
    held = {
        policy: need(memory={"remat_policy": policy}).activations
        for policy in ("none", "dots", "attention", "full", "offload")
    }
    assert held["none"] > held["dots"] > held["attention"] > held["full"]
    model, tokens = job().effective.model, 8 * 2048
    stream, result = 2 * model.hidden_dim, model.num_heads * (2 * model.head_dim + 4)
    assert held["attention"] - held["full"] == pytest.approx(tokens * model.num_layers * result)
    assert held["attention"] - held["offload"] == pytest.approx(tokens * model.num_layers * stream)


def test_eight_bit_weights_wait_where_all_is_kept():
    def held(policy: str, kind: str) -> float:
        return need(memory={"remat_policy": policy}, optimization={"low_precision": kind}).activations

    assert held("none", "fp8") - held("none", "none") == job().parameters - 131_072 * 768 - 768  # the layers' weights
    assert held("attention", "fp8") == held("attention", "none")


def test_dense_scores_grow_with_the_square_of_the_window():
    def scores(length: int) -> float:
        both = [
            need(model={"max_seq_len": length}, training={"batch_size": 1}, optimization={"attention": kind})
            for kind in ("dense", "blockwise")
        ]
        return both[0].activations - both[1].activations

    assert scores(4096) == pytest.approx(4 * scores(2048))


def test_a_model_axis_shares_weights_and_not_the_residual_stream():
    whole, split = (
        need(tpu={**V5E, "mesh_shape": {"data": 8 // n, "model": n}}, model={"num_heads": 8}) for n in (1, 2)
    )
    assert split.state == pytest.approx(whole.state, rel=1e-3)  # norms, a thousandth of the weights, are not split
    assert split.activations > whole.activations


@pytest.mark.parametrize(
    ("memory", "remat", "checkpointing"),
    [
        ({"gradient_checkpointing": False}, "none", False),
        ({"gradient_checkpointing": True}, "attention", True),
        ({"remat_policy": "none"}, "none", False),
        ({"remat_policy": "dots"}, "dots", True),
        ({"gradient_checkpointing": True, "remat_policy": "offload"}, "offload", True),
        ({"gradient_checkpointing": False, "remat_policy": "auto"}, "none", False),
    ],
)
def test_the_policy_asked_for(memory: dict[str, Any], remat: str, checkpointing: bool):
    resolved = job(memory=memory)
    assert resolved.execution.remat == remat
    assert resolved.effective.memory.gradient_checkpointing is checkpointing


def test_auto_takes_the_first_policy_that_fits():
    assert "cheapest" in why(job(), "execution.remat")
    seen: dict[str, ResolvedJob] = {}
    for layers in range(24, 400, 8):
        resolved = job(tpu=V5E, model={"num_layers": layers})
        seen.setdefault(resolved.execution.remat, resolved)
        fits = estimate(Work.of(resolved)).fits
        assert fits == ("memory-may-not-fit" not in {notice.code for notice in resolved.warnings})
    assert list(seen)[:2] == ["attention", "full"]
    assert "attention would not fit" in why(seen["full"], "execution.remat")
    hopeless = job(tpu=V5E, model={**BILLIONS, "num_layers": 200})
    assert "no policy fits" in why(hopeless, "execution.remat")


def test_a_rehearsal_keeps_attention():
    resolved = resolve(check_config({"tpu": V5E, "model": BILLIONS}), SiteDefaults(platform="cpu"))
    assert resolved.execution.remat == "attention"


def test_weights_are_gathered_once_where_they_fit():
    assert job().execution.weight_gather == "step"
    large = job(model=BILLIONS, tpu={"accelerator": "v5e", "tpu_topology": "16x16"}, training={"batch_size": 1})
    assert large.execution.weight_gather == "layer"
    assert "once a step would need" in why(large, "execution.weight_gather")
    assert job(optimization={"weight_gather": "layer"}).execution.weight_gather == "layer"


def test_what_would_lower_it():
    resolved = job(tpu=V5E, memory={"gradient_checkpointing": False}, optimization={"attention": "dense"})
    fixes = lowering(resolved)
    assert 'memory.remat_policy "full" with gradient_checkpointing true' in " ".join(fixes)
    assert 'optimization.attention "blockwise"' in " ".join(fixes)
    saved = [float(found) for fix in fixes for found in re.findall(r"saves ([0-9.]+) GiB", fix)]
    assert saved == sorted(saved, reverse=True)
    (halved,) = (fix for fix in fixes if fix.startswith("training.batch_size 4 with grad_accum_steps 8 saves "))
    smaller = job(
        tpu=V5E,
        memory={"gradient_checkpointing": False},
        optimization={"attention": "dense", "weight_gather": resolved.execution.weight_gather},
        training={"batch_size": 4, "grad_accum_steps": 8},
    )
    less = estimate(Work.of(resolved)).total - estimate(Work.of(smaller)).total
    assert halved.endswith(f"saves {less / GIB:.1f} GiB")


@settings(max_examples=100)
@given(configs(), sites())
def test_something_always_lowers_it(config: TrainingConfig, site: SiteDefaults):
    resolved = resolve(config, site)
    fixes = lowering(resolved)
    assert len(fixes) >= 3
    assert len(set(fixes)) == len(fixes)
    for fix in fixes:
        assert re.search(r" saves [0-9.e+-]+ [GM]iB$", fix), fix


def warning(**document: Any) -> str:
    found = [notice for notice in job(**document).warnings if notice.code == "memory-may-not-fit"]
    return f"{found[0].message} {found[0].fix}" if found else "fits"


def test_the_warning_says_how_much_and_what_to_do():
    assert warning(tpu=V5E) == "fits"
    off = {"gradient_checkpointing": False}
    assert warning(tpu={"accelerator": "v5p"}, memory=off) == "fits"
    assert "memory.remat_policy" in warning(tpu=V5E, memory=off)
    assert "optimization.shard_weights true" in warning(tpu=V5E, model=BILLIONS, optimization={"shard_weights": False})
    large = warning(tpu=V5E, model=BILLIONS)
    assert "a slice of twice the size (tpu.tpu_cores 16) saves" in large
    assert "a v5e device has 14.7 GiB to use" in large
    assert warning(tpu={"accelerator": "v5p", "tpu_topology": "4x4x4"}, model=BILLIONS) == "fits"


LLAMA_7B = {"family": "llama", "vocab_size": 32_000, "hidden_dim": 4096, "num_layers": 32, "num_heads": 32} | {
    "head_dim": 128,
    "mlp_dim": 11_008,
    "max_seq_len": 4096,
}


@pytest.mark.parametrize(
    ("tpu", "model", "training", "policy", "gather", "compiled"),
    [
        (V5E, {}, {"grad_accum_steps": 4}, "attention", "step", 4.77),
        (V5E, {}, {"grad_accum_steps": 4}, "attention", "layer", 3.47),
        (V5E, {}, {"grad_accum_steps": 1}, "dots", "step", 7.84),
        (V5E, {}, {"grad_accum_steps": 1}, "none", "step", 23.80),
        ({"accelerator": "v5e", "tpu_topology": "16x16"}, LLAMA_7B, {"batch_size": 4}, "full", "layer", 7.38),
        ({"accelerator": "v5p", "tpu_topology": "4x4x4"}, LLAMA_7B, {"batch_size": 4}, "attention", "step", 36.92),
    ],
)
def test_the_estimate_is_near_what_the_compiler_needs(
    tpu: dict[str, Any], model: dict[str, Any], training: dict[str, Any], policy: str, gather: str, compiled: float
):
    found = need(
        tpu={**tpu, "device_strategy": "fsdp"} if model else tpu,
        model=model,
        training={"grad_accum_steps": 1, **training},
        memory={"remat_policy": policy},
        optimization={"weight_gather": gather},
    )
    # The compiler shares buffers in ways that arithmetic does not see; over is safer than under.
    assert 0.93 * compiled <= found.total / GIB <= 1.2 * compiled
