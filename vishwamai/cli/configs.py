"""Commands about configs that need no control plane: check, explain, convert, schema."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from vishwamai.cli import documents, render
from vishwamai.cli.documents import Document
from vishwamai.cli.exits import ExitCode
from vishwamai.cli.failures import report, stop
from vishwamai.cli.options import FileArgument, FormatOption, SetOption
from vishwamai.cli.output import Format, Output
from vishwamai.cli.text import clean, shown
from vishwamai.contract.api import Validation
from vishwamai.contract.convert import Conversion, convert
from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.reference import FieldFacts, UnknownName, explain, fields
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Platform, SiteDefaults
from vishwamai.contract.schema import json_schema

app = typer.Typer()
OUTCOME_STYLES = {"contradiction": "yellow", "not_supported": "yellow"}


def config_in(to: Output, file: str, settings: Sequence[str] = (), name: str | None = None) -> Document:
    """The config of a file with --set and --name applied; says what is wrong with them and ends the command."""
    document = explained(to, lambda place: documents.label(file), lambda: documents.read(file))
    changed = explained(to, lambda place: "", lambda: documents.assign(document, settings))
    return changed if name is None else explained(to, changed.source, lambda: documents.named(changed, name))


def explained[Result](to: Output, place: Callable[[str], str], work: Callable[[], Result]) -> Result:
    """What `work` returns; when it refuses a config, says why and where, and ends the command."""
    try:
        return work()
    except InvalidConfig as error:
        raise typer.Exit(report(to.err, error, place)) from error


@app.command()
def validate(
    file: FileArgument,
    settings: SetOption = [],  # noqa: B006 (typer reads it, nothing writes it)
    platform: Annotated[
        Platform, typer.Option(help="Where it would run: cpu rehearses the slice on this machine.")
    ] = "tpu",
    output: FormatOption = Format.TABLE,
) -> None:
    """Check a config and show what it would become, without a control plane."""
    to = Output.of(output)
    document = config_in(to, file, settings)
    site = SiteDefaults(platform=platform)
    resolved = explained(to, document.source, lambda: resolve(check_config(document.value), site))
    if to.json:
        answer = Validation(resolved=resolved, decisions=resolved.decisions, warnings=resolved.warnings)
        to.body(answer.model_dump_json())
        return
    render.resolution(to.out, resolved)
    to.note("\nvalid, but no trainer of this release can run it" if resolved.blockers else "\nvalid")


@app.command("explain")
def explain_setting(
    name: Annotated[
        str | None, typer.Argument(metavar="[FIELD]", help="A setting or section; all of them by default.")
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Say what a setting means, its default and its range."""
    to = Output.of(output)
    if name is None:
        every = fields()
        if to.json:
            to.body(json.dumps([one.model_dump(mode="json") for one in every]))
        else:
            render.show(to.out, _settings_table(every))
        return
    try:
        one = explain(name)
    except UnknownName as error:
        raise stop(to.err, str(error), ExitCode.NOT_FOUND) from error
    if to.json:
        to.body(one.model_dump_json())
    else:
        _show_facts(to, one)


@app.command("convert")
def convert_config(
    file: Annotated[
        str, typer.Argument(metavar="OLD.json", help="A config of the original VishwamAI code; - reads stdin.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="NEW.json|json",
            help="Where the config goes: a file, or stdout by default. "
            "The word json prints config and notes as one JSON object.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Rewrite an old config for this release; say for every name what became of it."""
    to = Output.of(Format.JSON if output == "json" else Format.TABLE)
    document = config_in(to, file)
    conversion = convert(document.value)
    if to.json:
        to.body(conversion.model_dump_json())
        return
    text = json.dumps(conversion.config, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        to.body(text)
    else:
        if Path(output).exists() and not force:
            raise stop(to.err, f"{output} exists; --force writes over it")
        Path(output).write_text(text, encoding="utf-8")
    render.show(to.err, _notes_table(conversion))
    if output is not None:
        to.note(f"\nwritten to {output}; see what it becomes: vishwamai validate {output}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a config, for editors and other programs."""
    Output.of(Format.JSON).body(json.dumps(json_schema(), indent=2))


def _settings_table(facts: Sequence[FieldFacts]) -> Table:
    made = render.table("setting", "default", "what it means")
    for one in facts:
        section = one.type == "section"
        default = "" if section else shown(one.default, 24)
        made.add_row(Text(one.name, style="bold" if section else ""), default, clean(one.description))
    return made


def _show_facts(to: Output, one: FieldFacts) -> None:
    to.out.print(Text.assemble((one.name, "bold"), f" ({one.type})"))
    to.out.print(Text(clean(one.description)))
    if one.fields:
        to.out.print()
        render.show(to.out, _settings_table([explain(name) for name in one.fields]))
        return
    pairs: list[tuple[str, Any]] = [
        ("default", _default(one)),
        ("accepted", one.accepted),
        ("a change", one.resume),
    ]
    to.out.print(render.facts(pairs))


def _default(one: FieldFacts) -> str:
    return "none: what fits the other settings is chosen" if one.default is None else shown(one.default, 200)


def _notes_table(conversion: Conversion) -> Table:
    made = render.table("name", "value", "became", "why")
    for note in conversion.notes:
        outcome = Text(note.outcome.replace("_", " "), style=OUTCOME_STYLES.get(note.outcome, ""))
        made.add_row(clean(note.name), shown(note.value, 32), outcome, clean(note.why))
    return made
