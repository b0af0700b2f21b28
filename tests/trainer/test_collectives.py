"""The compiled step says no more between devices than its layout needs."""

import pytest

from tests.trainer.jobs import tiny_job
from trainer.agreement import Agreement
from trainer.mesh import make_mesh
from trainer.orders import Orders
from trainer.plan.hlo import Module, parse_hlo
from trainer.step import abstract_batch, abstract_state, make_train_step
from vishwamai.contract.resolved import ResolvedJob

OPCODES = {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast"}
REDUCE, GATHER, SCATTER = "all-reduce", "all-gather", "reduce-scatter"

# What may stand once in a step, and what in the loop over layers (or over chunks of the loss).
LAYOUTS = {
    "one device": ({}, {}, set(), set()),
    "copies": ({"data": 8}, {}, {REDUCE}, set()),
    "weights gathered once": (
        {"fsdp": 8},
        {"weight_axes": ["fsdp"], "weight_gather": "step"},
        {REDUCE, GATHER, SCATTER},
        set(),
    ),
    "weights gathered by layer": (
        {"fsdp": 8},
        {"weight_axes": ["fsdp"], "weight_gather": "layer"},
        {REDUCE, GATHER, SCATTER},
        {GATHER, SCATTER},
    ),
    "heads and MLP split": ({"model": 4}, {}, {REDUCE}, {REDUCE}),
    "sequence split": ({"sequence": 4}, {}, {REDUCE, GATHER}, {GATHER, SCATTER}),
}


def compiled(job: ResolvedJob) -> Module:
    """The job's step."""
    mesh = make_mesh(job)
    agreement = Agreement(Orders(), mesh)
    agreement.alone = False  # of several processes, which agree in the step
    inputs = abstract_state(job, mesh), abstract_batch(job, mesh)
    program = make_train_step(job, mesh).lower(*inputs, orders=agreement.silence).compile()
    return parse_hlo(str(program.as_text()))


def collectives(module: Module) -> tuple[set[str], set[str]]:
    """Opcodes of collectives that run once, and of those inside a loop."""
    once: set[str] = set()
    looped: set[str] = set()

    def visit(computation: str, in_loop: bool) -> None:
        for operation in module.computations[computation].values():
            if operation.kind in OPCODES:
                (looped if in_loop else once).add(operation.kind)
            for name in operation.called("body|condition|calls|to_apply|branch_computations|called_computations"):
                visit(name, in_loop or operation.opcode == "while")

    visit(module.entry, False)
    return once, looped


@pytest.mark.parametrize(("mesh", "execution", "once", "looped"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_only_the_collectives_that_the_layout_needs(mesh, execution, once, looped):
    job = tiny_job(
        model={"vocab_size": 260, "num_layers": 4},
        training={"grad_accum_steps": 1},
        mesh=mesh,
        micro_batch=8,
        execution=execution,
    )
    found_once, found_looped = collectives(compiled(job))
    assert found_once <= once
    assert found_looped <= looped
    # Each kind that the layout is named for is there: the reading finds what there is.
    assert once - found_once <= {REDUCE}
    assert looped <= found_looped


def test_gradients_are_reduced_once_a_step_however_many_micro_batches():
    job = tiny_job(training={"grad_accum_steps": 4}, mesh={"data": 8}, micro_batch=8)
    assert collectives(compiled(job)) == ({REDUCE}, set())
