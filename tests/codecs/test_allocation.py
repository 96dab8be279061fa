"""The greedy choice of groups, against minimising distortion plus lambda times bits by itself."""

from __future__ import annotations

import numpy as np
import pytest

from tessella.codecs.allocation import Allocation
from tessella.errors import ShapeError


def problem(seed: int, shape: tuple[int, int, int] = (5, 7, 6)) -> tuple[np.ndarray, np.ndarray]:
    """Errors that fall, mostly, and bits that differ from place to place."""
    rng = np.random.default_rng(seed)
    saved = rng.gamma(0.6, 10.0, shape) * rng.choice((1, 1, 1, -0.2), shape)
    errors = saved[..., ::-1].cumsum(-1)[..., ::-1] + 100
    return errors, rng.uniform(2, 9, shape)


def spent(counts: np.ndarray, bits: np.ndarray) -> float:
    return float(bits[np.arange(bits.shape[2]) < counts[..., None]].sum())


def error(counts: np.ndarray, errors: np.ndarray) -> float:
    return float(np.take_along_axis(errors, counts[..., None] - 1, 2).sum())


@pytest.mark.parametrize("seed", range(4))
def test_every_lagrangian_optimum_is_met(seed: int) -> None:
    errors, bits = problem(seed)
    allocation = Allocation(errors, bits, tile=1)
    for slope in np.geomspace(0.01, 20, 23):
        # what minimises D + slope R at each place, of its own
        best = (errors + slope * bits.cumsum(-1)).argmin(-1) + 1
        found = allocation.counts(spent(best, bits) + 1e-6)
        assert np.array_equal(found, best)


def test_no_choice_within_the_budget_of_an_optimum_is_better() -> None:
    errors, bits = problem(9, (2, 2, 3))
    allocation = Allocation(errors, bits, tile=1)
    every = [np.array(np.unravel_index(i, (3,) * 4)).reshape(2, 2) + 1 for i in range(81)]
    for slope in (0.3, 1, 3):
        best = (errors + slope * bits.cumsum(-1)).argmin(-1) + 1
        budget = spent(best, bits) + 1e-6
        least = min(error(c, errors) for c in every if spent(c, bits) <= budget)
        assert error(allocation.counts(budget), errors) == pytest.approx(least)


@pytest.mark.parametrize("tile", [1, 2, 3, 8])
def test_budgets_are_kept_and_tiles_are_even(tile: int) -> None:
    errors, bits = problem(3)
    allocation = Allocation(errors, bits, tile=tile)
    assert allocation.least_bits == pytest.approx(bits[..., 0].sum())
    before = np.ones((5, 7), dtype=np.int64)
    for budget in np.linspace(allocation.least_bits, allocation.most_bits + 1, 30):
        counts = allocation.counts(budget)
        assert counts.shape == (5, 7)
        assert spent(counts, bits) <= budget + 1e-6
        assert (counts >= before).all()
        for top in range(0, 5, tile):
            for left in range(0, 7, tile):
                assert len(np.unique(counts[top : top + tile, left : left + tile])) == 1
        before = counts
    assert np.array_equal(allocation.counts(0), np.ones((5, 7)))


def test_useless_groups_are_never_bought() -> None:
    errors = np.array([[[5.0, 6.0, 4.0], [3.0, 3.0, 3.0]]])
    bits = np.ones((1, 2, 3))
    allocation = Allocation(errors, bits, tile=1)
    assert allocation.counts(1e9).tolist() == [[3, 1]]
    assert allocation.most_bits == 4
    one = Allocation(errors[..., :1], bits[..., :1], tile=1)
    assert (one.most_bits, one.counts(9).tolist()) == (2, [[1, 1]])


def test_wrong_shapes_are_refused() -> None:
    errors, bits = problem(0)
    with pytest.raises(ShapeError, match="expected"):
        Allocation(errors, bits[..., :2], tile=1)
    with pytest.raises(ShapeError, match="tile=0"):
        Allocation(errors, bits, tile=0)
