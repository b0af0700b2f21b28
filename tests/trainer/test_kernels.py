"""The kernel that a job resolved to gives way when it does not agree with plain XLA on the device."""

import pytest

from tests.trainer.jobs import tiny_job
from trainer import kernels
from trainer.attention.probe import Verdict
from trainer.kernels import with_checked_kernel

MODEL = {"sliding_window": 8, "layer_pattern": ["sliding", "full"]}


def job(kind):
    return tiny_job(model=MODEL, mesh={"model": 2}, execution={"attention": kind})


@pytest.fixture
def asked(monkeypatch):
    """What the check was asked; `asked.wrong` names the kernels that disagree, on sliding layers."""

    class Asked(list):
        wrong = set()

    asked = Asked()

    def probe(kind, pattern, seq, dtype):
        asked.append((kind, pattern.window, pattern.heads, seq, dtype.name))
        agrees = kind not in asked.wrong or pattern.window is None
        return Verdict(agrees, "fine" if agrees else "the output differs", 0.5)

    monkeypatch.setattr(kernels, "probe", probe)
    return asked


@pytest.mark.parametrize("kind", ["dense", "blockwise", "cudnn"])
def test_what_is_no_tpu_kernel_is_not_checked(kind, asked):
    checked, found = with_checked_kernel(job(kind))
    assert checked == job(kind)
    assert (found, asked) == ({}, [])


def test_a_kernel_that_agrees_on_every_kind_of_layer_stays(asked):
    checked, found = with_checked_kernel(job("flash"))
    assert checked.execution.attention == "flash"
    assert asked == [("flash", None, 2, 32, "float32"), ("flash", 8, 2, 32, "float32")]
    assert found["flash on full layers"] == {"agrees": True, "why": "fine", "seconds": 0.5}


@pytest.mark.parametrize(("wrong", "runs"), [({"flash"}, "splash"), ({"flash", "splash"}, "blockwise")])
def test_a_kernel_that_disagrees_gives_way_with_a_warning(wrong, runs, asked, caplog):
    asked.wrong = wrong
    checked, found = with_checked_kernel(job("flash"))
    assert checked.execution.attention == runs
    assert not found["flash on sliding layers"]["agrees"]
    assert f"{runs} runs instead" in caplog.text
    assert "the output differs" in caplog.text
