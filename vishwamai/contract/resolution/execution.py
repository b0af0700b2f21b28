"""How the step is computed: attention, what is kept for the backward pass, loss chunks, and where weights are."""

from typing import Literal

from vishwamai.contract.accelerators import find_generation
from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.resolution import size
from vishwamai.contract.resolution.attention import settle_attention
from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolution.memory import FLOAT32, Work, tokens_of_device, width
from vishwamai.contract.resolution.remat import settle_remat, settle_weight_gather
from vishwamai.contract.resolved import Batch, Execution, Hardware, Mesh, Precision

CHUNK_ON_TPU = 4096
"""Tokens in a loss chunk: fewer read and write the head's gradient more often; twice as many cost the same on v5p."""
CHUNK_ELSEWHERE = 512
LOGITS_ELSEWHERE = 64 * 2**20 * FLOAT32
"""Bytes of logits that may exist at one time where there is no TPU."""
LOGITS_ON_TPU = 1 / 4
"""The same on a TPU, as a share of its memory."""


def settle_execution(draft: Draft, hardware: Hardware, mesh: Mesh, precision: Precision) -> Execution:
    """Attention kernel, rematerialization, loss chunk, and how weights are split and gathered."""
    _always_compiled(draft)
    attention = settle_attention(draft, hardware, mesh, precision.compute)
    execution = Execution(
        attention=attention.kind,
        attention_block=attention.block,
        remat="attention",
        scan_layers=draft["optimization.scan_layers"],
        loss_chunk_tokens=_loss_chunk(draft, hardware, mesh, precision),
        loss_shift=_loss_shift(draft, hardware),
        weight_axes=_weight_axes(draft, mesh, hardware.num_slices),
        weight_gather="layer",
    )
    work = Work(draft.config(), hardware, mesh, precision, execution)
    return settle_weight_gather(draft, settle_remat(draft, work))


def _always_compiled(draft: Draft) -> None:
    if not draft["optimization.use_pjit"]:
        draft.decide(
            "optimization.use_pjit",
            True,
            "the step is always compiled for the whole mesh; there is no other way to run it",
        )


def _loss_chunk(draft: Draft, hardware: Hardware, mesh: Mesh, precision: Precision) -> int:
    """Tokens per chunk of the loss: a power of two, within the device's tokens and its budget of logits."""
    config = draft.config()
    vocabulary = config.model.vocab_size
    words = vocabulary // size.vocabulary_parts(config.model, mesh.model)
    if hardware.platform == "tpu":
        budget = LOGITS_ON_TPU * find_generation(hardware.accelerator).hbm_bytes_per_device
        most, row = CHUNK_ON_TPU, words * width(precision.compute)
    else:
        budget, most, row = LOGITS_ELSEWHERE, CHUNK_ELSEWHERE, words * FLOAT32
    fitting = max(1, min(most, int(budget // row), tokens_of_device(config, mesh)))
    chunk = 1 << (fitting.bit_length() - 1)
    why = f"logits of {chunk} tokens x {words} words exist at one time on a device"
    draft.explain("execution.loss_chunk_tokens", chunk, why)
    if mesh.model > 1 and words == vocabulary:
        fits = -(-vocabulary // mesh.model) * mesh.model
        why = f"axis model of {mesh.model} does not divide it, so each device holds all words; {fits} would be split"
        draft.explain("model.vocab_size", vocabulary, why)
    return chunk


def _loss_shift(draft: Draft, hardware: Hardware) -> Literal["max", "label"]:
    """A TPU makes the sum of exponentials inside the product when it knows beforehand what to subtract."""
    if hardware.platform != "tpu":
        return "max"
    why = "the target's logit stands for the logits' maximum, which saves a TPU a pass over them"
    draft.explain("execution.loss_shift", "label", f"{why}; should it not hold, training goes on with the maximum")
    return "label"


def _weight_axes(draft: Draft, mesh: Mesh, num_slices: int) -> list[str]:
    name = "optimization.shard_weights"
    if not draft[name]:
        draft.explain(
            "execution.weight_axes",
            [],
            "shard_weights is false: every device holds all weights of its part of the model",
        )
        return []
    axes, why = _splitting(draft, mesh, num_slices)
    draft.explain("execution.weight_axes", axes, why)
    if name in draft.asked and not axes:
        draft.explain(name, True, why)
    return axes


def _splitting(draft: Draft, mesh: Mesh, num_slices: int) -> tuple[list[str], str]:
    """Axes that split weights, and why these."""
    hidden = draft["model.hidden_dim"]
    if mesh.fsdp > 1:
        axis, devices = "fsdp", mesh.fsdp
    elif mesh.data > 1 and num_slices == 1:
        axis, devices = "data", mesh.data
    elif mesh.data > 1:
        return [], "whole copies: data spans slices, whose network is too slow to gather weights; use fsdp in a slice"
    else:
        return [], "no axis holds copies of the weights, so there is nothing to split"
    if hidden % devices:
        fits = -(-hidden // devices) * devices
        return [], (
            f"whole copies: axis {axis} of {devices} does not divide model.hidden_dim {hidden}, along which weights "
            f"are split; a hidden_dim of {fits} would be"
        )
    return [axis], f"shard_weights over the {devices} devices of axis {axis}"


def batch_of(config: TrainingConfig, devices: int) -> Batch:
    """Sequences and tokens of one optimizer step."""
    training = config.training
    sequences = training.batch_size * devices
    return Batch(
        sequences_per_micro_batch=sequences,
        accumulation=training.grad_accum_steps,
        sequences_per_step=sequences * training.grad_accum_steps,
        tokens_per_step=sequences * training.grad_accum_steps * config.model.max_seq_len,
    )
