"""Convolutions of integers that come out the same everywhere.

Values are whole numbers in float64, which holds every sum below 2^53 exactly: the order of
summation, threads, libraries and devices cannot change a digit. A layer is::

    floor((W x + b) 2^-s + 1/2)      W int8, b int32, s an int8 of each output channel
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tessella.errors import CheckpointError

Whole = NDArray[np.float64]
Offsets = Sequence[tuple[int, int]]

#: fractional bits of sums before the rectifier, and of what comes out of it
SUM_BITS = 12
ACTIVATION_BITS = 8
MOST_ACTIVATION = (16 << ACTIVATION_BITS) - 1
INPUT_LIMIT = 1 << 15

_EXACT = 1 << 52
_MOST_SHIFT = 31


@dataclass(frozen=True)
class IntegerLayer:
    """A linear map of channels and neighbours.

    Args:
        weight: ``(outputs, neighbours * inputs)`` int8, inputs innermost.
        bias: ``(outputs,)`` int32.
        shift: ``(outputs,)`` int8, -31 to 31.

    Raises:
        CheckpointError: if the arrays do not fit, or sums could be inexact.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    shift: NDArray[np.int8]

    def __post_init__(self) -> None:
        arrays = (self.weight, self.bias, self.shift)
        outputs = self.weight.shape[:1]
        fits = (
            self.weight.ndim == 2
            and self.bias.shape == self.shift.shape == outputs
            and [a.dtype for a in arrays] == [np.int8, np.int32, np.int8]
        )
        if not fits:
            raise CheckpointError(
                f"layer arrays {[(a.shape, str(a.dtype)) for a in arrays]} given; expected int8 "
                "(O, I), int32 (O,) and int8 (O,)"
            )
        largest = int(np.abs(self.shift.astype(np.int64)).max(initial=0))
        sums = np.abs(self.weight.astype(np.int64)).sum(axis=1) * INPUT_LIMIT
        sums += np.abs(self.bias.astype(np.int64))
        reach = (sums * np.ldexp(1.0, np.maximum(-self.shift.astype(np.int64), 0))).max(initial=0)
        if largest > _MOST_SHIFT or reach >= _EXACT:
            raise CheckpointError(
                f"a layer with shifts up to {largest} and sums up to {reach:g} given; expected "
                f"{_MOST_SHIFT} at most and less than 2^52"
            )

    @cached_property
    def _matrix(self) -> Whole:
        return self.weight.astype(np.float64)

    @cached_property
    def _factors(self) -> tuple[Whole, Whole]:
        scale = np.ldexp(1.0, -self.shift.astype(np.int64))
        return self.bias.astype(np.float64)[:, None], scale[:, None]

    def __call__(self, columns: Whole) -> Whole:
        """Map whole numbers ``(neighbours * inputs, n)`` below 2^15 to ``(outputs, n)``."""
        bias, scale = self._factors
        sums = self._matrix @ columns
        sums += bias
        return rounded_up(sums, scale)


def rounded_up(sums: Whole, scale: Whole | float) -> Whole:
    """Return ``floor(sums scale + 1/2)`` for a power of two, in place of the sums."""
    sums *= scale
    sums += 0.5
    return np.floor(sums, out=sums)


def rectified(sums: Whole) -> Whole:
    """Return activations of sums, in their place: rounded, from 0 to the largest."""
    rounded_up(sums, 2.0 ** (ACTIVATION_BITS - SUM_BITS))
    return np.clip(sums, 0, MOST_ACTIVATION, out=sums)


def square(side: int) -> list[tuple[int, int]]:
    """Return the neighbours ``(dy, dx)`` of a square, row by row."""
    r = range(-(side // 2), side // 2 + 1)
    return [(dy, dx) for dy in r for dx in r]


def other_colour(side: int) -> list[tuple[int, int]]:
    """Return the neighbours of a square that have the other colour of a checkerboard."""
    return [(dy, dx) for dy, dx in square(side) if (dy + dx) % 2]


def neighbours(
    maps: Whole, offsets: Offsets, positions: NDArray[np.intp] | slice = slice(None)
) -> Whole:
    """Return columns ``(len(offsets) * C, n)`` of a map ``(C, h, w)``, zeros outside of it.

    Args:
        maps: whole numbers.
        offsets: neighbours ``(dy, dx)``.
        positions: which positions, in raster order; all by default.
    """
    margin = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    channels, height, width = maps.shape
    padded = np.pad(maps, ((0, 0), (margin, margin), (margin, margin)))
    parts = []
    for dy, dx in offsets:
        top, left = margin + dy, margin + dx
        part = padded[:, top : top + height, left : left + width].reshape(channels, -1)
        parts.append(part[:, positions])
    return np.concatenate(parts)


def shuffled(columns: Whole, height: int, width: int) -> Whole:
    """Return a map ``(C, 2 h, 2 w)`` of columns ``(4 C, h w)``: a pixel shuffle."""
    blocks = columns.reshape(-1, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(blocks).reshape(-1, 2 * height, 2 * width)


__all__ = [
    "ACTIVATION_BITS",
    "INPUT_LIMIT",
    "MOST_ACTIVATION",
    "SUM_BITS",
    "IntegerLayer",
    "Whole",
    "neighbours",
    "other_colour",
    "rectified",
    "rounded_up",
    "shuffled",
    "square",
]
