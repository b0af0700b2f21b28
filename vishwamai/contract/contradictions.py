"""Requests that cannot be met together. A default never contradicts: `resolution.fit` moves it instead.

Each rule yields what it finds; `contradictions` runs them all.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vishwamai.contract.accelerators import generations
from vishwamai.contract.config import MAIN_SET, TrainingConfig
from vishwamai.contract.families import FAMILIES
from vishwamai.contract.field_errors import in_quotes
from vishwamai.contract.problems import Problem
from vishwamai.contract.resolution import fit
from vishwamai.contract.resolution.draft import Asked
from vishwamai.contract.resolution.placement import Misfit, place
from vishwamai.contract.strict_json import pointer_to

BYTE_TOKENS = 258
"""Ids of the byte tokenizer: 256 bytes and two special tokens."""
_WITHOUT_FLEX_START = ("v3", "v4")
_SCALING = "model.rope_scaling"
_ADDRESS = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*):/+(?P<bucket>[^/]*)")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Settings that exclude each other, and how to say so."""

    settings: tuple[str, ...]
    problem: Problem


Rule = Callable[[Asked], Iterator[Contradiction]]


def contradictions(config: TrainingConfig) -> list[Contradiction]:
    """Everything in the config that cannot be met together."""
    asked = Asked(config)
    return [found for rule in RULES for found in rule(asked)]


def axis_limits(asked: Asked) -> dict[str, int]:
    """What the model leaves for axes chosen by resolution: they must divide these numbers (see MeshRequest.divides)."""
    model = asked.config.model
    shape = fit.heads_and_width(asked)
    heads = shape[0] if shape else model.num_heads
    groups = asked.get("model.num_kv_heads") or heads
    return {
        "model": fit.common_divisor(heads, groups, fit.mlp_width(asked)),
        "sequence": fit.window(asked) or model.max_seq_len,
    }


def _clash(
    asked: Asked, settings: tuple[str, ...], message: str, accepted: str | None = None, hint: str | None = None
) -> Contradiction:
    pointer = pointer_to(*settings[0].split("."))
    problem = Problem(pointer=pointer, message=message, value=asked.get(settings[0]), accepted=accepted, hint=hint)
    return Contradiction(settings, problem)


def _divisors(number: int, most: int = 12) -> str:
    found = [str(n) for n in range(1, min(number, 4096) + 1) if number % n == 0]
    return ", ".join(found[:most]) + (", ..." if len(found) > most else "")


def family(asked: Asked) -> Iterator[Contradiction]:
    """What makes a family cannot be asked otherwise."""
    name = asked.config.model.family
    for field, value in FAMILIES[name].fixed.items():
        setting = f"model.{field}"
        if setting in asked and asked.get(setting) != value:
            message = f"{setting} is {in_quotes(asked.get(setting))}, and family {name} has {in_quotes(value)}"
            hint = "leave it out, or take family vishwamai, which leaves every field free"
            yield _clash(asked, (setting, "model.family"), message, in_quotes(value), hint)


def sliding_layers(asked: Asked) -> Iterator[Contradiction]:
    """A sliding layer needs a window."""
    names = ("model.layer_pattern", "model.sliding_window")
    windowed = names[1] in asked or "sliding_window" in FAMILIES[asked.config.model.family].usual
    if "sliding" in (asked.get(names[0]) or ()) and not windowed:
        message = "model.layer_pattern has sliding layers, and model.sliding_window is not given"
        hint = "give model.sliding_window, the keys that a token sees on those layers"
        yield _clash(asked, names, message, "full layers only", hint)


def rope_frequencies(asked: Asked) -> Iterator[Contradiction]:
    """llama3 scaling goes over from stretched to untouched waves between two factors."""
    scaling, names = asked.config.model.rope_scaling, (f"{_SCALING}.low_freq_factor", f"{_SCALING}.high_freq_factor")
    if scaling is None or scaling.kind != "llama3" or not asked.both(*names):
        return
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    if low >= high:
        yield _clash(asked, names, f"{names[0]} is {low:g}, not below {names[1]} {high:g}", f"less than {high:g}")


def rematerialization(asked: Asked) -> Iterator[Contradiction]:
    """A policy says what is kept where something is recomputed."""
    names = ("memory.remat_policy", "memory.gradient_checkpointing")
    policy, on = asked.get(names[0]), asked.get(names[1])
    if policy is None or policy == "auto" or on is None or on == (policy != "none"):
        return
    accepted = "none or auto" if on is False else "dots, attention, offload, full or auto"
    message = f'{names[0]} is "{policy}", but {names[1]} is {in_quotes(on)}'
    yield _clash(asked, names, message, accepted, f"leave out {names[1]}, which follows from the policy")


