"""From rows of cycles to a plan, and from a plan to words."""

import json
import re
from typing import Any

import pytest

from tests.trainer.plan.programs import V5E, cost, program
from trainer.plan.compiling import over_budget
from trainer.plan.report import model_flops_per_token, plan_of
from trainer.plan.visits import attention_trips, key_blocks_visited
from vishwamai.contract.accelerators import slice_for
from vishwamai.contract.config import ModelSection
from vishwamai.contract.load import check_config
from vishwamai.contract.plan import Plan, PlanMemory
from vishwamai.contract.plan_text import as_text
from vishwamai.contract.reference import fields
from vishwamai.contract.resolution.lowering import lowering
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Decision, ResolvedJob

FITS = PlanMemory(arguments=100, outputs=90, aliased=80, temporaries=1000, required=1110, available=2000)
BASE = {"hidden_dim": 768, "num_layers": 24, "num_heads": 12, "head_dim": 64, "mlp_dim": 3072, "vocab_size": 131072}


def job(**sections: Any) -> ResolvedJob:
    tpu = {"accelerator": "v5e", "tpu_topology": "2x4"} | sections.pop("tpu", {})
    return resolve(check_config({"tpu": tpu, **sections}))


def planned(subject: ResolvedJob, memory: PlanMemory = FITS, **changes: Any) -> Plan:
    arguments: dict[str, Any] = {"costs": cost(program("collectives")), "decisions": [], "seconds": 1.25} | changes
    return plan_of(subject, slice_for("v5e", "2x4"), memory, rates=V5E, **arguments)


def test_model_flops_of_the_guides_model():
    model = ModelSection.model_validate(BASE | {"activation": "gelu", "max_seq_len": 2048})
    matrices = 24 * (4 * 768 * 768 + 2 * 768 * 3072) + 131072 * 768
    assert model_flops_per_token(model) == 6 * matrices + 6 * 24 * 768 * 2048
    # An untied head is the same product; an untied embedding is looked up.
    assert model_flops_per_token(model.model_copy(update={"tie_embeddings": False})) == model_flops_per_token(model)


def test_sliding_windows_see_fewer_keys():
    model = ModelSection.model_validate(
        BASE | {"max_seq_len": 8, "sliding_window": 2, "layer_pattern": ["sliding", "full"]}
    )
    full = model.model_copy(update={"sliding_window": None, "layer_pattern": None})
    # Of 8 keys a token sees 4 in the continuous mean, of a window of 2 it sees 2 - 2^2 / (2 x 8).
    assert model_flops_per_token(full) - model_flops_per_token(model) == 12 * 768 * 12 * (4 - 1.75)


def test_the_sums_agree():
    cost_of_step = planned(job()).cost
    assert cost_of_step is not None
    # The estimate of the product, the psum, and the copy by its bytes.
    assert cost_of_step.cycles_per_step == 16640 + 122333 + 15345
    assert sum(kind.cycles for kind in cost_of_step.kinds) == cost_of_step.cycles_per_step
    assert sum(part.cycles for part in cost_of_step.parts) == cost_of_step.cycles_per_step
    assert sum(kind.share for kind in cost_of_step.kinds) == pytest.approx(1, abs=2e-4)  # three shares of 4 digits
    assert {kind.kind for kind in cost_of_step.beside} == {"collective_async", "copy_async"}


def test_rates_follow_from_cycles():
    subject = job()
    plan = planned(subject)
    assert plan.cost is not None
    assert plan.tokens_per_device * 8 == plan.tokens_per_step == subject.batch.tokens_per_step
    assert plan.cost.cycles_per_token == pytest.approx(plan.cost.cycles_per_step / plan.tokens_per_device, abs=0.05)
    assert plan.cost.step_seconds == plan.cost.cycles_per_step / 1.5e9
    flops = plan.cost.model_flops_per_token * plan.tokens_per_device
    assert plan.cost.ideal_cycles == round(flops / 126898)
    # mfu has 4 digits after the point.
    assert plan.cost.mfu == pytest.approx(flops / plan.cost.step_seconds / 1.97e14, abs=5e-5)


def test_heads_narrower_than_a_matrix_unit_are_remarked():
    assert [note for note in planned(job()).notes if "fills 50% of a matrix unit of 128 x 128" in note]
    assert not [note for note in planned(job(model={"head_dim": 128})).notes if "matrix unit" in note]


def test_a_plan_survives_json():
    plan = planned(job(), decisions=[Decision(setting="tpu.mesh_shape", effective={"data": 8}, why="so")])
    assert Plan.model_validate(json.loads(plan.model_dump_json())) == plan


def test_text_says_what_fits_and_what_it_costs():
    text = as_text(planned(job()))
    assert text.startswith("v5e:2x4, 8 devices as data 8")
    assert "0.00 MiB of 0.00 MiB: fits" in text
    assert "79.3%  collective" in text
    assert "beside  collective_async" in text


def test_text_says_by_how_much_it_does_not_fit():
    text = as_text(planned(job(), PlanMemory(required=20 * 2**30, available=15 * 2**30), costs=None))
    assert "20.00 GiB of 15.00 GiB: 5.00 GiB too much" in text
    assert "would lower it:" in text
    assert "cycles" not in text


@pytest.mark.parametrize(
    ("message", "required", "available"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (38.01G) exceeds available HBM (15.75G). HLO module: jit_step.",
            38.01 * 2**30,
            15.75 * 2**30,
        ),
        ("Ran out of memory in memory space hbm. Used 512.50M of 500.00M hbm.", 512.5 * 2**20, 500 * 2**20),
    ],
)
def test_the_compiler_says_how_much_is_missing(message: str, required: float, available: float):
    memory = over_budget(message)
    assert memory is not None
    assert (memory.required, memory.available) == (round(required), round(available))
    assert memory.headroom < 0


def test_other_refusals_are_not_about_memory_of_the_device():
    assert over_budget("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem: 17.0M of 16.0M") is None


def test_a_step_that_does_not_fit_names_what_would_save_most():
    asked = {"memory": {"remat_policy": "none"}, "optimization": {"shard_weights": False}}
    subject = job(training={"batch_size": 8}, **asked)
    advice = planned(subject, costs=None).advice
    assert advice == lowering(subject)[:4]
    settings = set(re.findall(r"\b(?:tpu|memory|optimization|training)\.[a-z_.]+", "\n".join(advice)))
    assert settings
    assert settings <= {fact.name for fact in fields()}
    assert planned(subject).advice == []


@pytest.mark.parametrize(
    ("model", "mesh", "visited"),
    [
        ({"max_seq_len": 512}, {}, (1 + 2 + 3 + 4) / 4),
        ({"max_seq_len": 512}, {"sequence": 2, "data": 4}, (3 + 4) / 2),
        # Blocks of 128 that a window of 200 touches: 1, 2, then 3 of each.
        ({"max_seq_len": 512, "sliding_window": 200}, {}, (1 + 2 + 3 + 3) / 4),
    ],
)
def test_blocks_of_keys_visited(model: dict[str, Any], mesh: dict[str, int], visited: float):
    subject = job(
        model=model,
        tpu={"mesh_shape": mesh} if mesh else {},
        optimization={"attention": "blockwise", "block_size": 128},
        sequence={"max_length": 512},
    )
    assert subject.execution.attention_block == 128
    assert key_blocks_visited(subject) == visited


def test_only_attentions_loops_are_known():
    module = program("nested_loops")
    trips = attention_trips(job(), module)
    loops = [op for ops in module.computations.values() for op in ops.values() if op.opcode == "while"]
    assert [trips(loop) for loop in loops] == [None, None]
