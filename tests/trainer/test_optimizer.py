from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.optimizer import learning_rate, make_optimizer
from vishwamai.contract.config import OptimizerSection, TrainingSection

LONGEST = 120
GOLDEN = Path(__file__).parent / "goldens" / "optim.npz"


@st.composite
def trainings(draw):
    return TrainingSection(
        learning_rate=draw(st.floats(1e-6, 1.0)),
        warmup_steps=draw(st.integers(0, 80)),
        max_steps=draw(st.integers(1, LONGEST)),
        lr_schedule=draw(st.sampled_from(["linear", "cosine", "wsd", "constant"])),
        min_learning_rate_ratio=draw(st.floats(0.0, 1.0)),
        decay_fraction=draw(st.floats(0.01, 1.0)),
    )


def rates(training):
    # One shape for all lengths: each new one would compile anew.
    return np.asarray(learning_rate(training)(jnp.arange(LONGEST)))[: training.max_steps]


@given(trainings())
def test_rises_to_the_peak_then_never_rises_and_ends_where_it_should(training):
    rate, peak, warmup = rates(training), training.learning_rate, training.warmup_steps
    assert np.all(rate[:-1] > 0)
    assert np.all(rate <= peak * (1 + 1e-6))
    assert rate[0] == pytest.approx(peak / max(warmup, 1), rel=1e-6) or training.max_steps == 1
    if training.max_steps <= max(warmup, 1):
        np.testing.assert_allclose(rate, peak * (1 + np.arange(len(rate))) / max(warmup, 1), rtol=1e-6)
        return
    top = max(warmup - 1, 0)
    assert rate[top] == pytest.approx(peak, rel=1e-6)
    assert np.all(np.diff(rate[:top]) > 0)
    rounding = 2e-7 * peak
    assert np.all(np.diff(rate[top:]) <= rounding)
    final = peak if training.lr_schedule == "constant" else peak * training.min_learning_rate_ratio
    assert rate[-1] == pytest.approx(final, abs=rounding)


@pytest.mark.parametrize(("schedule", "middle"), [("linear", 0.55), ("cosine", 0.55), ("wsd", 1.0), ("constant", 1.0)])
def test_each_schedule_half_way_down(schedule, middle):
    training = TrainingSection(learning_rate=1.0, warmup_steps=0, max_steps=101, lr_schedule=schedule)
    assert learning_rate(training)(50) == pytest.approx(middle, rel=1e-6)


def test_wsd_decays_over_its_share_of_the_steps():
    rate = rates(
        TrainingSection(
            learning_rate=1.0, warmup_steps=10, max_steps=100, lr_schedule="wsd", decay_fraction=0.2,
            min_learning_rate_ratio=0.0,
        )
    )  # fmt: skip
    np.testing.assert_array_equal(rate[9:80], 1.0)
    np.testing.assert_allclose(rate[79:], np.linspace(1.0, 0.0, 21), atol=1e-6)


def test_billions_of_steps_do_not_round_the_end_away():
    training = TrainingSection(learning_rate=1.0, max_steps=1_000_000_000, min_learning_rate_ratio=0.25)
    assert learning_rate(training)(999_999_999) == 0.25


def golden_training(golden):
    return TrainingSection(
        learning_rate=float(golden["lr"]),
        warmup_steps=0,
        max_steps=int(golden["steps"]),
        lr_schedule="constant",
        weight_decay=float(golden["weight_decay"]),
        max_grad_norm=float(golden["max_grad_norm"]),
        optimizer=OptimizerSection(
            beta1=float(golden["beta1"]), beta2=float(golden["beta2"]), epsilon=float(golden["eps"])
        ),
    )


def test_follows_torch_adamw_with_clipping():
    golden = np.load(GOLDEN)
    names = ("w1", "b1", "w2", "b2")
    params = {name: jnp.asarray(golden[f"init_{name}"]) for name in names}
    optimizer = make_optimizer(golden_training(golden), decayed=None)
    state = optimizer.init(params)

    def loss(p, x, y):
        return jnp.mean((jnp.tanh(x @ p["w1"].T + p["b1"]) @ p["w2"].T + p["b2"] - y) ** 2)

    norms = []
    for i in range(int(golden["steps"])):
        gradients = jax.grad(loss)(params, golden["x"][i], golden["y"][i])
        norms.append(optax.tree.norm(gradients))
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for name in names:
            # float32 against the float64 run; leaving biases out of the decay would show as 2e-5.
            np.testing.assert_allclose(params[name], golden[f"params_{name}_f64"][i], rtol=0, atol=1e-6)
    np.testing.assert_allclose(norms, golden["grad_norms_f64"], rtol=1e-5)
    assert min(norms) < 1.0 < max(norms), "the golden must have steps that clip and steps that do not"


def test_decay_shrinks_what_is_marked_and_nothing_else():
    training = TrainingSection(
        learning_rate=0.1, warmup_steps=0, max_steps=10, lr_schedule="constant", weight_decay=0.5
    )
    params = {"matrix": jnp.ones((2, 2)), "norm": jnp.ones(2)}
    optimizer = make_optimizer(training, {"matrix": True, "norm": False})
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["matrix"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(updates["norm"], 0.0)


@pytest.mark.parametrize(("max_grad_norm", "expected"), [(0.0, 4.0), (1.0, 1.0), (100.0, 4.0)])
def test_clips_only_what_is_longer_than_the_limit_and_zero_means_never(max_grad_norm, expected):
    training = TrainingSection(max_grad_norm=max_grad_norm, weight_decay=0.0, optimizer=OptimizerSection(beta1=0.0))
    optimizer = make_optimizer(training, decayed=None)
    params = {"w": jnp.zeros(4)}
    _, state = optimizer.update({"w": jnp.full(4, 2.0)}, optimizer.init(params), params)
    first_moment = optax.tree.get(state, "mu")
    np.testing.assert_allclose(optax.tree.norm(first_moment), expected, rtol=1e-6)
