"""How long the guide's base model's step takes to compile for CPU, and that depth does not matter."""

import statistics
import time

from trainer.mesh import make_mesh
from trainer.step import abstract_batch, abstract_state, make_train_step
from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import SiteDefaults

DEPTHS, ROUNDS = (6, 12, 24), 2


def main() -> None:
    """Prints the seconds of each depth, median of a few rounds by turns."""
    seconds: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    for _ in range(ROUNDS):
        for depth in DEPTHS:
            seconds[depth].append(_compile(depth))
    medians = {depth: statistics.median(times) for depth, times in seconds.items()}
    print("\nCompiling the base model's step for CPU (batch 8 x 2048, dropout 0.1, 4 micro-batches)")
    for depth, times in seconds.items():
        print(f"{depth:3} layers {medians[depth]:7.1f} s  [{min(times):.1f}, {max(times):.1f}]"
              f"  {medians[depth] / medians[DEPTHS[0]]:.2f}x", flush=True)  # fmt: skip


def _compile(depth: int) -> float:
    config = {
        "model": {"num_layers": depth},
        "tpu": {"accelerator": "v5e", "tpu_cores": 1, "tpu_topology": "1x1", "use_bfloat16": False},
        "optimization": {"mixed_precision": False, "use_fp8": False},
    }
    job = resolve(check_config(config), SiteDefaults(platform="cpu"))
    mesh = make_mesh(job)
    step = make_train_step(job, mesh)
    began = time.perf_counter()
    step.lower(abstract_state(job, mesh), abstract_batch(job, mesh)).compile()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
