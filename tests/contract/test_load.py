"""Fields that cannot be accepted: every one of them at once, in words, with what would be accepted."""

import json
import math
from typing import Any

import pytest

from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig, Problem


def problems(document: Any) -> dict[str, Problem]:
    with pytest.raises(InvalidConfig) as caught:
        check_config(document)
    return {problem.pointer: problem for problem in caught.value.problems}


def only(document: Any) -> Problem:
    (problem,) = problems(document).values()
    return problem


@pytest.mark.parametrize(
    ("section", "field", "value", "says", "hint"),
    [
        ("training", "batch_size", "8", 'is "8", a string; it takes a whole number >= 1', "write 8 without quotes"),
        ("training", "batch_size", 0, "is 0; it takes a whole number >= 1", None),
        ("training", "batch_size", True, "is true, a truth value;", "write a number"),
        ("training", "batch_size", None, "is null;", "leave it out to take the default, 8"),
        ("training", "batch_size", [8], "is [8], a list;", None),
        ("training", "max_steps", 5e5, "is 500000.0, a number; it takes a whole number", "write 500000"),
        ("training", "max_steps", 0.5, "is 0.5, a number; it takes a whole number", None),
        (
            "training",
            "learning_rate",
            "1e-4",
            'is "1e-4", a string; it takes a number > 0',
            "write 1e-4 without quotes",
        ),
        ("training", "learning_rate", math.nan, "is NaN, not a number that JSON has", None),
        ("training", "max_grad_norm", math.inf, "is Infinity, not a number that JSON has", None),
        ("training", "weight_decay", -0.1, "is -0.1; it takes a number >= 0", None),
        ("training", "learning_rate", False, "is false, a truth value", None),
        ("training", "lr_schedule", "cosin", "one of linear, cosine, wsd, constant", "did you mean cosine?"),
        ("training", "lr_schedule", 3, "is 3, a whole number", None),
        ("model", "head_dim", 63, "is 63; it takes an even whole number", None),
        ("model", "dropout_rate", 1, "is 1; it takes a number >= 0 and < 1", None),
        ("memory", "gradient_checkpointing", "true", "it takes true or false", "write true without quotes"),
        ("memory", "gradient_checkpointing", 1, "is 1, a whole number; it takes true or false", "write true"),
        ("data", "train", "corpus.txt", "it takes a list of text", 'put it in a list: ["corpus.txt"]'),
        ("data", "train", [], "is an empty list", None),
        ("data", "train", "['a.txt']", "it takes a list of text", "write a JSON list"),
        ("tpu", "tpu_topology", "2X2X2", "text such as 2x4 or 2x2x2", 'write "2x2x2"'),
        ("tpu", "accelerator", 5, "text such as v3, v4, v5e, v5p, v6e, tpu7x or", 'put it in double quotes: "5"'),
        ("run", "name", 2026, "it takes text of 1 to 200 characters", 'put it in double quotes: "2026"'),
        ("tpu", "tpu_topology", "2*2", "text such as 2x4 or 2x2x2", None),
        ("checkpoint", "restore", "newst", "one of newest, never, or a whole number", "did you mean newest?"),
        ("checkpoint", "restore", -1, "one of newest, never, or a whole number", None),
        ("run", "name", "x" * 500, "x...", None),
    ],
)
def test_a_wrong_value(section: str, field: str, value: Any, says: str, hint: str | None):
    problem = only({section: {field: value}})
    assert problem.pointer == f"/{section}/{field}"
    assert problem.message.startswith(f"{section}.{field} is ")
    assert says in problem.message
    assert str(problem.accepted) in problem.message
    if hint:
        assert hint in (problem.hint or "")
    json.dumps(problem.model_dump(), allow_nan=False)


@pytest.mark.parametrize("value", [None, 3, "x", [], True])
def test_a_section_is_an_object(value: Any):
    problem = only({"training": value})
    assert problem.pointer == "/training"
    assert "takes an object" in problem.message


@pytest.mark.parametrize(
    "document", [{"distillation": None}, {"tpu": {"mesh_shape": None}}, {"model": {"num_kv_heads": None}}]
)
def test_null_where_nothing_may_be_asked(document: dict[str, Any]):
    check_config(document)


@pytest.mark.parametrize(
    ("document", "pointer", "hint"),
    [
        ({"training": {"batchSize": 8}}, "/training/batchSize", "did you mean batch_size?"),
        ({"training": {"max_step": 8}}, "/training/max_step", "did you mean max_steps?"),
        ({"trainning": {}}, "/trainning", "did you mean training?"),
        ({"tpu": {"mesh_shape": {"modell": 1}}}, "/tpu/mesh_shape/modell", "did you mean model?"),
        ({"training": {"optimizer": {"beta_1": 0.9}}}, "/training/optimizer/beta_1", "did you mean beta1?"),
        ({"training": {"hidden_dim": 8}}, "/training/hidden_dim", "write model.hidden_dim"),
        ({"batch_size": 8}, "/batch_size", "write training.batch_size"),
        ({"model": {"batch_sizes": 8}}, "/model/batch_sizes", "did you mean training.batch_size?"),
        ({"model": {"emb_size": 8}}, "/model/emb_size", "run `vishwamai convert old.json`"),
        ({"training": {"train_steps": 8}}, "/training/train_steps", "run `vishwamai convert old.json`"),
        ({"training": {"save_every": 8}}, "/training/save_every", "run `vishwamai convert old.json`"),
        ({"tpu": {"sharding": {}}}, "/tpu/sharding", "run `vishwamai convert old.json`"),
        ({"early_stopping": {"patience": 3}}, "/early_stopping", "run `vishwamai convert old.json`"),
        ({"tot": {"max_depth": 3}}, "/tot", "run `vishwamai convert old.json`"),
        ({"a/b~c": 1}, "/a~1b~0c", None),
    ],
)
def test_an_unknown_name(document: dict[str, Any], pointer: str, hint: str | None):
    problem = only(document)
    assert problem.pointer == pointer
    assert "no setting" in problem.message
    if hint is None:
        assert problem.hint is None
    else:
        assert hint in (problem.hint or "")


