"""``tessella encode``: pictures to token files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tessella.cli.options import (
    TOKEN_SUFFIX,
    Debug,
    Device,
    Jobs,
    Keep,
    MaxPixels,
    Model,
    Output,
    Overwrite,
    chosen_device,
    pixel_limit,
    verb,
)
from tessella.cli.paths import Task, find_sources, plan
from tessella.cli.rate_target import (
    Adaptive,
    RateTarget,
    TargetBpp,
    TargetBytes,
    TargetPsnr,
    rate_target,
)
from tessella.cli.tasks import OnTile, Outcome, open_source, prepare, run_tasks
from tessella.cli.text import rate, size, spaced
from tessella.codecs.limits import DEFAULT_LIMITS
from tessella.codecs.picture_limits import limits_for
from tessella.hub import DEFAULT_MODEL

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class _Settings:
    model: str
    device: str
    keep: int | None
    target: RateTarget | None
    max_pixels: int | None
    background: tuple[int, int, int]


@verb
def encode(  # noqa: PLR0913  # one an option
    pictures: Annotated[
        list[str], typer.Argument(help="Files, folders, quoted patterns, or - for stdin.")
    ],
    *,
    output: Output = None,
    keep: Keep = None,
    target_bytes: TargetBytes = None,
    target_bpp: TargetBpp = None,
    target_psnr: TargetPsnr = None,
    adaptive: Adaptive = None,
    model: Model = DEFAULT_MODEL,
    jobs: Jobs = 1,
    device: Device = "auto",
    background: Annotated[
        str, typer.Option(help="Colour behind transparent pixels, a name or #rrggbb.")
    ] = "white",
    max_pixels: MaxPixels = DEFAULT_LIMITS.pixels,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Turn pictures into small token files.

    PNG, JPEG, WebP, AVIF, TIFF, BMP, GIF and PPM are read; photo.jpg becomes photo.tsl.

    \b
    Examples:
      tessella encode photo.jpg
      tessella encode photos/ -q 4 -o coded/ --jobs 2
      tessella encode photo.jpg --target-bpp 0.2
    """  # noqa: D301  # \b is click's mark of a paragraph that keeps its lines
    from tessella.images import PICTURE_SUFFIXES

    target = rate_target(target_bytes, target_bpp, target_psnr, adaptive, keep)
    limit, colour = pixel_limit(max_pixels), _colour(background)
    settings = _Settings(model, chosen_device(device), keep, target, limit, colour)
    sources = find_sources(pictures, PICTURE_SUFFIXES)
    tasks = plan(sources, output, suffix=TOKEN_SUFFIX, overwrite=overwrite)
    run_tasks(tasks, partial(_encode, settings), jobs=jobs, verb="encoding", debug=debug)


def _encode(settings: _Settings, task: Task, on_tile: OnTile | None) -> Outcome:
    from tessella.images import atomic_file, open_image

    image = open_image(
        open_source(task.source),
        name=task.source.name,
        max_pixels=settings.max_pixels,
        background=settings.background,
    )
    width, height = image.size
    data, num_tokens, psnr = _coded(settings, image, on_tile)
    image.close()
    if task.target is not None:
        with atomic_file(prepare(task.target)) as stream:
            stream.write(data)
    name = task.target or task.source.name
    bpp = rate(8 * len(data) / (width * height))
    line = f"{name}  {width}x{height}  {spaced(num_tokens)} tokens  {size(len(data))}  {bpp}"
    if psnr is not None:
        line += f"  {psnr:.2f} dB"
    return Outcome(line, data=b"" if task.target else data)


def _coded(
    settings: _Settings, image: Image.Image, on_tile: OnTile | None
) -> tuple[bytes, int, float | None]:
    """Return the file of a picture, its number of tokens, and its PSNR if that was asked for."""
    import numpy as np

    from tessella.codecs.files import codec_of
    from tessella.codecs.token_coding import PackOptions
    from tessella.codecs.tokenizer_codec import TokenizerCodec

    codec = codec_of(settings.model, device=settings.device)
    limits = limits_for(settings.max_pixels)
    options = PackOptions(limits=limits)
    if settings.target is None:
        tokens = codec.encode(image, keep=settings.keep, on_progress=on_tile)
        return codec.pack(tokens, options), tokens.num_values, None
    codec = TokenizerCodec(codec.tokenizer, codec.space.prior, name=codec.name, options=options)
    found = settings.target.compress(codec, np.array(image))
    kept = codec.unpack(found.data, limits=limits).tokens
    return found.data, kept.num_values, found.psnr


def _colour(text: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise typer.BadParameter(
            f"background {text!r} is not a colour; expected a name or #rrggbb"
        ) from error
    return red, green, blue


__all__ = ["encode"]
