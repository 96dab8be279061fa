"""The resizes and crops by which published distances differ, each under its usual name.

===========  ==========================================================================
``tf1``      bilinear, source coordinate ``i * in / out``, no antialiasing (torch-fidelity, ADM)
``torch``    bilinear with pixel centres, no antialiasing (pytorch-fid)
``aa``       the same with antialiasing (torchmetrics)
``clean``    Pillow's bicubic on floats, each channel by itself, clipped (clean-fid)
===========  ==========================================================================
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ShapeError

ResizeFilter = Literal["tf1", "torch", "aa", "clean"]
Crop = Literal["none", "adm", "torchvision"]


def resize(pixels: Tensor, size: tuple[int, int], resize_filter: ResizeFilter) -> Tensor:
    """Resize uint8 pixels to floats in [0, 255], ``(B, C, *size)`` float32; nothing is rounded.

    Args:
        pixels: uint8 ``(B, C, H, W)``.
        size: ``(height, width)`` of the result.
        resize_filter: which of the four.

    Raises:
        ShapeError: if the pixels are not uint8 ``(B, C, H, W)``.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4:
        raise ShapeError(
            f"pixels of shape {tuple(pixels.shape)} and dtype {pixels.dtype} given; expected uint8 "
            "(B, C, H, W)"
        )
    if resize_filter == "tf1":
        return _tf1(pixels.float(), size)
    if resize_filter == "clean":
        return _clean(pixels, size)
    return F.interpolate(
        pixels.float(),
        size,
        mode="bilinear",
        align_corners=False,
        antialias=resize_filter == "aa",
    )


def crop(picture: Image.Image, size: int, kind: Crop) -> Image.Image:
    """Shrink or enlarge a picture to a short side of ``size`` and cut its centre square.

    Args:
        picture: an RGB picture.
        size: side of the square in pixels.
        kind: ``adm`` halves with a box filter while it can, then bicubic; ``torchvision`` is its
            ``Resize`` with bicubic antialiasing and ``CenterCrop``; ``none`` leaves the picture.
    """
    if kind == "none":
        return picture
    if kind == "adm":
        while min(picture.size) >= 2 * size:
            halves = (picture.width // 2, picture.height // 2)
            picture = picture.resize(halves, Image.Resampling.BOX)
        scale = size / min(picture.size)
        target = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(target, Image.Resampling.BICUBIC)
        left, top = (picture.width - size) // 2, (picture.height - size) // 2
    else:
        short = min(picture.size)
        # the short side exactly, the other one truncated
        target = (size * picture.width // short, size * picture.height // short)
        picture = picture.resize(target, Image.Resampling.BICUBIC)
        left = round((picture.width - size) / 2)
        top = round((picture.height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def _tf1(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate rows, then columns, with source coordinates that start at 0."""
    for axis, length in ((2, size[0]), (3, size[1])):
        available = images.shape[axis]
        # the step is a float32 number there, too
        step = torch.tensor(available / length, dtype=torch.float32)
        source = torch.arange(length, dtype=torch.float32) * step
        low = source.floor().long().clamp(max=available - 1)
        high = (low + 1).clamp(max=available - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = length
        share = (source - low).view(shape).to(images.device)
        first = images.index_select(axis, low.to(images.device))
        second = images.index_select(axis, high.to(images.device))
        images = first + (second - first) * share
    return images


def _clean(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    maps = pixels.flatten(0, 1).cpu().numpy().astype(np.float32)
    resized = [
        np.asarray(Image.fromarray(m).resize(size[::-1], Image.Resampling.BICUBIC)) for m in maps
    ]
    stacked = torch.from_numpy(np.stack(resized)).clamp(0, 255)
    return stacked.view(*pixels.shape[:2], *size).to(pixels.device)


__all__ = ["Crop", "ResizeFilter", "crop", "resize"]