def key_value_heads(asked: Asked) -> Iterator[Contradiction]:
    """Every key/value head serves the same number of query heads."""
    model, names = asked.config.model, ("model.num_kv_heads", "model.num_heads")
    if asked.both(*names) and model.num_heads % model.kv_heads:
        message = f"model.num_kv_heads is {model.kv_heads}, which does not divide model.num_heads {model.num_heads}"
        yield _clash(asked, names, message, f"one of {_divisors(model.num_heads)}")


def head_width(asked: Asked) -> Iterator[Contradiction]:
    """Without head_dim, the heads share hidden_dim evenly."""
    model, names = asked.config.model, ("model.num_heads", "model.hidden_dim")
    if fit.heads_and_width(asked) is not None or not asked.both(*names):
        return
    width, rest = divmod(model.hidden_dim, model.num_heads)
    result = f"does not divide model.hidden_dim {model.hidden_dim}"
    if rest == 0:
        result = (
            f"makes heads of {model.hidden_dim} / {model.num_heads} = {width}, and a head is an even width of 2 to 1024"
        )
    message = f"model.num_heads is {model.num_heads}, which {result}, and model.head_dim is not given"
    yield _clash(asked, names, message, hint="give model.head_dim, or heads that divide hidden_dim evenly")


def model_axis(asked: Asked) -> Iterator[Contradiction]:
    """The model axis splits heads, key/value heads and the MLP into equal parts."""
    axis, model = asked.get("tpu.mesh_shape.model"), asked.config.model
    if axis is None:
        return
    sizes = {
        "model.num_heads": model.num_heads,
        "model.num_kv_heads": model.num_kv_heads,
        "model.mlp_dim": model.mlp_dim,
    }
    for name, size in sizes.items():
        if name in asked and size and size % axis:
            message = f"tpu.mesh_shape.model is {axis}, which does not divide {name} {size}"
            yield _clash(asked, ("tpu.mesh_shape.model", name), message, f"one of {_divisors(size)}")
    if axis > fit.LARGEST_HEADS and "model.num_heads" not in asked:
        message = f"tpu.mesh_shape.model is {axis}, and a model has at most {fit.LARGEST_HEADS} heads to split"
        yield _clash(asked, ("tpu.mesh_shape.model",), message, f"at most {fit.LARGEST_HEADS}")


def sequence_axis(asked: Asked) -> Iterator[Contradiction]:
    """The sequence axis splits the window into equal parts."""
    names = ("tpu.mesh_shape.sequence", "model.max_seq_len")
    axis, length = asked.get(names[0]), asked.config.model.max_seq_len
    if asked.both(*names) and length % axis:
        message = f"tpu.mesh_shape.sequence is {axis}, which does not divide model.max_seq_len {length}"
        yield _clash(asked, names, message, f"one of {_divisors(length)}")
    elif fit.window(asked) is None:
        message = f"tpu.mesh_shape.sequence is {axis}, and no window of at most {fit.LARGEST_LENGTH} tokens fits it"
        yield _clash(asked, (names[0], "sequence.max_length", "sequence.min_length"), message)


def warm_up(asked: Asked) -> Iterator[Contradiction]:
    """The warm-up ends before the run does."""
    training, names = asked.config.training, ("training.warmup_steps", "training.max_steps")
    if asked.both(*names) and training.warmup_steps >= training.max_steps:
        message = (
            f"training.warmup_steps is {training.warmup_steps}, not less than training.max_steps {training.max_steps}"
        )
        hint = f"about 1% to 10% of the run is usual: {max(training.max_steps // 100, 0)} to {training.max_steps // 10}"
        yield _clash(asked, names, message, f"less than {training.max_steps}", hint)
    elif fit.run_length(asked) is None:
        message = f"training.warmup_steps is {training.warmup_steps}, and a run has at most {fit.MOST_STEPS} steps"
        yield _clash(asked, names[:1], message, f"less than {fit.MOST_STEPS}")


def generation_lengths(asked: Asked) -> Iterator[Contradiction]:
    """Generated text fits the window, and its shortest is no longer than its longest."""
    sequence, window = asked.config.sequence, asked.config.model.max_seq_len
    for name, length in (("sequence.max_length", sequence.max_length), ("sequence.min_length", sequence.min_length)):
        if asked.both(name, "model.max_seq_len") and length > window:
            message = f"{name} is {length}, more than model.max_seq_len {window}"
            yield _clash(asked, (name, "model.max_seq_len"), message, f"at most {window}")
    if asked.both("sequence.min_length", "sequence.max_length") and sequence.min_length > sequence.max_length:
        message = f"sequence.min_length is {sequence.min_length}, more than sequence.max_length {sequence.max_length}"
        yield _clash(asked, ("sequence.min_length", "sequence.max_length"), message, f"at most {sequence.max_length}")


