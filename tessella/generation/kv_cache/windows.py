"""Observation windows: which of a scale's tokens speak for the next scale's queries."""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import Grid


def last_window(total: int, new: int, size: int) -> Tensor:
    """Return the places of the last tokens of a scale, at most ``size``, ascending.

    Args:
        total: ``T``, tokens of the layer; the scale's are the last of them.
        new: ``n_k``, tokens of the scale.
        size: most tokens.
    """
    return torch.arange(total - min(new, size), total)


def grid_window(total: int, grid: Grid, side: int) -> Tensor:
    """Return the places of ``side x side`` tokens spread over a scale's map, ascending.

    The map is cut into ``side x side`` patches of ``floor(h / side) x floor(w / side)`` tokens, and
    the upper left of the middle tokens is taken of each. Maps smaller than that give their last
    ``side^2`` tokens.

    Args:
        total: ``T``, tokens of the layer; the scale's are the last of them.
        grid: ``(h, w)`` of the scale.
        side: patches a side.
    """
    height, width = grid
    if min(grid) < side:
        return last_window(total, height * width, side * side)
    steps = torch.arange(side)
    rows, columns = (steps * (n // side) + (n // side - 1) // 2 for n in grid)
    return total - height * width + (rows.unsqueeze(1) * width + columns).flatten()


def check_kernel(kernel: int) -> None:
    """Check the width of pooling along the cache.

    Raises:
        ConfigError: unless it is odd.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"kernel={kernel} given; expected an odd width such as 5")


__all__ = ["check_kernel", "grid_window", "last_window"]
