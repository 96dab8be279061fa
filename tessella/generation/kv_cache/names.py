"""Caches by name: ``full``, ``streaming:0.2``, ``scale:0.1:calibration.json``, ``h2o:0.2+int8``.

::

    NAME : BUDGET [ : CALIBRATION ] [ + STORAGE ]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tessella.config import nearest
from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import KVCache
from tessella.generation.kv_cache.evicting import EvictingCache
from tessella.generation.kv_cache.full import FullCache
from tessella.generation.kv_cache.h2o import H2O
from tessella.generation.kv_cache.hack import HACK
from tessella.generation.kv_cache.heat_kv import HeatKV
from tessella.generation.kv_cache.keep_all import KeepAll
from tessella.generation.kv_cache.key_norm import KeyNorm
from tessella.generation.kv_cache.policy import Policy
from tessella.generation.kv_cache.pyramidkv import PyramidKV
from tessella.generation.kv_cache.quantized import STORAGES
from tessella.generation.kv_cache.random_choice import RandomChoice
from tessella.generation.kv_cache.scale_kv import ScaleKV
from tessella.generation.kv_cache.snapkv import SnapKV
from tessella.generation.kv_cache.streaming import Sliding, Streaming

#: policies by the name that users write
POLICIES: dict[str, Callable[..., Policy]] = {
    "h2o": H2O,
    "hack": HACK,
    "head": HACK,
    "heat": HeatKV,
    "key_norm": KeyNorm,
    "pyramidkv": PyramidKV,
    "random": RandomChoice,
    "scale": ScaleKV,
    "sliding": Sliding,
    "snapkv": SnapKV,
    "streaming": Streaming,
}

#: those that take ``calibration``, the path of a file or the name of a published one
CALIBRATED = {"hack", "head", "heat", "scale"}


def make_cache(cache: str | KVCache) -> KVCache:
    """Return the cache that a text names.

    Args:
        cache: ``full``, or ``NAME:BUDGET`` with a share of the full cache up to 1, or tokens of a
            head and layer; behind another colon a calibration, for the policies that know one;
            behind a plus sign how the tokens are held: ``int8`` or ``fp8``. Or a cache, which is
            returned.

    Raises:
        ConfigError: if a name is unknown or the budget is no positive number.
    """
    if isinstance(cache, KVCache):
        return cache
    text, plus, storage = cache.rpartition("+")
    if not plus or storage not in STORAGES:
        text, storage = cache, ""
    name, _, rest = text.partition(":")
    if name == "full":
        if rest:
            raise ConfigError(f"kv_cache={cache!r} given; the full cache has no budget")
        if not storage:
            return FullCache()
        policy: Policy = KeepAll()
    else:
        policy = _policy(cache, name, rest)
    made = EvictingCache(policy, storage=STORAGES[storage]) if storage else EvictingCache(policy)
    made.name = f"{policy.name}+{storage}" if storage else policy.name
    return made


def _policy(cache: str, name: str, rest: str) -> Policy:
    if name not in POLICIES:
        hint = nearest(name, ["full", *sorted(POLICIES)])
        held = ", ".join(f"+{storage}" for storage in STORAGES)
        raise ConfigError(
            f"kv_cache={cache!r} given; {hint} (with a budget: scale:0.1; then perhaps {held})"
        )
    budget, _, calibration = rest.partition(":")
    options: dict[str, Any] = {}
    if calibration:
        if name not in CALIBRATED:
            raise ConfigError(
                f"kv_cache={cache!r} given; {name} takes no calibration: leave out {calibration!r}"
            )
        options["calibration"] = calibration
    return POLICIES[name](_number(cache, budget), **options)


def _number(cache: str, text: str) -> float:
    try:
        budget = float(text)
    except ValueError:
        budget = 0.0
    if not budget > 0 or budget == float("inf"):
        raise ConfigError(
            f"kv_cache={cache!r} given; expected a budget behind the name: a share such as 0.1, or "
            f"a number of tokens; then perhaps {' or '.join('+' + name for name in STORAGES)}"
        )
    return budget


__all__ = ["CALIBRATED", "POLICIES", "make_cache"]
