"""How attention is computed: one table says what each kind covers, and the first kind that covers the job is taken.

A kind that the config names is taken as it stands when it covers the job; else a decision says what runs instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolution.memory import width
from vishwamai.contract.resolved import AttentionKind, ComputeType, Hardware, Mesh, Platform

CPU_BLOCK = 256
"""Keys per block that was measured best on XLA:CPU."""
VECTOR_MEMORY: Mapping[str, int] = {
    "v4": 16 * 2**20,
    "v5e": 128 * 2**20,
    "v5p": 64 * 2**20,
    "v6e": 128 * 2**20,
    "tpu7x": 64 * 2**20,
}
"""Bytes of a core's vector memory, of generations with attention kernels."""
HEAD_SHARE = 9 / 256
"""Share of it that one head's queries may take in the flash kernel, which holds some twenty such arrays at a time."""
_FLASH_HEADS = (16, 32, 64, 128, 256)
_LANES = 128


@dataclass(frozen=True, slots=True)
class AttentionWork:
    """What decides which kinds can run."""

    platform: Platform
    generation: str
    compute: ComputeType
    head_dim: int
    length: int
    softcap: float | None
    dropout_rate: float
    sequence_parts: int


Obstacle = Callable[[AttentionWork], str | None]


def _tpu_with_kernels(work: AttentionWork) -> str | None:
    if work.platform != "tpu":
        return f"it is a TPU kernel, and this runs on {work.platform.upper()}"
    return None if work.generation in VECTOR_MEMORY else f"TPU {work.generation} cannot run its kernel"


def _gpu(work: AttentionWork) -> str | None:
    return None if work.platform == "gpu" else f"it is a GPU library, and this runs on {work.platform.upper()}"


def _bfloat16(work: AttentionWork) -> str | None:
    return None if work.compute == "bfloat16" else f"it takes bfloat16, and this computes in {work.compute}"


def _no_dropout(work: AttentionWork) -> str | None:
    return "it has no dropout of attention weights" if work.dropout_rate else None


def _no_softcap(work: AttentionWork) -> str | None:
    return "it has no soft-cap" if work.softcap is not None else None


def _whole_sequences(work: AttentionWork) -> str | None:
    return "it needs whole sequences, and the mesh has a sequence axis" if work.sequence_parts > 1 else None


def _whole_tiles(work: AttentionWork) -> str | None:
    return f"the window of {work.length} is no multiple of {_LANES}" if work.length % _LANES else None


def _on_chip(work: AttentionWork) -> str | None:
    head = work.length * max(work.head_dim, _LANES) * width(work.compute)
    if head <= HEAD_SHARE * VECTOR_MEMORY[work.generation]:
        return None
    return f"a window of {work.length} does not fit {work.generation}'s vector memory"


def _heads_of(accepted: Callable[[int], bool], words: str) -> Obstacle:
    def obstacle(work: AttentionWork) -> str | None:
        return None if accepted(work.head_dim) else f"it takes a head_dim {words}, and here it is {work.head_dim}"

    return obstacle


COVERAGE: Mapping[AttentionKind, tuple[Obstacle, ...]] = {
    "flash": (
        _tpu_with_kernels,
        _heads_of(lambda dim: dim in _FLASH_HEADS, "of 16, 32, 64, 128 or 256"),
        _no_dropout,
        _whole_sequences,
        _whole_tiles,
        _on_chip,
    ),
    "splash": (
        _tpu_with_kernels,
        _heads_of(lambda dim: dim % 64 == 0, "that is a multiple of 64"),
        _no_dropout,
        _whole_sequences,
        _whole_tiles,
    ),
    "cudnn": (
        _gpu,
        _bfloat16,
        _heads_of(lambda dim: dim <= 128 and dim % 8 == 0, "of at most 128 that is a multiple of 8"),
        _no_softcap,
        _no_dropout,
        _whole_sequences,
    ),
    "blockwise": (),
    "dense": (),
}
"""What stands in the way of each kind, in the order in which it is said."""

