"""Every setting is explained, and near misses are met with suggestions."""

import re
from typing import Any

import jsonschema_rs
import pytest

from vishwamai.contract.legacy import LEGACY
from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.reference import UnknownName, explain, fields, json_schema


def test_every_setting_is_explained():
    facts = {entry.name: entry for entry in fields()}
    assert len(facts) > 90
    for name, entry in facts.items():
        assert entry.description, name
        assert entry.accepted, name
    assert facts["training.batch_size"].default == 8
    assert facts["training.batch_size"].range == ">= 1 and <= 65536"
    assert facts["training.lr_schedule"].choices == ["linear", "cosine", "wsd", "constant"]
    assert facts["tpu.mesh_shape"].optional
    assert "tpu.mesh_shape.data" in facts["tpu.mesh_shape"].fields


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("training.batch_size", "training.batch_size"),
        ("batch_size", "training.batch_size"),
        ("/training/batch_size", "training.batch_size"),
        ("training", "training"),
        ("mesh_shape.model", "tpu.mesh_shape.model"),
        ("patience", "training.early_stopping.patience"),
    ],
)
def test_a_name(asked: str, name: str):
    assert explain(asked).name == name


@pytest.mark.parametrize(
    ("asked", "suggestions"),
    [
        ("batchsize", ["training.batch_size"]),
        ("training.batch_sise", ["training.batch_size"]),
        ("min_length", ["sequence.min_length", "data.min_length"]),
        ("emb_size", ["model.hidden_dim"]),
        ("model.key_size", ["model.head_dim"]),
        ("qqq", []),
    ],
)
def test_a_name_that_is_none(asked: str, suggestions: list[str]):
    with pytest.raises(UnknownName) as caught:
        explain(asked)
    assert caught.value.suggestions == suggestions
    assert all(suggestion in str(caught.value) for suggestion in suggestions)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("widening_factor", "model.mlp_dim"),
        ("tpu.sharding", "tpu.device_strategy"),
        ("distillation.enabled", "distillation"),
        ("tot", "no setting here: tree-of-thought"),
        ("tot.max_depth", "no setting here: tree-of-thought"),
        ("use_rotary", "no setting here: positions are always rotary"),
        ("fp8_margin", "no margin to set"),
        ("", "no name"),
    ],
)
def test_an_old_name_is_answered(asked: str, words: str):
    with pytest.raises(UnknownName, match=re.escape(words)):
        explain(asked)


def test_every_name_of_the_original_code_is_answered():
    for name in LEGACY:
        try:
            explain(name)
        except UnknownName as error:
            assert "original VishwamAI code" in str(error), name  # noqa: PT017 (some names are settings here too)


def test_an_accelerator_is_explained_by_names():
    assert "v5e" in explain("tpu.accelerator").accepted


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ({}, True),
        ({"run": {"labels": {"team": "nlp"}}}, True),
        ({"run": {"labels": {"a b": "c"}}}, False),
        ({"run": {"labels": {"a": 1}}}, False),
        ({"tpu": {"mesh_shape": {"data": None}}}, True),
        ({"tpu": {"mesh_shape": {"pipeline": 2}}}, False),
        ({"model": {"head_dim": 63}}, False),
        ({"model": None}, False),
        ({"distillation": None}, True),
        ({"checkpoint": {"restore": True}}, False),
        ({"training": {"batch_size": "8"}}, False),
        ({"data": {"train": []}}, False),
    ],
)
def test_the_schema_says_what_the_contract_says(document: dict[str, Any], valid: bool):
    assert jsonschema_rs.is_valid(json_schema(), document) == valid
    if valid:
        check_config(document)
    else:
        with pytest.raises(InvalidConfig):
            check_config(document)


def test_the_schema_is_2020_12_and_describes_everything():
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["$id"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {entry.name for entry in fields() if "." not in entry.name}
    for definition in schema["$defs"].values():
        assert definition["description"]
        assert all("description" in entry or "$ref" in entry for entry in definition["properties"].values())


def test_the_schema_is_a_copy():
    json_schema()["properties"].clear()
    assert json_schema()["properties"]
    check_config({"training": {"batch_size": 1}})
