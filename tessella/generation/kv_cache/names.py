"""Caches by name: ``full``, ``streaming:0.2``, ``scale:0.1``; a budget follows the colon."""

from __future__ import annotations

from collections.abc import Callable

from tessella.config import nearest
from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import KVCache
from tessella.generation.kv_cache.evicting import EvictingCache
from tessella.generation.kv_cache.full import FullCache
from tessella.generation.kv_cache.policy import Policy
from tessella.generation.kv_cache.streaming import Streaming

#: policies by the name that users write
POLICIES: dict[str, Callable[[float], Policy]] = {
    "streaming": Streaming,
}


def make_cache(cache: str | KVCache) -> KVCache:
    """Return the cache that a text names.

    Args:
        cache: ``full``, or ``NAME:BUDGET`` with a share of the full cache up to 1, or tokens of a
            head and layer; or a cache, which is returned.

    Raises:
        ConfigError: if the name is unknown or the budget is no positive number.
    """
    if isinstance(cache, KVCache):
        return cache
    name, _, budget = cache.partition(":")
    if name == "full":
        if budget:
            raise ConfigError(f"kv_cache={cache!r} given; the full cache has no budget")
        return FullCache()
    if name not in POLICIES:
        raise ConfigError(
            f"kv_cache={cache!r} given; {nearest(name, ['full', *sorted(POLICIES)])} "
            "(with a budget: scale:0.1)"
        )
    return EvictingCache(POLICIES[name](_number(cache, budget)))


def _number(cache: str, text: str) -> float:
    try:
        budget = float(text)
    except ValueError:
        budget = 0.0
    if not budget > 0 or budget == float("inf"):
        raise ConfigError(
            f"kv_cache={cache!r} given; expected a budget behind the name: a share such as 0.1, or "
            "a number of tokens"
        )
    return budget


__all__ = ["POLICIES", "make_cache"]
