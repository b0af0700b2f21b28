"""From what is asked of the hardware to one slice and one mesh."""

import math
from typing import Any

import pytest

from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig, Problem
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Decision, Mesh, ResolvedJob, SiteDefaults


def job(tpu: dict[str, Any], model: dict[str, Any] | None = None, site: SiteDefaults | None = None) -> ResolvedJob:
    return resolve(check_config({"tpu": tpu, "model": model or {}}), site)


def decision(resolved: ResolvedJob, setting: str) -> Decision:
    (found,) = (entry for entry in resolved.decisions if entry.setting == setting)
    return found


def refused(tpu: dict[str, Any]) -> Problem:
    with pytest.raises(InvalidConfig) as caught:
        check_config({"tpu": tpu})
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("tpu", "accelerator", "topology", "devices"),
    [
        ({}, "v5p", "2x2x2", 8),
        ({"tpu_cores": 8, "device_strategy": "data_parallel"}, "v5p", "2x2x2", 8),
        ({"accelerator": "v3"}, "v3", "2x2", 8),
        ({"accelerator": "v3", "tpu_cores": 8}, "v3", "2x2", 8),
        ({"accelerator": "v5e"}, "v5e", "2x4", 8),
        ({"accelerator": "v6e", "tpu_cores": 16}, "v6e", "4x4", 16),
        ({"accelerator": "tpu7x"}, "tpu7x", "2x2x1", 8),
        ({"accelerator": "tpu7x", "tpu_cores": 16}, "tpu7x", "2x2x2", 16),
        ({"tpu_cores": 1}, "v5e", "1x1", 1),
        ({"tpu_cores": 2}, "tpu7x", "1x1x1", 2),
        ({"tpu_cores": 4}, "v5p", "2x2x1", 4),
        ({"tpu_cores": 64}, "v5p", "4x4x4", 64),
        ({"tpu_topology": "2x2"}, "v5e", "2x2", 4),
        ({"tpu_topology": "2x2", "tpu_cores": 8}, "v3", "2x2", 8),
        ({"tpu_topology": "4x4x8"}, "v5p", "4x4x8", 128),
        ({"accelerator": "v4", "tpu_topology": "2x2"}, "v4", "2x2x1", 4),
        ({"accelerator": "v5p", "tpu_topology": "4x2x2"}, "v5p", "2x2x4", 16),
        ({"mesh_shape": {"data": 4}}, "v5p", "2x2x1", 4),
        ({"mesh_shape": {"data": 1}}, "v5e", "1x1", 1),
        ({"mesh_shape": {"data": 8, "model": 4}}, "v5p", "2x4x4", 32),
        # 16 cores of 2x2x2 are TensorCores on v5p (as in v5p-16); only tpu7x has 16 devices there.
        ({"tpu_topology": "2x2x2", "tpu_cores": 16}, "v5p", "2x2x2", 8),
        ({"tpu_topology": "2x2x2", "tpu_cores": 16, "mesh_shape": {"data": 16}}, "tpu7x", "2x2x2", 16),
        (
            {"tpu_topology": "2x2x2", "tpu_cores": 8, "accelerator": "tpu7x", "mesh_shape": {"data": 16}},
            "tpu7x",
            "2x2x2",
            16,
        ),
    ],
)
def test_the_slice(tpu: dict[str, Any], accelerator: str, topology: str, devices: int):
    resolved = job(tpu)
    assert resolved.hardware.accelerator == accelerator
    assert resolved.hardware.topology == topology
    assert resolved.hardware.devices == devices
    assert resolved.effective.tpu.tpu_topology == topology


