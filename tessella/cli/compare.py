"""``tessella compare``: original, JPEG or others at the same bytes and ours on one sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from tessella.errors import ConfigError, PictureError
from tessella.hub import DEFAULT_MODEL

if TYPE_CHECKING:
    from tessella.codecs.base import Codec


@verb
def compare(  # noqa: PLR0913  # one an option
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
    codecs: Annotated[
        str,
        typer.Option("--codecs", help="Peers, a column each: jpeg,webp,avif,jp2,jxl,png,..."),
    ] = "jpeg",
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    max_pixels: MaxPixels = DEFAULT_LIMITS.pixels,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Draw a picture beside JPEG and beside ours.

    JPEG, or the codecs that are named instead, get the same bytes; bytes and PSNR are written into
    the sheet and printed.

    \b
    Examples:
      tessella compare photo.jpg -o sheet.png
      tessella compare photo.jpg -q 1 -q 4 -q 8
      tessella compare photo.jpg --codecs jpeg,webp,avif
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    source = Source(picture, Path(picture.name))
    task = plan([source], output, suffix=".compare.png", overwrite=overwrite)[0]
    if task.problem or task.target is None:
        raise PictureError(task.problem or "a sheet cannot go to standard output; name a file")

    from tessella.codecs.files import codec_of
    from tessella.eval.comparison import compare as run
    from tessella.images import open_image, save_image

    limit = pixel_limit(max_pixels)
    image = open_image(picture, max_pixels=limit)
    torch_device = chosen_device(device)
    peers = _peers(codecs, torch_device)
    codec = codec_of(model, device=torch_device)
    comparison = run(image, codec, keep=keep or [None], peers=peers, max_pixels=limit)
    save_image(prepare(task.target), comparison.sheet())
    for row in comparison.rows:
        for panel in row[1:]:
            typer.echo(panel.caption)
    typer.echo(str(task.target))


def _peers(text: str, device: str) -> list[Codec]:
    """Return the codecs of ``NAME,NAME``."""
    from tessella.codecs.named import parse_codec

    points = [parse_codec(name, device=device) for name in text.split(",") if name.strip()]
    if not points:
        raise ConfigError(f"--codecs {text!r} names no codec; expected names, as jpeg,webp")
    for point in points:
        if point.quality is not None:
            raise ConfigError(
                f"--codecs {point.label} gives a quality, but every column gets the same bytes; "
                f"expected {point.codec.name}"
            )
    return [point.codec for point in points]


__all__ = ["compare"]
