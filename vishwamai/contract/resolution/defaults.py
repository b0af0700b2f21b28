"""Writes into the draft what `fit` found: each default that stepped aside for a request, and why."""

from vishwamai.contract.resolution import fit
from vishwamai.contract.resolution.draft import Asked, Draft


def yield_to_requests(draft: Draft) -> None:
    """Moves every default that does not fit what was asked."""
    _model(draft)
    _generation(draft)
    _schedule(draft)
    _unused(draft)


def _model(draft: Draft) -> None:
    asked, model = draft.asked, draft.asked.config.model
    heads, width = fit.heads_and_width(asked) or (model.num_heads, model.head_dim)
    if heads != model.num_heads:
        groups = ", ".join(
            f"{name} {value}"
            for name, value in (
                ("hidden_dim", model.hidden_dim),
                ("num_kv_heads", asked.get("model.num_kv_heads")),
                ("mesh_shape.model", asked.get("tpu.mesh_shape.model")),
            )
            if value
        )
        draft.decide("model.num_heads", heads, f"the default {model.num_heads} heads do not fit {groups}")
    if width != model.head_dim:
        why = f"not given, so the {heads} heads share hidden_dim {model.hidden_dim}"
        draft.decide("model.head_dim", width, why)
    if heads * width != model.hidden_dim:
        total = heads * width
        why = f"attention is {heads} x {width} = {total} wide and hidden_dim {model.hidden_dim}; projections join them"
        draft.explain("model.head_dim", width, why)
    if (mlp := fit.mlp_width(asked)) != model.mlp_dim:
        draft.decide("model.mlp_dim", mlp, f"the default {model.mlp_dim} does not split over the requested model axis")
    if (vocabulary := fit.vocabulary(asked)) != model.vocab_size:
        why = f"the default {model.vocab_size} has no such token as the requested special ones"
        draft.decide("model.vocab_size", vocabulary, why)
    window = fit.window(asked) or model.max_seq_len
    if window != model.max_seq_len:
        why = f"the default {model.max_seq_len} does not fit the requested generation length or sequence axis"
        draft.decide("model.max_seq_len", window, why)


def _generation(draft: Draft) -> None:
    asked, sequence = draft.asked, draft.asked.config.sequence
    least, most = fit.generation_lengths(asked, draft["model.max_seq_len"])
    window = draft["model.max_seq_len"]
    if most != sequence.max_length:
        draft.decide(
            "sequence.max_length", most, f"the default {sequence.max_length} does not fit a window of {window}"
        )
    if least != sequence.min_length:
        why = f"the default {sequence.min_length} is more than max_length {most}"
        draft.decide("sequence.min_length", least, why)
    pad, eos = fit.special_tokens(asked)
    for name, value in (("pad_token_id", pad), ("eos_token_id", eos)):
        if value != getattr(sequence, name):
            why = "the default is the token that was asked for as the other special token"
            draft.decide(f"sequence.{name}", value, why)


def _schedule(draft: Draft) -> None:
    asked, training = draft.asked, draft.asked.config.training
    if (steps := fit.run_length(asked)) and steps != training.max_steps:
        why = f"the default {training.max_steps} ends before the requested warm-up or the checkpoint to start from"
        draft.decide("training.max_steps", steps, why)
    if (warm_up := fit.warm_up(asked)) != training.warmup_steps:
        why = f"a tenth of the {training.max_steps} steps; the default {training.warmup_steps} is for longer runs"
        draft.decide("training.warmup_steps", warm_up, why)
    steps = draft["training.max_steps"]
    for name, interval in fit.intervals(asked, steps).items():
        why = f"the default {draft[f'logging.{name}']} is longer than the run of {steps} steps"
        draft.decide(f"logging.{name}", interval, why)
    if not holds_out(asked) and draft["logging.eval_every"]:
        draft.decide(
            "logging.eval_every", 0, "data.eval_fraction is 0 and data.eval is not given: nothing to evaluate on"
        )


def _unused(draft: Draft) -> None:
    """Settings that others make idle."""
    training, data = draft.asked.config.training, draft.asked.config.data
    schedule = training.lr_schedule
    if "training.decay_fraction" in draft.asked and schedule != "wsd":
        draft.explain(
            "training.decay_fraction",
            training.decay_fraction,
            f"not used: only wsd has it, and lr_schedule is {schedule}",
        )
    if "training.min_learning_rate_ratio" in draft.asked and schedule == "constant":
        ratio = training.min_learning_rate_ratio
        draft.explain("training.min_learning_rate_ratio", ratio, "not used: lr_schedule constant never decays")
    if "data.eval_fraction" in draft.asked and data.eval is not None:
        draft.explain("data.eval_fraction", data.eval_fraction, "not used: data.eval names the held-out text")
    restore = draft.asked.get("checkpoint.restore")
    if "checkpoint.init_from" in draft.asked and isinstance(restore, int):
        why = f"not used: checkpoint.restore names step {restore} of the run's own checkpoints"
        draft.explain("checkpoint.init_from", draft["checkpoint.init_from"], why)
    keep = draft.asked.get("checkpoint.keep_every")
    if keep and draft["logging.save_every"] == 0:
        draft.explain(
            "checkpoint.keep_every", keep, "not used: logging.save_every is 0, so only the last step is saved"
        )


def holds_out(asked: Asked) -> bool:
    """Whether there is text to evaluate on."""
    return asked.config.data.eval is not None or asked.config.data.eval_fraction > 0
