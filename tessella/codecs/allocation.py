"""How many groups each place of a picture is worth: greedy choice by distortion saved per bit.

::

    distortions, bits (h, w, G) --tiles--> convex hull of each --by slope--> counts (h, w)

A tile starts with one group. Of all that may be added anywhere, what saves the most squared error
for a bit comes first (Lagrangian bit allocation, Shoham and Gersho 1988); only steps on the convex
hull of a tile are looked at, so that a tile's own steps come in order. Tiles are taken as
independent of each other, which they are not quite: measure what comes out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tessella.errors import ShapeError

Floats = NDArray[np.float64]


class Allocation:
    """The order in which groups are added to tiles.

    Args:
        distortions: ``(h, w, G)``, squared error at each position when all keep 1 to G groups.
        bits: ``(h, w, G)``, what each token costs.
        tile: side of a tile in positions.

    Raises:
        ShapeError: if the arrays differ in shape or the tile is not positive.
    """

    def __init__(self, distortions: Floats, bits: Floats, *, tile: int) -> None:
        if distortions.ndim != 3 or distortions.shape != bits.shape or tile < 1:
            raise ShapeError(
                f"distortions {distortions.shape}, bits {bits.shape} and tile={tile} given; "
                "expected (h, w, G) twice and at least 1"
            )
        self._height, self._width = distortions.shape[:2]
        self._tile = tile
        self._grid = -(-self._height // tile), -(-self._width // tile)
        costs = np.cumsum(self._tiled(bits), axis=1)
        self._least = float(costs[:, 0].sum())
        self._places, self._counts, self._bits = _ordered_steps(self._tiled(distortions), costs)

    @property
    def least_bits(self) -> float:
        """Expected bits of one group everywhere."""
        return self._least

    @property
    def most_bits(self) -> float:
        """Expected bits when every step that saves something is taken."""
        return self._least + float(self._bits[-1]) if self._bits.size else self._least

    def counts(self, budget: float) -> NDArray[np.int64]:
        """Return how many groups each position ``(h, w)`` keeps within an expected budget of bits.

        A budget below :attr:`least_bits` gives one everywhere.
        """
        taken = int(np.searchsorted(self._bits, budget - self._least, side="right"))
        tiles = np.ones(self._grid[0] * self._grid[1], dtype=np.int64)
        np.maximum.at(tiles, self._places[:taken], self._counts[:taken])
        tiles = tiles.reshape(self._grid)
        full = tiles.repeat(self._tile, axis=0).repeat(self._tile, axis=1)
        return full[: self._height, : self._width]

    def _tiled(self, values: Floats) -> Floats:
        """Return the sums ``(tiles, G)`` over tiles."""
        rows = np.arange(0, self._height, self._tile)
        columns = np.arange(0, self._width, self._tile)
        sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
        return sums.reshape(-1, values.shape[-1])


def _ordered_steps(
    errors: Floats, costs: Floats
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return tile, new count and bits up to here of each step, the most useful ones first."""
    tiles, groups = errors.shape
    rows = np.arange(tiles)
    index = np.zeros(tiles, dtype=np.int64)  # count - 1
    slopes, places, counts, bits = [], [], [], []
    for _ in range(groups - 1):
        saved = errors[rows, index][:, None] - errors
        spent = costs - costs[rows, index][:, None]
        is_ahead = np.arange(groups) > index[:, None]
        slope = np.where(is_ahead, saved / np.where(is_ahead, np.maximum(spent, 1e-9), 1), 0)
        best = slope.argmax(axis=1)
        is_useful = slope[rows, best] > 0
        rows_here = rows[is_useful]
        slopes.append(slope[rows_here, best[is_useful]])
        places.append(rows_here)
        counts.append(best[is_useful] + 1)
        bits.append(spent[rows_here, best[is_useful]])
        index = np.where(is_useful, best, index)
    if not slopes:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    order = np.argsort(-np.concatenate(slopes), kind="stable")
    steps = np.concatenate(places)[order], np.concatenate(counts)[order]
    return *steps, np.cumsum(np.concatenate(bits)[order])


__all__ = ["Allocation"]