@pytest.mark.parametrize(
    ("tpu", "words"),
    [
        ({"tpu_cores": 8}, "read as JAX devices"),
        ({"accelerator": "v5p", "tpu_topology": "2x2x2", "tpu_cores": 16}, "read as TensorCores"),
        ({"accelerator": "tpu7x", "tpu_topology": "2x2x2", "tpu_cores": 8}, "read as chips"),
        ({"accelerator": "v5p", "tpu_topology": "2x2x2", "tpu_cores": 8, "num_slices": 2}, "JAX devices of one slice"),
        ({"accelerator": "v5p", "tpu_topology": "2x2x2", "tpu_cores": 16, "num_slices": 2}, "read as JAX devices:"),
    ],
)
def test_how_cores_were_read(tpu: dict[str, Any], words: str):
    assert words in decision(job(tpu), "tpu.tpu_cores").why


def test_two_by_four_is_one_host_and_says_so():
    resolved = job({"accelerator": "v5e", "tpu_topology": "2x4"})
    assert (resolved.hardware.machine_type, resolved.hardware.hosts) == ("ct5lp-hightpu-8t", 1)
    assert "not 2 x ct5lp-hightpu-4t" in decision(resolved, "hardware.machine_type").why


def test_joined_slices_are_multi_host_and_data_spans_them():
    resolved = job({"accelerator": "v5e", "tpu_topology": "2x4", "num_slices": 2, "device_strategy": "fsdp"})
    assert (resolved.hardware.machine_type, resolved.hardware.hosts) == ("ct5lp-hightpu-4t", 4)
    assert resolved.mesh == Mesh(data=2, fsdp=8)
    assert resolved.execution.weight_axes == ["fsdp"]


def test_a_label_that_means_other_machines_stays():
    device = job({"accelerator": "tpu-v5-lite-device"})
    assert device.effective.tpu.accelerator == "tpu-v5-lite-device"
    assert device.hardware.accelerator_label == "tpu-v5-lite-device"
    assert job({"accelerator": "tpu-v5-lite-podslice"}).effective.tpu.accelerator == "v5e"


def test_the_site_prefers_where_several_fit():
    site = SiteDefaults(accelerator="v6e")
    assert job({"tpu_cores": 8}, site=site).hardware.accelerator == "v6e"
    assert job({"tpu_topology": "2x2x2"}, site=site).hardware.accelerator == "v5p"
    assert job({"accelerator": "v5e"}, site=site).hardware.accelerator == "v5e"


@pytest.mark.parametrize(
    ("tpu", "model", "mesh"),
    [
        ({"device_strategy": "data_parallel"}, {}, Mesh(data=8)),
        ({"device_strategy": "fsdp"}, {}, Mesh(fsdp=8)),
        ({"device_strategy": "model_parallel"}, {"num_heads": 16}, Mesh(model=8)),
        ({"device_strategy": "model_parallel"}, {"num_heads": 12}, Mesh(data=2, model=4)),
        ({"device_strategy": "model_parallel"}, {"num_kv_heads": 2}, Mesh(data=4, model=2)),
        ({"device_strategy": "model_parallel"}, {"num_heads": 7}, Mesh(data=8)),
        ({"device_strategy": "sequence_parallel"}, {}, Mesh(sequence=8)),
        ({"device_strategy": "sequence_parallel"}, {"max_seq_len": 100}, Mesh(data=2, sequence=4)),
        ({"tpu_cores": 8, "mesh_shape": {"model": 4}}, {}, Mesh(data=2, model=4)),
        ({"tpu_cores": 8, "mesh_shape": {"model": 4}, "device_strategy": "fsdp"}, {}, Mesh(fsdp=2, model=4)),
        ({"tpu_cores": 8, "mesh_shape": {"model": 4}, "device_strategy": "model_parallel"}, {}, Mesh(data=2, model=4)),
        ({"tpu_cores": 8, "mesh_shape": {"data": 1}, "device_strategy": "model_parallel"}, {}, Mesh(fsdp=2, model=4)),
        ({"tpu_cores": 8, "mesh_shape": {}}, {}, Mesh(data=8)),
    ],
)
def test_the_mesh(tpu: dict[str, Any], model: dict[str, Any], mesh: Mesh):
    resolved = job(tpu, model)
    assert resolved.mesh == mesh
    assert decision(resolved, "tpu.mesh_shape").effective == mesh.model_dump()


