"""A run that is killed twenty times, in every way and at every moment, computes what an undisturbed one does."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.trainer.run.lives import losses, small_job

KILLS = 20
STEPS = 48
# While what, and by which event that is known: kind, phase, and how many of them may come before.
MOMENTS = {
    "starting": ("phase", "starting", 1),
    "restoring": ("phase", "restoring", 1),
    "compiling": ("phase", "compiling", 1),
    "evaluating": ("phase", "evaluating", 2),
    "saving": ("phase", "saving", 2),
    "committed": ("checkpoint", None, 2),
    "anywhere": ("step", None, 5),
}


def kill_of(rng, moment):
    """A life's order to die."""
    kind, phase, most = MOMENTS[moment]
    number = rng.choice(["SIGKILL", "SIGTERM"])
    delay = rng.uniform(0.0, 0.6) if moment in {"starting", "restoring", "compiling"} else rng.uniform(0.0, 0.03)
    return {"signal": number, "kind": kind, "phase": phase, "count": rng.randint(1, most), "delay": delay}


@pytest.fixture
def server(tmp_path):
    """Lives a life as ordered; its exit status."""
    environ = dict(os.environ)
    environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=2"
    command = [sys.executable, "-m", "tests.trainer.main.many_lives"]
    log = (tmp_path / "lives.log").open("w")
    process = subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def live(job, output, **order):
        stdin.write(json.dumps({"job": str(job), "output": str(output)} | order) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, (tmp_path / "lives.log").read_text()[-3000:]
        return int(line)

    yield live
    stdin.close()
    process.wait(60)
    stdout.close()
    log.close()


def test_twenty_kills_change_no_bit_and_another_mesh_only_the_last_digits(server, tmp_path):
    sections: dict[str, Any] = {
        "training": {"max_steps": STEPS, "lr_schedule": "cosine"},
        "logging": {"eval_every": 3, "save_every": 4},
        "checkpoint": {"keep_last": 100},
    }
    job = small_job(tmp_path, **sections)
    wide = job.model_copy(update={"mesh": job.mesh.model_copy(update={"data": 2})})
    for name, one in (("job", job), ("wide", wide)):
        (tmp_path / f"{name}.json").write_text(one.model_dump_json())
    whole, killed, moved = (tmp_path / name for name in ("whole", "killed", "moved"))
    assert server(tmp_path / "job.json", whole) == 0

    rng = random.Random(6)
    moments = [name for name in MOMENTS for _ in range(3)][:KILLS]
    rng.shuffle(moments)
    statuses: Counter[int] = Counter()
    for moment in moments:
        statuses[server(tmp_path / "job.json", killed, **kill_of(rng, moment))] += 1
    assert statuses.keys() == {-9, 73}, "each life was ended by its signal, and by nothing else"
    assert sum(statuses.values()) == KILLS
    shutil.copytree(killed, moved)
    assert server(tmp_path / "job.json", killed) == 0
    assert losses(killed) == losses(whole)
    assert len(losses(whole)) == STEPS + STEPS // 3

    # Twice the devices: the same sums in another order, over the steps that are left.
    before = len(losses(moved))
    assert server(tmp_path / "wide.json", moved) == 0
    assert 10 < before < len(losses(whole)) - 5
    assert [row[:2] for row in losses(moved)] == [row[:2] for row in losses(whole)]
    found, wanted = ([loss for _, _, loss in losses(folder)] for folder in (moved, whole))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
