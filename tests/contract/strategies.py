"""Hypothesis strategies for configs: fields from the JSON Schema, with hardware that often enough exists."""

import copy
import re
from typing import Any

from hypothesis import strategies as st

from vishwamai.contract.accelerators import generations, slices
from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.families import FAMILIES
from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolved import SiteDefaults
from vishwamai.contract.schema import Schema, json_schema

_SCHEMA = json_schema()
_POWERS = st.sampled_from([1, 2, 4, 8, 16, 32])

_SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "accelerator": st.sampled_from([name for g in generations() for name in (g.name, *g.labels, *g.aliases)]),
    "tpu_topology": st.sampled_from(sorted({s.topology for s in slices()}, key=len)),
    "tpu_cores": st.sampled_from([1, 2, 4, 8, 8, 8, 16, 32, 64, 128, 192, 256]),
    "num_slices": st.sampled_from([1, 1, 1, 2, 3, 4]),
    **dict.fromkeys(("data", "fsdp", "sequence", "model"), _POWERS | st.integers(1, 12)),
    "hidden_dim": st.sampled_from([64, 100, 128, 512, 768, 4096]) | st.integers(1, 131_072),
    "num_heads": st.sampled_from([1, 4, 7, 8, 12, 64]) | st.integers(1, 1024),
    "num_kv_heads": st.sampled_from([1, 2, 4, 12]) | st.integers(1, 1024),
    "head_dim": st.sampled_from([64, 128, 192, 256]) | st.integers(1, 512).map(lambda half: 2 * half),
    "num_layers": st.integers(1, 8) | st.integers(1, 1024),
    "family": st.sampled_from([name for name in FAMILIES for _ in range(3 if name == "vishwamai" else 1)]),
    "layer_pattern": st.none() | st.lists(st.sampled_from(["full", "sliding"]), min_size=1, max_size=6),
    "attention_dropout_rate": st.just(0.0) | st.floats(0.0, 1.0, exclude_max=True),
    "teacher_model": st.sampled_from(["gemma-7b", "gs://bucket/teacher", "./teacher", "/models/teacher"]),
    "cache": st.sampled_from(["gs://bucket/cache", "./cache", "cache"]),
    "max_seq_len": st.sampled_from([2, 64, 96, 2048, 4096]) | st.integers(2, 4_194_304),
    "warmup_steps": st.integers(0, 3000) | st.integers(0, 1_000_000_000),
    "max_steps": st.integers(1, 3000) | st.integers(1, 1_000_000_000),
    "eval": st.sampled_from([None, ["a.txt"], {"wiki": ["a.txt"], "code": ["b.txt", "c.txt"]}]),
    "best_of": st.sampled_from([None, None, "wiki"]),
    "eval_set": st.sampled_from([None, None, "wiki"]),
    "labels": st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,20}[A-Za-z0-9]", fullmatch=True), st.text(max_size=9)
    ),
}


def documents() -> st.SearchStrategy[dict[str, Any]]:
    """JSON documents whose every field is in range; many of them contradict themselves."""
    return _from_schema("", _SCHEMA)


def valid_documents() -> st.SearchStrategy[dict[str, Any]]:
    """JSON documents that check_config accepts."""
    return documents().map(without_refused)


def configs() -> st.SearchStrategy[TrainingConfig]:
    """Configs as check_config returns them, so that what was asked can be told from defaults."""
    return valid_documents().map(check_config)


def sites() -> st.SearchStrategy[SiteDefaults]:
    """Every kind of site."""
    names = st.sampled_from([None, *(generation.name for generation in generations())])
    return st.builds(SiteDefaults, platform=st.sampled_from(["tpu", "cpu", "gpu"]), accelerator=names)


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


def without_refused(document: dict[str, Any]) -> dict[str, Any]:
    """The document less the settings that stand in the way, one after another."""
    document = copy.deepcopy(document)
    while True:
        try:
            check_config(document)
        except InvalidConfig as error:
            holder = document
            *sections, last = error.problems[0].pointer.removeprefix("/").split("/")
            for section in sections:
                holder = holder[section]
            del holder[last]
        else:
            return document


@st.composite
def _tpu_of_a_slice(draw: st.DrawFn) -> dict[str, Any]:
    """A tpu section that asks for a slice there is, in some of the ways to ask for it."""
    chosen = draw(st.sampled_from(slices()))
    section = draw(_from_schema("", _SCHEMA["$defs"]["TpuSection"]))
    section.pop("mesh_shape", None)
    cores = st.sampled_from([chosen.devices, chosen.tensor_cores, chosen.chips])
    ways: dict[str, Any] = {
        "accelerator": chosen.generation.name,
        "tpu_topology": chosen.topology,
        "tpu_cores": draw(cores),
        "mesh_shape": draw(st.sampled_from([{"data": chosen.devices}, {"fsdp": chosen.devices}, {"model": 1}])),
    }
    for name in ways:
        section.pop(name, None)
    return section | {name: ways[name] for name in draw(st.sets(st.sampled_from(sorted(ways)), min_size=1))}


def _text(schema: Schema) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        pattern = re.compile(schema["pattern"])
        return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= schema["maxLength"])
    return st.text(st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=20)


def _from_schema(name: str, schema: Schema) -> st.SearchStrategy[Any]:
    if name in _SPECIAL and "$ref" not in schema:  # model is a section as well as an axis of the mesh
        return _SPECIAL[name]
    if name == "tpu":
        return _from_schema("", schema) | _tpu_of_a_slice()
    if "anyOf" in schema:
        return st.one_of([_from_schema("", option) for option in schema["anyOf"]])
    if "$ref" in schema:
        return _from_schema("", _SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    match schema["type"]:
        case "object":
            fields = {field: _from_schema(field, inner) for field, inner in schema["properties"].items()}
            required = {field: fields.pop(field) for field in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=fields)
        case "integer":
            step = schema.get("multipleOf", 1)
            most = schema.get("maximum", schema.get("exclusiveMaximum", 1) - 1)
            least = schema["minimum"]
            return st.integers(least // step, min(most, 5000) // step).map(lambda n: n * step) | st.just(most)
        case "number":
            most = schema.get("maximum", schema.get("exclusiveMaximum", 1e6))
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            return st.floats(
                least, most, exclude_min="exclusiveMinimum" in schema, exclude_max="exclusiveMaximum" in schema
            )
        case "boolean":
            return st.booleans()
        case "array":
            return st.lists(
                _from_schema("", schema["items"]),
                min_size=schema.get("minItems", 0),
                max_size=min(3, schema.get("maxItems", 3)),
            )
        case "null":
            return st.none()
        case _:
            return _text(schema)
