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
        places = sinks_and_window(total, self._sinks, self._tokens).to(context.keys.device)
        return places.expand(*context.keys.shape[:2], -1)


class Sliding(Streaming):
    """Keeps a window of the last tokens.

    Args:
        budget: share of the full cache, or tokens of a head and layer.
    """

    name = "sliding"

    def __init__(self, budget: float) -> None:
        super().__init__(budget, sink_scales=0)


def sinks_and_window(total: int, sinks: int, tokens: int) -> Tensor:
    """Return the places ``(tokens,)`` of the first ``sinks`` of ``total`` tokens and of the last.

    Args:
        total: tokens that there are.
        sinks: how many of the first to keep.
        tokens: how many to keep in all.
    """
    return torch.cat([torch.arange(sinks), torch.arange(total - tokens + sinks, total)])


__all__ = ["Sliding", "Streaming", "sinks_and_window"]
