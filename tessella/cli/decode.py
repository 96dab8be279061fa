"""``tessella decode``: token files to pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from tessella.cli.options import (
    TOKEN_SUFFIX,
    Debug,
    Device,
    Jobs,
    Keep,
    MaxPixels,
    ModelOfFile,
    Output,
    Overwrite,
    chosen_device,
    pixel_limit,
    verb,
)
from tessella.cli.paths import Task, find_sources, plan
from tessella.cli.tasks import OnTile, Outcome, prepare, read_bytes, run_tasks
from tessella.cli.text import spaced
from tessella.codecs.limits import DEFAULT_LIMITS
from tessella.codecs.picture_limits import limits_for


@dataclass(frozen=True, slots=True)
class _Settings:
    model: str | None
    device: str
    keep: int | None
    max_pixels: int | None


@verb
def decode(  # noqa: PLR0913  # one an option
    files: Annotated[
        list[str], typer.Argument(help="Token files, folders, quoted patterns, or - for stdin.")
    ],
    *,
    output: Output = None,
    keep: Keep = None,
    model: ModelOfFile = None,
    jobs: Jobs = 1,
    device: Device = "auto",
    max_pixels: MaxPixels = DEFAULT_LIMITS.pixels,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Turn token files back into pictures.

    photo.tsl becomes photo.png; the suffix of -o gives another format. A file that ends early is
    decoded from what arrived.

    \b
    Examples:
      tessella decode photo.tsl -o back.png
      tessella decode coded/ -q 2 -o previews/
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    settings = _Settings(model, chosen_device(device), keep, pixel_limit(max_pixels))
    sources = find_sources(files, {TOKEN_SUFFIX})
    tasks = plan(sources, output, suffix=".png", overwrite=overwrite)
    run_tasks(tasks, partial(_decode, settings), jobs=jobs, verb="decoding", debug=debug)


def _decode(settings: _Settings, task: Task, on_tile: OnTile | None) -> Outcome:
    from tessella.codecs.container import parse_header
    from tessella.codecs.files import codec_for, named_errors
    from tessella.codecs.tokenizer_codec import keep_leading
    from tessella.images import format_of, save_image, write_image

    if task.target is not None:
        format_of(task.target)  # fail before the work
    limits = limits_for(settings.max_pixels)
    with named_errors(task.source.name):
        data = read_bytes(task.source)
        header = parse_header(data, limits=limits)
        codec = codec_for(header.space_id, settings.model, device=settings.device)
        found = codec.unpack(data, limits=limits)
    tokens = keep_leading(found.tokens, settings.keep)
    pixels = codec.decode(tokens, on_progress=on_tile)
    stream = io.BytesIO()
    if task.target is None:
        write_image(stream, pixels)
    else:
        save_image(prepare(task.target), pixels)
    height, width = pixels.shape[:2]
    count = spaced(tokens.num_values)
    line = f"{task.target or task.source.name}  {width}x{height}  {count} tokens"
    note = ""
    if found.is_truncated:
        note = f"{task.source.name} ends early: {found.parts} of {found.all_parts} parts arrived"
    return Outcome(line, note, stream.getvalue())


__all__ = ["decode"]
