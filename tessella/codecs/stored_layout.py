"""The layout of tokens as a token file stores it, and the order in which segments carry them.

The file's *parts*, most important first: one a group (ordered groups), one a run of positions
(ordered length: cut at 16, 32, 64, ...), one a level (small neighbours joined) or the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Order = Literal["none", "groups", "length"]

_FIRST_POINT = 16
_SMALLEST_PART = 64


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """One level: a discrete one has ``vocab_sizes``, a quantised continuous one ``channels``."""

    grid: tuple[int, ...]
    vocab_sizes: tuple[int, ...] = ()
    channels: int = 0
    ordered: Order = "none"
    exponent: int = 0
    range_bits: int = 0

    @property
    def positions(self) -> int:
        """Number of positions of the grid."""
        return self.grid[0] * self.grid[-1] if len(self.grid) == 2 else self.grid[0]

    @property
    def groups(self) -> int:
        """Number of groups or channels."""
        return self.channels or len(self.vocab_sizes)


@dataclass(frozen=True, slots=True)
class Run:
    """Values coded one after another: one group of some positions, or all groups, innermost."""

    level: int
    group: int | None
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Part:
    """A droppable unit of a file, and what is complete once it has been read."""

    runs: tuple[Run, ...]
    levels: int
    groups: int | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class StoredLayout:
    """Explicit levels, or what to take of the model's layout.

    Args:
        levels: the levels; empty when they follow from the model.
        derived_parts: how many of the model's parts there are; 0 for all.
        derived_length: how many positions of the model's sequence there are; 0 for all.
        quantisation: ``(exponent, range_bits)`` of all continuous levels of a derived layout.
    """

    levels: tuple[StoredLevel, ...] = ()
    derived_parts: int = 0
    derived_length: int = 0
    quantisation: tuple[int, int] | None = None

    @property
    def num_values(self) -> int:
        """Number of stored values; 0 for a derived layout."""
        return sum(level.positions * level.groups for level in self.levels)


def split_parts(levels: tuple[StoredLevel, ...]) -> list[Part]:
    """Return the parts of a layout, most important first."""
    if len(levels) > 1:
        return _level_parts(levels)
    level = levels[0]
    n = level.positions
    if level.ordered == "groups":
        return [Part((Run(0, g, 0, n),), 1, groups=g + 1) for g in range(level.groups)]
    if level.ordered == "length" and not level.channels:
        points: list[int] = []
        while (point := _FIRST_POINT << len(points)) < n:
            points.append(point)
        bounds = [0, *points, n]
        return [Part((Run(0, None, a, b),), 1, length=b) for a, b in pairwise(bounds)]
    return [Part(_level_runs(0, level), 1)]


def _level_parts(levels: tuple[StoredLevel, ...]) -> list[Part]:
    parts: list[Part] = []
    runs: tuple[Run, ...] = ()
    size = 0
    for i, level in enumerate(levels):
        runs += _level_runs(i, level)
        size += level.positions * level.groups
        if size >= _SMALLEST_PART or i + 1 == len(levels):
            parts.append(Part(runs, i + 1))
            runs, size = (), 0
    return parts


def _level_runs(i: int, level: StoredLevel) -> tuple[Run, ...]:
    if level.channels or level.ordered == "groups":
        return tuple(Run(i, g, 0, level.positions) for g in range(level.groups))
    return (Run(i, None, 0, level.positions),)


__all__ = ["Order", "Part", "Run", "StoredLayout", "StoredLevel", "split_parts"]
