"""Write the tables in docs/ that repeat what the code says. A test fails while one of them differs.

Each table stands between `<!-- table: NAME -->` and `<!-- end -->`; run `.venv/bin/python scripts/docs_tables.py`
after a change of what it repeats.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard, get_args, get_origin

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from service.app import create_app
from service.kubernetes.site import Cluster
from service.metrics import Metrics
from service.settings import Settings
from trainer.reporting.prometheus import PrometheusMetrics
from vishwamai.contract.config import ModelSection
from vishwamai.contract.families import FAMILIES
from vishwamai.contract.plan import Plan
from vishwamai.contract.reports import AnyEvent, EvalEvent, StepEvent
from vishwamai.contract.resume import RULES
from vishwamai.contract.states import CAUSES, TRANSITIONS, Cause, JobState, cause_of_exit

ROOT = Path(__file__).resolve().parent.parent
_PLACE = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
_SUFFIXES = {"counter": "_total", "info": "_info"}


def with_tables(text: str) -> str:
    """The text with every table in it written anew. Raises KeyError for a name that no table has."""
    return _PLACE.sub(lambda place: place[1] + TABLES[place["name"]](), text)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _causes() -> str:
    codes: dict[Cause, list[int]] = {cause: [facts.exit_code] for cause, facts in CAUSES.items()}
    for code in range(256):
        cause = cause_of_exit(code)
        if cause is not Cause.INTERNAL and code not in codes[cause]:
            codes[cause].append(code)
    return _markdown(
        ["cause", "exit codes", "retry", "what to do"],
        ([f"`{c}`", ", ".join(map(str, codes[c])), facts.retry, facts.hint] for c, facts in CAUSES.items()),
    )


def _states() -> str:
    def words(states: Iterable[JobState]) -> str:
        return ", ".join(f"`{state}`" for state in JobState if state in set(states))

    return _markdown(["state", "may become"], ([f"`{state}`", words(TRANSITIONS[state])] for state in JobState))


def _settings() -> str:
    """Each setting with its default and the words that stand below it in the source."""
    source = ast.parse((ROOT / "service/settings.py").read_text(encoding="utf-8"))
    body = next(node.body for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    words: dict[str, str] = {}
    for node, below in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            words[node.target.id] = ast.literal_eval(below.value) if isinstance(below, ast.Expr) else ""
    defaults = {name: f"`{getattr(Settings(), name)}`" for name in words}
    return _markdown(
        ["variable", "default", "meaning"],
        (
            [f"`VISHWAMAI_{name.upper()}`", "empty" if defaults[name] == "``" else defaults[name], _line(text)]
            for name, text in words.items()
        ),
    )


def _events() -> str:
    """What the lines of the two journals hold."""
    models: tuple[type[BaseModel], ...] = get_args(get_args(AnyEvent)[0])
    rows = []
    for model in models:
        file = "metrics.jsonl" if model in (StepEvent, EvalEvent) else "log.jsonl"
        kind = model.model_fields["kind"].default
        fields = ", ".join(f"`{name}`" for name in model.model_fields if name not in {"kind", "time"})
        rows.append([f"`{kind}`", f"`{file}`", fields, _line(model.__doc__ or "")])
    return _markdown(["`kind`", "file", "fields", "when"], rows)


def _families() -> str:
    """What each family sets that is not the default."""
    plain = ModelSection()

    def words(values: Mapping[str, Any]) -> str:
        other = {name: value for name, value in values.items() if value != getattr(plain, name)}
        return ", ".join(f"`{name}` {json.dumps(value)}" for name, value in other.items())

    return _markdown(
        ["`model.family`", "fixed", "usual, where the config leaves it open"],
        ([f"`{name}`", words(facts.fixed), words(facts.usual)] for name, facts in FAMILIES.items()),
    )


def _resume() -> str:
    """What a change of each setting does to a run under way."""
    return _markdown(
        ["a change of", "is", "because"],
        ([", ".join(f"`{name}`" for name in rule.settings), f"`{rule.effect}`", rule.why] for rule in RULES),
    )


def _trainer_metrics() -> str:
    return _metrics(PrometheusMetrics(job_id=None, attempt=1, max_steps=1).registry.collect())


def _service_metrics() -> str:
    return _metrics(text_string_to_metric_families(Metrics().render({}).decode()))


def _metrics(found: Iterable[Metric]) -> str:
    return _markdown(
        ["name", "type", "meaning"],
        (
            [f"`{metric.name}{_SUFFIXES.get(metric.type, '')}`", metric.type, metric.documentation]
            for metric in sorted(found, key=lambda metric: metric.name)
        ),
    )


def _routes() -> str:
    paths = create_app(Settings()).openapi()["paths"]
    return _markdown(
        ["call", "what it does"],
        (
            [f"`{method.upper()} {path}`", _line(operation["description"])]
            for path, operations in paths.items()
            for method, operation in operations.items()
        ),
    )


def _plan() -> str:
    """The fields of a plan, those of the values in it too, as JSON pointers; * stands for any place of a list."""
    return _markdown(["field", "meaning"], _fields_of(Plan, ""))


def _fields_of(model: type[BaseModel], prefix: str) -> Iterator[list[str]]:
    for name, field in model.model_fields.items():
        inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_of_the_plan(kind)]
        several = "/*" if get_origin(field.annotation) is list else ""
        words = field.description or next((_line(kind.__doc__ or "") for kind in inner), "")
        yield [f"`{prefix}/{name}{several}`", _line(words)]
        for kind in inner:
            yield from _fields_of(kind, f"{prefix}/{name}{several}")


def _is_of_the_plan(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__ == Plan.__module__


def _cluster() -> str:
    """What the file of VISHWAMAI_CLUSTER_FILE may say."""
    return _markdown(
        ["field", "default", "meaning"],
        (
            [f"`{name}`", f"`{json.dumps(field.get_default())}`", _line(field.description or "")]
            for name, field in Cluster.model_fields.items()
        ),
    )


def _line(text: str) -> str:
    """The first paragraph, on one line."""
    return " ".join(text.strip().partition("\n\n")[0].split())


TABLES: dict[str, Callable[[], str]] = {
    "causes": _causes,
    "states": _states,
    "settings": _settings,
    "events": _events,
    "families": _families,
    "resume": _resume,
    "trainer-metrics": _trainer_metrics,
    "service-metrics": _service_metrics,
    "routes": _routes,
    "plan": _plan,
    "cluster": _cluster,
}


def main() -> None:
    """Write the tables of every page that has some."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (written := with_tables(text)) != text:
            path.write_text(written, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} has new tables")


if __name__ == "__main__":
    main()
