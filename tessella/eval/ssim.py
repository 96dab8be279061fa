"""Structural similarity (SSIM; Wang et al. 2004) and its multi-scale form (MS-SSIM; 2003).

::

    luminance = (2 mx my + C1) / (mx^2 + my^2 + C1)        C1 = (0.01 L)^2
    contrast  = (2 sxy + C2) / (sx^2 + sy^2 + C2)          C2 = (0.03 L)^2
    ssim      = mean of luminance * contrast
    ms_ssim   = mean(contrast_1)^w1 ... mean(contrast_4)^w4 * ssim_5^w5

Statistics come from an 11x11 Gaussian of sigma 1.5 at positions where it fits (no padding), with
biased variances, for each colour channel; channels are averaged last. Scales are halved by 2x2
means (an odd side starts with one row of zeros, as in the codec papers' code). Other packages
differ in borders, variances and order of averaging: do not mix their numbers in one column.

The functions on floats are differentiable and serve as training losses.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ShapeError
from tessella.eval.pixels import check_pair

WINDOW = 11
_SIGMA = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Return the SSIM of each picture, ``(B,)`` float64.

    Args:
        images: uint8 pixels ``(B, C, H, W)``, sides of at least 11.
        references: the same shape.

    Raises:
        ShapeError: if either is not uint8, the shapes differ or a side is too short.
    """
    check_pair(images, references)
    return ssim_of_floats(images.float(), references.float(), value_range=255.0).double()


def ms_ssim(images: Tensor, references: Tensor) -> Tensor:
    """Return the MS-SSIM over five scales of each picture, ``(B,)`` float64.

    Args:
        images: uint8 pixels ``(B, C, H, W)``, sides of at least 161.
        references: the same shape.

    Raises:
        ShapeError: if either is not uint8, the shapes differ or a side is too short.
    """
    check_pair(images, references)
    return ms_ssim_of_floats(images.float(), references.float(), value_range=255.0).double()


def similarity_decibels(similarity: Tensor) -> Tensor:
    """Return MS-SSIM in decibels, ``-10 log10(1 - v)``; infinite for equal pictures."""
    return -10 * torch.log10(1 - similarity)


def ssim_of_floats(images: Tensor, references: Tensor, *, value_range: float) -> Tensor:
    """Return the SSIM of each picture, ``(B,)``, differentiable.

    Args:
        images: floats ``(B, C, H, W)`` in [0, value_range]; shift images in [-1, 1] by 1.
        references: the same shape and range.
        value_range: the largest possible value.

    Raises:
        ShapeError: if a side is shorter than the window.
    """
    _check_sides(images, references, scales=1)
    whole, _ = _similarity(images, references, value_range)
    return whole.mean(dim=1)


def ms_ssim_of_floats(
    images: Tensor,
    references: Tensor,
    *,
    value_range: float,
    scales: int = 5,
    floor: float = 0.0,
) -> Tensor:
    """Return the MS-SSIM of each picture, ``(B,)``, differentiable.

    Args:
        images: floats ``(B, C, H, W)`` in [0, value_range]; shift images in [-1, 1] by 1.
        references: the same shape and range.
        value_range: the largest possible value.
        scales: 1 to 5; with fewer than five the first weights are scaled to a sum of 1.
        floor: least value of a scale's term. A positive one keeps gradients finite, as the
            fractional power has an infinite slope at 0.

    Raises:
        ShapeError: if a side is too short for that many scales.
    """
    _check_sides(images, references, scales=scales)
    weights = torch.tensor(SCALE_WEIGHTS[:scales], dtype=torch.float64)
    weights = (weights / weights.sum()) if scales < len(SCALE_WEIGHTS) else weights
    product = torch.ones((), dtype=images.dtype, device=images.device)
    for scale, weight in enumerate(weights.tolist()):
        if scale:
            images, references = _halve(images), _halve(references)
        whole, contrast = _similarity(images, references, value_range)
        term = whole if scale == scales - 1 else contrast
        product = product * term.clamp(min=floor) ** weight
    return product.mean(dim=1)


def most_scales(side: int) -> int:
    """Return how many scales (0 to 5) fit pictures whose shorter side is ``side``."""
    scales = 0
    while scales < len(SCALE_WEIGHTS) and side >= WINDOW:
        side, scales = (side + 1) // 2, scales + 1
    return scales


def _similarity(x: Tensor, y: Tensor, value_range: float) -> tuple[Tensor, Tensor]:
    """Return the means of SSIM and of its contrast term, ``(B, C)`` each."""
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    # variances do not depend on the origin: a central one keeps E[xx] - E[x]^2 exact in float32
    centre = value_range / 2
    x, y = x - centre, y - centre
    mx, my, xx, yy, xy = _blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    sxx, syy, sxy = xx - mx * mx, yy - my * my, xy - mx * my
    mx, my = mx + centre, my + centre
    contrast = (2 * sxy + c2) / (sxx + syy + c2)
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    return (luminance * contrast).mean(dim=(2, 3)), contrast.mean(dim=(2, 3))


def _blur(maps: Tensor) -> Tensor:
    """Filter ``(B, C, H, W)`` with the Gaussian at positions where it fits."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    window = (window / window.sum()).to(maps.device, maps.dtype)
    # one picture of many channels: the depthwise form, which is the fast one
    x = maps.flatten(0, 1)[None]
    count = x.shape[1]
    x = F.conv2d(x, window.view(1, 1, WINDOW, 1).repeat(count, 1, 1, 1), groups=count)
    x = F.conv2d(x, window.view(1, 1, 1, WINDOW).repeat(count, 1, 1, 1), groups=count)
    return x.view(*maps.shape[:2], *x.shape[-2:])


def _halve(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return F.avg_pool2d(images, 2, padding=(height % 2, width % 2))


def _check_sides(images: Tensor, references: Tensor, *, scales: int) -> None:
    if images.shape != references.shape or images.ndim != 4:
        raise ShapeError(
            f"images {tuple(images.shape)} and references {tuple(references.shape)} given; "
            "expected one shape (B, C, H, W)"
        )
    if not 1 <= scales <= len(SCALE_WEIGHTS):
        raise ShapeError(f"scales={scales} given; expected 1 to {len(SCALE_WEIGHTS)}")
    # the customary bound: every scale has more than one position, odd sides included
    least = WINDOW if scales == 1 else (WINDOW - 1) * 2 ** (scales - 1) + 1
    side = min(images.shape[-2:])
    if side < least:
        raise ShapeError(
            f"pictures with a side of {side} pixels given; {scales} scales need at least {least}"
        )


__all__ = [
    "SCALE_WEIGHTS",
    "WINDOW",
    "most_scales",
    "ms_ssim",
    "ms_ssim_of_floats",
    "similarity_decibels",
    "ssim",
    "ssim_of_floats",
]
