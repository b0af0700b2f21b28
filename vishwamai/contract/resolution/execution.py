"""How the step is computed: number formats, attention, rematerialization, loss chunks, sharding of the weights."""

from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolved import Batch, Execution, Mesh, Precision

LOGITS_AT_ONCE = 64 * 2**20
"""Elements of logits that may exist at one time on a device: 256 MiB in float32."""


def settle_precision(draft: Draft) -> Precision:
    """bfloat16 when both switches ask for it, else float32; FP8 and loss scaling are answered here too."""
    bfloat16, mixed = draft["tpu.use_bfloat16"], draft["optimization.mixed_precision"]
    low = bfloat16 and mixed
    compute = "bfloat16" if low else "float32"
    if bfloat16 != mixed:
        off, on = (
            ("tpu.use_bfloat16", "optimization.mixed_precision")
            if mixed
            else ("optimization.mixed_precision", "tpu.use_bfloat16")
        )
        draft.decide(on, False, f"bfloat16 over float32 weights needs both this and {off}, and {off} is false")
    draft.explain(
        "precision.compute", compute, "over float32 weights and optimizer state" if low else "bfloat16 was switched off"
    )
    _no_fp8(draft, compute)
    return Precision(compute=compute)


def _no_fp8(draft: Draft, compute: str) -> None:
    if draft["optimization.use_fp8"]:
        generation = draft["tpu.accelerator"]
        gain = (
            "this release has no FP8 matrix products yet; on tpu7x they arrive with the work on precision"
            if generation == "tpu7x"
            else f"{generation} multiplies FP8 no faster than bfloat16, so nothing is lost"
        )
        draft.decide("optimization.use_fp8", False, f"products are computed in {compute}: {gain}")
    if draft["optimization.use_dynamic_scale"]:
        why = f"{compute} has float32's range of exponents, so small gradients survive without a loss scale"
        draft.decide("optimization.use_dynamic_scale", False, why)
    if draft["memory.kv_cache_fp8"]:
        why = "this release computes the window anew for each token it generates, and keeps no keys and values"
        draft.decide("memory.kv_cache_fp8", False, why)


def settle_execution(draft: Draft, mesh: Mesh, num_slices: int) -> Execution:
    """Attention kernel, rematerialization, loss chunk and weight sharding."""
    _always_compiled(draft)
    window, block = draft["model.max_seq_len"], min(draft["optimization.block_size"], draft["model.max_seq_len"])
    attention = _attention(draft, window, block)
    remat = draft["memory.gradient_checkpointing"]
    chunk = loss_chunk(draft["model.vocab_size"], draft["training.batch_size"] * window)
    why = f"logits of {chunk} tokens x {draft['model.vocab_size']} words exist at one time on a device"
    draft.explain("execution.loss_chunk_tokens", chunk, why)
    return Execution(
        attention="blockwise" if attention else "dense",
        attention_block=block,
        remat="full" if remat else "none",
        loss_chunk_tokens=chunk,
        weight_axes=_weight_axes(draft, mesh, num_slices),
    )


def _always_compiled(draft: Draft) -> None:
    if not draft["optimization.use_pjit"]:
        draft.decide(
            "optimization.use_pjit",
            True,
            "the step is always compiled for the whole mesh; there is no other way to run it",
        )


def _attention(draft: Draft, window: int, block: int) -> bool:
    """Whether attention works block by block."""
    one, other = "memory.attention_memory_efficient", "memory.use_memory_efficient_attention"
    wanted = draft[one] or draft[other]
    if draft[one] != draft[other]:
        off, on = (one, other) if draft[other] else (other, one)
        draft.decide(off, True, f"a second name for {on}, and either one asks for it")
    blockwise = bool(wanted and window > block)
    if blockwise:
        why = f"blocks of {block} keys, so that memory grows linearly with the window of {window}"
    else:
        why = f"the window of {window} is one block" if wanted else "memory-efficient attention was switched off"
    draft.explain("execution.attention", "blockwise" if blockwise else "dense", why)
    if "optimization.block_size" in draft.asked and not blockwise:
        draft.explain(
            "optimization.block_size", draft["optimization.block_size"], f"not used: attention is dense, because {why}"
        )
    return blockwise


def loss_chunk(vocabulary: int, tokens: int) -> int:
    """Tokens per chunk of the loss: a power of two, within the budget of logits and the device's tokens."""
    most = max(1, min(LOGITS_AT_ONCE // vocabulary, tokens))
    return 1 << (most.bit_length() - 1)


def _weight_axes(draft: Draft, mesh: Mesh, num_slices: int) -> list[str]:
    name = "optimization.shard_weights"
    if not draft[name]:
        draft.explain(
            "execution.weight_axes",
            [],
            "shard_weights is false: every device holds all weights of its part of the model",
        )
        return []
    if mesh.fsdp > 1:
        axes, why = ["fsdp"], f"shard_weights over the {mesh.fsdp} devices of axis fsdp"
    elif mesh.data > 1 and num_slices == 1:
        axes, why = (
            ["data"],
            f"shard_weights over the {mesh.data} devices of axis data, gathered layer by layer where needed",
        )
    elif mesh.data > 1:
        axes, why = (
            [],
            "whole copies: data spans slices, whose network is too slow to gather weights; use fsdp within a slice",
        )
    else:
        axes, why = [], "no axis holds copies of the weights, so there is nothing to split"
    draft.explain("execution.weight_axes", axes, why)
    if name in draft.asked and not axes:
        draft.explain(name, True, why)
    return axes


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


def parameter_count(config: TrainingConfig) -> int:
    """Trainable parameters: embeddings, head when untied; per layer q, k, v, o, MLP, two norms; one norm at the end."""
    model = config.model
    tables = model.vocab_size * model.hidden_dim * (1 if model.tie_embeddings else 2)
    attention = 2 * model.hidden_dim * model.head_dim * (model.num_heads + model.kv_heads)
    matrices = 3 if model.activation in ("geglu", "swiglu") else 2
    layer = attention + matrices * model.hidden_dim * model.mlp_dim + 2 * model.hidden_dim
    return tables + model.num_layers * layer + model.hidden_dim
