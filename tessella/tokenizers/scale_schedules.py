"""Which grids the scales of a pyramid have, for pictures of any size.

A published *schedule* lists the grids of a resolution, coarse to fine. A picture whose token grid
ends a published schedule takes it. Any other grid takes the same steps in proportion: the grids of
the largest published schedule that is not larger, or else of the smallest one, stretched to the
grid and rounded (halves up, at least 1), repeated grids left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from tessella.errors import ConfigError
from tessella.tokenizers.layers.resampling import Grid

Schedule = tuple[Grid, ...]


def square(sides: Sequence[int]) -> Schedule:
    """Return the schedule of square grids of these sides."""
    return tuple((side, side) for side in sides)


def fit_schedule(published: Sequence[Schedule], grid: Grid) -> Schedule:
    """Return the schedule of a grid.

    Args:
        published: schedules of one aspect ratio, in ascending order.
        grid: ``(h, w)`` of the last scale.

    Example:
        >>> fit_schedule([((1, 1), (2, 2), (4, 4))], (4, 4))
        ((1, 1), (2, 2), (4, 4))
        >>> fit_schedule([((1, 1), (2, 2), (4, 4))], (2, 6))
        ((1, 2), (1, 3), (2, 6))
    """
    longer = max(grid)
    fitting = [schedule for schedule in published if max(schedule[-1]) <= longer]
    base = fitting[-1] if fitting else published[0]
    last = base[-1]
    stretched = [(_scaled(h, grid[0], last[0]), _scaled(w, grid[1], last[1])) for h, w in base]
    kept: list[Grid] = []
    for height, width in (*stretched[:-1], grid):
        if not kept or kept[-1] != (height, width):
            kept.append((height, width))
    return tuple(kept)


def check_schedule(name: str, schedule: Sequence[Grid]) -> None:
    """Check that grids grow.

    Raises:
        ConfigError: if one is smaller than the one before, or empty.
    """
    smaller = (1, 1)
    for grid in schedule:
        if grid[0] < smaller[0] or grid[1] < smaller[1]:
            raise ConfigError(
                f"{name}={tuple(schedule)} given; expected grids that grow from at least 1 x 1"
            )
        smaller = grid


def _scaled(part: int, whole: int, published: int) -> int:
    return max(1, (2 * part * whole + published) // (2 * published))


__all__ = ["Schedule", "check_schedule", "fit_schedule", "square"]
