"""Geometry of tiles: a picture is cut into cores, and each is computed from a larger outer box.

::

    +-----------------+
    |  outer   halo   |     outer = core grown by the halo on every side, within the picture
    |   +---------+   |     sides of cores are multiples of the stride, except at the right and
    |   |  core   |   |     lower edge of the picture
    |   +---------+   |
    +-----------------+
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tessella.errors import ShapeError


class Box(NamedTuple):
    """A half-open rectangle in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows of the box."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns of the box."""
        return self.right - self.left

    def inside(self, other: Box) -> Box:
        """Return this box in the coordinates of one that contains it."""
        return Box(
            self.top - other.top,
            self.left - other.left,
            self.bottom - other.top,
            self.right - other.left,
        )

    def grown(self, multiple: int) -> Box:
        """Return the box with its lower and right sides moved out to multiples."""
        bottom, right = (-(-side // multiple) * multiple for side in (self.bottom, self.right))
        return Box(self.top, self.left, bottom, right)

    def in_cells(self, stride: int) -> Box:
        """Return the box in cells of ``stride`` pixels, a cut cell at its end included."""
        return Box(
            self.top // stride,
            self.left // stride,
            -(-self.bottom // stride),
            -(-self.right // stride),
        )


class Tile(NamedTuple):
    """A core, what it is computed from, and where it lies."""

    core: Box
    outer: Box


def tiles(height: int, width: int, *, tile: int, halo: int, stride: int) -> Iterator[Tile]:
    """Cut a picture into tiles, row by row.

    Outer boxes of one picture have one size, so that kernels chosen for a shape are used again:
    the largest up to ``tile`` that divides each axis with little waste. Those at the edges reach
    further inwards.

    Args:
        height: of the picture in pixels.
        width: of the picture in pixels.
        tile: largest side of an outer box; a multiple of the stride and larger than two halos.
        halo: pixels around a core, a multiple of the stride.
        stride: cores start at multiples of it.

    Raises:
        ShapeError: if the sizes do not fit together.

    Example:
        >>> [t.core[1::2] for t in tiles(8, 40, tile=32, halo=8, stride=8)]
        [(0, 16), (16, 40)]
    """
    if min(height, width, stride) < 1 or halo < 0 or halo % stride or tile % stride:
        raise ShapeError(
            f"tile={tile}, halo={halo} given for {width}x{height} pixels; "
            f"expected multiples of the stride {stride}"
        )
    if tile <= 2 * halo:
        raise ShapeError(f"tile={tile} given; expected more than two halos of {halo}")
    columns = list(_spans(width, tile, halo, stride))
    for top, bottom, outer_top, outer_bottom in _spans(height, tile, halo, stride):
        for left, right, outer_left, outer_right in columns:
            yield Tile(
                Box(top, left, bottom, right),
                Box(outer_top, outer_left, outer_bottom, outer_right),
            )


def _spans(length: int, tile: int, halo: int, stride: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``(start, stop, outer start, outer stop)`` along one axis."""
    padded = -(-length // stride) * stride
    size = padded
    if padded > tile:
        count = -(-(padded - 2 * halo) // (tile - 2 * halo))
        size = -(-(padded - 2 * halo) // count) + 2 * halo
        size = -(-size // stride) * stride
    start = 0
    while start < length:
        outer_start = max(0, min(start - halo, padded - size))
        outer_stop = min(length, outer_start + size)
        is_last = outer_start + size >= padded
        stop = length if is_last else outer_stop - halo
        yield start, stop, outer_start, outer_stop
        start = stop


__all__ = ["Box", "Tile", "tiles"]
