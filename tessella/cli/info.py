"""``tessella info``: what is in a token file, without its model and without torch."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tessella.cli.options import TOKEN_SUFFIX, Debug, Json, fail, verb
from tessella.cli.paths import Source, find_sources
from tessella.cli.tasks import read_bytes
from tessella.cli.text import rate, size, spaced
from tessella.codecs.description import FileDescription, describe
from tessella.codecs.picture_limits import limits_for
from tessella.codecs.shard_description import ShardDescription, describe_shard, is_shard
from tessella.errors import TokenFileError


@verb
def info(
    files: Annotated[
        list[str], typer.Argument(help="Token files, folders, quoted patterns, or - for stdin.")
    ],
    *,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell what is in token files.

    Size, model, tokens, and the bytes of each segment; the model itself is not needed. Shards are
    told as a whole.

    \b
    Examples:
      tessella info photo.tsl
      tessella info coded/ --json
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    described = []
    failed = 0
    for source in find_sources(files, {TOKEN_SUFFIX}):
        try:
            found = _describe(source)
        except TokenFileError as error:
            if debug:
                raise
            fail(f"{source.name}: {error}")
            failed += 1
            continue
        if as_json:
            kind = "shard" if isinstance(found, ShardDescription) else "picture"
            described.append({"file": source.name, "kind": kind, **found.to_dict()})
        else:
            typer.echo("\n".join([source.name, *_lines(found)]))
    if as_json:
        typer.echo(json.dumps(described, indent=2))
    if failed:
        raise typer.Exit(1)


def _describe(source: Source) -> FileDescription | ShardDescription:
    limits = limits_for(None)
    if source.path and source.path.is_file() and is_shard(source.path):
        return describe_shard(source.path, limits=limits)
    return describe(read_bytes(source), limits=limits)


def _lines(found: FileDescription | ShardDescription) -> list[str]:
    rows = _shard_rows(found) if isinstance(found, ShardDescription) else _file_rows(found)
    return [f"  {label:<11}{text}" for label, text in rows]


def _shard_rows(shard: ShardDescription) -> list[tuple[str, str]]:
    bpp = rate(8 * shard.size / max(shard.pixels, 1))
    rest = (shard.size - shard.coded_size) / max(shard.pictures, 1)
    return [
        ("shard", f"{spaced(shard.pictures)} pictures, {spaced(shard.pixels)} pixels"),
        ("file", f"{size(shard.size)} ({spaced(shard.size)} bytes), {bpp}"),
        ("overhead", f"{rest:.1f} bytes a picture"),
        ("model", _model(shard)),
        ("coding", _coding(shard)),
    ]


def _model(found: FileDescription | ShardDescription) -> str:
    model = f"{found.model}, " if found.model else ""
    return f"{model}token space {found.space_id}"


def _coding(found: FileDescription | ShardDescription) -> str:
    return f"{found.profile}, prior {found.prior_id}" if found.prior_id else found.profile


def _file_rows(file: FileDescription) -> list[tuple[str, str]]:
    here = "whole, checksums verified"
    if file.is_truncated:
        here = "ends early; " + (
            "checksums of what is here verified" if file.is_verified else "not verified"
        )
    rows = [
        ("picture", f"{file.width}x{file.height} {file.colour}"),
        ("file", f"{size(file.size)} ({spaced(file.size)} bytes), {rate(file.bpp)}; {here}"),
        ("format", f"version {file.version}, header {file.header_size} bytes"),
        ("model", _model(file)),
        ("coding", _coding(file)),
    ]
    rows += [(f"level {i}", text) for i, text in enumerate(file.levels)] or [
        ("levels", "known to the model only")
    ]
    if file.kept:
        rows.append(("kept", file.kept))
    if file.tokens is not None and file.raw_bits is not None:
        share = 8 * file.size / file.raw_bits
        raw = size(round(file.raw_bits / 8))
        rows.append(("tokens", f"{spaced(file.tokens)}, {raw} uncoded; the file is {share:.0%}"))
    for i, segment in enumerate(file.segments):
        state = "" if segment.is_here else "  missing"
        up_to = f"{rate(segment.bpp)} up to here"
        rows.append(
            (f"segment {i}", f"{segment.holds}, {spaced(segment.size)} bytes, {up_to}{state}")
        )
    return [*rows, *((f"chunk {name}", f"{spaced(length)} bytes") for name, length in file.chunks)]


__all__ = ["info"]
