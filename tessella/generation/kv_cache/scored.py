"""Policies that keep the tokens with the largest scores, and scores as plain functions.

A :data:`Scorer` is what libraries of cache compression know: keys, values and queries to a score a
token. :class:`ScorerPolicy` makes a policy of one, and :meth:`ScoredPolicy.as_scorer` gives a
policy's scores to others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor

from tessella.errors import ShapeError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.policy import Policy, StepContext, best, budget_tokens

#: keys and values ``(R, H, T, d)`` and the queries ``(R, H, n, d)`` of the last n of these tokens,
#: to scores ``(R, H, T)``
Scorer = Callable[[Tensor, Tensor, Tensor], Tensor]


class ScoredPolicy(Policy):
    """Keeps the best tokens of every row and head.

    Args:
        budget: share of the full cache, or tokens of a head and layer.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self._tokens = 0

    def start(self, geometry: CacheGeometry) -> None:
        """Work out the budget in tokens."""
        self._tokens = budget_tokens(self.budget, geometry)

    def select(self, context: StepContext) -> Tensor | None:
        """Keep the tokens with the largest scores."""
        tokens = self._budget(context)
        if context.keys.shape[2] <= tokens:
            return None
        return best(self.scores(context), tokens)

    @abstractmethod
    def scores(self, context: StepContext) -> Tensor:
        """Return a score of every token, ``(R, H, T)``; more is better."""

    def as_scorer(self, attention_scale: float = 1.0) -> Scorer:
        """Return the scores as a function of keys, values and queries.

        Args:
            attention_scale: factor of query-key products before the softmax.
        """

        def score(keys: Tensor, values: Tensor, queries: Tensor) -> Tensor:
            context = _context_of(keys, values, queries, attention_scale)
            policy = copy(self)  # which may be in the middle of a run
            policy.start(context.geometry)
            return policy.scores(context)

        return score

    def _budget(self, context: StepContext) -> int:
        """Return how many tokens of a head stay in this layer."""
        return self._tokens


class ScorerPolicy(ScoredPolicy):
    """Keeps what any function scores highest.

    Args:
        scorer: see :data:`Scorer`.
        budget: share of the full cache, or tokens of a head and layer.
    """

    name = "scorer"

    def __init__(self, scorer: Scorer, budget: float) -> None:
        super().__init__(budget)
        self.scorer = scorer

    def scores(self, context: StepContext) -> Tensor:
        """Ask the function.

        Raises:
            ShapeError: if it does not give one score a token.
        """
        scores = self.scorer(context.keys, context.values, context.queries)
        if scores.shape != context.keys.shape[:3]:
            raise ShapeError(
                f"the scorer gave {tuple(scores.shape)}; expected one score a token, "
                f"{tuple(context.keys.shape[:3])}"
            )
        return scores


def _context_of(keys: Tensor, values: Tensor, queries: Tensor, scale: float) -> StepContext:
    """Present loose tensors as a layer that has just written the tokens of the queries."""
    rows, heads, total, width = keys.shape
    new = queries.shape[2]
    before = () if new == total else ((1, total - new),)
    geometry = CacheGeometry(
        layers=1, heads=heads, head_dim=width, rows=rows, grids=(*before, (1, new), (1, 1)),
        attention_scale=scale, dtype=keys.dtype, device=keys.device,
    )  # fmt: skip
    origin = torch.arange(total, dtype=torch.int32, device=keys.device).expand(rows, heads, -1)
    written, lengths = len(before), (total,) * heads
    return StepContext(0, written, keys, values, queries, origin, lengths, geometry)


__all__ = ["ScoredPolicy", "Scorer", "ScorerPolicy"]
