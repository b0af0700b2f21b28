"""What one JAX device of a slice does in a cycle."""

from dataclasses import dataclass

from trainer.plan.collectives import ring_sides
from vishwamai.contract.accelerators import Slice, find_generation

_LIKE = "v6e"
"""Whose links stand in for those of a generation that publishes no rate."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of one device, per cycle of its nominal clock."""

    clock_hz: float
    matmul_flops_per_cycle: float
    """What a large bfloat16 product reaches by the compiler's own estimate."""
    peak_flops_per_cycle: float
    hbm_bytes_per_cycle: float
    link_bytes_per_cycle: float
    """One torus axis, both directions."""
    rings: tuple[int, ...]
    """Sides of the slice that are closed, the longest first."""
    mxu_side: int
    """Rows and columns of a matrix unit."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, chosen: Slice) -> "Rates":
        """The rates of a slice's devices."""
        generation = chosen.generation
        clock, devices = generation.clock_hz, generation.devices_per_chip
        link = generation.ici_bytes_per_second_per_link
        notes: tuple[str, ...] = ()
        if link is None:
            link = find_generation(_LIKE).ici_bytes_per_second_per_link
            notes = (f"the rate of {generation.name}'s links is not published: {_LIKE}'s stands in for it",)
        assert link is not None
        return cls(
            clock_hz=clock,
            matmul_flops_per_cycle=generation.matmul_flops_per_cycle,
            peak_flops_per_cycle=generation.peak_bf16_flops / devices / clock,
            hbm_bytes_per_cycle=generation.hbm_bytes_per_second / devices / clock,
            link_bytes_per_cycle=2 * link / clock,
            rings=ring_sides(chosen),
            mxu_side=generation.mxu_side,
            notes=notes,
        )
