"""Curves through points as piecewise cubic polynomials, and their exact integrals.

::

    pchip   monotone pieces (Fritsch and Carlson 1980), the slopes of Fritsch and Butland (1984)
    akima   slopes weighted by how much the neighbouring ones change (Akima 1970)
    cubic   one polynomial of degree 3, least squares
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tessella.errors import ConfigError

Floats = NDArray[np.float64]
Method = Literal["pchip", "cubic", "akima"]

LEAST_POINTS: dict[Method, int] = {"pchip": 2, "cubic": 4, "akima": 2}
_FLAT = 1e-9  # of the largest weight in Akima's mean; below it both sides weigh the same


@dataclass(frozen=True, slots=True)
class PiecewiseCubic:
    """A function on ``[knots[0], knots[-1]]``.

    Args:
        knots: ``(N,)``, strictly increasing.
        coefficients: ``(N - 1, 4)``; of 1, t, t^2, t^3 with t the distance from the left knot.
    """

    knots: Floats
    coefficients: Floats

    def __call__(self, x: float) -> float:
        """Return the value at ``x``, which must lie between the outer knots."""
        i = int(np.clip(np.searchsorted(self.knots, x, "right") - 1, 0, len(self.knots) - 2))
        return float(self.coefficients[i] @ (x - self.knots[i]) ** np.arange(4.0))

    def integral(self, low: float, high: float) -> float:
        """Return the integral between two places within the outer knots, from antiderivatives."""
        starts, ends = (np.clip(part, low, high) for part in (self.knots[:-1], self.knots[1:]))
        powers = np.arange(1.0, 5.0)
        upper, lower = ((x - self.knots[:-1])[:, None] ** powers / powers for x in (ends, starts))
        return float((self.coefficients * (upper - lower)).sum())


def interpolate(x: Floats, y: Floats, method: Method = "pchip") -> PiecewiseCubic:
    """Put a curve through points (for ``cubic`` with more than four: near them).

    Args:
        x: ``(N,)``, strictly increasing.
        y: ``(N,)``.
        method: see the module.

    Raises:
        ConfigError: if there are too few points for the method, or x does not increase.
    """
    if method not in LEAST_POINTS:
        raise ConfigError(f"method {method!r} given; expected {', '.join(LEAST_POINTS)}")
    if len(x) != len(y) or len(x) < LEAST_POINTS[method]:
        raise ConfigError(f"{len(x)} points given; {method} needs at least {LEAST_POINTS[method]}")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (np.diff(x) > 0).all()):
        raise ConfigError(
            f"points at {x.tolist()} given; expected finite ones that strictly increase"
        )
    if method == "cubic":
        return _cubic(x, y)
    return _hermite(x, y, _pchip_slopes(x, y) if method == "pchip" else _akima_slopes(x, y))


def _cubic(x: Floats, y: Floats) -> PiecewiseCubic:
    # on [-1, 1] the powers are as little alike as they get
    middle, half = (x[0] + x[-1]) / 2, (x[-1] - x[0]) / 2
    fit = np.polynomial.Polynomial.fit(x, y, 3, domain=[x[0], x[-1]])
    scaled = np.polynomial.Polynomial(fit.coef)
    t = np.polynomial.Polynomial([(x[0] - middle) / half, 1 / half])  # from the left knot
    coefficients = np.zeros(4)
    found = scaled(t).coef
    coefficients[: len(found)] = found
    return PiecewiseCubic(x[[0, -1]], coefficients[None])


def _hermite(x: Floats, y: Floats, slopes: Floats) -> PiecewiseCubic:
    h = np.diff(x)
    secants = np.diff(y) / h
    left, right = slopes[:-1], slopes[1:]
    square = (3 * secants - 2 * left - right) / h
    cube = (left + right - 2 * secants) / h**2
    return PiecewiseCubic(x, np.stack([y[:-1], left, square, cube], axis=1))


def _pchip_slopes(x: Floats, y: Floats) -> Floats:
    """Return harmonic means of neighbouring secants; 0 where the curve turns."""
    h = np.diff(x)
    secants = np.diff(y) / h
    if len(h) == 1:
        return np.repeat(secants, 2)
    before, after = secants[:-1], secants[1:]
    is_monotone = before * after > 0
    first, second = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    slopes = np.zeros_like(y)
    weights = first[is_monotone] / before[is_monotone] + second[is_monotone] / after[is_monotone]
    slopes[1:-1][is_monotone] = (first + second)[is_monotone] / weights
    slopes[0] = _end_slope(h[0], h[1], secants[0], secants[1])
    slopes[-1] = _end_slope(h[-1], h[-2], secants[-1], secants[-2])
    return slopes


def _end_slope(h: float, next_h: float, secant: float, next_secant: float) -> float:
    """Return the slope of the parabola through three points, held back to keep the shape."""
    slope = ((2 * h + next_h) * secant - h * next_secant) / (h + next_h)
    if np.sign(slope) != np.sign(secant):
        return 0.0
    if np.sign(secant) != np.sign(next_secant) and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return slope


def _akima_slopes(x: Floats, y: Floats) -> Floats:
    secants = np.diff(y) / np.diff(x)
    if len(secants) == 1:
        return np.repeat(secants, 2)
    head = [3 * secants[0] - 2 * secants[1], 2 * secants[0] - secants[1]]
    tail = [2 * secants[-1] - secants[-2], 3 * secants[-1] - 2 * secants[-2]]
    m = np.concatenate([head, secants, tail])
    change = np.abs(np.diff(m))
    before, after = change[:-2], change[2:]
    total = before + after
    slopes: Floats = (m[3:] + m[:-3]) / 2
    is_bent = total > _FLAT * total.max()
    mean = (after * m[1:-2] + before * m[2:-1])[is_bent] / total[is_bent]
    slopes[is_bent] = mean
    return slopes


__all__ = ["LEAST_POINTS", "Method", "PiecewiseCubic", "interpolate"]
