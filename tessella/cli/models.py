"""``tessella models``: the models that can be used by name."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from tessella.cli.options import Debug, Json, verb
from tessella.cli.text import size
from tessella.hub import SEARCH_PATH_VARIABLE, ModelRecord
from tessella.hub import models as list_models


@verb
def models(*, as_json: Json = False, debug: Debug = False) -> None:
    """List models, and checkpoints that can be converted.

    Usable by name are the models that ship with the package and those in the folders that the
    variable TESSELLA_MODELS names; none needs a network. A folder or a hub id (org/name) can be
    given to --model as well. Checkpoints are published by their authors, under the licence shown.

    \b
    Examples:
      tessella models
      TESSELLA_MODELS=runs/ tessella models --json
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    found = list_models()
    if as_json:
        kinds = ("local", "shipped")
        records = [
            {**asdict(r), "folder": str(r.folder), "kind": kinds[r.is_shipped]} for r in found
        ]
        typer.echo(json.dumps(records + _convertible(), indent=2))
        return
    if found:
        _print_models(found)
    else:
        typer.echo(f"no models; put folders of them on {SEARCH_PATH_VARIABLE}", err=True)
    typer.echo("\ncheckpoints that `tessella convert NAME FILE -o FOLDER` takes:")
    convertible = _convertible()
    width = max(len(record["name"]) for record in convertible)
    for record in convertible:
        note = f"; {record['note']}" if record["note"] else ""
        typer.echo(f"{record['name']:<{width}}  {record['source']}  {record['licence']}{note}")


def _convertible() -> list[dict[str, str]]:
    from tessella.tokenizers.checkpoints import formats

    return [
        {
            "name": name,
            "kind": "convertible",
            "source": form.source,
            "licence": form.licence,
            "note": form.note,
        }
        for name, form in sorted(formats().items())
    ]


def _print_models(found: list[ModelRecord]) -> None:
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
