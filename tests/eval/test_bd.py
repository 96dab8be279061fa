"""Bjontegaard deltas: recorded ones of an independent package, closed forms, refusals."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

from tessella.errors import ConfigError
from tessella.eval.bd import Points, bd_metric, bd_rate
from tessella.eval.piecewise import Method, interpolate

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "bd_rate" / "bd_cases.json"
RECORDED: list[dict[str, Any]] = json.loads(CASES.read_text("utf-8"))["cases"]
TOLERANCE = {"pchip": 1e-9, "akima": 1e-9, "cubic": 1e-6}
ANCHOR = [(0.1, 25.0), (0.2, 28.0), (0.4, 30.5), (0.8, 34.0), (1.6, 36.0)]


def _points(curve: dict[str, list[float]]) -> Points:
    return list(zip(curve["rate"], curve["quality"], strict=True))


@pytest.mark.parity
@pytest.mark.parametrize("method", ["pchip", "akima", "cubic"])
@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["name"])
def test_recorded_deltas(case: dict[str, Any], method: Method) -> None:
    recorded = case["expected"][method]
    if recorded is None:
        with pytest.raises(ConfigError, match="at least 4"):
            bd_rate(_points(case["anchor"]), _points(case["test"]), method=method)
        return
    options: dict[str, Any] = {
        "better": "lower" if case["lower_is_better"] else "higher",
        "method": method,
        "warn_below": 0.0,
    }
    pair = _points(case["anchor"])[::-1], _points(case["test"])  # order does not matter
    rate, gain = bd_rate(*pair, **options), bd_metric(*pair, **options)
    assert rate.overlap == pytest.approx(case["overlap_fraction"], rel=1e-9)
    near = {"rel": TOLERANCE[method], "abs": 1e-9}
    if recorded["bd_rate_percent"] is None:
        assert math.isnan(rate.value)
        assert rate.overlap == 0
    else:
        assert rate.value == pytest.approx(recorded["bd_rate_percent"], **near)
    assert gain.value == pytest.approx(recorded["bd_metric"], **near)


@pytest.mark.parametrize("method", ["pchip", "akima"])
@pytest.mark.parametrize("count", [2, 3, 4, 9])
@pytest.mark.parametrize("is_monotone", [True, False])
def test_curves_and_integrals_are_scipys(method: Method, count: int, is_monotone: bool) -> None:
    rng = np.random.default_rng(count)
    x = np.sort(rng.uniform(-2, 1, count))
    y = np.cumsum(rng.uniform(0.1, 3, count)) if is_monotone else rng.normal(size=count)
    theirs = (PchipInterpolator if method == "pchip" else Akima1DInterpolator)(x, y)
    ours = interpolate(x, y, method)
    places = np.linspace(x[0], x[-1], 57)
    assert np.allclose([ours(place) for place in places], theirs(places), rtol=1e-12, atol=1e-12)
    low, high = x[0] + 0.1 * (x[-1] - x[0]), x[-1] - 0.2 * (x[-1] - x[0])
    assert ours.integral(low, high) == pytest.approx(float(theirs.integrate(low, high)), rel=1e-10)


def test_a_cubic_is_found_exactly() -> None:
    polynomial = np.polynomial.Polynomial([3.0, -1.0, 0.5, 2.0])
    x = np.array([-2.0, -0.5, 0.1, 0.7, 1.2, 3.0])
    curve = interpolate(x, polynomial(x), "cubic")
    whole = polynomial.integ()
    assert curve(0.3) == pytest.approx(polynomial(0.3))
    assert curve.integral(-1.0, 2.5) == pytest.approx(whole(2.5) - whole(-1.0))


@pytest.mark.parametrize("method", ["pchip", "akima", "cubic"])
def test_the_other_way_round(method: Method) -> None:
    test = [(0.9 * rate, quality + 0.4) for rate, quality in ANCHOR]
    options: dict[str, Any] = {"method": method}
    there, back = bd_rate(ANCHOR, test, **options), bd_rate(test, ANCHOR, **options)
    assert (1 + there.value / 100) * (1 + back.value / 100) == pytest.approx(1)
    assert bd_metric(ANCHOR, test, **options).value > 0
    assert there.value < 0


def test_lower_is_better_is_the_negated_metric() -> None:
    anchor = [(rate, -quality) for rate, quality in ANCHOR]
    test = [(0.8 * rate, quality) for rate, quality in anchor]
    assert bd_rate(anchor, test, better="lower").value == pytest.approx(-20)
    assert bd_metric(anchor, test, better="lower").value > 0


def test_little_overlap_warns_and_says_how_much() -> None:
    test = [(rate, quality + 9) for rate, quality in ANCHOR]  # 2 of 20 dB in common
    with pytest.warns(UserWarning, match="10%"):
        assert bd_rate(ANCHOR, test).overlap == pytest.approx(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bd_rate(ANCHOR, test, warn_below=0)
        bd_metric(ANCHOR, test)  # all rates in common


@pytest.mark.parametrize(
    ("points", "method", "message"),
    [
        ([(0.1, 25.0)], "pchip", "1 points given; pchip needs at least 2"),
        (ANCHOR[:3], "cubic", "needs at least 4"),
        ([*ANCHOR, (0.4, 31.0)], "pchip", "each once"),
        ([*ANCHOR, (2.0, 35.0)], "pchip", "quality of the test does not strictly rise"),
        ([*ANCHOR, (0.0, 20.0)], "pchip", "rates over 0"),
        ([*ANCHOR, (3.0, math.inf)], "pchip", "not finite"),
        (ANCHOR, "spline", "expected pchip, cubic, akima"),
    ],
)
def test_points_that_are_refused(points: Points, method: Method, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bd_rate(ANCHOR, points, method=method)


def test_a_bd_metric_needs_no_rising_quality() -> None:
    bumpy = [*ANCHOR[:2], (0.3, 27.0), *ANCHOR[2:]]
    assert bd_metric(ANCHOR, bumpy).value < 0
