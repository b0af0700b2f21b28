"""What holds for every config: resolution is total and idempotent, and nothing asked for is dropped in silence."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.strategies import configs, documents, json_values, sites, valid_documents
from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.families import FAMILIES
from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig, Problem
from vishwamai.contract.resolution.draft import requested_settings
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob, SiteDefaults


def at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return value


def problems_of(document: Any) -> list[Problem]:
    try:
        check_config(document)
    except InvalidConfig as error:
        return error.problems
    return []


@settings(max_examples=100)
@given(configs(), sites())
def test_resolution_is_total_and_consistent(config: TrainingConfig, site: SiteDefaults):
    job = resolve(config, site)

    assert job.mesh.devices == job.hardware.devices
    assert job.mesh.data % job.hardware.num_slices == 0
    assert job.hardware.hosts_per_slice * job.hardware.chips_per_host == job.hardware.chips_per_slice
    model = job.effective.model
    assert model.num_heads % model.kv_heads == 0
    assert model.num_heads % job.mesh.model == model.kv_heads % job.mesh.model == model.mlp_dim % job.mesh.model == 0
    assert model.max_seq_len % job.mesh.sequence == 0
    assert job.effective.training.warmup_steps < job.effective.training.max_steps
    assert job.effective.tpu.mesh_shape is not None
    assert job.effective.tpu.mesh_shape.model_dump() == job.mesh.model_dump()
    assert job.requested == json.loads(config.model_dump_json(exclude_unset=True))


@settings(max_examples=75)
@given(configs(), sites())
def test_resolving_the_resolved_changes_nothing(config: TrainingConfig, site: SiteDefaults):
    once = resolve(config, site)
    again = resolve(check_config(json.loads(once.effective.model_dump_json())), site)

    same = ("effective", "hardware", "mesh", "precision", "execution", "batch", "parameters")
    assert {name: getattr(again, name) for name in same} == {name: getattr(once, name) for name in same}


@settings(max_examples=100)
@given(configs(), sites())
def test_every_requested_setting_takes_effect_or_has_a_decision(config: TrainingConfig, site: SiteDefaults):
    job = resolve(config, site)
    decided = {decision.setting: decision for decision in job.decisions}

    for name, asked in requested_settings(config).items():
        holders = {name, *(name[:end] for end, character in enumerate(name) if character == ".")}
        if at(job.effective, name) != asked:
            assert holders & set(decided), f"{name}: {asked} became {at(job.effective, name)} without a word"
    for name, decision in decided.items():
        assert decision.why, name
        value = at(job.effective, name)
        if value is not None and name not in ("distillation", "tpu.tpu_cores"):
            shown = value.model_dump() if name == "tpu.mesh_shape" else value
            assert decision.effective == shown, name


@settings(max_examples=50)
@given(configs())
def test_a_resolved_job_survives_its_json(config: TrainingConfig):
    job = resolve(config)
    assert ResolvedJob.model_validate_json(job.model_dump_json()) == job


@settings(max_examples=100)
@given(valid_documents())
def test_a_config_survives_its_json(document: dict[str, Any]):
    config = check_config(document)
    again = check_config(json.loads(config.model_dump_json(exclude_unset=True)))
    assert again == config
    assert requested_settings(again) == requested_settings(config)


@settings(max_examples=100)
@given(documents())
def test_in_range_fields_are_accepted_or_contradict_in_words(document: dict[str, Any]):
    for problem in problems_of(document):
        section = problem.pointer.split("/")[1]
        assert section in document, f"{problem.pointer} was never asked"
        assert problem.message
        json.dumps(problem.model_dump(), allow_nan=False)


@settings(max_examples=100)
@given(json_values())
def test_any_json_is_accepted_or_refused_with_problems(value: Any):
    problems = problems_of(value)
    assert problems or isinstance(value, dict)
    json.dumps([problem.model_dump() for problem in problems], allow_nan=False)


def test_the_strategies_reach_the_interesting_cases():
    reached = set()

    @settings(max_examples=700)
    @given(configs())
    def explore(config: TrainingConfig) -> None:
        job = resolve(config)
        reached.add(job.hardware.accelerator)
        reached.update((job.execution.attention, job.execution.remat, f"gathered by {job.execution.weight_gather}"))
        reached.update((job.effective.model.family, job.precision.loss_scale))
        reached.update(axis for axis, size in job.mesh.model_dump().items() if size > 1)
        reached.update({"slices"} if job.hardware.num_slices > 1 else ())
        reached.update(decision.setting for decision in job.decisions)

    explore()
    assert reached >= {"v3", "v4", "v5e", "v5p", "v6e", "tpu7x", "data", "fsdp", "sequence", "model", "slices"}
    assert reached >= {"flash", "splash", "blockwise", "dense", "none", "attention", "offload", "full", "dots"}
    assert reached >= {"gathered by step", "gathered by layer", "dynamic", *FAMILIES}
    assert reached >= {"training.warmup_steps", "distillation.teacher_model", "optimization.use_pjit"}


AXIS_OF_STRATEGY = {"data_parallel": "data", "fsdp": "fsdp", "model_parallel": "model", "sequence_parallel": "sequence"}
SMALL_SIZES = st.sampled_from([1, 2, 3, 4, 8, 16])
TPU_SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "accelerator": st.sampled_from(["v3", "v4", "v5e", "v5p", "tpu7x", "tpu-v5-lite-device"]),
        "tpu_topology": st.sampled_from(["1x1", "2x2", "2x4", "4x4", "2x2x1", "2x2x2", "4x4x4"]),
        "tpu_cores": st.sampled_from([1, 2, 3, 4, 8, 16, 64]),
        "num_slices": st.sampled_from([1, 2, 3]),
        "device_strategy": st.sampled_from(sorted(AXIS_OF_STRATEGY)),
        "mesh_shape": st.dictionaries(st.sampled_from(sorted(AXIS_OF_STRATEGY.values())), SMALL_SIZES, max_size=3),
    },
)


@settings(max_examples=300)
@given(TPU_SECTIONS)
def test_hardware_is_placed_with_every_request_answered_or_refused_with_meshes_that_are_accepted(tpu: dict[str, Any]):
    try:
        resolved = resolve(check_config({"tpu": tpu}))
    except InvalidConfig as error:
        for problem in error.problems:
            if problem.pointer == "/tpu/mesh_shape":
                for offered in str(problem.accepted).split("; "):
                    words = offered.split(" = ")[0].split()
                    axes = {axis: int(size) for axis, size in zip(words[::3], words[1::3], strict=True)}
                    check_config({"tpu": {**tpu, "mesh_shape": axes}})
        return
    assert resolved.mesh.devices == resolved.hardware.devices
    strategy = tpu.get("device_strategy")
    if strategy and resolved.hardware.devices > 1 and getattr(resolved.mesh, AXIS_OF_STRATEGY[strategy]) == 1:
        assert "tpu.device_strategy" in {decision.setting for decision in resolved.decisions}
