"""Cycles of the kernels from the schedule that libtpu made for them, and from how often their loops run (`work`)."""

from trainer.attention.flash.work import Kernel, Work
from trainer.plan.bundles import Region, read_bundles


def kernel_cycles(bundles_text: str, kernel_name: Kernel, work: Work) -> int:
    """Cycles of one call on one core, which runs its share of the grid.

    Args:
        bundles_text: libtpu's final schedule of the kernel.
        kernel_name: which kernel it is.
        work: how often its loops run.

    Raises:
        ValueError: the schedule has not the two loops of unknown length that the kernels have.
    """
    kernel = read_bundles(bundles_text)
    unknown = [region for region in kernel.regions() if region.kind == "loop" and region.trips is None]
    if len(unknown) != 2:
        raise ValueError(f"the schedule of {kernel_name} has {len(unknown)} loops of unknown length, not 2")
    trips = dict(zip(map(id, unknown), work.trips, strict=True))

    def weight(region: Region) -> float:
        if region.kind == "branch":
            return 1 / work.steps if _makes_keys_ready(region, kernel) else 1
        return trips.get(id(region), 1 if region.trips is None else region.trips)

    return round(kernel.cycles(weight))


def _makes_keys_ready(branch: Region, kernel: Region) -> bool:
    """Is it a branch of the grid step that holds a loop of known length, and no other?"""
    step = max(kernel.inner, key=lambda region: region.bundles)
    loops = [region for region in branch.regions() if region.kind == "loop"]
    return branch in step.inner and len(loops) == 1 and loops[0].trips is not None