def test_a_label_says_what_stands_there():
    assert 'the entry "a b": "c"; it takes names' in only({"run": {"labels": {"a b": "c"}}}).message
    assert only({"run": {"labels": {"team": 5}}}).hint == 'put it in double quotes: "5"'


def test_an_object_is_not_told_to_be_put_in_a_list():
    assert only({"data": {"train": {"0": "x"}}}).hint is None


@pytest.mark.parametrize(
    ("sets", "pointer", "words"),
    [
        ({}, "/data/eval", "data.eval is {}; it takes a list of text"),
        (3, "/data/eval", "or an object whose values are each a list of text of 1 to 4096 characters, or null"),
        ({"wiki": []}, "/data/eval/wiki", "data.eval.wiki is an empty list; it takes a list of text"),
        ({"wiki": "a.txt"}, "/data/eval/wiki", 'data.eval.wiki is "a.txt", a string; it takes a list of text'),
        ({"wiki": ["a.txt", 3]}, "/data/eval/wiki/1", "data.eval.wiki[1] is 3, a whole number; it takes text"),
        ({"a b": ["a.txt"]}, "/data/eval/a b", 'data.eval has the entry "a b": ["a.txt"]; it takes names of letters'),
    ],
)
def test_evaluation_sets_by_name(sets, pointer: str, words: str):
    found = only({"data": {"eval": sets}})
    assert found.pointer == pointer
    assert words in found.message


def test_everything_wrong_is_said_at_once():
    found = problems(
        {
            "model": {"num_heads": 7, "hidden_dim": 100, "vocab": 3},
            "training": {"batch_size": "8", "warmup_steps": 100, "max_steps": 100},
            "data": {"train": ["ok", 3], "eval": [""]},
            "run": {"labels": {"a b": "x", "c": 3}, "tags": [""]},
            "logging": None,
        }
    )
    assert set(found) == {
        "/model/num_heads",
        "/model/vocab",
        "/training/batch_size",
        "/training/warmup_steps",
        "/data/train/1",
        "/data/eval/0",
        "/run/labels/a b",
        "/run/labels/c",
        "/run/tags/0",
        "/logging",
    }
    assert "data.train[1] is 3" in found["/data/train/1"].message


def test_a_contradiction_with_an_invalid_field_is_not_guessed_at():
    found = problems({"model": {"num_heads": "7", "num_kv_heads": 5}, "tpu": {"accelerator": 7, "num_slices": 2}})
    assert set(found) == {"/model/num_heads", "/tpu/accelerator"}


def test_an_enormous_value_is_shortened():
    problem = only({"training": {"batch_size": "9" * 100_000}})
    assert len(problem.message) < 300
    assert len(problem.value) <= 80


def test_the_error_reads_well():
    with pytest.raises(
        InvalidConfig, match=r"^/training/batch_size: training\.batch_size is \"8\".*\(write 8 without quotes\)$"
    ):
        check_config({"training": {"batch_size": "8"}})


@pytest.mark.parametrize(
    ("source", "pointer", "says"),
    [
        ({"name": "a", "files": ["x", ""]}, "/data/train/0/files/1", 'files[1] is ""; it takes text of 1 to 4096'),
        ({"name": "a b", "files": ["x"]}, "/data/train/0/name", 'data.train[0].name is "a b"'),
        (
            {"name": "a", "files": ["x"], "weight": 0},
            "/data/train/0/weight",
            "is 0; it takes a number >= 1e-06 and <= 1000000",
        ),
        ({"name": "a", "file": ["x"]}, "/data/train/0/file", "data.train[0].file is no setting"),
        ({"name": "a"}, "/data/train/0", "data.train[0] lacks files"),
        (3, "/data/train/0", "data.train[0] is 3, a whole number; it takes text"),
    ],
)
def test_a_place_inside_a_list(source: Any, pointer: str, says: str):
    problem = only({"data": {"train": [source]}})
    assert problem.pointer == pointer
    assert says in problem.message


def test_all_places_inside_a_list_at_once():
    found = problems({"data": {"train": [{"name": "", "files": [], "weight": -1.0}]}})
    assert sorted(found) == ["/data/train/0/files", "/data/train/0/name", "/data/train/0/weight"]
    assert check_config({"data": {"train": [{"name": "a", "files": ["x"], "weight": 2}]}}).data.sources()[0].weight == 2
