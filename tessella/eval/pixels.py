"""From model output to the 8-bit pixels that a picture file holds: the domain of every metric.

Protocol ``round``: ``u8 = round(255 clip((y + 1) / 2, 0, 1))``, halves to even.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.errors import ShapeError


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [-1, 1] to pixels, uint8 of the same shape; values outside are clipped.

    Raises:
        ShapeError: if the images are not floats.
    """
    if not images.is_floating_point():
        raise ShapeError(f"images of dtype {images.dtype} given; expected floats in [-1, 1]")
    return images.float().add(1).mul(127.5).clamp(0, 255).round().to(torch.uint8)


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


__all__ = ["check_pair", "to_uint8"]