def test_a_mesh_that_does_not_fit_names_both_numbers_and_what_would():
    problem = refused(
        {"tpu_cores": 8, "tpu_topology": "2x2x2", "accelerator": "tpu7x", "mesh_shape": {"data": 8, "model": 1}}
    )
    assert problem.pointer == "/tpu/mesh_shape"
    assert "data 8 x model 1 = 8" in problem.message
    assert "16 devices" in problem.message
    assert str(problem.accepted).startswith("data 16; data 8 x model 2 = 16")


@pytest.mark.parametrize("mesh", [{"data": 4}, {"data": 16}, {"data": 8, "model": 2}])
def test_the_guides_slice_has_eight_devices(mesh: dict[str, int]):
    problem = refused({"tpu_cores": 8, "tpu_topology": "2x2x2", "mesh_shape": mesh})
    assert problem.pointer == "/tpu/mesh_shape"
    assert "8 devices (2x2x2 on v5p" in problem.message


@pytest.mark.parametrize(
    ("tpu", "first"),
    [
        ({"accelerator": "tpu7x", "tpu_topology": "2x2x2", "mesh_shape": {"data": 8}}, "data 16"),
        ({"accelerator": "v5e", "tpu_topology": "2x4", "mesh_shape": {"data": 3, "model": 3}}, "data 2 x model 4 = 8"),
        (
            {"accelerator": "v5e", "tpu_topology": "4x4", "num_slices": 2, "mesh_shape": {"data": 1, "fsdp": 32}},
            "data 2 x fsdp 16 = 32",
        ),
        ({"tpu_cores": 8, "mesh_shape": {"data": 3, "model": 1}}, "data 8"),
        ({"mesh_shape": {"data": 3}}, "data 2"),
    ],
)
def test_what_would_fit_does_fit(tpu: dict[str, Any], first: str):
    meshes = str(refused(tpu).accepted).split("; ")
    assert meshes[0] == first
    for text in meshes:
        words = text.split(" = ")[0].split()
        mesh = {name: int(size) for name, size in zip(words[::3], words[1::3], strict=True)}
        assert job({**tpu, "mesh_shape": mesh}).mesh.devices % math.prod(mesh.values()) == 0


@pytest.mark.parametrize(
    ("tpu", "model", "words"),
    [
        ({"mesh_shape": {"data": 2}, "device_strategy": "fsdp"}, {}, "the rest to fsdp, as device_strategy fsdp says"),
        ({"mesh_shape": {"fsdp": 2}, "device_strategy": "fsdp"}, {}, "the rest to data, because mesh_shape gives fsdp"),
        (
            {"device_strategy": "model_parallel"},
            {},
            "to model, as device_strategy model_parallel says, as far as it divides the heads and MLP, then to data",
        ),
        (
            {"mesh_shape": {"data": 1}, "device_strategy": "model_parallel"},
            {},
            "as far as it divides the heads and MLP, then to fsdp",
        ),
        (
            {"device_strategy": "model_parallel"},
            {"num_heads": 7},
            "all to data, because no number of them divides the heads and MLP, which model_parallel would split",
        ),
        ({"mesh_shape": {"data": 8}}, {}, "as given; it multiplies to the 8 JAX devices"),
    ],
)
def test_why_the_mesh_is_as_it_is(tpu: dict[str, Any], model: dict[str, Any], words: str):
    assert decision(job({"tpu_cores": 8, **tpu}, model), "tpu.mesh_shape").why.endswith(words)


