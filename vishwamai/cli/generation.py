"""The command that lets a job's model write."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from vishwamai.cli.failures import stop
from vishwamai.cli.options import FormatOption, JobArgument, ServerOption, connected
from vishwamai.cli.output import Format, Output
from vishwamai.cli.text import clean
from vishwamai.client import DEFAULT_SERVER
from vishwamai.contract.generation import GenerateRequest

app = typer.Typer()


@app.command()
def generate(
    job: JobArgument,
    prompt: Annotated[list[str], typer.Option("--prompt", "-p", help="Text to go on from; may be repeated.")] = [],  # noqa: B006
    prompts: Annotated[str | None, typer.Option(metavar="FILE", help="A JSON list of texts; - reads stdin.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Tokens to add to each prompt, at most; 200.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest token each time; 0.8.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among those that together reach this chance.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Leave out those below this share of the likeliest.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1, tokens seen come less often.")] = None,
    min_length: Annotated[int | None, typer.Option(help="New tokens before the end may come.")] = None,
    stop_at: Annotated[
        list[str], typer.Option("--stop", metavar="TEXT", help="End a text before this; may be repeated.")
    ] = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same text.")] = None,
    step: Annotated[int | None, typer.Option(help="The checkpoint to use; the newest by default.")] = None,
    kv_cache: Annotated[str | None, typer.Option(help="fp8, bf16 or float32; the job's own by default.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Let a job's model go on from prompts, from its newest checkpoint or another."""
    to = Output.of(output)
    given = {
        "prompts": prompt + ([] if prompts is None else _read(to, prompts)),
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "min_length": min_length,
        "stop": stop_at,
        "seed": seed,
        "step": step,
        "kv_cache": kv_cache,
    }
    try:
        request = GenerateRequest.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise stop(to.err, "\n".join(_wrong(one) for one in error.errors())) from error
    with connected(server) as client:
        answer = client.generate(job, request)
        if to.json:
            to.body(client.last_body)
            return
        for one in answer.texts:
            to.out.print(Text.assemble((clean(one.prompt, lines=True), "bold"), clean(one.text, lines=True)))
        to.note(f"checkpoint of step {answer.step}; {sum(one.new_tokens for one in answer.texts)} tokens")


def _wrong(error: Mapping[str, Any]) -> str:
    option, value = str(error["loc"][0]).replace("_", "-"), error["input"]
    given = "" if isinstance(value, list | dict) else f" {value!r}"
    return f"--{option}{given}: {error['msg']}"


def _read(to: Output, name: str) -> list[str]:
    text = typer.get_text_stream("stdin").read() if name == "-" else Path(name).read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise stop(to.err, f"--prompts {name}: no JSON ({error})") from error
    if not isinstance(found, list):
        raise stop(to.err, f"--prompts {name}: not a JSON list of texts")
    return found