FASTEST: Mapping[Platform, tuple[AttentionKind, ...]] = {
    "tpu": ("flash", "splash", "blockwise"),
    "gpu": ("cudnn", "blockwise"),
    "cpu": ("blockwise",),
}
"""Kinds in the order in which auto tries them."""


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """What runs, and its blocks."""

    kind: AttentionKind
    block: int
    passed_over: str
    """Why faster kinds of this platform were not taken; '' when there are none."""


def obstacle(kind: AttentionKind, work: AttentionWork) -> str | None:
    """Why a kind cannot run this work; None when it can."""
    return next((words for rule in COVERAGE[kind] if (words := rule(work))), None)


def attention_choice(work: AttentionWork, block: int) -> AttentionChoice:
    """The fastest kind that covers the work. Blocks as long as the window are dense attention, and are called so."""
    reasons: list[str] = []
    for kind in FASTEST[work.platform]:
        if reason := obstacle(kind, work):
            reasons.append(f"not {kind}: {reason}")
            continue
        one_block = kind == "blockwise" and work.length <= block
        return AttentionChoice("dense" if one_block else kind, min(block, work.length), "; ".join(reasons))
    raise AssertionError("blockwise covers everything")


def settle_attention(draft: Draft, hardware: Hardware, mesh: Mesh, compute: ComputeType) -> AttentionChoice:
    """The kind that the config names or leaves open, and its block; decisions say why."""
    block = _block(draft, hardware.platform)
    model = draft["model"]
    work = AttentionWork(
        platform=hardware.platform,
        generation=hardware.accelerator,
        compute=compute,
        head_dim=model["head_dim"],
        length=model["max_seq_len"],
        softcap=model["attention_softcap"],
        dropout_rate=model["attention_dropout_rate"],
        sequence_parts=mesh.sequence,
    )
    named = draft["optimization.attention"]
    choice = _open(draft, work, block) if named == "auto" else _named(draft, work, block, named)
    if "optimization.block_size" in draft.asked and choice.kind != "blockwise":
        why = f"not used: attention is {choice.kind}, which has no such blocks"
        draft.explain("optimization.block_size", draft["optimization.block_size"], why)
    return choice


def _block(draft: Draft, platform: Platform) -> int:
    name = "optimization.block_size"
    if platform == "cpu" and name not in draft.asked:
        draft.decide(name, CPU_BLOCK, f"not given; blocks of {CPU_BLOCK} were measured fastest on a CPU")
    block: int = draft[name]
    return block


def _open(draft: Draft, work: AttentionWork, block: int) -> AttentionChoice:
    one, other = "memory.attention_memory_efficient", "memory.use_memory_efficient_attention"
    if draft[one] != draft[other]:
        off, on = (one, other) if draft[other] else (other, one)
        draft.decide(off, True, f"a second name for {on}, and either one asks for it")
    if not draft[one]:
        draft.explain("execution.attention", "dense", "memory-efficient attention was switched off")
        return AttentionChoice("dense", min(block, work.length), "")
    choice = attention_choice(work, block)
    draft.explain("execution.attention", choice.kind, _in_words(choice, work))
    return choice


def _named(draft: Draft, work: AttentionWork, block: int, named: AttentionKind) -> AttentionChoice:
    reason = obstacle(named, work)
    if reason is None:
        choice = AttentionChoice(named, min(block, work.length), "")
        draft.explain("execution.attention", named, "as optimization.attention asks")
    else:
        choice = attention_choice(work, block)
        draft.decide("optimization.attention", choice.kind, f"{named} cannot run this job: {reason}")
        draft.explain("execution.attention", choice.kind, _in_words(choice, work))
    for name in ("memory.attention_memory_efficient", "memory.use_memory_efficient_attention"):
        if name in draft.asked and draft[name] != (choice.kind != "dense"):
            draft.explain(name, draft[name], f"not used: optimization.attention {named} says how attention is computed")
    return choice


def _in_words(choice: AttentionChoice, work: AttentionWork) -> str:
    what = {
        "dense": f"the window of {work.length} is one block",
        "blockwise": f"blocks of {choice.block} keys, so that memory grows linearly with the window of {work.length}",
        "flash": "the own TPU kernel covers this job",
        "splash": "JAX's TPU kernel covers this job",
        "cudnn": "the GPU library's kernel covers this job",
    }[choice.kind]
    return f"{what}; {choice.passed_over}" if choice.passed_over else what
