"""Defaults yield to requests: the values that unrequested settings take beside the requested ones.

Each function answers for one such setting: the value that fits, or None where no value can.
`contradictions` reports the None; resolution uses the rest, so the two cannot disagree.
"""

import math

from vishwamai.contract.resolution.draft import Asked

LARGEST_HEADS = LARGEST_HEAD_DIM = 1024
LARGEST_LENGTH = LARGEST_VOCABULARY = 4_194_304
MOST_STEPS = 1_000_000_000
LANES = 128
"""Width of the TPU's vector registers: sizes are best in multiples of it."""


def heads_and_width(asked: Asked) -> tuple[int, int] | None:
    """(num_heads, head_dim): heads divide by key/value heads and model axis, and fill hidden_dim if they can."""
    model = asked.config.model
    group = asked.get("model.num_kv_heads") or asked.get("tpu.mesh_shape.model") or 1
    if "model.num_heads" in asked:
        heads = model.num_heads
    else:
        filling = model.hidden_dim // model.head_dim
        fills = model.hidden_dim % model.head_dim == 0 and 1 <= filling <= LARGEST_HEADS
        fitting = math.ceil(model.num_heads / group) * group
        heads = filling if fills and filling % group == 0 else fitting
        if heads > LARGEST_HEADS:
            return None
    if "model.head_dim" in asked or heads * model.head_dim == model.hidden_dim:
        return heads, model.head_dim
    width, rest = divmod(model.hidden_dim, heads)
    if rest == 0 and width % 2 == 0 and 2 <= width <= LARGEST_HEAD_DIM:
        return heads, width
    return None if asked.both("model.hidden_dim", "model.num_heads") else (heads, model.head_dim)


def mlp_width(asked: Asked) -> int:
    """mlp_dim: a multiple of the requested model axis."""
    width, axis = asked.config.model.mlp_dim, asked.get("tpu.mesh_shape.model") or 1
    return width if "model.mlp_dim" in asked else math.ceil(width / axis) * axis


def window(asked: Asked) -> int | None:
    """max_seq_len: as long as the requested generation lengths, in shards of the requested sequence axis."""
    length, axis = asked.config.model.max_seq_len, asked.get("tpu.mesh_shape.sequence") or 1
    if "model.max_seq_len" in asked:
        return length
    longest = max(asked.get("sequence.max_length") or 0, asked.get("sequence.min_length") or 0)
    if length % axis == 0 and length >= longest:
        return length
    fitting = math.ceil(max(longest, 2, length - length % axis) / axis) * axis
    return fitting if fitting <= LARGEST_LENGTH else None


def vocabulary(asked: Asked) -> int:
    """vocab_size: large enough for the requested special tokens."""
    size = asked.config.model.vocab_size
    largest = max(asked.get("sequence.eos_token_id") or 0, asked.get("sequence.pad_token_id") or 0)
    if "model.vocab_size" in asked or largest < size:
        return size
    return min(math.ceil((largest + 1) / LANES) * LANES, LARGEST_VOCABULARY)


def special_tokens(asked: Asked) -> tuple[int, int]:
    """(pad_token_id, eos_token_id): two different tokens."""
    pad, eos = asked.config.sequence.pad_token_id, asked.config.sequence.eos_token_id
    if pad != eos or asked.both("sequence.pad_token_id", "sequence.eos_token_id"):
        return pad, eos
    # Only one of the two was asked: the other steps aside, to the other's default.
    return (1, eos) if "sequence.eos_token_id" in asked else (pad, 0)


def generation_lengths(asked: Asked, longest: int) -> tuple[int, int]:
    """(min_length, max_length) of generation within the window."""
    least, most = asked.config.sequence.min_length, asked.config.sequence.max_length
    if "sequence.max_length" not in asked:
        most = max(min(most, longest), asked.get("sequence.min_length") or 0)
    return (least if "sequence.min_length" in asked else min(least, most)), most


def run_length(asked: Asked) -> int | None:
    """max_steps: more than the requested warm-up, and past the step to start from."""
    training = asked.config.training
    steps = training.max_steps
    if "training.max_steps" in asked:
        return steps
    if isinstance(start := asked.get("checkpoint.restore"), int) and start >= steps:
        steps = min(start + steps, MOST_STEPS)
    if "training.warmup_steps" in asked and training.warmup_steps >= steps:
        steps = min(10 * training.warmup_steps, MOST_STEPS)
    return None if "training.warmup_steps" in asked and training.warmup_steps >= MOST_STEPS else steps


def warm_up(asked: Asked) -> int:
    """warmup_steps: by default at most a tenth of the run."""
    training = asked.config.training
    if "training.warmup_steps" in asked:
        return training.warmup_steps
    return min(training.warmup_steps, training.max_steps // 10)


def intervals(asked: Asked, steps: int) -> dict[str, int]:
    """Default intervals that would pass the end of the run, shortened so that each still happens a few times."""
    times = {"log_every": 20, "eval_every": 5, "save_every": 2}
    late = {name for name in times if f"logging.{name}" not in asked and getattr(asked.config.logging, name) > steps}
    return {name: max(1, steps // count) for name, count in times.items() if name in late}


def frequency_factors(asked: Asked) -> tuple[float, float]:
    """(low_freq_factor, high_freq_factor) of llama3 scaling: low below high, four times where one was asked alone."""
    scaling = asked.config.model.rope_scaling
    assert scaling is not None, "asked only of a config that scales"
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    names = ("model.rope_scaling.low_freq_factor", "model.rope_scaling.high_freq_factor")
    if low < high or asked.both(*names):
        return low, high
    return (low, 4 * low) if names[0] in asked else (high / 4, high)


def common_divisor(*numbers: int) -> int:
    """The largest number that divides all of these."""
    return math.gcd(*numbers)
