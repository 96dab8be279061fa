"""Runs of caches without a model, and a tiny generator whose attention matters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tessella.generation import GENERATORS
from tessella.generation.kv_cache import CacheGeometry, KVCache
from tessella.generation.next_scale import NextScaleGenerator
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.registry import all_presets

SIDES = (1, 2, 3, 4, 5, 6, 8)


def make_geometry(sides: tuple[int, ...] = SIDES, **changes: Any) -> CacheGeometry:
    sizes: dict[str, Any] = {"layers": 3, "heads": 2, "head_dim": 4, "rows": 2}
    return CacheGeometry(grids=tuple((s, s) for s in sides), **{**sizes, **changes})


class Step(NamedTuple):
    """A call of a cache: all keys and values of the layer so far, and what the cache shows."""

    scale: int
    layer: int
    queries: Tensor
    keys: Tensor
    values: Tensor
    seen: Any


def run(cache: KVCache, geometry: CacheGeometry, seed: int = 0) -> Iterator[Step]:
    """Drive a cache through all scales with random tensors, and show each call."""
    noise = torch.Generator().manual_seed(seed)
    cache.start(geometry)
    every: dict[int, tuple[Tensor, Tensor]] = {}
    for scale, size in enumerate(geometry.sizes):
        cache.begin_scale(scale)
        for layer in range(geometry.layers):
            shape = (geometry.rows, geometry.heads, size, geometry.head_dim)
            queries, keys, values = torch.randn(3, *shape, generator=noise).to(geometry.dtype)
            if layer in every:
                before = every[layer]
                every[layer] = (torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2))
            else:
                every[layer] = (keys, values)
            seen = cache.update(layer, keys, values, queries)
            yield Step(scale, layer, queries, *every[layer], seen)


def finish(cache: KVCache, geometry: CacheGeometry, seed: int = 0) -> KVCache:
    """Drive a cache through all scales."""
    for _ in run(cache, geometry, seed):
        pass
    return cache


@lru_cache(maxsize=8)
def strong_generator(seed: int, **changes: Any) -> tuple[NextScaleGenerator, Tokenizer]:
    """A generator and its tokenizer; weights are so large that tokens hang on attention."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        family, preset = GENERATORS.presets()["var-tiny"]
        generator = family.model_class(replace(preset.config, **changes))
        for parameter in generator.parameters():
            fan_in = parameter.shape[-1] if parameter.ndim > 1 else 1
            torch.nn.init.normal_(parameter, std=fan_in**-0.5)
        tokenizers, tiny = all_presets()["multiscale-vq-tiny"]
        tokenizer = tokenizers.model_class(tiny.config).eval()
    assert isinstance(generator, NextScaleGenerator)
    return generator, tokenizer


def kept_tensors(cache: Any) -> list[Tensor]:
    """Tensors that hold kept keys and values, found by looking into the cache."""
    holders = [h for layer in cache._layers for h in (layer._keys, layer._values)]
    return [t for holder in holders for t in vars(holder).values() if isinstance(t, Tensor)]
