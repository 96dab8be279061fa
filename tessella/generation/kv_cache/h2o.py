"""H2O's cache: recent tokens, and those that got most attention so far (arXiv 2306.14048)."""

from __future__ import annotations

import torch
from torch import Tensor

from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.observing import received_attention
from tessella.generation.kv_cache.policy import Policy, StepContext, best, budget_tokens


class H2O(Policy):
    """Keeps heavy hitters and recent tokens, half of the budget each.

    A token's score is the attention that it got of all queries of all scales while it was there.

    Args:
        budget: share of the full cache, or tokens of a head and layer.
        is_averaged: divide scores by the number of queries that could see the token, so that early
            tokens do not win for their age.
    """

    name = "h2o"

    def __init__(self, budget: float, *, is_averaged: bool = False) -> None:
        self.budget = budget
        self.is_averaged = is_averaged
        self._tokens = 0
        self._received: dict[int, Tensor] = {}

    def start(self, geometry: CacheGeometry) -> None:
        """Work out the budget in tokens, and forget the attention of the run before."""
        self._tokens = budget_tokens(self.budget, geometry)
        self._received = {}

    def select(self, context: StepContext) -> Tensor | None:
        """Add the attention of a scale; keep heavy hitters and the last tokens."""
        scale = context.geometry.attention_scale
        received = received_attention(context.queries, context.keys, scale)
        before = self._received.get(context.layer)
        if before is not None:
            received[..., : before.shape[-1]] += before
        total = received.shape[-1]
        if total <= self._tokens:
            self._received[context.layer] = received
            return None
        scores = received / _observers(context) if self.is_averaged else received
        keep = _heavy_and_recent(scores, self._tokens)
        self._received[context.layer] = received.gather(-1, keep)
        return keep

    def release(self) -> None:
        """Free the scores."""
        self._received = {}

    def nbytes(self) -> int:
        """Bytes of the scores."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self._received.values())


def _heavy_and_recent(scores: Tensor, tokens: int) -> Tensor:
    """Return the places ``(R, H, tokens)`` of the last half and of the best of the others."""
    total, recent = scores.shape[-1], tokens // 2
    heavy = best(scores[..., : total - recent], tokens - recent)
    last = torch.arange(total - recent, total, device=scores.device)
    return torch.cat([heavy, last.expand(*scores.shape[:2], -1)], dim=-1)


def _observers(context: StepContext) -> Tensor:
    """Return how many queries have seen each token, ``(R, H, T)``."""
    ends = torch.tensor(context.geometry.ends, device=context.keys.device)
    starts = torch.cat([ends.new_zeros(1), ends])
    scale_of = torch.searchsorted(ends, context.origin.long(), right=True)
    return ends[context.scale] - starts[scale_of]


def observed_attention_scores(attention: Tensor, observers: Tensor) -> Tensor:
    """Return the mean attention that each key got from the queries that could see it.

    Args:
        attention: probabilities ``(R, H, n, T)``, zero where a query does not see a key.
        observers: number of queries that see each key, ``(T,)``.
    """
    return attention.sum(dim=2) / observers


__all__ = ["H2O", "observed_attention_scores"]
