"""README and docs/ say what the code says: links, commands, settings, tables, and calls that work as printed."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer.main
from fastapi.testclient import TestClient
from typer.core import TyperGroup

from scripts.docs_tables import TABLES, with_tables
from service.app import create_app
from service.settings import Settings
from tests.service.plane import FakeLauncher, Plane, checkpoint
from vishwamai.cli.main import app as command
from vishwamai.contract import environment
from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.load import check_config
from vishwamai.contract.reference import explain, fields
from vishwamai.contract.resolve import resolve

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples/README.md", *ROOT.glob("docs/**/*.md")]
}
OPERATING, TRAINER, CONCEPTS = (PAGES[f"docs/{name}.md"] for name in ("operating", "trainer", "concepts"))
SECTIONS = "|".join(TrainingConfig.model_fields)
SETTING = re.compile(rf"(?<![\w./-])(?:{SECTIONS})\.[a-z_]\w*(?:\.[a-z_]\w*)*(?![\w/])")
FREE = {fact.name for fact in fields() if fact.type == "object"}
"""Settings whose inner names are the author's own."""
FILES = {"json", "jsonl", "md", "py", "safetensors", "txt"}
MISSPELT = {"model.hiden_dim"}
"""In examples of what an error looks like."""


@pytest.fixture(params=sorted(PAGES))
def page(request: pytest.FixtureRequest) -> str:
    return request.param


def code_in(text: str) -> list[str]:
    """Lines of fenced blocks, and spans between backticks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", rest)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_column(text: str, head: str) -> list[str]:
    """What stands between backticks in the first cells of the table with that head."""
    rows = text.partition(f"\n| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    assert rows, f"no table begins with {head}"
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_links_lead_somewhere(page: str):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / unquote(name) if name else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


def test_commands_and_their_options_exist(page: str):
    group = typer.main.get_command(command)
    assert isinstance(group, TyperGroup)
    for code in code_in(PAGES[page]):
        for name, rest in re.findall(r"(?:^|[ /])vishwamai ([a-z][a-z-]*)\b([^|&#]*)", code):
            assert name in group.commands, code
            known = {option for parameter in group.commands[name].params for option in parameter.opts}
            assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)) <= known | {"--help"}, code


def test_targets_of_make_exist(page: str):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for code in code_in(PAGES[page]):
        for name in re.findall(r"^make (?:-k )?([a-z][a-z-]*)", code):
            assert name in targets, code


def test_settings_exist(page: str):
    known = {fact.name for fact in fields()} | MISSPELT
    named = {name for name in SETTING.findall(PAGES[page]) if name.rpartition(".")[2] not in FILES}
    assert {name for name in named - known if name.rpartition(".")[0] not in FREE} == set()


def test_tables_say_what_the_code_says(page: str):
    text = PAGES[page]
    assert with_tables(text) == text, "run .venv/bin/python scripts/docs_tables.py"


def test_every_table_is_shown():
    shown = re.findall(r"^<!-- table: ([a-z-]+) -->\n\|", "\n".join(PAGES.values()), re.MULTILINE)
    assert sorted(shown) == sorted(TABLES)


def test_the_trainers_environment_is_complete():
    names = {value for name, value in vars(environment).items() if name.isupper() and str(value).startswith("VISH")}
    assert len(names) >= 7
    assert set(re.findall(r"`(VISHWAMAI_\w+)`", TRAINER)) == names


def test_every_kind_of_problem_is_listed():
    source = (ROOT / "service/routes/problems.py").read_text() + (ROOT / "service/middleware.py").read_text()
    kinds = set(re.findall(r'"kind": "([a-z-]+)"', source)) | set(re.findall(r'_problem\(\s*\d+, "([a-z-]+)"', source))
    assert len(kinds) > 10
    of_http = {"not-found", "method-not-allowed", "unauthorized", "forbidden"}
    assert set(first_column(OPERATING, "`type` ends in")) == kinds | of_http


def test_defaults_yield_as_the_page_says():
    value = r'(\d+|"\w+")'
    row = rf"^\| `(\w+)\.(\w+)` {value} \| `([\w.]+)` {value} \| {value}"
    rows = re.findall(row, CONCEPTS, re.MULTILINE)
    assert len(rows) == 5
    for section, name, written, other, default, becomes in rows:
        job = resolve(check_config({section: {name: json.loads(written)}}))
        assert explain(other).default == json.loads(default)
        decided = {decision.setting: decision.effective for decision in job.decisions}
        assert decided[other] == json.loads(becomes)


def calls_of(text: str) -> list[list[str]]:
    """The curl calls in a page, as words; $JOB stays."""
    calls = [shlex.split(line, comments=True) for line in code_in(text) if line.startswith("curl ")]
    assert len(calls) > 15
    return calls


def test_calls_work_as_printed(tmp_path: Path):
    calls, called = calls_of(OPERATING), set()
    launcher = FakeLauncher()
    launcher.exported_files = {"config.json": ROOT / "examples/tiny.json"}
    api = create_app(Settings(data_dir=tmp_path, tick_seconds=0.02), launcher)
    with TestClient(api, base_url="http://127.0.0.1:8000") as client:
        job = ""
        for words in calls:
            method, url, headers, body = request_of(words)
            answer = client.request(method, url.replace("$JOB", job), headers=headers, content=body)
            assert answer.status_code in {200, 201}, (words, answer.text)
            path = url.partition("?")[0].removeprefix("http://127.0.0.1:8000").replace("$JOB", "{job_id}")
            called.add(path.replace("/checkpoints/100", "/checkpoints/{step}").replace("config.json", "{name}"))
            if method == "POST" and url.endswith("/jobs"):
                job = answer.json()["id"]
                launcher.launches.get(timeout=30)
                assert Plane(api, client, launcher).report(job, checkpoint(100)).status_code == 200
            elif ":cancel" in url:
                launcher.exit(job, 1, 75)
        assert set(client.get("/openapi.json").json()["paths"]) - called == {"/jobs/{job_id}/reports"}


def request_of(words: list[str]) -> tuple[str, str, dict[str, str], bytes | None]:
    """Method, address, headers and body of a curl call."""
    method, url, headers, body = "", "", {}, None
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-X":
                method = next(rest)
            case "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            case "--data-binary":
                body = (ROOT / next(rest).removeprefix("@")).read_bytes()
            case "-d":
                body = next(rest).encode()
            case "-N":
                pass
            case _:
                assert not word.startswith("-"), word
                url = word
    return method or ("GET" if body is None else "POST"), url, headers, body
