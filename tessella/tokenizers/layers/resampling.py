"""Resampling of feature maps between the scales of a pyramid.

Going down averages areas; going up interpolates, with half-pixel centres and no antialiasing. A
map that already has the size is returned as it is, bit for bit.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int]
Upsampling = Literal["bicubic", "bilinear"]


def area(x: Tensor, grid: Grid) -> Tensor:
    """Average ``(B, C, H, W)`` over the areas of a grid ``(h, w)``."""
    return x if _has(x, grid) else F.adaptive_avg_pool2d(x, grid)


def interpolated(x: Tensor, grid: Grid, mode: Upsampling) -> Tensor:
    """Sample ``(B, C, h, w)`` at the centres of a grid, which may be larger or smaller."""
    return x if _has(x, grid) else F.interpolate(x, grid, mode=mode, align_corners=False)


def _has(x: Tensor, grid: Grid) -> bool:
    return tuple(x.shape[-2:]) == tuple(grid)


__all__ = ["Grid", "Upsampling", "area", "interpolated"]
