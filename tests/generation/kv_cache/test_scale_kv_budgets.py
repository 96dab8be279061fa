"""The rule of ScaleKV's budgets."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessella.generation.kv_cache.scale_kv_budgets import first_layers, scale_budgets
from tessella.generation.kv_cache.scale_kv_calibration import load_calibration, published_models

INFINITY = [side * side for side in (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)]
MODELS = published_models()


@pytest.mark.parametrize(
    ("name", "row"), [(name, row) for name in MODELS for row in range(len(MODELS[name]["budgets"]))]
)
def test_published_budgets_follow_from_the_rule(name: str, row: int) -> None:
    calibration, published = load_calibration(name), MODELS[name]["budgets"][row]
    drafters = calibration.drafters_by_scale()
    budgets = scale_budgets(INFINITY, calibration.layers, MODELS[name]["mean"], drafters)
    found = budgets[published["scale"]]
    assert found.drafters == drafters[published["scale"]]
    assert found.drafter == published["drafter"]
    assert found.refiner == published["refiner"]
    assert found.limit == published["limit"]


@given(
    sizes=st.lists(st.integers(1, 400), min_size=2, max_size=13),
    layers=st.integers(1, 40),
    data=st.data(),
)
def test_layers_share_the_budget_exactly(
    sizes: list[int], layers: int, data: st.DataObject
) -> None:
    mean = data.draw(st.integers(1, sum(sizes)))
    floor = data.draw(st.integers(0, mean))
    some = st.sets(st.integers(0, layers - 1), max_size=layers)
    drafters = [data.draw(some) for _ in sizes]
    budgets = scale_budgets(sizes, layers, mean, drafters, floor)
    for scale, (budget, end) in enumerate(zip(budgets, accumulate(sizes), strict=True)):
        tokens = [budget.of(layer) for layer in range(layers)]
        assert sum(tokens) == layers * mean
        assert min(tokens) >= floor
        if end - sizes[scale] <= mean:
            assert set(tokens) == {mean}
        elif 0 < len(drafters[scale]) < layers:
            assert budget.refiner <= mean <= budget.drafter
            # fewer tokens for refiners would give drafters more than they can hold, or not divide
            count = len(drafters[scale])
            for less in range(floor, budget.refiner):
                left = layers * mean - (layers - count) * less
                assert left % count or left > count * budget.limit


@pytest.mark.parametrize(("layers", "count"), [(1, 1), (4, 1), (16, 1), (30, 2), (32, 2), (40, 2)])
def test_first_layers_are_drafters_without_calibration(layers: int, count: int) -> None:
    assert first_layers(layers, 3) == (tuple(range(count)),) * 3
