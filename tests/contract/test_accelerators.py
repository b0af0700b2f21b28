"""The catalogue's facts, and the rules by which slices are made."""

import pytest

from vishwamai.contract.accelerators import (
    Generation,
    accelerator_list,
    find_generation,
    generations,
    slice_for,
    slices,
)
from vishwamai.contract.problems import InvalidConfig


def test_the_generations():
    assert {generation.name for generation in generations()} == {"v3", "v4", "v5e", "v5p", "v6e", "tpu7x"}


@pytest.mark.parametrize(
    ("name", "tensor_cores", "devices", "hbm_per_device", "bf16", "fp8", "dimensions"),
    [
        ("v3", 2, 2, 17.2e9, 1.23e14, None, 2),
        ("v4", 2, 1, 34.4e9, 2.75e14, None, 3),
        ("v5e", 1, 1, 17.2e9, 1.97e14, None, 2),
        ("v5p", 2, 1, 103e9, 4.59e14, 4.59e14, 3),
        ("v6e", 1, 1, 34.4e9, 9.18e14, 9.18e14, 2),
        ("tpu7x", 2, 2, 103e9, 2.307e15, 4.614e15, 3),
    ],
)
def test_a_chip(
    name: str, tensor_cores: int, devices: int, hbm_per_device: float, bf16: float, fp8: float | None, dimensions: int
):
    generation = find_generation(name)
    assert generation.tensor_cores_per_chip == tensor_cores
    assert generation.devices_per_chip == devices
    assert generation.hbm_bytes_per_device == hbm_per_device
    assert generation.peak_bf16_flops == bf16
    assert generation.peak_fp8_flops == fp8
    assert generation.dimensions == dimensions


@pytest.mark.parametrize("generation", generations(), ids=lambda generation: generation.name)
def test_the_compilers_figures_agree_with_the_published_ones(generation: Generation):
    peak = generation.peak_bf16_flops / generation.devices_per_chip / generation.clock_hz
    # A product never beats the units, and a large one keeps them busy for more than four fifths of the time.
    assert 0.8 < generation.matmul_flops_per_cycle / peak < 1.0
    # A whole number of matrix units, to the digits of the published rate.
    units = peak / (2 * generation.mxu_side**2)
    assert units == pytest.approx(round(units), rel=0.005)
    # The runtime keeps less than a tenth of the memory.
    assert 0.9 < generation.compiler_hbm_bytes / generation.hbm_bytes_per_device < 1.0


@pytest.mark.parametrize(
    ("accelerator", "topology", "machine", "label", "hosts", "devices"),
    [
        ("v3", "2x2", "ct3-hightpu-4t", "tpu-v3-device", 1, 8),
        ("v3", "4x4", "ct3p-hightpu-4t", "tpu-v3-slice", 4, 32),
        ("v4", "2x2x1", "ct4p-hightpu-4t", "tpu-v4-podslice", 1, 4),
        ("v4", "16x16x16", "ct4p-hightpu-4t", "tpu-v4-podslice", 1024, 4096),
        ("v5e", "1x1", "ct5lp-hightpu-1t", "tpu-v5-lite-podslice", 1, 1),
        ("v5e", "2x2", "ct5lp-hightpu-4t", "tpu-v5-lite-podslice", 1, 4),
        ("v5e", "2x4", "ct5lp-hightpu-8t", "tpu-v5-lite-podslice", 1, 8),
        ("v5e", "16x16", "ct5lp-hightpu-4t", "tpu-v5-lite-podslice", 64, 256),
        ("tpu-v5-lite-device", "2x4", "ct5l-hightpu-8t", "tpu-v5-lite-device", 1, 8),
        ("v5litepod", "4x4", "ct5lp-hightpu-4t", "tpu-v5-lite-podslice", 4, 16),
        ("tpu-v5p-slice", "2x2x2", "ct5p-hightpu-4t", "tpu-v5p-slice", 2, 8),
        ("V5P", "2x4x4", "ct5p-hightpu-4t", "tpu-v5p-slice", 8, 32),
        ("v5p", "4x2x2", "ct5p-hightpu-4t", "tpu-v5p-slice", 4, 16),
        ("v5p", "16x16x24", "ct5p-hightpu-4t", "tpu-v5p-slice", 1536, 6144),
        ("v6e", "2x4", "ct6e-standard-8t", "tpu-v6e-slice", 1, 8),
        ("v6e", "4x8", "ct6e-standard-4t", "tpu-v6e-slice", 8, 32),
        ("tpu7x", "1x1x1", "tpu7x-standard-1t", "tpu7x", 1, 2),
        ("tpu7x", "2x2x2", "tpu7x-standard-4t", "tpu7x", 2, 16),
        ("ironwood", "16x16x36", "tpu7x-standard-4t", "tpu7x", 2304, 18432),
    ],
)
def test_a_slice(accelerator: str, topology: str, machine: str, label: str, hosts: int, devices: int):
    found = slice_for(accelerator, topology)
    assert (found.machine.machine_type, found.machine.label) == (machine, label)
    assert (found.hosts, found.devices) == (hosts, devices)


