"""Words straightened by their four corners: a perspective transform to an upright rectangle."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tessella.eval.tokbench.text_annotations import Quad
from tessella.images import Pixels

_LONGEST = 4096


def straightened(picture: Pixels, quad: Quad) -> Pixels | None:
    """Cut a quadrangle from a picture as an upright rectangle, bicubic.

    Args:
        picture: uint8 RGB ``(H, W, 3)``; what lies outside is black.
        quad: corners in pixels, clockwise from the one that becomes the top left. The rectangle has
            the mean lengths of opposite sides.

    Returns:
        None if the corners span no area.
    """
    sides = [math.dist(quad[i], quad[(i + 1) % 4]) for i in range(4)]
    width, height = ((sides[i] + sides[i + 2]) / 2 for i in (0, 1))
    size = (min(max(round(width), 1), _LONGEST), min(max(round(height), 1), _LONGEST))
    coefficients = _perspective(size, quad)
    if coefficients is None:
        return None
    image = Image.fromarray(picture)
    turned = image.transform(
        size, Image.Transform.PERSPECTIVE, coefficients.tolist(), Image.Resampling.BICUBIC
    )
    return np.array(turned)


def _perspective(size: tuple[int, int], quad: Quad) -> NDArray[np.float64] | None:
    """Return ``a .. h`` of ``x = (aX + bY + c) / (gX + hY + 1)``, y alike with d, e, f."""
    width, height = size
    target = ((0, 0), (width, 0), (width, height), (0, height))
    rows, values = [], []
    for (u, v), (x, y) in zip(target, quad, strict=True):
        rows.append([u, v, 1, 0, 0, 0, -u * x, -v * x])
        rows.append([0, 0, 0, u, v, 1, -u * y, -v * y])
        values += [x, y]
    try:
        solution: NDArray[np.float64] = np.linalg.solve(np.array(rows, float), np.array(values))
    except np.linalg.LinAlgError:
        return None
    (ax, ay), _, (cx, cy), _ = quad
    bx, by, dx, dy = *quad[1], *quad[3]
    area = abs((cx - ax) * (dy - by) - (dx - bx) * (cy - ay)) / 2
    return solution if area > 0 and np.isfinite(solution).all() else None


__all__ = ["straightened"]
