"""The `vishwamai` command: its groups of commands under one name."""

import sys

import typer

from vishwamai.cli import configs, export, generation, jobs, manifests, plans, records, site
from vishwamai.cli.exits import EPILOG
from vishwamai.cli.failures import Commands

app = typer.Typer(
    cls=Commands,
    help="Train VishwamAI models: one JSON config in, a trained model out.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for group in (site, jobs, generation, export, records, manifests, plans, configs):
    app.add_typer(group.app)


def main() -> None:
    """Entry point of the installed command."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its escape, never a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="vishwamai")


if __name__ == "__main__":
    main()
