import dataclasses

import jax
import jax.numpy as jnp
import pytest

from trainer.attention import flash, splash
from trainer.attention.pattern import Pattern
from trainer.attention.probe import probe

PATTERN = Pattern(2, 1, 64, 0.1)


def test_a_kernel_that_computes_attention_agrees():
    verdict = probe("flash", PATTERN, 256, jnp.float32, interpret=True)
    assert verdict.agrees, verdict.why
    assert "at most the 0.00098 allowed" in verdict.why
    assert 0 < verdict.seconds < 300


def test_in_bfloat16_rounding_is_no_disagreement():
    verdict = probe("splash", dataclasses.replace(PATTERN, window=100), 256, jnp.bfloat16, interpret=True)
    assert verdict.agrees, verdict.why


@jax.custom_vjp
def doubled_gradient(x):
    return x


doubled_gradient.defvjp(lambda x: (x, None), lambda _, d: (2 * d,))
WRONG = {
    "output": lambda attend, *inputs, **options: (
        attend(*inputs, **options) + 0.01 * jax.lax.stop_gradient(attend(*inputs, **options))
    ),
    "gradient of k": lambda attend, q, k, v, *rest, **options: attend(q, doubled_gradient(k), v, *rest, **options),
    "gradient of v": lambda attend, q, k, v, *rest, **options: attend(
        q, k, v.at[0, 0].set(jax.lax.stop_gradient(v[0, 0])), *rest, **options
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_kernel_that_is_wrong_somewhere_does_not_agree(wrong, monkeypatch):
    right = splash.splash_attention
    monkeypatch.setattr(
        splash, "splash_attention", lambda *arguments, **options: WRONG[wrong](right, *arguments, **options)
    )
    verdict = probe("splash", PATTERN, 256, jnp.float32, interpret=True)
    assert not verdict.agrees
    assert verdict.why.startswith(f"the {wrong} differs from plain XLA by")


def test_nan_does_not_agree(monkeypatch):
    monkeypatch.setattr(flash, "flash_attention", lambda q, *rest, **options: q * jnp.nan)
    verdict = probe("flash", PATTERN, 256, jnp.float32, interpret=True)
    assert not verdict.agrees
    assert "nan" in verdict.why


def test_a_kernel_that_does_not_compile_does_not_agree(monkeypatch):
    def refuse(*arguments, **options):
        raise NotImplementedError("Mosaic has no such layout\nand many lines more")

    monkeypatch.setattr(flash, "flash_attention", refuse)
    verdict = probe("flash", PATTERN, 256, jnp.float32, interpret=True)
    assert not verdict.agrees
    assert verdict.why == "flash attention does not run here: NotImplementedError: Mosaic has no such layout"
