"""StreamingLLM's cache: the first tokens and the most recent ones (arXiv 2309.17453)."""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.policy import Policy, StepContext, budget_tokens


class Streaming(Policy):
    """Keeps sinks, the tokens of the first scales, and a window of the last tokens.

    Keys carry their positions, so nothing is rotated again.

    Args:
        budget: share of the full cache, or tokens of a head and layer.
        sink_scales: scales whose tokens always stay; with 0 it is a plain sliding window.
    """

    name = "streaming"

    def __init__(self, budget: float, *, sink_scales: int = 2) -> None:
        if sink_scales < 0:
            raise ConfigError(f"sink_scales={sink_scales} given; expected 0 or more")
        self.budget = budget
        self.sink_scales = sink_scales
        self._tokens = self._sinks = 0

    def start(self, geometry: CacheGeometry) -> None:
        """Work out the budget in tokens."""
        scales = min(self.sink_scales, len(geometry.ends))
        self._sinks = geometry.ends[scales - 1] if scales else 0
        self._tokens = budget_tokens(self.budget, geometry, least=self._sinks + 1)

    def select(self, context: StepContext) -> Tensor | None:
        """Keep sinks and window."""
        total = context.keys.shape[2]
        if total <= self._tokens:
            return None
        recent = torch.arange(total - self._tokens + self._sinks, total)
        places = torch.cat([torch.arange(self._sinks), recent]).to(context.keys.device)
        return places.expand(*context.keys.shape[:2], -1)


__all__ = ["Streaming"]
