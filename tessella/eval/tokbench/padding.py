"""A picture on the square canvas that a tokenizer sees, and back (TokBench, arXiv 2505.18142).

The picture is resized (Lanczos; small ones are enlarged) until its longer side is the canvas's, and
pasted in the middle of black. Back: the pasted rectangle is cut out and resized to the original
size. Without a tokenizer between the two this is the "Resize" row of the tables: an upper bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from tessella.errors import ShapeError

_FILTER = Image.Resampling.LANCZOS


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies on its canvas, widths first.

    Args:
        original: size of the picture.
        scaled: its size on the canvas.
        position: left and top.
        side: of the canvas.
    """

    original: tuple[int, int]
    scaled: tuple[int, int]
    position: tuple[int, int]
    side: int


def place(size: tuple[int, int], side: int) -> Placement:
    """Return where a picture of ``(width, height)`` lies on a canvas.

    Raises:
        ShapeError: if a size is not positive.
    """
    width, height = size
    if min(width, height, side) < 1:
        raise ShapeError(f"a picture of {width} x {height} on {side} given; expected at least 1")
    # in this order: an exact ratio may come out one pixel larger, as published
    ratio = min(side / width, side / height)
    scaled = (min(math.ceil(width * ratio), side), min(math.ceil(height * ratio), side))
    position = ((side - scaled[0]) // 2, (side - scaled[1]) // 2)
    return Placement(size, scaled, position, side)


def pad(picture: Image.Image, side: int) -> tuple[Image.Image, Placement]:
    """Return an RGB picture on its canvas, and where it lies."""
    placement = place(picture.size, side)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(picture.resize(placement.scaled, _FILTER), placement.position)
    return canvas, placement


def restore(canvas: Image.Image, placement: Placement) -> Image.Image:
    """Cut a picture from its canvas and resize it to its original size."""
    left, top = placement.position
    width, height = placement.scaled
    picture = canvas.crop((left, top, left + width, top + height))
    return picture.resize(placement.original, _FILTER)


__all__ = ["Placement", "pad", "place", "restore"]
