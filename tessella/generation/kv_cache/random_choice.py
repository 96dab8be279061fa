"""Keeps tokens at random: what any other policy should beat."""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.policy import StepContext
from tessella.generation.kv_cache.scored import ScoredPolicy


class RandomChoice(ScoredPolicy):
    """Keeps random tokens, the same in every run and on every device.

    Args:
        budget: share of the full cache, or tokens of a head and layer.
        seed: of the choice.
    """

    name = "random"

    def __init__(self, budget: float, *, seed: int = 0) -> None:
        super().__init__(budget)
        self.seed = seed
        self._generator = torch.Generator()

    def start(self, geometry: CacheGeometry) -> None:
        """Work out the budget in tokens, and start the choice anew."""
        super().start(geometry)
        self._generator = torch.Generator().manual_seed(self.seed)

    def scores(self, context: StepContext) -> Tensor:
        """Draw scores."""
        scores = torch.rand(context.keys.shape[:3], generator=self._generator)
        return scores.to(context.keys.device)


__all__ = ["RandomChoice"]
