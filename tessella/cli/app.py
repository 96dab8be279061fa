"""The program ``tessella`` and its verbs; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from tessella.cli.bench import bench
from tessella.cli.calibrate_kv import calibrate_kv
from tessella.cli.compare import compare
from tessella.cli.convert import convert
from tessella.cli.decode import decode
from tessella.cli.encode import encode
from tessella.cli.evaluate import evaluate
from tessella.cli.generate import generate
from tessella.cli.info import info
from tessella.cli.models import models
from tessella.cli.train import train

_GARBAGE_THRESHOLDS = (50_000, 20, 100)

app = typer.Typer(
    name="tessella",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help needs half the start-up time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from tessella import __version__

        typer.echo(f"tessella {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    """Pictures to small token files and back."""


for _verb in (encode, decode, info, compare, generate, convert, models, calibrate_kv, train):
    app.command()(_verb)

app.command("eval")(evaluate)
app.add_typer(bench)


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 the work failed, 2 wrong usage."""
    # importing torch makes a million objects that live as long as the process: looking for garbage
    # among them, while they are made and at exit, costs a second
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    try:
        app()
    finally:
        gc.freeze()


__all__ = ["app", "main"]
