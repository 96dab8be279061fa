"""From model output to the 8-bit pixels that a picture file holds: the domain of every metric.

::

    round       u8 = round(255 clip((y + 1) / 2, 0, 1)), halves to even (the library's)
    trunc_half  u8 = trunc(255 clip((y + 1) / 2, 0, 1))
    trunc_128   u8 = trunc(clip(127.5 y + 128, 0, 255)), which is ``round`` except at exact halves
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tessella.errors import ShapeError

Rounding = Literal["round", "trunc_half", "trunc_128"]


def to_uint8(images: Tensor, rounding: Rounding = "round") -> Tensor:
    """Round images in [-1, 1] to pixels, uint8 of the same shape; values outside are clipped.

    Args:
        images: floats of any shape.
        rounding: which rule; published figures differ in it.

    Raises:
        ShapeError: if the images are not floats.
    """
    if not images.is_floating_point():
        raise ShapeError(f"images of dtype {images.dtype} given; expected floats in [-1, 1]")
    values = images.float()
    if rounding == "round":
        return values.add(1).mul(127.5).clamp(0, 255).round().to(torch.uint8)
    if rounding == "trunc_half":
        return values.add(1).div(2).clamp(0, 1).mul(255).to(torch.uint8)
    return values.mul(127.5).add(128).clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Tensor) -> Tensor:
    """Map uint8 pixels to images in [-1, 1]; floats pass as they are."""
    return pixels if pixels.is_floating_point() else pixels.float().div(127.5).sub(1)


def check_pair(images: Tensor, references: Tensor) -> None:
    """Check that two batches are uint8 pixels ``(B, C, H, W)`` of one shape.

    Raises:
        ShapeError: saying what differs.
    """
    for name, batch in (("images", images), ("references", references)):
        if batch.dtype != torch.uint8 or batch.ndim != 4:
            raise ShapeError(
                f"{name} of shape {tuple(batch.shape)} and dtype {batch.dtype} given; expected "
                "uint8 pixels (B, C, H, W): round model output with to_uint8() first"
            )
    if images.shape != references.shape:
        raise ShapeError(
            f"images {tuple(images.shape)} and references {tuple(references.shape)} given; "
            "expected one shape"
        )


__all__ = ["Rounding", "check_pair", "from_uint8", "to_uint8"]