@pytest.mark.parametrize(
    ("tpu", "model"),
    [
        ({"mesh_shape": {"data": 8}, "device_strategy": "fsdp"}, {}),
        ({"mesh_shape": {"data": 8, "model": 1}, "device_strategy": "model_parallel"}, {}),
        ({"device_strategy": "model_parallel"}, {"num_heads": 7}),
    ],
)
def test_a_strategy_that_gets_no_devices_is_answered(tpu: dict[str, Any], model: dict[str, Any]):
    resolved = job({"tpu_cores": 8, **tpu}, model)
    assert resolved.mesh == Mesh(data=8)
    assert "without effect" in decision(resolved, "tpu.device_strategy").why


@pytest.mark.parametrize("strategy", ["fsdp", "model_parallel", "sequence_parallel"])
def test_slices_and_mesh_shape_may_take_every_device(strategy: str):
    axis = {"fsdp": "model", "model_parallel": "sequence", "sequence_parallel": "model"}[strategy]
    tpu = {"accelerator": "v5e", "tpu_topology": "2x4", "num_slices": 2, "mesh_shape": {axis: 8}}
    resolved = job({**tpu, "device_strategy": strategy}, {"num_heads": 8})
    assert resolved.mesh == Mesh(**{"data": 2, axis: 8})
    assert "as given; it multiplies to the 16 JAX devices; data spans" in decision(resolved, "tpu.mesh_shape").why
    assert "mesh_shape decides" in decision(resolved, "tpu.device_strategy").why


def test_slices_that_cannot_be_joined_have_no_topology_to_offer():
    problem = refused({"accelerator": "v3", "tpu_topology": "4x4", "num_slices": 2})
    assert problem.accepted == "1"
    assert "v5e" in str(problem.hint)


@pytest.mark.parametrize(
    ("tpu", "pointer", "words"),
    [
        ({"accelerator": "v9"}, "/tpu/accelerator", ['"v9"']),
        ({"accelerator": "v5e", "tpu_topology": "2x2x2"}, "/tpu/tpu_topology", ['"2x2x2" (8 chips)', "v5e"]),
        ({"tpu_topology": "3x3"}, "/tpu/tpu_topology", ['"3x3"', "any TPU generation"]),
        ({"accelerator": "v5p", "tpu_topology": "2x2x2", "tpu_cores": 4}, "/tpu/tpu_cores", ["4", "v5p 2x2x2"]),
        ({"tpu_cores": 3}, "/tpu/tpu_cores", ["is 3, which no TPU slice has"]),
        ({"accelerator": "v3", "num_slices": 2}, "/tpu/num_slices", ["v3", "cannot be joined"]),
        ({"tpu_topology": "2x2x1", "num_slices": 2}, "/tpu/num_slices", ["2x2x1", "multi-host"]),
        ({"num_slices": 2, "mesh_shape": {"data": 1}}, "/tpu/mesh_shape", ["data does not divide over 2 slices"]),
        ({"mesh_shape": {"data": 7}}, "/tpu/mesh_shape", ["data 7", "2, 4 or 8 devices"]),
        ({"tpu_cores": 8, "mesh_shape": {"data": 3}}, "/tpu/mesh_shape", ["no TPU slice with tpu_cores 8", "4 or 8"]),
        ({"mesh_shape": {"sequence": 3}}, "/tpu/mesh_shape", ["sequence 3"]),
    ],
)
def test_hardware_that_does_not_exist(tpu: dict[str, Any], pointer: str, words: list[str]):
    problem = refused(tpu)
    assert problem.pointer == pointer
    assert problem.accepted
    for word in words:
        assert word in problem.message


def test_the_accepted_cores_are_accepted():
    counts = [int(count) for count in str(refused({"tpu_cores": 3}).accepted).split(", ")]
    assert [job({"tpu_cores": count}).effective.tpu.tpu_cores for count in counts] == counts


def test_a_local_site_rehearses_the_slice():
    resolved = job({"tpu_cores": 8, "spot": True}, site=SiteDefaults(platform="cpu"))
    assert resolved.hardware.platform == "cpu"
    assert "one process with 8 virtual CPU devices" in decision(resolved, "hardware.platform").why
    assert "not used" in decision(resolved, "tpu.spot").why
