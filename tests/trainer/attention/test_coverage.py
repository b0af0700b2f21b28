"""Resolution chooses the flash kernel only for what the kernel itself accepts."""

import itertools

import pytest

from trainer.attention.flash.tiles import supports
from trainer.attention.pattern import Pattern
from vishwamai.contract.accelerators import generations
from vishwamai.contract.resolution.attention import AttentionWork, obstacle
from vishwamai.contract.resolved import ComputeType

LENGTHS = (8, 128, 192, *range(256, 40_000, 256))


@pytest.mark.parametrize("generation", [generation.name for generation in generations()])
@pytest.mark.parametrize("compute", ["bfloat16", "float32"])
def test_what_resolution_gives_the_kernel_it_takes(generation: str, compute: ComputeType):
    chosen = set()
    for head_dim, group, length in itertools.product((16, 24, 32, 64, 96, 128, 192, 256), (1, 4, 8), LENGTHS):
        work = AttentionWork("tpu", generation, compute, head_dim, length, None, 0.0, 1)
        if obstacle("flash", work) is None:
            chosen.add(head_dim)
            pattern = Pattern(heads=8, kv_heads=8 // group, head_dim=head_dim, scale=1.0)
            assert supports(pattern, length, compute, generation) is None
    assert chosen == (set() if generation == "v3" else {16, 32, 64, 128, 256})
