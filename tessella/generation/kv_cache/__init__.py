"""Key-value caches of next-scale generators, one file a policy."""

from tessella.generation.kv_cache.base import (
    CacheGeometry,
    CacheUse,
    Grid,
    HeadGroup,
    KVCache,
    Visible,
    attend,
)
from tessella.generation.kv_cache.full import FullCache
from tessella.generation.kv_cache.names import make_cache

__all__ = [
    "CacheGeometry",
    "CacheUse",
    "FullCache",
    "Grid",
    "HeadGroup",
    "KVCache",
    "Visible",
    "attend",
    "make_cache",
]
