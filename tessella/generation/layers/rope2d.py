"""Rotary positions of maps of any size, in the coordinates of the finest map.

    w_i = 10000^(-4 i / d),   i = 0 .. d/4 - 1
    angles of a token at row r and column c of an h x w map:
        [ y w_0 .. y w_{d/4-1},  x w_0 .. x w_{d/4-1} ],   y = round(r H / h),  x = round(c W / w)

``H x W`` is the finest map of the picture's aspect ratio, whatever size is generated, so that a
place has the same angles at all scales (Infinity, arXiv 2412.04431).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tessella.generation.kv_cache.base import Grid
from tessella.generation.layers.attention import Rotation

_BASE = 10000.0


def coordinates(size: int, finest: int) -> list[int]:
    """Return where the rows of a map of ``size`` rows lie among ``finest`` rows.

    Halves go to the even neighbour. Integers are divided: in floats ``27 * (111 / 54)`` is less
    than the 55.5 that it stands for, and would be rounded to 55.

    Example:
        >>> coordinates(4, 6), coordinates(54, 111)[27]
        ([0, 2, 3, 4], 56)
    """
    found = []
    for index in range(size):
        whole, rest = divmod(index * finest, size)
        found.append(whole + (2 * rest > size or (2 * rest == size and whole % 2 == 1)))
    return found


def rotation_of(
    grids: Iterable[Grid], finest: Grid, head_dim: int, device: torch.device
) -> Rotation:
    """Return the rotations of maps, one after the other in raster order, ``(N, d/2)``.

    Args:
        grids: ``(h, w)`` of each map.
        finest: ``(H, W)`` that their coordinates are those of.
        head_dim: ``d``, channels of a head; a multiple of 4.
        device: where they shall be.
    """
    angles = torch.cat([_angles(grid, finest, head_dim) for grid in grids])
    return Rotation(angles.cos().float().to(device), angles.sin().float().to(device))


def _angles(grid: Grid, finest: Grid, head_dim: int) -> Tensor:
    """Return angles ``(h w, d/2)`` in double precision."""
    frequencies = _BASE ** (-4 * torch.arange(head_dim // 4, dtype=torch.float64) / head_dim)
    rows, columns = (
        torch.tensor(coordinates(size, whole), dtype=torch.float64).unsqueeze(1) * frequencies
        for size, whole in zip(grid, finest, strict=True)
    )
    both = (
        rows.unsqueeze(1).expand(-1, grid[1], -1),
        columns.unsqueeze(0).expand(grid[0], -1, -1),
    )
    return torch.cat(both, dim=-1).flatten(0, 1)


__all__ = ["coordinates", "rotation_of"]