def test_two_by_four_on_several_hosts():
    assert slice_for("v5e", "2x4", multi_host=True).machine.machine_type == "ct5lp-hightpu-4t"
    assert slice_for("v5e", "2x4", multi_host=True).hosts == 2


def test_every_slice_fills_its_machines():
    for found in slices():
        assert found.hosts * found.machine.chips == found.chips
        assert (found.hosts > 1) == (found.topology in found.machine.multi_host)
        dimensions = [int(side) for side in found.topology.split("x")]
        assert len(dimensions) == found.generation.dimensions
        if len(dimensions) == 3 and found.chips > 64:
            assert dimensions == sorted(dimensions)
            assert all(side % 4 == 0 for side in dimensions)


@pytest.mark.parametrize(
    ("accelerator", "topology"),
    [("v5e", "2x2x2"), ("v5p", "2x2x3"), ("v5p", "16x16x28"), ("v4", "16x16x20"), ("v6e", "32x32")],
)
def test_no_such_topology(accelerator: str, topology: str):
    with pytest.raises(InvalidConfig) as caught:
        slice_for(accelerator, topology)
    (problem,) = caught.value.problems
    assert problem.pointer == "/tpu/tpu_topology"
    for accepted in str(problem.accepted).split(", "):
        slice_for(accelerator, accepted)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("v5", "did you mean v5"),
        ("tpu-v5p-slices", "did you mean tpu-v5p-slice?"),
        ("v3-8", '"v3" and "tpu_topology": "2x2"'),
        ("v5p-16", '"v5p" and "tpu_topology": "2x2x2"'),
        ("v5litepod-16", '"v5e" and "tpu_topology": "4x4"'),
        ("v5p-7", 'write "accelerator": "v5p"'),
        ("H100", ""),
    ],
)
def test_no_such_accelerator(name: str, hint: str):
    with pytest.raises(InvalidConfig) as caught:
        find_generation(name)
    (problem,) = caught.value.problems
    assert hint in (problem.hint or "")
    assert str(problem.accepted).startswith("v5p, v5e, v6e, v4, tpu7x, v3")
    assert "tpu-v5-lite-podslice" in str(problem.accepted)


def test_the_api_list_carries_the_catalogue():
    listed = accelerator_list().accelerators
    assert [facts.name for facts in listed] == [generation.name for generation in generations()]
    (v5e,) = (facts for facts in listed if facts.name == "v5e")
    four = next(machine for machine in v5e.machines if machine.machine_type == "ct5lp-hightpu-4t")
    assert (four.chips, four.vcpus, four.memory_gb) == (4, 112, 192)
    assert four.single_host_topologies == ["2x2"]
    assert four.multi_host_topologies == ["2x4", "4x4", "4x8", "8x8", "8x16", "16x16"]
    (v5p,) = (facts for facts in listed if facts.name == "v5p")
    assert v5p.machines[0].multi_host_topologies[:6] == ["2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x4x12"]
