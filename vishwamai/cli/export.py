"""The command that turns a checkpoint into a Hugging Face folder."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from vishwamai.cli.failures import stop
from vishwamai.cli.options import FormatOption, JobArgument, ServerOption, connected
from vishwamai.cli.output import Format, Output
from vishwamai.cli.text import clean, size
from vishwamai.client import DEFAULT_SERVER
from vishwamai.contract.export import ExportType

app = typer.Typer()


@app.command()
def export(
    job: JobArgument,
    step: Annotated[int | None, typer.Option(min=0, help="The checkpoint to use; the newest by default.")] = None,
    to_folder: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="A new folder here; else it stays with the server.")
    ] = None,
    dtype: Annotated[ExportType, typer.Option(help="Number format of the weights.")] = "float32",
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Write a checkpoint as a Hugging Face folder: safetensors, config.json, tokenizer."""
    to = Output.of(output)
    if to_folder is not None and to_folder.exists() and (not to_folder.is_dir() or any(to_folder.iterdir())):
        raise stop(to.err, f"--to {to_folder} is in use: choose a new folder")
    with connected(server) as client:
        if step is None:
            committed = client.checkpoints(job).checkpoints
            if not committed:
                raise stop(to.err, f"job {job} has no committed checkpoint yet")
            step = committed[0].step
        try:
            answer = client.export(job, step, dtype=dtype, to=to_folder)
        except OSError as error:
            raise stop(to.err, f"--to {to_folder}: {error}") from error
    if to.json:
        to.body(answer.model_dump_json())
        return
    for file in answer.files:
        to.out.print(Text(f"{clean(file.name)}  {size(file.size_bytes)}"))
    where = to_folder or f"{clean(answer.folder)} on the server's machine"
    to.note(f"checkpoint of step {answer.step} as {answer.dtype} in {where}")
