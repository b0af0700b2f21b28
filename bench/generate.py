"""Generation in tokens a second at batch 1 and 16, reading prompts and drawing tokens apart, on a small llama.

Against the window computed anew for each token, which is what a generator without a cache does, and against
transformers' own cache: `python -m bench.generate --torch PYTHON` names a Python that has torch and transformers, else
this one is looked at. Peers take turns, and must write the same ids. Greedy, float32, random weights.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trainer.forward import make_hidden_states
from trainer.generate.generator import Generator, Limits
from trainer.huggingface.export import export_checkpoint
from trainer.huggingface.plain import plain_job
from trainer.mesh import make_mesh
from trainer.model import Params, init_params
from vishwamai.contract.config import ModelSection
from vishwamai.contract.generation import CacheFormat, Sampling

PROMPT, NEW, ROUNDS, ANEW = 256, 64, 3, 2
MODEL = ModelSection(
    family="llama",
    vocab_size=8192,
    hidden_dim=256,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=64,
    mlp_dim=1024,
    max_seq_len=PROMPT + NEW,
    activation="swiglu",
    tie_embeddings=True,
    dropout_rate=0.0,
)
Timed = tuple[float, float, list[list[int]] | None]
"""Seconds to read the prompts; seconds a token of each row; and the ids, of whoever writes them all."""


def main(python: str | None) -> None:
    """Prints a table for each batch."""
    params = init_params(MODEL, jax.random.key(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        export_checkpoint(jax.device_get(params), MODEL, folder, dtype="float32", max_shard_bytes=10**9)
        torch = Torch(python, folder) if python else None
        for batch in (1, 16):
            prompts = np.random.default_rng(batch).integers(0, MODEL.vocab_size, (batch, PROMPT)).tolist()
            peers: dict[str, Callable[[], Timed]] = {
                "window anew": _anew(params, prompts),
                **{f"ours, {kept}": _ours(params, prompts, kept) for kept in ("float32", "bf16", "fp8")},
            }
            if torch is not None:
                peers["transformers"] = lambda prompts=prompts: torch.generate(prompts)  # type: ignore[misc]
            _table(batch, _turns(peers), torch.versions if torch else "torch is not here: no line for transformers")
        if torch is not None:
            torch.close()


class Torch:
    """transformers in a process of its own."""

    def __init__(self, python: str, folder: Path) -> None:
        script = Path(__file__).parent / "peers" / "transformers_cache.py"
        # -P: beside the script is one called transformers.py.
        command = [python, "-P", str(script), str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        facts = self._read()
        self.versions = f"{facts['versions']}, {facts['threads']} threads"

    def generate(self, prompts: list[list[int]]) -> Timed:
        """One turn."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "new": NEW}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return answer["prefill"], answer["decode"] / (NEW - 1), answer["ids"]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the torch process ended with exit code {self._process.wait()}")
        return json.loads(line)


def _ours(params: Params, prompts: list[list[int]], kept: CacheFormat) -> Callable[[], Timed]:
    """One token's generation is a prefill and a step; what more tokens take is theirs."""
    job = plain_job(MODEL)
    generator, limits = Generator(job, make_mesh(job), kept), Limits(PROMPT + NEW, ())

    def seconds(new: int) -> tuple[float, list[list[int]]]:
        began = time.perf_counter()
        found = generator.generate(params, prompts, Sampling(max_new_tokens=new, temperature=0.0), limits)
        return time.perf_counter() - began, [one.tokens for one in found]

    def turn() -> Timed:
        first, _ = seconds(1)
        whole, ids = seconds(NEW)
        step = (whole - first) / (NEW - 1)
        return first - step, step, ids

    return turn


def _anew(params: Params, prompts: list[list[int]]) -> Callable[[], Timed]:
    job = plain_job(MODEL)
    states = make_hidden_states(job, make_mesh(job))
    tokens = np.zeros((len(prompts), PROMPT + NEW), np.int32)
    tokens[:, :PROMPT] = prompts
    ones = np.ones_like(tokens)

    def turn() -> Timed:
        began = time.perf_counter()
        for _ in range(ANEW):
            jax.block_until_ready(jnp.argmax(states(params, tokens, ones)[1][:, PROMPT], -1))
        token = (time.perf_counter() - began) / ANEW
        return token, token, None

    return turn


def _turns(peers: dict[str, Callable[[], Timed]]) -> dict[str, tuple[float, float]]:
    """Medians of each peer's seconds over the rounds, after one to warm up; their ids must agree."""
    times: dict[str, list[Timed]] = {name: [] for name in peers}
    for turn in range(ROUNDS + 1):
        for name, peer in peers.items():
            timed = peer()
            if turn:
                times[name].append(timed)
    ids = {name: found[0][2] for name, found in times.items() if found[0][2] is not None}
    for name in ids:
        same = np.mean(np.array(ids[name]) == np.array(ids["ours, float32"]))
        print(f"{name:16} {100 * same:6.2f}% of ids as with the float32 cache")
    return {
        name: (statistics.median(one[0] for one in found), statistics.median(one[1] for one in found))
        for name, found in times.items()
    }


def _table(batch: int, times: dict[str, tuple[float, float]], versions: str) -> None:
    print(f"\nbatch {batch}: {PROMPT} tokens read, {NEW} written a row; {ROUNDS} rounds; {versions}")
    print(f"{'':16}{'read tok/s':>12}{'x':>7}{'write tok/s':>13}{'x':>7}{'ms a step':>11}")
    read, step = times["window anew"]
    for name, (prefill, token) in times.items():
        print(f"{name:16}{batch * PROMPT / prefill:12.0f}{read / prefill:7.2f}{batch / token:13.1f}{step / token:7.2f}"
              f"{1e3 * token:11.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has torch and transformers")
    here = sys.executable if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers") else None
    main(parser.parse_args().torch or here)