def special_tokens(asked: Asked) -> Iterator[Contradiction]:
    """Padding and end of text are two different tokens of the vocabulary."""
    sequence, size = asked.config.sequence, asked.config.model.vocab_size
    for name in ("sequence.eos_token_id", "sequence.pad_token_id"):
        if asked.both(name, "model.vocab_size") and asked.get(name) >= size:
            message = f"{name} is {asked.get(name)}, and model.vocab_size is {size}"
            yield _clash(asked, (name, "model.vocab_size"), message, f"0 to {size - 1}")
    names = ("sequence.eos_token_id", "sequence.pad_token_id")
    if asked.both(*names) and sequence.eos_token_id == sequence.pad_token_id:
        message = f"sequence.eos_token_id and sequence.pad_token_id are both {sequence.eos_token_id}"
        yield _clash(
            asked, names, message, "two different tokens", "padding is never predicted, and the end of a text is"
        )


def byte_tokenizer(asked: Asked) -> Iterator[Contradiction]:
    """The byte tokenizer's ids fit the vocabulary. No default can mend this: there is no smaller tokenizer."""
    size, names = asked.config.model.vocab_size, ("model.vocab_size", "data.tokenizer")
    if asked.config.data.tokenizer == "byte" and "model.vocab_size" in asked and size < BYTE_TOKENS:
        message = f"model.vocab_size is {size}, and the byte tokenizer has {BYTE_TOKENS} tokens"
        yield _clash(
            asked, names, message, f"at least {BYTE_TOKENS}", "or give data.tokenizer a smaller tokenizer.json"
        )


def evaluation(asked: Asked) -> Iterator[Contradiction]:
    """Evaluating needs held-out text, and stopping early needs evaluations."""
    data = asked.config.data
    held_out = data.eval is not None or data.eval_fraction > 0
    every = asked.get("logging.eval_every")
    if every and not held_out:
        message = f"logging.eval_every is {every}, but data.eval_fraction is 0 and data.eval is not given"
        yield _clash(
            asked, ("logging.eval_every", "data.eval_fraction"), message, hint="give data.eval, or hold out a fraction"
        )
    stopping = asked.config.training.early_stopping
    if stopping is None:
        return
    sets = list(data.eval_sets()) or [MAIN_SET]
    if stopping.eval_set is not None and stopping.eval_set not in sets:
        name = "training.early_stopping.eval_set"
        message = f"{name} is {stopping.eval_set!r}, and data.eval has no set of that name"
        yield _clash(asked, (name, "data.eval"), message, f"one of {', '.join(sets)}")
    if not held_out or every == 0:
        name = "logging.eval_every" if held_out else "data.eval_fraction"
        message = f"training.early_stopping watches the evaluation loss, but {name} is 0, so nothing is evaluated"
        yield _clash(
            asked,
            ("training.early_stopping", name),
            message,
            hint=f"give {name} a value above 0, or remove early_stopping",
        )


def best_checkpoints(asked: Asked) -> Iterator[Contradiction]:
    """Checkpoints are ranked by an evaluation set that there is."""
    wanted, sets = asked.config.checkpoint.best_of, list(asked.config.data.eval_sets()) or [MAIN_SET]
    if wanted is not None and wanted not in sets:
        name = "checkpoint.best_of"
        message = f"{name} is {wanted!r}, and data.eval has no set of that name"
        yield _clash(asked, (name, "data.eval"), message, f"one of {', '.join(sets)}")


def folders(asked: Asked) -> Iterator[Contradiction]:
    """What is written has a place that can be written to. A path would be made of any other address."""
    for name, scheme in (("checkpoint.directory", "gs"), ("data.cache", None)):
        address = _ADDRESS.match(asked.get(name) or "")
        if address and not (address["scheme"] == scheme and address["bucket"]):
            accepted = "a folder" + (f", or {scheme}://BUCKET/PATH" if scheme else "")
            message = f"{name} is {in_quotes(asked.get(name))}, and nothing is written there"
            yield _clash(asked, (name,), message, accepted, "mount it and name the folder, or choose another place")


def mixture(asked: Asked) -> Iterator[Contradiction]:
    """Sources of a mixture stand alone, and each has its name."""
    train = asked.config.data.train
    names = [one.name for one in asked.config.data.sources()]
    if len(names) > 1 and any(isinstance(one, str) for one in train):
        message = "data.train mixes locations and sources with a weight"
        hint = 'make the locations a source, too: {"name": "...", "files": ["..."], "weight": 1.0}'
        yield _clash(asked, ("data.train",), message, hint=hint)
    elif twice := sorted({name for name in names if names.count(name) > 1}):
        message = f"data.train has several sources called {', '.join(twice)}"
        yield _clash(asked, ("data.train",), message, hint="give each a name of its own")


