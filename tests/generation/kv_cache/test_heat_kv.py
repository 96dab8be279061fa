"""HeatKV's cache: its static plan, and what is stored and seen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_tools import kept_tensors, make_geometry, run, strong_generator

from tessella.errors import ConfigError
from tessella.generation.kv_cache import CacheGeometry, HeadGroup, attend
from tessella.generation.kv_cache.evicting import EvictingCache
from tessella.generation.kv_cache.heat_kv import HeatKV
from tessella.generation.kv_cache.heat_kv_calibration import HeatCalibration
from tessella.generation.kv_cache.heat_kv_schedule import Order, Removal, Schedule, make_schedule
from tessella.generation.kv_cache.quantized import STORAGES

LAYERS, HEADS = 3, 4
SIDES = (1, 2, 3, 4, 5, 6, 8)
Token = tuple[int, int, int]  # scale, head, layer


def _orders(seed: int, sources: range, layers: int, heads: int) -> dict[int, Order]:
    noise = np.random.default_rng(seed)
    pairs = [(head, layer) for head in range(heads) for layer in range(layers)]
    return {s: tuple(pairs[i] for i in noise.permutation(len(pairs))) for s in sources}


def _calibration(seed: int, scales: int = len(SIDES)) -> HeatCalibration:
    noise = np.random.default_rng(seed).random((scales - 1, LAYERS, HEADS))
    return HeatCalibration(tuple(tuple(map(tuple, layer)) for layer in noise.tolist()), 1)


def _uneven_calibration() -> HeatCalibration:
    """The last layers look back least, and lose all before the first ones do."""
    layers = tuple((float(-layer),) * HEADS for layer in range(LAYERS))
    return HeatCalibration((layers,) * (len(SIDES) - 1), 1)


def _replay(
    plan: Schedule, sizes: list[int], layers: int, heads: int
) -> list[tuple[int, set[Token]]]:
    """Carry a plan out on sets of (scale, head, layer), and return the sum and set a layer."""
    stored: set[Token] = set()
    found = []
    for scale in range(len(sizes) - 1):
        for layer in range(layers):
            stored |= {(scale, head, layer) for head in range(heads)}
            gone = {
                (source, head, layer)
                for source, order in plan.orders.items()
                for head, at in order[: plan.counts[scale + 1]]
                if at == layer
            }
            early = plan.early[scale].get(layer, ())
            stored -= gone | {(item.source, item.head, item.layer) for item in early}
            found.append((sum(sizes[token[0]] for token in stored), set(stored)))
    return found


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=7),
    layers=st.integers(1, 4),
    heads=st.integers(1, 4),
    share=st.floats(0, 1),
    data=st.data(),
)
def test_plans_hold_the_capacity_whenever_a_layer_has_been_written(
    seed: int, sizes: list[int], layers: int, heads: int, share: float, data: st.DataObject
) -> None:
    last, pairs = len(sizes) - 1, layers * heads
    protected = data.draw(st.integers(1, last))
    least, most = (pairs * sum(sizes[:n]) for n in (protected, last))
    capacity = round(least + share * (most - least))
    orders = _orders(seed, range(protected, last), layers, heads)
    plan = make_schedule(
        sizes, orders, layers=layers, heads=heads, protected=protected, capacity=capacity
    )
    for step, (total, stored) in enumerate(_replay(plan, sizes, layers, heads)):
        scale, layer = divmod(step, layers)
        assert total <= capacity
        if layer == layers - 1:
            everything = {
                (s, h, at) for s in range(scale + 1) for h in range(heads) for at in range(layers)
            }
            gone = {(i.source, i.head, i.layer) for i in plan.removed_after(scale)}
            assert stored == everything - gone
    for scale, count in enumerate(plan.counts):
        fewer = max(0, count - 1)  # one removal less in every scale does not fit
        before = pairs * sum(sizes[:scale]) - fewer * sum(sizes[protected:scale])
        assert count == 0 or before > capacity
        assert not {i.source for i in plan.removed_before(scale)} & set(range(protected))


def test_early_removals_begin_with_the_last_layer_and_the_latest_scale() -> None:
    order = tuple((head, layer) for layer in reversed(range(4)) for head in range(2))
    plan = make_schedule(
        [1, 4, 9, 9, 30, 1], dict.fromkeys(range(1, 5), order),
        layers=4, heads=2, protected=1, capacity=120,
    )  # fmt: skip
    early = [item for layer in sorted(plan.early[4]) for item in plan.early[4][layer]]
    assert early
    for one, other in pairwise(early):
        assert (one.layer, one.source) >= (other.layer, other.source)
    assert all(item.layer > layer for layer, items in plan.early[4].items() for item in items)
    assert all(item.source < 4 for item in early)


def test_too_small_budgets_say_what_is_needed() -> None:
    geometry = make_geometry(SIDES, layers=LAYERS, heads=HEADS)
    share = 30 / geometry.stored
    with pytest.raises(ConfigError, match=rf"4 protected scales need 30, a share of {share:.4f}"):
        HeatKV(29, protected=4).start(geometry)
    HeatKV(30, protected=4).start(geometry)
    with pytest.raises(ConfigError, match="budget"):
        HeatKV(0.001).start(geometry)
    with pytest.raises(ConfigError, match="protected"):
        HeatKV(0.5, protected=0)
    with pytest.raises(ConfigError, match="calibrate this model"):
        HeatKV(0.5, calibration=_calibration(0)).start(make_geometry(SIDES, layers=LAYERS, heads=3))
    with pytest.raises(ConfigError, match="of 3 scales given"):
        HeatKV(0.5, calibration=_calibration(0, 4)).start(geometry)
    for scores in ((), (((1.0,), (1.0, 2.0)),), (((float("inf"),),),)):
        with pytest.raises(ConfigError, match=r"heat\.scores"):
            HeatCalibration(scores, 1)


@pytest.mark.parametrize(
    "calibration", [None, _calibration(0), _uneven_calibration()], ids=["none", "random", "uneven"]
)
@pytest.mark.parametrize("budget", [0.12, 0.3, 0.75, 40.0])
def test_cache_stores_and_shows_what_the_plan_says(
    calibration: HeatCalibration | None, budget: float
) -> None:
    geometry = make_geometry(SIDES, layers=LAYERS, heads=HEADS, attention_scale=0.7)
    policy = HeatKV(budget, calibration=calibration)
    cache = EvictingCache(policy)
    share = budget * geometry.stored if budget <= 1 else budget
    limit = geometry.bytes_of(1) * LAYERS * HEADS * share
    last = len(SIDES) - 1
    for step in run(cache, geometry):
        held = sum(t.untyped_storage().nbytes() for t in kept_tensors(cache))
        assert cache.stored_bytes() == held <= limit
        unseen = policy._schedule.removed_while(step.scale)
        ours = attend(step.queries, step.seen, geometry.attention_scale)
        mask = _mask(unseen, step.layer, step.scale, geometry)
        logits = step.queries @ step.keys.mT * geometry.attention_scale
        weights = logits.masked_fill(~mask, -torch.inf).softmax(dim=-1)
        torch.testing.assert_close(ours, weights @ step.values, atol=1e-5, rtol=1e-5)
        if step.scale < last and step.layer == LAYERS - 1:
            _check_stored(cache, policy._schedule.removed_after(step.scale), step.scale, geometry)


def _is_there(
    gone: set[Removal], layer: int, head: int, scale: int, geometry: CacheGeometry
) -> list[bool]:
    """Whether each token up to a scale is there, in one head."""
    return [
        Removal(source, head, layer) not in gone
        for source in range(scale + 1)
        for _ in range(geometry.sizes[source])
    ]


def _mask(gone: set[Removal], layer: int, scale: int, geometry: CacheGeometry) -> torch.Tensor:
    heads = [_is_there(gone, layer, head, scale, geometry) for head in range(HEADS)]
    return torch.tensor(heads).view(1, HEADS, 1, -1)


def _check_stored(
    cache: EvictingCache, gone: set[Removal], scale: int, geometry: CacheGeometry
) -> None:
    for layer in range(LAYERS):
        lengths, origin = cache._layers[layer].lengths, cache.origin(layer)
        for head, length in enumerate(lengths):
            there = torch.tensor(_is_there(gone, layer, head, scale, geometry)).nonzero().squeeze(1)
            for row in range(geometry.rows):
                assert torch.equal(origin[row, head, :length].long(), there)


def test_some_budgets_need_early_removals() -> None:
    geometry = make_geometry(SIDES, layers=LAYERS, heads=HEADS)
    policy = HeatKV(0.3, calibration=_uneven_calibration())
    policy.start(geometry)
    assert any(policy._schedule.early)


def test_early_removals_from_coded_storage_leave_the_others_what_they_are() -> None:
    geometry = make_geometry(SIDES, layers=LAYERS, heads=HEADS)
    policies = [HeatKV(0.3, calibration=_uneven_calibration()) for _ in range(2)]
    plain = run(EvictingCache(policies[0]), geometry)
    coded = run(EvictingCache(policies[1], storage=STORAGES["int8"]), geometry)
    for ours, theirs in zip(coded, plain, strict=True):
        assert ours.seen.groups == theirs.seen.groups
        for group in ours.seen.groups or (HeadGroup(tuple(range(HEADS)), ours.seen.keys.shape[2]),):
            shown = [
                step.seen.keys[:, list(group.heads), : group.length] for step in (ours, theirs)
            ]
            torch.testing.assert_close(*shown, atol=0.06, rtol=0)


def test_orders_rise_with_the_score_and_ties_go_by_head_then_layer() -> None:
    found = HeatCalibration((((2.0, 1.0), (1.0, 0.5)),), 1)
    assert found.order(0) == ((1, 1), (0, 1), (1, 0), (0, 0))


def test_without_calibration_heads_lose_alike() -> None:
    geometry = make_geometry(SIDES, layers=LAYERS, heads=HEADS)
    cache = EvictingCache(HeatKV(0.5))
    for _ in run(cache, geometry):
        pass
    lost = [
        sum(item.layer == layer and item.head == head for item in cache.policy._gone)
        for layer in range(LAYERS)
        for head in range(HEADS)
    ]
    assert max(lost) - min(lost) <= 1


@pytest.mark.parametrize("budget", [0.3, 1.0])
def test_tokens_of_a_generator(budget: float) -> None:
    generator, tokenizer = strong_generator(0)
    scores = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)).tolist()
    calibration = HeatCalibration(tuple(tuple(map(tuple, layer)) for layer in scores), 1)
    caches = ("full", EvictingCache(HeatKV(budget, calibration=calibration)))
    full, ours = (
        generator.generate(
            [1, 2], tokenizer=tokenizer, guidance_scale=2.0, kv_cache=cache,
            generator=torch.Generator().manual_seed(0),
        ).levels
        for cache in caches
    )  # fmt: skip
    same = [torch.equal(a, b) for a, b in zip(full, ours, strict=True)]
    assert all(same) == (budget == 1.0)
