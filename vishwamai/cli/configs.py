"""Commands about configs that need no control plane."""

import json

import typer

from vishwamai.cli import documents
from vishwamai.cli.documents import Document
from vishwamai.cli.failures import report
from vishwamai.cli.output import Format, Output
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.schema import json_schema

app = typer.Typer()


def config_in(to: Output, file: str, settings: list[str], name: str | None = None) -> Document:
    """The config of a file with --set and --name applied; says what is wrong with them and ends the command."""
    document = None
    try:
        document = documents.assign(documents.read(file), settings)
        return document if name is None else documents.named(document, name)
    except InvalidConfig as error:
        place = document.source if document else lambda pointer: documents.label(file)
        raise typer.Exit(report(to.err, error, place)) from error


@app.command()
def schema() -> None:
    """Print the JSON Schema of a config, for editors and other programs."""
    Output.of(Format.JSON).body(json.dumps(json_schema(), indent=2))
