import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.plane import ControlPlane

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "then", "it", "sleeps"]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane") / "runs") as plane:
        yield plane


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of a few dozen kilobytes, with little to learn."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("\n\n".join(" ".join(rng.choices(WORDS, k=60)) for _ in range(200)))
    return path


@pytest.fixture
def config(text: Path) -> Callable[..., dict[str, Any]]:
    """A config whose steps take milliseconds; sections are laid over it field by field."""
    base: dict[str, dict[str, Any]] = {
        "model": {
            "vocab_size": 258,
            "hidden_dim": 32,
            "num_layers": 1,
            "num_heads": 2,
            "head_dim": 16,
            "mlp_dim": 64,
            "max_seq_len": 32,
            "dropout_rate": 0.0,
        },
        "training": {"batch_size": 4, "grad_accum_steps": 1, "warmup_steps": 5, "learning_rate": 3e-3},
        "tpu": {"accelerator": "v5e", "tpu_cores": 1, "tpu_topology": "1x1"},
        "memory": {"gradient_checkpointing": False},
        "optimization": {"use_fp8": False},
        "logging": {"log_every": 5, "eval_every": 0, "save_every": 25, "profile_every": 0},
        "data": {"train": [str(text)], "eval_fraction": 0.05, "eval_batches": 2},
        "sequence": {"max_length": 32},
    }

    def make(**sections: dict[str, Any]) -> dict[str, Any]:
        return {name: base.get(name, {}) | sections.get(name, {}) for name in base | sections}

    return make
