"""What every cache policy promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kv_tools import finish, kept_tensors, make_geometry, run, strong_generator
from torch import Tensor

from tessella.errors import ConfigError, ShapeError
from tessella.generation.kv_cache import CacheGeometry, KVCache, attend, make_cache
from tessella.generation.kv_cache.evicting import EvictingCache
from tessella.generation.kv_cache.names import POLICIES
from tessella.generation.kv_cache.policy import Policy
from tessella.generation.kv_cache.scored import ScoredPolicy, ScorerPolicy

NAMES = sorted(POLICIES)
#: these need no more than a few tokens of each scale
ELASTIC = [name for name in NAMES if name not in ("heat",)]


def _changes(name: str) -> dict[str, Any]:
    return {"is_normalized": False} if name == "key_norm" else {}


def _tokens(name: str, cache: str | KVCache, seed: int = 0) -> Tensor:
    generator, tokenizer = strong_generator(seed, **_changes(name))
    tokens = generator.generate(
        [1, 2, -1], tokenizer=tokenizer, guidance_scale=2.0, kv_cache=cache,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return torch.cat([level.flatten(1) for level in tokens.levels], dim=1)


@pytest.mark.parametrize("name", NAMES)
def test_whole_budget_gives_the_tokens_of_the_full_cache(name: str) -> None:
    for seed in range(2):
        assert torch.equal(_tokens(name, f"{name}:1.0", seed), _tokens(name, "full", seed))


@pytest.mark.parametrize("name", ELASTIC)
def test_small_budget_changes_tokens(name: str) -> None:
    assert any(
        not torch.equal(_tokens(name, f"{name}:0.3", seed), _tokens(name, "full", seed))
        for seed in range(3)
    )


@pytest.mark.parametrize("name", NAMES)
def test_runs_are_repeated_exactly_also_by_the_same_cache(name: str) -> None:
    cache = make_cache(f"{name}:0.5" if name in ELASTIC else f"{name}:1.0")
    assert torch.equal(_tokens(name, cache), _tokens(name, cache))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [0.1, 0.3, 0.75, 40.0])
def test_budget_is_never_exceeded(name: str, budget: float) -> None:
    geometry = make_geometry()
    cache = make_cache(f"{name}:{budget}")
    try:
        finish(cache, geometry)
    except ConfigError:
        assert name in ("hack", "head", "heat")  # they keep the first scales whatever comes
        return
    tokens = budget if budget > 1 else int(budget * geometry.stored)
    limit = geometry.layers * geometry.heads * geometry.bytes_of(int(tokens))
    assert cache.use.peak_bytes <= limit
    assert cache.use.peak_bytes >= 0.7 * limit  # it is not left unused either


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("storage", ["", "+int8", "+fp8"])
def test_bytes_are_those_of_the_tensors(name: str, storage: str) -> None:
    geometry = make_geometry(rows=3, dtype=torch.float16)
    cache = make_cache(f"{name}:0.5{storage}")
    assert isinstance(cache, EvictingCache)
    owned = {0: 0}  # by the scale that finds them
    for step in run(cache, geometry):
        storages = [tensor.untyped_storage() for tensor in kept_tensors(cache)]
        assert len({s.data_ptr() for s in storages if s.nbytes()}) == sum(
            s.nbytes() > 0 for s in storages
        )
        owned[step.scale + 1] = sum(s.nbytes() for s in storages)
        assert cache.stored_bytes() == owned[step.scale + 1]
    assert cache.use.bytes_by_scale == [owned[scale] for scale in range(len(geometry.grids))]
    assert cache.use.allocated_peak > cache.use.peak_bytes > 0
    cache.release()
    assert cache.allocated_bytes() == 0
    assert cache.policy.nbytes() == 0


@pytest.mark.parametrize("name", NAMES)
def test_kept_tokens_are_tokens_that_were_written_in_order(name: str) -> None:
    geometry = make_geometry()
    cache = make_cache(f"{name}:0.4")
    assert isinstance(cache, EvictingCache)
    kept: dict[int, list[Tensor]] = {}
    for step in run(cache, geometry):
        new = geometry.sizes[step.scale]
        is_last = step.scale == len(geometry.sizes) - 1
        for head in range(geometry.heads):
            before = kept.get(step.layer, [torch.zeros(geometry.rows, 0).long()] * geometry.heads)
            length = before[head].shape[1] + new
            shown = step.seen.keys[:, head, :length]
            shown = shown[:, new:] if is_last else shown[:, :-new]
            if name not in ("heat",):  # it may drop more before a layer's next call
                index = before[head].unsqueeze(-1).expand(-1, -1, geometry.head_dim)
                assert torch.equal(shown, step.keys[:, head].gather(1, index))
        if is_last:
            continue
        lengths = cache._layers[step.layer].lengths
        origin = cache.origin(step.layer).long()
        kept[step.layer] = [origin[:, h, :length] for h, length in enumerate(lengths)]
        for numbers in kept[step.layer]:
            assert bool((numbers.diff(dim=1) > 0).all())
            assert bool((numbers >= 0).all())
            assert bool((numbers < geometry.ends[step.scale]).all())


@pytest.mark.parametrize("name", NAMES)
def test_budget_of_no_token_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="budget"):
        make_cache(f"{name}:0.001").start(make_geometry())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_oblong_grids(name: str, dtype: torch.dtype) -> None:
    geometry = CacheGeometry(2, 2, 4, 2, ((1, 1), (2, 2), (3, 1), (6, 3), (12, 5)), dtype=dtype)
    for step in run(make_cache(f"{name}:0.8"), geometry):
        out = attend(step.queries, step.seen, 0.5)
        assert out.dtype == dtype
        assert bool(out.isfinite().all())


def test_key_norm_is_refused_for_normalized_keys() -> None:
    with pytest.raises(ConfigError, match="normalizes"):
        make_cache("key_norm:0.5").start(make_geometry(keys_are_normalized=True))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("scael:0.1", "did you mean 'scale'"),
        ("snapkv", "budget"),
        ("snapkv:-1", "budget"),
        ("snapkv:0.1+int4", r"\+int8"),
        ("full:0.1", "no budget"),
        ("snapkv:0.1:file.json", "no calibration"),
        ("scale:0.1:missing.json", "no file"),
    ],
)
def test_texts_that_name_no_cache(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        make_cache(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [("full", "full"), ("full+int8", "full+int8"), ("scale:0.1:infinity-2b+fp8", "scale+fp8")],
)
def test_names_of_caches(text: str, name: str) -> None:
    assert make_cache(text).name == name


def test_any_function_of_keys_values_and_queries_is_a_policy() -> None:
    geometry = make_geometry()

    def longest(keys: Tensor, values: Tensor, queries: Tensor) -> Tensor:
        return values.norm(dim=-1)

    cache = EvictingCache(ScorerPolicy(longest, 20))
    finish(cache, geometry)
    for step in run(cache, geometry):
        if step.scale == 5 and step.layer == 2:
            best = cache.origin(2)
            norms = step.values.norm(dim=-1)
            expected = norms.topk(20, dim=-1).indices.sort(dim=-1).values
            assert torch.equal(best.long(), expected)  # nothing better was ever evicted
    with pytest.raises(ShapeError, match="one score a token"):
        finish(EvictingCache(ScorerPolicy(lambda k, v, q: k, 20)), geometry)


@pytest.mark.parametrize("name", ["snapkv", "pyramidkv", "key_norm", "random"])
def test_scores_are_functions_that_others_can_use(name: str, generator: torch.Generator) -> None:
    policy: Policy = POLICIES[name](0.5)
    assert isinstance(policy, ScoredPolicy)
    keys, values = torch.randn(2, 2, 3, 30, 4, generator=generator)
    for new in (7, 30):
        queries = torch.randn(2, 3, new, 4, generator=generator)
        scores = policy.as_scorer(attention_scale=0.5)(keys, values, queries)
        assert scores.shape == (2, 3, 30)
        assert torch.equal(scores, policy.as_scorer(0.5)(keys, values, queries))


@pytest.mark.parametrize("name", ["snapkv", "random"])
def test_lending_scores_does_not_disturb_a_run(name: str) -> None:
    geometry = make_geometry()
    kept = []
    for is_lent in (False, True):
        policy = POLICIES[name](0.3)
        assert isinstance(policy, ScoredPolicy)
        cache = EvictingCache(policy)
        for step in run(cache, geometry):
            if is_lent and step.scale > 1:
                policy.as_scorer()(step.keys, step.values, step.queries)
            origins = cache.origin(2) if step.layer == 2 and step.scale == 5 else None
            kept += [] if origins is None else [origins]
    assert torch.equal(*kept)
