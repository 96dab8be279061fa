"""Infinity's schedules by aspect ratio (arXiv 2412.04431).

Fifteen templates: eight ratios of height to width, and the inverses of seven with the sides
swapped. The first 7, 10, 12 or 13 grids of a template are its schedule for about 256^2, 512^2,
768^2 or 1024^2 pixels; a grid's step is 16 pixels.
"""

from __future__ import annotations

from tessella.tokenizers.layers.resampling import Grid
from tessella.tokenizers.scale_schedules import Schedule, fit_schedule

#: grids of a schedule, by name of the resolution (millions of pixels)
LENGTHS = {"0.06M": 7, "0.25M": 10, "0.60M": 12, "1M": 13}

_TALL = {
    1.0: "1x1 2x2 4x4 6x6 8x8 12x12 16x16 20x20 24x24 32x32 40x40 48x48 64x64",
    1.25: "1x1 2x2 3x3 5x4 10x8 15x12 20x16 25x20 30x24 35x28 45x36 55x44 70x56",
    1.333: "1x1 2x2 4x3 8x6 12x9 16x12 20x15 24x18 28x21 36x27 48x36 60x45 72x54",
    1.5: "1x1 2x2 3x2 6x4 9x6 15x10 21x14 27x18 33x22 39x26 48x32 63x42 78x52",
    1.75: "1x1 2x2 3x3 7x4 11x6 14x8 21x12 28x16 35x20 42x24 56x32 70x40 84x48",
    2.0: "1x1 2x2 4x2 6x3 10x5 16x8 22x11 30x15 38x19 46x23 60x30 74x37 90x45",
    2.5: "1x1 2x2 5x2 10x4 15x6 20x8 25x10 30x12 40x16 50x20 65x26 80x32 100x40",
    3.0: "1x1 2x2 6x2 9x3 15x5 21x7 27x9 36x12 45x15 54x18 72x24 90x30 111x37",
}


def _grids(text: str) -> Schedule:
    pairs = (grid.split("x") for grid in text.split())
    return tuple((int(height), int(width)) for height, width in pairs)


def _templates() -> dict[float, Schedule]:
    tall = {ratio: _grids(text) for ratio, text in _TALL.items()}
    wide = {
        # truncated to three decimals, as the published templates are named
        int(1000 / ratio) / 1000: tuple((w, h) for h, w in grids)
        for ratio, grids in tall.items()
        if ratio > 1
    }
    return tall | wide


#: full schedules (1M) by ratio of height to width
TEMPLATES = _templates()


def template_ratio(grid: Grid) -> float:
    """Return the ratio of the template that a grid takes: the nearest."""
    return min(TEMPLATES, key=lambda ratio: abs(ratio - grid[0] / grid[1]))


def infinity_schedule(grid: Grid) -> Schedule:
    """Return the schedule of a token grid; see :mod:`tessella.tokenizers.scale_schedules`.

    Example:
        >>> infinity_schedule((16, 16))
        ((1, 1), (2, 2), (4, 4), (6, 6), (8, 8), (12, 12), (16, 16))
    """
    template = TEMPLATES[template_ratio(grid)]
    return fit_schedule([template[:length] for length in LENGTHS.values()], grid)


__all__ = ["LENGTHS", "TEMPLATES", "infinity_schedule", "template_ratio"]
