"""``tessella info``: what is in a token file, without its model and without torch."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tessella.cli.options import TOKEN_SUFFIX, Debug, Json, fail, verb
from tessella.cli.paths import find_sources
from tessella.cli.tasks import read_bytes
from tessella.cli.text import rate, size, spaced
from tessella.codecs.description import FileDescription, describe
from tessella.codecs.picture_limits import limits_for
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

    Size, model, tokens, and the bytes of each segment; the model itself is not needed.

    \b
    Examples:
      tessella info photo.tsl
      tessella info coded/ --json
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    described = []
    failed = 0
    for source in find_sources(files, {TOKEN_SUFFIX}):
        try:
            found = describe(read_bytes(source), limits=limits_for(None))
        except TokenFileError as error:
            if debug:
                raise
            fail(f"{source.name}: {error}")
            failed += 1
            continue
        if as_json:
            described.append({"file": source.name, **found.to_dict()})
        else:
            typer.echo(_text(source.name, found))
    if as_json:
        typer.echo(json.dumps(described, indent=2))
    if failed:
        raise typer.Exit(1)


def _text(name: str, file: FileDescription) -> str:
    """Return a description as aligned lines."""
    model = f"{file.model}, " if file.model else ""
    prior = f", prior {file.prior_id}" if file.prior_id else ""
    here = "whole, checksums verified"
    if file.is_truncated:
        here = "ends early; " + (
            "checksums of what is here verified" if file.is_verified else "not verified"
        )
    rows = [
        ("picture", f"{file.width}x{file.height} {file.colour}"),
        ("file", f"{size(file.size)} ({spaced(file.size)} bytes), {rate(file.bpp)}; {here}"),
        ("format", f"version {file.version}, header {file.header_size} bytes"),
        ("model", f"{model}token space {file.space_id}"),
        ("coding", f"{file.profile}{prior}"),
    ]
    rows += [(f"level {i}", text) for i, text in enumerate(file.levels)] or [
        ("levels", "known to the model only")
    ]
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
    rows += [(f"chunk {chunk}", f"{spaced(length)} bytes") for chunk, length in file.chunks]
    return "\n".join([name, *(f"  {label:<11}{text}" for label, text in rows)])


__all__ = ["info"]
