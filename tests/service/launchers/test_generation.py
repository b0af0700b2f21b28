import asyncio
import json
import os
import sys

import pytest

from service.launchers.base import Busy, GenerationFailed, GenerationRefused
from service.launchers.local import LocalLauncher
from tests.service.launchers.place import until
from vishwamai.contract.generation import GenerateRequest

FAKE = """
import json, os, pathlib, sys, time
options = sys.argv[1:]
output = pathlib.Path(next(one for one in options if one.startswith("--from=")).removeprefix("--from="))
prompts = json.load(sys.stdin)
(output / "heard.json").write_text(json.dumps([options, os.getcwd(), dict(os.environ), os.getpid()]))
if prompts == ["wait"]:
    time.sleep(600)
if prompts == ["refuse"]:
    print("something before", file=sys.stderr)
    print("error: the tokenizer is gone", file=sys.stderr)
    print("something after", file=sys.stderr)
    sys.exit(2)
if prompts == ["crash"]:
    sys.exit("ValueError: no idea")
if prompts == ["mumble"]:
    print("texts: none")
    sys.exit()
texts = [{"prompt": p, "text": "!", "prompt_tokens": 1, "new_tokens": 1, "ended": "eos"} for p in prompts]
print(json.dumps({"texts": texts, "step": 7, "kv_cache": "fp8"}))
"""


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "jobs" / "job-1"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def launcher(tmp_path, output):
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    environ = {"PATH": os.environ["PATH"], "VISHWAMAI_DATABASE_URL": "secret", "JAX_PLATFORMS": "cpu"}
    return LocalLauncher(
        tmp_path,
        "http://127.0.0.1:1",
        python=sys.executable,
        generate=(str(script),),
        generation_seconds=60,
        environ=environ,
    )


def generate(launcher, *prompts, **sampling):
    return asyncio.run(launcher.generate("job-1", GenerateRequest(prompts=list(prompts), **sampling)))


def test_the_request_reaches_the_process_and_its_answer_comes_back(launcher, output, tmp_path):
    (output / "started_in").write_text(str(tmp_path))
    answer = generate(launcher, "--x", "ü\n", step=7, top_k=3, kv_cache="bf16", stop=["--help", "b"])
    assert [one.prompt for one in answer.texts] == ["--x", "ü\n"]
    options, directory, environ, _ = json.loads((output / "heard.json").read_text())
    assert {"--prompts=-", "--output=json", "--step=7", "--top-k=3", "--kv-cache=bf16", "--temperature=0.8"} <= {
        *options
    }
    assert [one for one in options if one.startswith("--stop")] == ["--stop=--help", "--stop=b"]
    assert directory == str(tmp_path)
    assert environ["JAX_PLATFORMS"] == "cpu"
    assert "VISHWAMAI_DATABASE_URL" not in environ


@pytest.mark.parametrize(
    ("prompt", "error", "words"),
    [
        ("refuse", GenerationRefused, r"^the tokenizer is gone$"),
        ("crash", GenerationFailed, "no idea"),
        ("mumble", GenerationFailed, "something else"),
    ],
)
def test_an_end_without_an_answer_is_told(launcher, prompt, error, words):
    with pytest.raises(error, match=words):
        generate(launcher, prompt)


def test_a_python_that_is_not_there(tmp_path, output):
    launcher = LocalLauncher(tmp_path, "http://127.0.0.1:1", python=str(tmp_path / "python"))
    with pytest.raises(GenerationFailed, match="could not start"):
        generate(launcher, "x")


def test_one_that_takes_too_long_is_ended(launcher, output, monkeypatch):
    monkeypatch.setattr(launcher._generations, "_seconds", 1.5)
    with pytest.raises(GenerationRefused, match=r"after 1\.5 seconds"):
        generate(launcher, "wait")
    pid = json.loads((output / "heard.json").read_text())[3]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_only_so_many_run_at_once_and_a_caller_who_leaves_ends_his(launcher, output):
    async def story():
        first = asyncio.create_task(launcher.generate("job-1", GenerateRequest(prompts=["wait"])))
        await asyncio.to_thread(until, lambda: (output / "heard.json").exists())
        with pytest.raises(Busy, match="1 of at most 1"):
            await launcher.generate("job-1", GenerateRequest(prompts=["x"]))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await launcher.generate("job-1", GenerateRequest(prompts=["x"]))

    assert asyncio.run(story()).step == 7
