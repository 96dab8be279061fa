"""ScaleKV's selection and bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kv_tools import finish, make_geometry, run

from tessella.errors import ConfigError
from tessella.generation.kv_cache import CacheGeometry, make_cache
from tessella.generation.kv_cache.evicting import EvictingCache
from tessella.generation.kv_cache.scale_kv import ScaleKV, Selection
from tessella.generation.kv_cache.scale_kv_calibration import (
    ScaleKVCalibration,
    published_models,
)
from tessella.tokenizers.multiscale_vq import VAR_SIDES

INFINITY = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
SCALE = 0.7


def _window(height: int, width: int, side: int) -> list[int]:
    if min(height, width) < side:
        return list(range(height * width))[-(side * side) :]
    down, right = height // side, width // side
    return [
        (i * down + (down - 1) // 2) * width + j * right + (right - 1) // 2
        for i in range(side)
        for j in range(side)
    ]


@pytest.mark.parametrize("selection", ["logits", "attention"])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_kept_tokens_are_those_of_plain_loops(selection: Selection, side: int) -> None:
    grids = ((1, 1), (2, 2), (2, 3), (4, 5), (7, 6), (9, 8))
    geometry = CacheGeometry(3, 2, 4, 2, grids, attention_scale=SCALE)
    policy = ScaleKV(20, window=side, selection=selection)
    cache = EvictingCache(policy)
    budgets = policy.plan(geometry).budgets
    kept: dict[tuple[int, int, int], list[int]] = {}
    cut = 0
    for step in run(cache, geometry):
        if step.scale == len(grids) - 1:
            continue
        end, new = geometry.ends[step.scale], geometry.sizes[step.scale]
        window = [end - new + place for place in _window(*grids[step.scale], side)]
        for row in range(2):
            for head in range(2):
                numbers = [*kept.get((step.layer, row, head), []), *range(end - new, end)]
                found = cache.origin(step.layer)[row, head].tolist()
                kept[step.layer, row, head] = found
                tokens = budgets[step.scale + 1][step.layer]
                if end <= 20 or len(numbers) <= tokens:
                    assert found == numbers
                    continue
                cut += 1
                assert len(found) == tokens
                assert set(window) <= set(found)
                queries = step.queries[row, head][[w - end + new for w in window]]
                keys = step.keys[row, head][numbers]
                logits = (SCALE * queries @ keys.T).double().numpy()
                scores = _scores(logits, numbers, window, selection)
                others = set(numbers) - set(window)
                chosen = set(found) - set(window)
                # neighbours often share a maximum: of equals, any may stay
                worst = min((scores[n] for n in chosen), default=np.inf)
                assert all(scores[n] <= worst + 1e-6 for n in others - chosen)
    assert cut > 10


def _scores(
    logits: np.ndarray, numbers: list[int], window: list[int], selection: Selection
) -> dict[int, float]:
    if selection == "logits":
        sums = {n: logits[:, j].sum() for j, n in enumerate(numbers)}
        return {
            n: max(sums[m] for m in numbers[max(0, j - 2) : j + 3] if m not in window)
            for j, n in enumerate(numbers)
            if n not in window
        }
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rest = [(n, shares[:, j].mean()) for j, n in enumerate(numbers) if n not in window]
    return {n: sum(s for _, s in rest[max(0, j - 2) : j + 3]) / 5 for j, (n, _) in enumerate(rest)}


def _share(cache: str, sides: tuple[int, ...], depth: int) -> tuple[float, list[int]]:
    geometry = make_geometry(sides, layers=depth, heads=1, head_dim=1, rows=1)
    use = finish(make_cache(cache), geometry).use
    return use.peak_bytes / geometry.full_bytes, use.bytes_by_scale


@pytest.mark.parametrize("depth", [12, 16, 20, 24, 30, 36])
@pytest.mark.parametrize("sides", [*VAR_SIDES], ids=["256", "512"])
def test_ten_percent_hold_ten_percent_at_every_scale(depth: int, sides: tuple[int, ...]) -> None:
    share, by_scale = _share("scale:0.1", sides, depth)
    assert 0.098 <= share <= 0.105
    # and from the first scale that evicts on, all of it is used
    assert min(by_scale[-3:]) == max(by_scale)


@pytest.mark.parametrize("calibration", ["", ":infinity-2b"])
def test_ten_percent_of_infinity(calibration: str) -> None:
    share, _ = _share(f"scale:0.1{calibration}", INFINITY, 32)
    assert 0.0995 <= share <= 0.105


@pytest.mark.parametrize("name", list(published_models()))
def test_published_models_get_their_published_budgets(name: str) -> None:
    published = published_models()[name]
    policy = ScaleKV(published["mean"], calibration=name)
    layers = published["calibration"]["layers"]
    plan = policy.plan(make_geometry(INFINITY, layers=layers))
    assert (plan.base, plan.side) == (published["mean"], 4)
    for row in published["budgets"]:
        assert set(plan.budgets[row["scale"]]) == {row["drafter"], row["refiner"]}


def test_eight_bits_halve_what_half_precision_needs() -> None:
    geometry = make_geometry(VAR_SIDES[1], layers=4, heads=1, rows=1, dtype=torch.float16)
    plain = finish(make_cache("scale:0.1"), geometry).use.peak_bytes
    coded = finish(make_cache("scale:0.1+int8"), geometry).use.peak_bytes
    assert plain / 2 < coded < 0.55 * plain


def test_drafters_hold_most() -> None:
    calibration = ScaleKVCalibration(6, 7, ((2, 5), (2, 6), (4, 6)))
    geometry = make_geometry(layers=6)
    cache = EvictingCache(ScaleKV(0.3, calibration=calibration))
    finish(cache, geometry)
    before_last, last = cache.use.lengths_by_scale[-2:]
    assert before_last.index(max(before_last)) == 2
    assert min(last[2], last[4]) > 1.5 * max(last[i] for i in (0, 1, 3, 5))


def test_what_does_not_fit_is_refused() -> None:
    geometry = make_geometry()
    calibration = ScaleKVCalibration(4, 7, ())
    for policy, hint in (
        (ScaleKV(0.2, calibration=calibration), "calibrate this model"),
        (ScaleKV(8, window=3), "smaller window"),
    ):
        with pytest.raises(ConfigError, match=hint):
            policy.start(geometry)
    ScaleKV(1.0, window=9).start(geometry)  # nothing is ever evicted
    for options in ({"window": 0}, {"kernel": 2}, {"selection": "best"}):
        with pytest.raises(ConfigError, match="given; expected"):
            ScaleKV(0.5, **options)  # type: ignore[arg-type]