def sharded_weights(asked: Asked) -> Iterator[Contradiction]:
    """The fsdp axis is the one that splits weights."""
    axis = asked.get("tpu.mesh_shape.fsdp") or 1
    name = "tpu.mesh_shape.fsdp" if axis > 1 else "tpu.device_strategy"
    if asked.get("optimization.shard_weights") is False and (axis > 1 or asked.get("tpu.device_strategy") == "fsdp"):
        value = axis if axis > 1 else "fsdp"
        message = f"optimization.shard_weights is false, but {name} is {value}, which splits the weights"
        yield _clash(asked, ("optimization.shard_weights", name), message, "true", "use the data axis for whole copies")


def restored_step(asked: Asked) -> Iterator[Contradiction]:
    """A run does not start past its end."""
    step, steps = asked.get("checkpoint.restore"), asked.config.training.max_steps
    if isinstance(step, int) and "training.max_steps" in asked and step >= steps:
        message = f"checkpoint.restore is {step}, and training.max_steps is {steps}: nothing would be left to train"
        yield _clash(asked, ("checkpoint.restore", "training.max_steps"), message, f"a step below {steps}")


def student_layers(asked: Asked) -> Iterator[Contradiction]:
    """A student layer that follows another is one of the model's."""
    section, names = asked.config.distillation, ("distillation.intermediate_layer_mapping", "model.num_layers")
    layers = asked.config.model.num_layers
    if section is None or isinstance(section.intermediate_layer_mapping, str):
        return
    if beyond := [pair[0] for pair in section.intermediate_layer_mapping if pair[0] > layers]:
        listed = ", ".join(map(str, beyond))
        message = f"{names[0]} names student layer {listed}, and model.num_layers is {layers}"
        yield _clash(asked, names, message, f"pairs [student, teacher] with a student layer of 1 to {layers}")


def cached_teacher(asked: Asked) -> Iterator[Contradiction]:
    """Who writes a cache says of whom and where, and hidden states are in none."""
    section, cache, kind = asked.config.distillation, "distillation.cache", "run.kind"
    if asked.get(kind) == "cache_teacher" and cache not in asked:
        message = "run.kind is cache_teacher, and distillation.cache names no folder to write to"
        yield _clash(asked, (kind, cache), message, "train", "give distillation.cache and teacher_model")
    if section is None or cache not in asked:
        return
    hidden = "use_intermediate_distillation", "intermediate_layer_mapping", "hidden_loss", "hidden_weight"
    names = [f"distillation.{name}" for name in hidden if f"distillation.{name}" in asked]
    if names and section.use_intermediate_distillation and section.hidden_weight:
        message = f"{names[0]} is about hidden states, and a cache, {in_quotes(section.cache)}, has none"
        hint = "leave out distillation.cache, so that the teacher runs beside the student"
        yield _clash(asked, (names[0], cache), message, "distillation.use_intermediate_distillation false", hint)
    names = ["distillation.cache_top_k", "model.vocab_size"]
    words = asked.config.model.vocab_size
    if asked.both(*names) and (section.cache_top_k or 0) > words:
        message = f"{names[0]} is {section.cache_top_k}, and model.vocab_size is {words}"
        yield _clash(asked, (names[0], names[1]), message, f"1 to {words}")


def capacity(asked: Asked) -> Iterator[Contradiction]:
    """Nodes come from one kind of capacity."""
    kinds = [name for name in ("tpu.spot", "tpu.flex_start", "tpu.reservation") if asked.get(name)]
    if len(kinds) > 1:
        message = f"{' and '.join(kinds)} are different capacities, and a job runs on one"
        yield _clash(asked, tuple(kinds), message, hint=f"keep {kinds[0]} or {kinds[1]}")
    if asked.get("tpu.flex_start") and (name := asked.get("tpu.accelerator")):
        generation = next((g.name for g in generations() if g.answers_to(name)), None)
        if generation in _WITHOUT_FLEX_START:
            message = f"tpu.flex_start is true, and GKE lends no {generation} that way"
            yield _clash(asked, ("tpu.flex_start", "tpu.accelerator"), message, "v5e, v5p, v6e or tpu7x, or spot")


def hardware(asked: Asked) -> Iterator[Contradiction]:
    """Accelerator, topology, cores, slices and mesh describe one machine."""
    placement = place(asked, axis_limits(asked))
    if isinstance(placement, Misfit):
        yield Contradiction(placement.settings, placement.problem)


RULES: tuple[Rule, ...] = (
    family,
    sliding_layers,
    rope_frequencies,
    rematerialization,
    key_value_heads,
    head_width,
    warm_up,
    generation_lengths,
    special_tokens,
    byte_tokenizer,
    evaluation,
    best_checkpoints,
    folders,
    mixture,
    sharded_weights,
    restored_step,
    student_layers,
    cached_teacher,
    model_axis,
    sequence_axis,
    capacity,
    hardware,
)
