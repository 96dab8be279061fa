"""``tessella models``: the models that can be used by name."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from tessella.cli.options import Debug, Json, verb
from tessella.cli.text import size
from tessella.hub import SEARCH_PATH_VARIABLE
from tessella.hub import models as list_models


@verb
def models(*, as_json: Json = False, debug: Debug = False) -> None:
    """List the models that can be used by name.

    These are the models that ship with the package and those in the folders that the variable
    TESSELLA_MODELS names; none needs a network. A folder or a hub id (org/name) can be given to
    --model as well.

    \b
    Examples:
      tessella models
      TESSELLA_MODELS=runs/ tessella models --json
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    found = list_models()
    if as_json:
        records = [{**asdict(record), "folder": str(record.folder)} for record in found]
        typer.echo(json.dumps(records, indent=2))
        return
    if not found:
        typer.echo(f"no models; put folders of them on {SEARCH_PATH_VARIABLE}", err=True)
        return
    width = max(len(record.name) for record in found)
    family = max(len(record.family) for record in found)
    for record in found:
        origin = "shipped" if record.is_shipped else str(record.folder)
        millions = f"{record.parameters / 1e6:.2f} M"
        typer.echo(
            f"{record.name:<{width}}  {record.family or 'damaged':<{family}}  {millions:>9}  "
            f"{size(record.size):>8}  {origin}"
        )


__all__ = ["models"]
