"""Variants of PSNR and SSIM that published tables use, under names of their own.

``psnr_y`` looks at brightness alone: Y of the full range, or of BT.601's studio range, which reads
``20 log10(255 / 219) = 1.32`` dB higher. ``uniform_ssim`` is scikit-image's default: a flat 7x7
window and unbiased variances; some tables call it with a range of 2 for values in [0, 1], which
raises it. None of them belongs in one column with the defaults.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ShapeError
from tessella.eval.pixels import check_pair

_WINDOW = 7
_FULL = (0.299, 0.587, 0.114)
_STUDIO = (65.481 / 255, 128.553 / 255, 24.966 / 255)


def psnr_y(
    images: Tensor, references: Tensor, *, scale: Literal["full", "studio"] = "full"
) -> Tensor:
    """Return the PSNR of Y in decibels, ``(B,)`` float64; ``inf`` where identical.

    Args:
        images: uint8 pixels ``(B, 3, H, W)``.
        references: the same shape.
        scale: full-range Y, or studio-range Y without its offset, which cancels.

    Raises:
        ShapeError: if either is not uint8 or the shapes differ.
    """
    check_pair(images, references)
    weights = torch.tensor(_FULL if scale == "full" else _STUDIO, dtype=torch.float64)
    difference = images.double() - references.double()
    luma = torch.einsum("bchw,c->bhw", difference, weights.to(difference.device))
    return 10 * torch.log10(255**2 / luma.square().mean(dim=(1, 2)))


def uniform_ssim(images: Tensor, references: Tensor, *, value_range: float = 255.0) -> Tensor:
    """Return scikit-image's default SSIM of each picture, ``(B,)`` float64.

    Args:
        images: uint8 pixels ``(B, C, H, W)``, sides of at least 7.
        references: the same shape.
        value_range: 255; 510 reproduces tables made with a range of 2 for values in [0, 1].

    Raises:
        ShapeError: if either is not uint8, the shapes differ or a side is too short.
    """
    check_pair(images, references)
    if min(images.shape[-2:]) < _WINDOW:
        raise ShapeError(f"pictures {tuple(images.shape[-2:])} given; expected sides of at least 7")
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    x, y = images.double(), references.double()
    mx, my, xx, yy, xy = (F.avg_pool2d(v, _WINDOW, stride=1) for v in (x, y, x * x, y * y, x * y))
    unbiased = _WINDOW**2 / (_WINDOW**2 - 1)
    sxx, syy, sxy = (unbiased * v for v in (xx - mx * mx, yy - my * my, xy - mx * my))
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    return (luminance * (2 * sxy + c2) / (sxx + syy + c2)).mean(dim=(1, 2, 3))


__all__ = ["psnr_y", "uniform_ssim"]
