"""Bjontegaard deltas: how much rate a codec saves at equal quality, and the other way round.

With r = log10 of the rate (Bjontegaard, VCEG-M33, 2001)::

    BD-rate    100 (10^mean(r_test(q) - r_anchor(q)) - 1) %   over the qualities that both reach
    BD-metric  mean(q_test(r) - q_anchor(r))                  over the rates that both have

A negative BD-rate saves rate, a positive BD-metric is better, whichever way the metric itself goes.
Both are means over what the curves have in common, so that share belongs beside every figure.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from tessella.errors import ConfigError
from tessella.eval.piecewise import LEAST_POINTS, Floats, Method, interpolate

GOOD_OVERLAP = 0.75

Points = Sequence[tuple[float, float]]


class Delta(NamedTuple):
    """A difference of two curves.

    Args:
        value: NaN where the curves have nothing in common.
        overlap: of both ranges that it was taken over, the common part over the whole; 0 to 1.
    """

    value: float
    overlap: float


def bd_rate(
    anchor: Points,
    test: Points,
    *,
    better: Literal["higher", "lower"] = "higher",
    method: Method = "pchip",
    warn_below: float = GOOD_OVERLAP,
) -> Delta:
    """Return how much more rate a codec needs at equal quality, in per cent.

    Args:
        anchor: (rate, quality) of the codec that is compared with, in any order.
        test: those of the codec.
        better: which direction of the quality.
        method: ``pchip``, ``akima``, or ``cubic``: the original definition, for four points and
            hardly more.
        warn_below: overlap under which a warning is given; 0 for never.

    Raises:
        ConfigError: if a rate is not positive, there are too few points, or the quality does not
            strictly rise with the rate: points are neither dropped nor merged.

    Example:
        >>> anchor = [(0.2, 28.0), (0.4, 31.0), (0.8, 34.0), (1.6, 37.0)]
        >>> value, overlap = bd_rate(anchor, [(rate / 2, quality) for rate, quality in anchor])
        >>> round(value, 6), overlap
        (-50.0, 1.0)
    """
    (rates_a, qualities_a), (rates_b, qualities_b) = (
        _curve(points, better, method) for points in (anchor, test)
    )
    for name, qualities in (("anchor", qualities_a), ("test", qualities_b)):
        if not (np.diff(qualities) > 0).all():
            raise ConfigError(
                f"the quality of the {name} does not strictly rise with its rate; BD-rate needs "
                "that: leave out points that another one beats"
            )
    mean, overlap = _mean_difference(
        (qualities_a, rates_a), (qualities_b, rates_b), method, warn_below
    )
    return Delta(100 * (10**mean - 1), overlap)


def bd_metric(
    anchor: Points,
    test: Points,
    *,
    better: Literal["higher", "lower"] = "higher",
    method: Method = "pchip",
    warn_below: float = GOOD_OVERLAP,
) -> Delta:
    """Return how much better a codec is at equal rate, in units of the metric.

    It may exist where BD-rate does not: rates often overlap where qualities do not.

    Args:
        anchor: see :func:`bd_rate`.
        test: see :func:`bd_rate`.
        better: see :func:`bd_rate`; the result is positive for a better codec either way.
        method: see :func:`bd_rate`.
        warn_below: see :func:`bd_rate`; here of the ranges of log rates.

    Raises:
        ConfigError: if a rate is not positive or there are too few points.
    """
    a, b = (_curve(points, better, method) for points in (anchor, test))
    return Delta(*_mean_difference(a, b, method, warn_below))


def _curve(points: Points, better: str, method: Method) -> tuple[Floats, Floats]:
    """Return log rates, which strictly increase, and qualities, more of which is better."""
    if better not in ("higher", "lower"):
        raise ConfigError(f"better={better!r} given; expected 'higher' or 'lower'")
    least = LEAST_POINTS.get(method, 2)
    if len(points) < least:
        raise ConfigError(f"{len(points)} points given; {method} needs at least {least}")
    rates, qualities = np.array(sorted(points), dtype=np.float64).T
    if not (np.isfinite(rates).all() and np.isfinite(qualities).all() and (rates > 0).all()):
        raise ConfigError("points given that are not finite or have no rate; expected rates over 0")
    if not (np.diff(rates) > 0).all():
        raise ConfigError(
            f"rates {rates.tolist()} given; expected each once: leave out all but one point"
        )
    return np.log10(rates), qualities if better == "higher" else -qualities


def _mean_difference(
    anchor: tuple[Floats, Floats], test: tuple[Floats, Floats], method: Method, warn_below: float
) -> tuple[float, float]:
    """Integrate test minus anchor over what their first coordinates have in common."""
    first = [float(curve[0][0]) for curve in (anchor, test)]
    last = [float(curve[0][-1]) for curve in (anchor, test)]
    low, high = max(first), min(last)
    overlap = max(0.0, high - low) / (max(last) - min(first))
    if overlap < warn_below:
        warnings.warn(
            f"the two curves have {overlap:.0%} of their range in common; below "
            f"{warn_below:.0%} a Bjontegaard delta says little",
            stacklevel=3,
        )
    if not overlap:
        return math.nan, overlap
    ours, theirs = (interpolate(*curve, method).integral(low, high) for curve in (anchor, test))
    return (theirs - ours) / (high - low), overlap


__all__ = ["GOOD_OVERLAP", "Delta", "Points", "bd_metric", "bd_rate"]
