"""SnapKV, PyramidKV, H2O and sliding windows against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kv_tools import finish, make_geometry, run
from numpy.typing import NDArray

from tessella.errors import ConfigError
from tessella.generation.kv_cache.evicting import EvictingCache
from tessella.generation.kv_cache.h2o import H2O
from tessella.generation.kv_cache.observing import received_attention
from tessella.generation.kv_cache.policy import Policy
from tessella.generation.kv_cache.pyramidkv import PyramidKV, pyramid_budget
from tessella.generation.kv_cache.snapkv import SnapKV
from tessella.generation.kv_cache.streaming import Sliding
from tessella.generation.kv_cache.windows import grid_window

Array = NDArray[np.float64]
SCALE = 0.7


def _attention(queries: Array, keys: Array) -> Array:
    """Probabilities ``(n, T)`` of one row and head."""
    logits = SCALE * queries @ keys.T
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Array = weights / weights.sum(axis=1, keepdims=True)
    return found


def _check_run(policy: Policy, select: Any) -> None:
    """Drive a policy, and compare what each row and head keeps with a plain function.

    Args:
        policy: to drive.
        select: (layer, numbers, queries, keys, written, memory) to kept numbers, of one row and
            head; ``memory`` is a dictionary that lives as long as the layer's row and head.
    """
    geometry = make_geometry(attention_scale=SCALE)
    cache = EvictingCache(policy)
    kept: dict[tuple[int, int, int], list[int]] = {}
    memory: dict[tuple[int, int, int], dict[Any, float]] = {}
    cut = 0
    for step in run(cache, geometry):
        if step.scale == len(geometry.sizes) - 1:
            continue
        written = geometry.ends[step.scale]
        for row in range(geometry.rows):
            for head in range(geometry.heads):
                place = (step.layer, row, head)
                new = range(written - geometry.sizes[step.scale], written)
                numbers = [*kept.get(place, []), *new]
                queries = step.queries[row, head].double().numpy()
                keys = step.keys[row, head].double().numpy()[numbers]
                own = memory.setdefault(place, {})
                chosen = select(step.layer, numbers, queries, keys, written, own)
                cut += len(chosen) < len(numbers)
                kept[place] = sorted(chosen)
                assert cache.origin(step.layer)[row, head].tolist() == kept[place]
    assert cut > 20


def _snap(numbers: list[int], queries: Array, keys: Array, budget: int, window: int) -> list[int]:
    if len(numbers) <= budget:
        return numbers
    window = min(window, len(queries))
    attention = _attention(queries[-window:], keys).mean(axis=0)[:-window]
    pooled = [
        sum(attention[i] for i in range(j - 2, j + 3) if 0 <= i < len(attention)) / 5
        for j in range(len(attention))
    ]
    order = sorted(range(len(pooled)), key=lambda j: -pooled[j])[: budget - window]
    return [numbers[j] for j in order] + numbers[-window:]


def test_snapkv_keeps_a_window_and_what_it_attends_to() -> None:
    def select(layer: int, numbers: Any, queries: Any, keys: Any, written: int, own: Any) -> Any:
        return _snap(numbers, queries, keys, 24, 6)

    _check_run(SnapKV(24), select)  # a quarter of the budget is the window
    _check_run(SnapKV(24, window=6), select)


def test_pyramidkv_gives_first_layers_more() -> None:
    def select(layer: int, numbers: Any, queries: Any, keys: Any, written: int, own: Any) -> Any:
        mean, window = 24, 3
        budget = mean
        if written > mean:
            low, high = mean / 4, 2 * mean - mean / 4
            if high > written - window:
                low, high = 2 * mean - (written - window), written - window
            if written >= high >= low >= window:
                budget = [high, mean, low][layer]
        return _snap(numbers, queries, keys, round(budget), window)

    _check_run(PyramidKV(24, window=3, beta=4), select)


def test_pyramid_stays_one_where_the_mean_is_small() -> None:
    geometry = make_geometry(layers=5)
    cache = EvictingCache(PyramidKV(0.2))
    finish(cache, geometry)
    lengths = cache.use.lengths_by_scale[-1]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 1.5 * lengths[-1]


@given(
    layers=st.integers(2, 40),
    mean=st.integers(1, 3000),
    spare=st.integers(1, 9000),
    beta=st.floats(1, 40),
    data=st.data(),
)
def test_pyramids_sum_to_the_mean_exactly(
    layers: int, mean: int, spare: int, beta: float, data: st.DataObject
) -> None:
    window = data.draw(st.integers(1, mean))
    total = mean + spare
    budgets = [
        pyramid_budget(i, layers, mean=mean, total=total, window=window, beta=beta)
        for i in range(layers)
    ]
    assert sum(budgets) == layers * mean
    assert budgets == sorted(budgets, reverse=True)
    assert budgets[-1] >= min(window, mean)


@pytest.mark.parametrize("is_averaged", [False, True])
def test_h2o_scores_follow_tokens_through_evictions(is_averaged: bool) -> None:
    sizes = make_geometry().sizes
    starts = np.cumsum([0, *sizes])

    def select(
        layer: int, numbers: Any, queries: Any, keys: Any, written: int, own: dict[int, float]
    ) -> Any:
        for query in _attention(queries, keys):
            for number, share in zip(numbers, query, strict=True):
                own[number] = own.get(number, 0.0) + share
        if len(numbers) <= 21:
            return numbers
        recent, others = numbers[-10:], numbers[:-10]
        scale_of = np.searchsorted(starts, others, side="right") - 1
        seen = written - starts[scale_of] if is_averaged else np.ones(len(others))
        scores = {n: own[n] / count for n, count in zip(others, seen, strict=True)}
        return sorted(others, key=lambda n: -scores[n])[:11] + recent

    _check_run(H2O(21, is_averaged=is_averaged), select)


def test_sliding_window_keeps_the_last_tokens() -> None:
    geometry = make_geometry()
    cache = EvictingCache(Sliding(20))
    for step in run(cache, geometry):
        if step.scale < len(geometry.sizes) - 1:
            end = geometry.ends[step.scale]
            expected = list(range(max(0, end - 20), end))
            assert cache.origin(step.layer)[1, 1].tolist() == expected


def test_sums_of_attention_do_not_depend_on_the_chunks(generator: torch.Generator) -> None:
    queries = torch.randn(3, 2, 17, 4, generator=generator)
    keys = torch.randn(3, 2, 23, 4, generator=generator)
    whole = ((queries @ keys.mT) * SCALE).softmax(-1).sum(2)
    for most in (1, 100, 1000, 1 << 20):
        torch.testing.assert_close(received_attention(queries, keys, SCALE, most=most), whole)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (6, 11), (13, 5), (16, 16), (3, 9), (1, 1)])
@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_window_on_a_grid(height: int, width: int, side: int) -> None:
    before = 7
    found = grid_window(before + height * width, (height, width), side).tolist()
    if min(height, width) < side:
        count = min(side * side, height * width)
        assert found == list(range(before + height * width - count, before + height * width))
        return
    expected = []
    for i in range(side):
        for j in range(side):
            row = i * (height // side) + (height // side - 1) // 2
            column = j * (width // side) + (width // side - 1) // 2
            expected.append(before + row * width + column)
    assert found == sorted(set(expected))
    assert len(found) == side * side


def test_impossible_options_are_refused() -> None:
    for make in (
        lambda: SnapKV(0.5, kernel=4),
        lambda: SnapKV(0.5, window=0),
        lambda: PyramidKV(0.5, beta=0.5),
        lambda: PyramidKV(0.5, beta=math.nan),
    ):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(ConfigError, match="smaller window"):
        SnapKV(10, window=11).start(make_geometry())
