"""Pictures as tensors: float ``(B, 3, H, W)`` in [-1, 1], and back to 8-bit pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ShapeError
from tessella.images.colour import Colour
from tessella.images.reading import DEFAULT_MAX_PIXELS, WHITE, Picture, Pixels, decode_rgb


def load_image(
    picture: Picture,
    *,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    background: Colour = WHITE,
) -> Tensor:
    """Read a picture as float32 ``(1, 3, H, W)`` in [-1, 1].

    Args:
        picture: a path, the bytes of a file, a binary stream, or a PIL image.
        max_pixels: refuse larger pictures before they are decoded; None accepts any size.
        background: colour behind transparent pixels; white by default.

    Raises:
        PictureError: if the picture is missing, damaged, too large or of an unknown kind.
    """
    return from_pixels(decode_rgb(picture, max_pixels=max_pixels, background=background))


def from_pixels(pixels: Pixels) -> Tensor:
    """Turn uint8 ``(H, W, 3)`` into float32 ``(1, 3, H, W)`` in [-1, 1]: ``x / 127.5 - 1``.

    Raises:
        ShapeError: if the pixels are not such an array.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ShapeError(
            f"pixels of shape {pixels.shape} and dtype {pixels.dtype} given; "
            "expected uint8 (H, W, 3)"
        )
    own = np.require(pixels, requirements=["C", "W"])
    images = torch.from_numpy(own).permute(2, 0, 1)[None]
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Pixels:
    """Turn floats ``(1, 3, H, W)`` or ``(3, H, W)`` in [-1, 1] into uint8 ``(H, W, 3)``.

    Values are clamped and rounded to nearest.

    Raises:
        ShapeError: if the tensor is not one picture of floats.
    """
    image = images[0] if images.ndim == 4 and images.shape[0] == 1 else images
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise ShapeError(
            f"images of shape {tuple(images.shape)} and dtype {images.dtype} given; "
            "expected the floats of one picture, (1, 3, H, W) or (3, H, W)"
        )
    values = image.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255)
    return values.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def pad_to_multiple(images: Tensor, stride: int) -> Tensor:
    """Repeat the last column and row until the sides are multiples of ``stride``.

    Args:
        images: ``(B, C, H, W)``; may be smaller than the padding.
        stride: at least 1.

    Returns:
        ``(B, C, ceil(H / stride) stride, ceil(W / stride) stride)``; the input itself if it fits.

    Example:
        >>> tuple(pad_to_multiple(torch.zeros(1, 3, 1, 9), 8).shape)
        (1, 3, 8, 16)
    """
    height, width = images.shape[-2:]
    below, right = -height % stride, -width % stride
    if not below and not right:
        return images
    return F.pad(images, (0, right, 0, below), mode="replicate")


__all__ = ["from_pixels", "load_image", "pad_to_multiple", "to_pixels"]
