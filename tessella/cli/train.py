"""``tessella train``: a tokenizer from a configuration."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from tessella.cli.options import Debug, verb


@verb
def train(
    config: Annotated[str, typer.Argument(help="A shipped name or a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values to change.")
    ] = None,
    *,
    debug: Debug = False,
) -> None:
    """Train a tokenizer from a configuration.

    A run that was interrupted goes on where it stopped. Several processes: accelerate launch -m
    tessella.cli train ...

    \b
    Examples:
      tessella train progressive_gq_f8 data.train=photos/ trainer.steps=20000
      tessella train my_config.yaml trainer.output=runs/wide
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    from tessella.training.run import train as run

    if not sys.stderr.isatty():  # without a progress bar, progress goes to the log
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    typer.echo(str(run(config, overrides or [])))


__all__ = ["train"]
