"""``tessella compare``: original, JPEG at the same bytes and ours on one sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessella.cli.options import (
    Debug,
    Device,
    MaxPixels,
    Model,
    Overwrite,
    chosen_device,
    pixel_limit,
    verb,
)
from tessella.cli.paths import Source, plan
from tessella.cli.tasks import prepare
from tessella.codecs.limits import DEFAULT_LIMITS
from tessella.errors import PictureError
from tessella.hub import DEFAULT_MODEL


@verb
def compare(
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    *,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="The sheet; PICTURE.compare.png by default."),
    ] = None,
    keep: Annotated[
        list[int] | None,
        typer.Option("-q", "--keep", min=1, help="Groups to keep; a row for each -q."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    max_pixels: MaxPixels = DEFAULT_LIMITS.pixels,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Draw a picture beside JPEG and beside ours.

    JPEG gets the same bytes; bytes and PSNR are written into the sheet and printed.

    \b
    Examples:
      tessella compare photo.jpg -o sheet.png
      tessella compare photo.jpg -q 1 -q 4 -q 8
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    source = Source(picture, Path(picture.name))
    task = plan([source], output, suffix=".compare.png", overwrite=overwrite)[0]
    if task.problem or task.target is None:
        raise PictureError(task.problem or "a sheet cannot go to standard output; name a file")

    from tessella.codecs.files import codec_of
    from tessella.eval.comparison import compare as run
    from tessella.images import open_image, save_image

    image = open_image(picture, max_pixels=pixel_limit(max_pixels))
    codec = codec_of(model, device=chosen_device(device))
    comparison = run(image, codec, keep=keep or [None])
    save_image(prepare(task.target), comparison.sheet())
    for row in comparison.rows:
        for panel in row[1:]:
            typer.echo(panel.caption)
    typer.echo(str(task.target))


__all__ = ["compare"]
