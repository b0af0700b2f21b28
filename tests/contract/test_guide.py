"""Every JSON text of the configuration guide is accepted as it stands, alone and merged."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.load import check_config, parse_json
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Mesh

GUIDE = (Path(__file__).parent / "data" / "CONFIGURATION-GUIDE.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)


def merged() -> dict[str, Any]:
    document: dict[str, Any] = {}
    for block in BLOCKS:
        for section, fields in parse_json(block).items():
            document.setdefault(section, {}).update(fields)
    return document


def test_the_guide_has_its_ten_blocks():
    assert len(BLOCKS) == 10
    assert len(merged()) == 8


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: "+".join(json.loads(block)))
def test_each_block_is_accepted_alone(block: str):
    config = check_config(parse_json(block))
    assert json.loads(config.model_dump_json(exclude_unset=True)) == json.loads(block)
    resolve(config)


def test_the_blocks_are_accepted_merged():
    config = check_config(merged())
    assert json.loads(config.model_dump_json(exclude_unset=True)) == merged()


def test_the_guides_values_are_the_defaults():
    defaults = TrainingConfig().model_dump()
    # Two sections are off unless given: a mesh of one's own, and a teacher.
    off = {("tpu", "mesh_shape"), ("distillation", None)}
    for section, fields in merged().items():
        if (section, None) in off:
            assert defaults[section] is None
            continue
        for name, value in fields.items():
            if (section, name) not in off:
                assert defaults[section][name] == value, f"{section}.{name}"


def test_the_merged_guide_is_two_hosts_of_v5p():
    job = resolve(check_config(merged()))

    assert (job.hardware.accelerator, job.hardware.topology) == ("v5p", "2x2x2")
    assert job.hardware.machine_type == "ct5p-hightpu-4t"
    assert (job.hardware.hosts, job.hardware.devices) == (2, 8)
    assert job.mesh == Mesh(data=8)
    decisions = {decision.setting: decision for decision in job.decisions}
    assert decisions["tpu.tpu_cores"].why.startswith("read as JAX devices")
    assert "v4 would do as well" in decisions["tpu.accelerator"].why
    assert decisions["optimization.use_fp8"].effective is False
    assert decisions["optimization.low_precision"].effective == "none"
    assert [notice.code for notice in job.blockers] == ["unknown-teacher"]
