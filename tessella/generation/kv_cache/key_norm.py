"""Keeps the keys of small length, which tend to be attended to (arXiv 2406.11430)."""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.policy import StepContext
from tessella.generation.kv_cache.scored import ScoredPolicy


class KeyNorm(ScoredPolicy):
    """Keeps the shortest keys.

    Args:
        budget: share of the full cache, or tokens of a head and layer.
    """

    name = "key_norm"

    def start(self, geometry: CacheGeometry) -> None:
        """Work out the budget in tokens.

        Raises:
            ConfigError: if all keys have the same length.
        """
        if geometry.keys_are_normalized:
            raise ConfigError(
                "key_norm given for a generator that normalizes its keys: all have length one; "
                "use snapkv or scale"
            )
        super().start(geometry)

    def scores(self, context: StepContext) -> Tensor:
        """Return the negative lengths of keys."""
        lengths: Tensor = torch.linalg.vector_norm(context.keys.float(), dim=-1)
        return -lengths


__all__ = ["KeyNorm"]
