"""Cached teachers in the contract: what is announced, what is decided, and what contradicts."""

import pytest

from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob, SiteDefaults

MODEL = {"vocab_size": 32_000, "max_seq_len": 2048}
TRAINING = {"max_steps": 1000, "warmup_steps": 10, "batch_size": 4, "grad_accum_steps": 2}
TPU = {"accelerator": "v5e", "tpu_topology": "2x4"}


def job(kind: str = "cache_teacher", model: dict[str, int] | None = None, **section: object) -> ResolvedJob:
    distillation = {"teacher_model": "./teacher", "cache": "./cache", **section}
    document = {"model": model or MODEL, "training": TRAINING, "tpu": TPU, "distillation": distillation}
    return resolve(check_config(document | {"run": {"kind": kind}}), SiteDefaults())


def why(resolved: ResolvedJob, setting: str) -> str:
    return next(one.why for one in resolved.decisions if one.setting == setting)


def test_the_size_of_what_will_be_written_is_announced():
    # 64 words of 2 + 2 bytes, and 8; 1000 steps of 4 x 8 x 2 windows of 2048 tokens.
    assert why(job(), "distillation.cache") == (
        "written: 64 words of a token take 264 bytes, so 0.2 GiB a million tokens and at most 32.2 GiB for the "
        "131,072,000 of 1,000 steps; a window that is visited twice is kept once"
    )
    large = why(job(model=MODEL | {"vocab_size": 131_072}, cache_top_k=8), "distillation.cache")
    assert "8 words of a token take 56 bytes" in large  # 4 + 2 bytes a word


def test_a_cache_is_written_without_hidden_states_and_with_as_many_words_as_there_are():
    resolved = job(model=MODEL | {"vocab_size": 300}, cache_top_k=300)
    assert resolved.effective.distillation is not None
    assert resolved.effective.distillation.use_intermediate_distillation is False
    assert "not its hidden states" in why(resolved, "distillation.use_intermediate_distillation")
    assert job().effective.distillation.cache_top_k == 64  # type: ignore[union-attr]
    assert "waits for run.kind train" in why(resolved, "run.kind")
    assert resolved.blockers == []


def test_who_reads_a_cache_needs_no_teacher():
    resolved = job("train", teacher_model="nobody-knows", teacher_dtype="float32")
    assert resolved.blockers == []
    assert why(resolved, "distillation.cache") == "read in place of the teacher, which is not loaded"
    assert why(resolved, "distillation.teacher_dtype") == "not used: no teacher is loaded"
    known = resolve(
        check_config({"distillation": {"teacher_model": "small", "cache": "./cache"}}),
        SiteDefaults(teachers={"small": "/models/small"}),
    )
    assert known.effective.distillation.teacher_model == "/models/small"  # type: ignore[union-attr]
    (unknown,) = job(teacher_model="nobody-knows").blockers
    assert unknown.code == "unknown-teacher"


@pytest.mark.parametrize("kind", ["train", "cache_teacher"])
def test_a_cache_behind_an_address_is_valid_and_not_launched(kind):
    (blocker,) = job(kind, cache="gs://bucket/cache").blockers
    assert (blocker.code, blocker.pointer) == ("cache-address", "/distillation/cache")


def test_without_a_cache_its_settings_are_not_used():
    resolved = job("train", cache=None, cache_top_k=8, cache_rest="left_out")
    for name in ("cache_top_k", "cache_rest"):
        assert why(resolved, f"distillation.{name}") == "not used: no cache"


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        ({"run": {"kind": "cache_teacher"}}, "/run/kind", "names no folder to write to"),
        ({"run": {"kind": "cache_teacher"}, "distillation": {}}, "/run/kind", "names no folder to write to"),
        (
            {"distillation": {"cache": "./cache", "use_intermediate_distillation": True}},
            "/distillation/use_intermediate_distillation",
            "is about hidden states, and a cache",
        ),
        (
            {"distillation": {"cache": "./cache", "hidden_loss": "cosine"}},
            "/distillation/hidden_loss",
            "is about hidden states, and a cache",
        ),
        (
            {"model": {"vocab_size": 300}, "distillation": {"cache": "./cache", "cache_top_k": 301}},
            "/distillation/cache_top_k",
            "cache_top_k is 301, and model.vocab_size is 300",
        ),
    ],
)
def test_what_contradicts(document, pointer, words):
    with pytest.raises(InvalidConfig) as caught:
        check_config(document)
    (problem,) = caught.value.problems
    assert problem.pointer == pointer
    assert words in problem.message


def test_settings_of_hidden_states_that_are_off_do_not_contradict():
    section = {"cache": "./cache", "use_intermediate_distillation": False, "hidden_loss": "mse"}
    assert check_config({"distillation": section}).distillation is not None
