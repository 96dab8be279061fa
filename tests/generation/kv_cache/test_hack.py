"""HACK's cache: what heads of each class keep, and what that costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_tools import kept_tensors, make_geometry, run, strong_generator

from tessella.errors import ConfigError
from tessella.generation.kv_cache import attend
from tessella.generation.kv_cache.evicting import EvictingCache
from tessella.generation.kv_cache.hack import HACK, class_budgets, merge_evicted
from tessella.generation.kv_cache.hack_calibration import HeadCalibration

LAYERS, HEADS = 3, 4
FIRST = 5
Kept = dict[int, list[list[list[int]]]]  # [layer][row][head]: numbers of tokens


def _calibration(seed: int = 0) -> HeadCalibration:
    variances = np.random.default_rng(seed).permutation(LAYERS * HEADS).reshape(LAYERS, HEADS)
    return HeadCalibration(tuple(tuple(map(float, row)) for row in variances), 1)


def _kept(cache: EvictingCache) -> Kept:
    """What every layer has kept, by row and head."""
    found: Kept = {}
    for layer in range(LAYERS):
        lengths, origin = cache._layers[layer].lengths, cache.origin(layer).tolist()
        found[layer] = [
            [row[head][:length] for head, length in enumerate(lengths)] for row in origin
        ]
    return found


def _numpy_scores(queries: np.ndarray, keys: np.ndarray, scale: float, count: int) -> np.ndarray:
    n = len(queries)
    chosen = range(n) if n <= count else [i * n // count for i in range(count)]
    total = np.zeros(len(keys))
    for i in chosen:
        logits = np.array([scale * float(queries[i] @ key) for key in keys])
        weights = np.exp(logits - logits.max())
        total += weights / weights.sum()
    return total


def _reference_rule(scores: np.ndarray, budget: int, new: int, *, is_contextual: bool) -> list[int]:
    """Places that a head keeps, by the words of the paper."""
    total = len(scores)
    if total <= budget:
        return list(range(total))
    by_score = sorted(range(total), key=lambda j: (-scores[j], j))
    if is_contextual:
        return sorted(by_score[:budget])
    kept = list(range(FIRST))
    recent = list(range(total - new, total))
    if budget - FIRST - new >= 0:
        rest = [j for j in by_score if j not in kept and j not in recent]
        return sorted(kept + recent + rest[: budget - FIRST - new])
    return sorted(kept + [j for j in by_score if j in recent][: budget - FIRST])


@pytest.mark.parametrize("calibration", [None, _calibration()])
@pytest.mark.parametrize(
    ("budget", "options"),
    [(0.75, {}), (0.5, {}), (0.3, {"observed_queries": 5}), (20.0, {"contextual_share": 0.25})],
)
def test_kept_tokens_follow_the_paper(
    calibration: HeadCalibration | None, budget: float, options: dict[str, Any]
) -> None:
    geometry = make_geometry(layers=LAYERS, heads=HEADS, attention_scale=0.7)
    cache = EvictingCache(HACK(budget, calibration=calibration, **options))
    share = options.get("contextual_share", 0.5)
    classes = np.zeros((LAYERS, HEADS), dtype=bool)
    if calibration is not None:
        order = np.argsort(np.ravel(calibration.variances), kind="stable")
        classes.flat[order[: round(share * LAYERS * HEADS)]] = True
    mean = int(budget) if budget > 1 else int(budget * geometry.stored)
    small = mean // 4
    alpha = classes.mean()
    large = int((mean - alpha * small) / (1 - alpha) + 1e-9)
    if large >= geometry.stored:  # more than there is: the rest is for the contextual heads
        large = geometry.stored
        small = int((mean - (1 - alpha) * large) / alpha + 1e-9)
    kept: Kept = {i: [[[] for _ in range(HEADS)] for _ in range(2)] for i in range(LAYERS)}
    for step in run(cache, geometry):
        if step.scale == len(geometry.sizes) - 1:
            continue
        new = geometry.sizes[step.scale]
        first = geometry.ends[step.scale] - new
        for row in range(geometry.rows):
            for head in range(HEADS):
                held = kept[step.layer][row][head] + list(range(first, first + new))
                scores = _numpy_scores(
                    step.queries[row, head].double().numpy(),
                    step.keys[row, head, held].double().numpy(),
                    geometry.attention_scale,
                    options.get("observed_queries", 32),
                )
                is_contextual = bool(classes[step.layer, head])
                budget_of_head = small if is_contextual else large
                places = _reference_rule(scores, budget_of_head, new, is_contextual=is_contextual)
                kept[step.layer][row][head] = [held[j] for j in places]
        assert _kept(cache)[step.layer] == kept[step.layer]


@pytest.mark.parametrize("merge", [False, True])
def test_attention_equals_masked_attention_to_everything(merge: bool) -> None:
    geometry = make_geometry(layers=LAYERS, heads=HEADS, attention_scale=0.7)
    cache = EvictingCache(HACK(0.4, calibration=_calibration(), merge=merge))
    before: Kept = {}
    ragged = 0
    for step in run(cache, geometry):
        new = geometry.sizes[step.scale]
        ours = attend(step.queries, step.seen, geometry.attention_scale)
        total = step.keys.shape[2]
        mask = torch.zeros(geometry.rows, HEADS, 1, total, dtype=torch.bool)
        mask[..., total - new :] = True
        for row, heads in enumerate(before.get(step.layer, [])):
            for head, numbers in enumerate(heads):
                mask[row, head, 0, numbers] = True
        logits = step.queries @ step.keys.mT * geometry.attention_scale
        weights = logits.masked_fill(~mask, -torch.inf).softmax(dim=-1)
        is_merged = merge and step.scale == len(geometry.sizes) - 1
        if not is_merged:
            torch.testing.assert_close(ours, weights @ step.values, atol=1e-5, rtol=1e-5)
        ragged += step.seen.groups is not None
        before = _kept(cache)
    assert ragged > LAYERS


@settings(max_examples=30)
@given(
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
    budget=st.floats(0.1, 1),
    part=st.floats(0.02, 1),
)
def test_budget_holds_whenever_a_layer_has_been_written(
    seed: int, share: float, budget: float, part: float
) -> None:
    geometry = make_geometry((1, 2, 3, 5, 6), layers=LAYERS, heads=HEADS, rows=1)
    policy = HACK(
        budget,
        calibration=_calibration(seed),
        contextual_share=share,
        contextual_budget=max(1 / geometry.stored, part * budget),
    )
    cache = EvictingCache(policy)
    try:
        cache.start(geometry)
    except ConfigError:
        return
    for _ in run(cache, geometry, seed):
        assert cache.stored_bytes() <= budget * geometry.full_bytes
        assert cache.stored_bytes() == sum(
            t.untyped_storage().nbytes() for t in kept_tensors(cache)
        )


@given(
    mean=st.integers(1, 100),
    part=st.floats(0, 1),
    count=st.integers(0, 12),
    stored=st.integers(1, 100),
)
def test_budgets_average_to_the_mean(mean: int, part: float, count: int, stored: int) -> None:
    mean = min(mean, stored)
    contextual, structural = class_budgets(mean, int(part * mean), count, 12, stored)
    total = count * contextual + (12 - count) * structural
    assert total <= 12 * mean
    if count < 12:  # what is left is less than a token a head
        assert total > 12 * mean - 12
        assert structural <= stored
    if mean == stored:
        assert (count == 0 or contextual == stored) and structural == stored


def test_heads_keep_unlike_numbers_of_tokens() -> None:
    geometry = make_geometry(layers=LAYERS, heads=HEADS)
    cache = EvictingCache(HACK(0.4, calibration=_calibration()))
    for _ in run(cache, geometry):
        pass
    lengths = {length for layer in cache._layers for length in layer.lengths}
    mean = int(0.4 * geometry.stored)
    assert lengths == {mean // 4, 2 * mean - mean // 4}


def test_lowest_variances_are_contextual_and_the_first_of_equals() -> None:
    found = HeadCalibration(((1.0, 0.0), (0.0, 0.0)), 1)
    assert found.is_contextual(0.5) == ((False, True), (True, False))
    assert found.is_contextual(0.0) == ((False, False), (False, False))
    assert found.is_contextual(1.0) == ((True, True), (True, True))


def test_merging_averages_evicted_tokens_into_the_most_alike(generator: torch.Generator) -> None:
    keys, values = torch.randn(2, 2, 9, 4, generator=generator)
    places = torch.tensor([[0, 3, 8], [1, 2, 5]])
    ours = merge_evicted(keys, values, places)
    for row in range(2):
        kept = places[row].tolist()
        groups = {j: [j] for j in kept}
        for i in set(range(9)) - set(kept):
            cosines = [
                float(keys[row, i] @ keys[row, j] / keys[row, i].norm() / keys[row, j].norm())
                for j in kept
            ]
            groups[kept[int(np.argmax(cosines))]].append(i)
        for tokens, source in zip(ours, (keys, values), strict=True):
            for place, j in enumerate(kept):
                expected = source[row, groups[j]].mean(dim=0)
                torch.testing.assert_close(tokens[row, place], expected)


def test_merging_changes_contextual_heads_before_the_last_scale_alone() -> None:
    geometry = make_geometry(layers=LAYERS, heads=HEADS)
    calibration = _calibration()
    classes = calibration.is_contextual(0.5)
    pairs = zip(
        run(EvictingCache(HACK(0.4, calibration=calibration)), geometry),
        run(EvictingCache(HACK(0.4, calibration=calibration, merge=True)), geometry),
        strict=True,
    )
    for plain, merged in pairs:
        lengths = [plain.seen.keys.shape[2]] * HEADS
        for group in plain.seen.groups or ():
            for head in group.heads:
                lengths[head] = group.length
        for head, length in enumerate(lengths):
            same = torch.equal(
                plain.seen.values[:, head, :length], merged.seen.values[:, head, :length]
            )
            is_last = plain.scale == len(geometry.sizes) - 1
            assert same != (is_last and classes[plain.layer][head])


def test_calibrated_whole_budget_gives_the_tokens_of_the_full_cache() -> None:
    generator, tokenizer = strong_generator(0)
    calibration = HeadCalibration(((1.0, 2.0, 3.0, 4.0), (8.0, 7.0, 6.0, 5.0)) * 2, 1)
    tokens = [
        generator.generate(
            [1, 2], tokenizer=tokenizer, guidance_scale=2.0, kv_cache=cache,
            generator=torch.Generator().manual_seed(0),
        )
        for cache in ("full", EvictingCache(HACK(1.0, calibration=calibration, merge=True)))
    ]  # fmt: skip
    for ours, full in zip(tokens[1].levels, tokens[0].levels, strict=True):
        assert torch.equal(ours, full)


def test_impossible_numbers_are_refused() -> None:
    geometry = make_geometry(layers=LAYERS, heads=HEADS)
    with pytest.raises(ConfigError, match="contextual_share"):
        HACK(0.5, contextual_share=1.5)
    with pytest.raises(ConfigError, match="observed_queries"):
        HACK(0.5, observed_queries=0)
    with pytest.raises(ConfigError, match="they need 6"):
        HACK(0.04).start(geometry)
    with pytest.raises(ConfigError, match="calibrate this model"):
        HACK(0.5, calibration=_calibration()).start(make_geometry(layers=2))
    for variances in ((), ((),), ((1.0,), (1.0, 2.0)), ((float("nan"),),), ((-1.0,),)):
        with pytest.raises(ConfigError, match=r"head\.variances"):
            HeadCalibration(variances, 1)


def test_a_run_of_one_scale_keeps_nothing() -> None:
    geometry = make_geometry((4,), layers=LAYERS, heads=HEADS)
    cache = EvictingCache(HACK(0.5, calibration=_calibration()))
    assert [step.seen.keys.shape[2] for step in run(cache, geometry)] == [16] * LAYERS
    assert cache.use.peak_bytes == 0
