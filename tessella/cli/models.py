"""``tessella models``: the models that can be used by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from tessella.cli.options import Debug, Json, verb
from tessella.cli.text import size
from tessella.hub import SEARCH_PATH_VARIABLE, ModelRecord
from tessella.hub import models as list_models

if TYPE_CHECKING:
    from tessella.generation.checkpoints.base import GeneratorFormat
    from tessella.tokenizers.checkpoints.base import Format


@verb
def models(*, as_json: Json = False, debug: Debug = False) -> None:
    """List models, and checkpoints that can be converted.

    Usable by name are the models that ship with the package and those in the folders that the
    variable TESSELLA_MODELS names; none needs a network. A folder or a hub id (org/name) can be
    given as well. Pipelines are generators with their tokenizers, for `tessella generate`.
    Checkpoints are published by their authors, under the licence shown.

    \b
    Examples:
      tessella models
      TESSELLA_MODELS=runs/ tessella models --json
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    from tessella.generation.checkpoints import generator_formats
    from tessella.generation.saved import pipeline_records
    from tessella.tokenizers.checkpoints import formats

    found, pipelines = list_models(), pipeline_records()
    tokenizers, generators = formats(), generator_formats()
    if as_json:
        records = [
            *(_usable(record, "tokenizer") for record in found),
            *(_usable(record, "pipeline") for record in pipelines),
            *_convertible(tokenizers, "tokenizer"),
            *_convertible(generators, "generator"),
        ]
        typer.echo(json.dumps(records, indent=2))
        return
    if found:
        _print_models(found)
    else:
        typer.echo(f"no models; put folders of them on {SEARCH_PATH_VARIABLE}", err=True)
    if pipelines:
        typer.echo("\npipelines that `tessella generate NAME` takes:")
        _print_models(pipelines)
    typer.echo("\ncheckpoints that `tessella convert NAME FILE -o FOLDER` takes:")
    _print_formats(_convertible(tokenizers, "tokenizer"))
    typer.echo("\ngenerators that `tessella convert NAME FILE --tokenizer FILE -o FOLDER` takes:")
    _print_formats(_convertible(generators, "generator"))


def _usable(record: ModelRecord, holds: str) -> dict[str, Any]:
    kind = "shipped" if record.is_shipped else "local"
    return {**asdict(record), "folder": str(record.folder), "kind": kind, "holds": holds}


def _convertible(
    formats: Mapping[str, Format | GeneratorFormat], holds: str
) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "kind": "convertible",
            "holds": holds,
            "source": form.source,
            "licence": form.licence,
            "note": form.note,
        }
        for name, form in sorted(formats.items())
    ]


def _print_formats(records: list[dict[str, str]]) -> None:
    width = max(len(record["name"]) for record in records)
    for record in records:
        note = f"; {record['note']}" if record["note"] else ""
        typer.echo(f"{record['name']:<{width}}  {record['source']}  {record['licence']}{note}")


def _print_models(found: Sequence[ModelRecord]) -> None:
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
